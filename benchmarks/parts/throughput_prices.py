"""What a request costs beside servers whose parser is written in C, and beside one that does nothing: in CPU time, which is judged.

Its samples are the data's `prices`, apart from those of the duels in requests a second; older data have none.
"""

from benchmarks import pricing
from benchmarks.load import Workload
from benchmarks.measuring import Data, Run, Table, Target
from benchmarks.parts.throughput_contest import HEADERS, HELLO
from benchmarks.pricing import Heat, Price
from benchmarks.sampling import Samples
from benchmarks.stacks import ASYNCIO, Stack

ROUNDS = 5
"""Some of the targets are within a few percent of what is measured."""

_BARE, _ROUTED, _LOGGING = ("bare", "microasgi"), ("microasgi", "microasgi"), ("bare", "microasgi-logging")

_TABLE: list[tuple[tuple[str, str], tuple[str, str], Workload, float, float]] = [
    (_BARE, ("bare", "uvicorn-httptools"), HELLO, 0.80, 0.72),
    (_BARE, ("bare", "granian"), HELLO, 0.70, 0.72),
    (_BARE, ("bare", "constant"), HELLO, 2.8, 2.8),
    (_BARE, ("bare", "uvicorn-httptools"), HEADERS, 0.88, 0.82),
    (_ROUTED, ("starlette", "uvicorn-httptools"), HELLO, 0.80, 0.75),
    (_ROUTED, ("starlette", "uvicorn-httptools"), HEADERS, 0.88, 0.85),
    (_LOGGING, ("bare", "uvicorn-httptools-logging"), HELLO, 0.70, 0.70),
]
"""Ours, theirs, what is asked, and how much it may be on uvloop and on asyncio."""

PRICES = [
    Price(Stack(*ours, loop), Stack(*theirs, loop), workload, at_most)
    for ours, theirs, workload, *limits in _TABLE
    for loop, at_most in zip(reversed(ASYNCIO), limits, strict=True)
]


def heats(run: Run) -> list[Heat]:
    """See `pricing`; and so the others."""
    return pricing.heats(run, PRICES)


def samples(data: Data) -> Samples:
    """Those of the prices."""
    return Samples({"samples": data.get("prices", [])})


def table(data: Data) -> Table:
    return pricing.table(PRICES, samples(data))


def line(data: Data) -> str:
    return pricing.line(PRICES, samples(data))


def targets(data: Data) -> list[Target]:
    return pricing.targets(PRICES, samples(data))
