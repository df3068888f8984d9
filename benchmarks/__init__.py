"""What the server and the promise cost, beside what others cost. Run it: `python -m benchmarks --help`.

All contestants of a part take turns in one run, under the same conditions, and what counts is the ratio: machines differ, and so
does one machine from minute to minute. The measure is the server's own CPU time for each request, not the throughput, in which
the load generator and the rest of the machine have their say.

Reading order: `parts` (what is compared), `contestants` (a server's life), `load` (the requests), `processes` (the measuring).
"""
