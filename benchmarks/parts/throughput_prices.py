"""What a request costs beside servers whose parser is written in C, and beside one that does nothing: in CPU time, which is judged.

Its samples are the data's `prices`, apart from those of the duels in requests a second; older data have none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.load import Workload
from benchmarks.measuring import Data, Run, Table, Target
from benchmarks.parts.throughput_contest import HEADERS, HELLO
from benchmarks.sampling import Sample, Samples, identifier, shown_ratio, take_heat
from benchmarks.stacks import ASYNCIO, SERVERS, Stack

ROUNDS = 5
"""Some of the targets are within a few percent of what is measured."""


@dataclass(frozen=True)
class Price:
    """Two stacks on one loop that are asked the same.

    at_most: ours may take so many times their CPU time a request.
    """

    ours: Stack
    theirs: Stack
    workload: Workload
    at_most: float

    @property
    def asked(self) -> str:
        """What is asked of whom, on whatever loop."""
        kind = "bare ASGI" if self.ours.framework == "bare" else "routed"
        logging = ", with the access log" if self.ours.server.endswith("-logging") else ""
        return f"{kind}, {self.workload.name}{logging}"

    @property
    def what(self) -> str:
        """For tables."""
        return f"{self.asked}, {self.ours.loop}"

    @property
    def opponent(self) -> str:
        """For tables."""
        server = SERVERS[self.theirs.server].name
        return server if self.theirs.framework == "bare" else f"Starlette on {server}"


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

Heat = tuple[list[Stack], Workload]


def heats(run: Run) -> list[Heat]:
    """Those that run side by side with one workload: ours, and all who are compared with it there, as far as they are installed."""
    installed = run.installed(dict.fromkeys(stack for price in PRICES for stack in (price.ours, price.theirs)))
    found: dict[tuple[Stack, Workload], list[Stack]] = {}
    for price in PRICES:
        if price.ours in installed and price.theirs in installed:
            found.setdefault((price.ours, price.workload), [price.ours]).append(price.theirs)
    heats = [(stacks, workload) for (_, workload), stacks in found.items()]
    return heats[:1] if run.quick else heats


def measure(run: Run, heats: Sequence[Heat], rounds: int, seconds: float, wrk: str | None) -> Iterator[Sample]:
    """Every heat, in every round."""
    for number, (stacks, workload) in run.turns(heats, rounds):
        with run.step(f"round {number + 1}: {workload.name}: {' against '.join(stack.name for stack in stacks)}"):
            yield from take_heat(stacks, number, [workload], seconds, wrk)


def samples(data: Data) -> Samples:
    """Those of the prices."""
    return Samples({"samples": data.get("prices", [])})


def _cost(sample: Sample) -> float:
    return sample.cost


def _tried(found: Samples) -> Iterator[tuple[Price, list[float]]]:
    """Those that were tried, with the ratio of CPU time in each round."""
    tried = {(each.stack, each.workload) for each in found.all}
    for price in PRICES:
        ours, theirs, name = identifier(price.ours), identifier(price.theirs), price.workload.name
        if {(ours, name), (theirs, name)} <= tried:
            yield price, found.ratios(ours, theirs, name, _cost)


def table(data: Data) -> Table:
    """What each pair costs."""
    found, rows = samples(data), []
    for price, ratios in _tried(found):
        costs = [found.median(identifier(stack), price.workload.name, _cost) for stack in (price.ours, price.theirs)]
        shown = ["failed" if cost is None else f"{cost:.1f}" for cost in costs]
        rows.append((price.what, price.opponent, *shown, shown_ratio(ratios), f"{price.at_most:g}", str(len(ratios))))
    note = (
        "µs of CPU time of the server's process and its children for each request; ratios are ours to theirs, taken within each round:"
        f" the median, and the smallest and the largest.{found.disturbance()}"
    )
    columns = ("asked", "against", "ours, µs of CPU time", "theirs", "ratio", "at most", "rounds")
    return Table("The price of a request", columns, rows, note)


def line(data: Data) -> str:
    """All of it in a line: `CPU time of a request as a multiple of theirs: bare ASGI, hello, against granian 0.71 on uvloop, …`."""
    found: dict[str, list[str]] = {}
    for price, ratios in _tried(samples(data)):
        shown = f"{median(ratios):.2f}" if ratios else "failed"
        found.setdefault(f"{price.asked}, against {price.opponent}", []).append(f"{shown} on {price.ours.loop}")
    told = "; ".join(f"{what} {' and '.join(ratios)}" for what, ratios in found.items())
    return f"CPU time of a request as a multiple of theirs: {told}." if told else ""


def targets(data: Data) -> list[Target]:
    """All of them that were tried."""
    return [
        Target(
            f"CPU time of a request, {price.what}, as a multiple of {price.opponent}",
            f"at most {price.at_most:.2f}",
            shown_ratio(ratios),
            bool(ratios) and median(ratios) <= price.at_most,
        )
        for price, ratios in _tried(samples(data))
    ]
