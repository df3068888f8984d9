"""The comparison: what happens to a handler whose client has left, and what a server costs, here and with what people use.

Run it: `python -m benchmarks --help`. All contestants of a part are measured in one run, under the same conditions, and what counts is
how they compare: machines differ, and so does one machine from minute to minute.

Reading order:

    measuring       what a part is made of: measure -> data -> tables, targets, figures, words for two READMEs
    parts           the questions, each in a module; what belongs to one alone bears its name: `disconnect`, `disconnect_matrix`, ...
    stacks          which framework runs on which server, and how each is started
    apps            the same service in every framework
    running         a stack's life: a free port, the proof that it is ours, the end;  `postgres` is a database's
    fronts          nginx and HAProxy before a server
    processes       what it costs: CPU time, memory, files;  `limits` and `machine` are about where it runs
    clients         those who leave, wait, crowd in or dawdle, most of them processes of their own
    load, sampling  wrk or our own generator against a stack, and what is made of it: CPU time and throughput, in rounds
    pricing         is it cheap enough, beside others?
    delivery        the promise's price in process, without a server;  `pump` is its price on uvicorn
    report          tables, pages, plots, and both READMEs
    interruption    Ctrl+C and SIGTERM: nothing that was started is left
"""
