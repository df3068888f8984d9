"""What one stack costs as a multiple of another, which is asked the same beside it: in CPU time, which is judged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.load import Workload
from benchmarks.measuring import Run, Table, Target
from benchmarks.sampling import Sample, Samples, identifier, shown_ratio, take_heat
from benchmarks.stacks import SERVERS, Stack


@dataclass(frozen=True)
class Price:
    """Two stacks on one loop that are asked the same.

    at_most: ours may take so many times their CPU time.
    """

    ours: Stack
    theirs: Stack
    workload: Workload
    at_most: float

    @property
    def asked(self) -> str:
        """What is asked of whom, on whatever loop."""
        kind = "bare ASGI" if self.ours.framework == "bare" else "routed"
        return ", ".join(filter(None, [kind, self.workload.name, SERVERS[self.ours.server].manner]))

    @property
    def what(self) -> str:
        """For tables."""
        return f"{self.asked}, {self.ours.loop}"

    @property
    def opponent(self) -> str:
        """For tables."""
        server = SERVERS[self.theirs.server].name
        return server if self.theirs.framework == "bare" else f"Starlette on {server}"

    def cost(self, sample: Sample) -> float:
        """CPU time in µs: of a request, or of a megabyte where it streams."""
        return sample.cost_of_gigabyte * 1000 if self.workload.streamed else sample.cost


Heat = tuple[list[Stack], Workload]


def heats(run: Run, prices: Sequence[Price]) -> list[Heat]:
    """Those that run side by side with one workload: ours, and all who are compared with it there, as far as they are installed."""
    installed = run.installed(dict.fromkeys(stack for price in prices for stack in (price.ours, price.theirs)))
    found: dict[tuple[Stack, Workload], list[Stack]] = {}
    for price in prices:
        if price.ours in installed and price.theirs in installed:
            found.setdefault((price.ours, price.workload), [price.ours]).append(price.theirs)
    heats = [(stacks, workload) for (_, workload), stacks in found.items()]
    return heats[:1] if run.quick else heats


def measure(run: Run, heats: Sequence[Heat], rounds: int, seconds: float, wrk: str | None) -> Iterator[Sample]:
    """Every heat, in every round."""
    for number, (stacks, workload) in run.turns(heats, rounds):
        with run.step(f"round {number + 1}: {workload.name}: {' against '.join(stack.name for stack in stacks)}"):
            yield from take_heat(stacks, number, [workload], seconds, wrk)


def tried(prices: Sequence[Price], found: Samples) -> Iterator[tuple[Price, list[float]]]:
    """Those that were tried, with the ratio of CPU time in each round."""
    asked = {(each.stack, each.workload) for each in found.all}
    for price in prices:
        ours, theirs, name = identifier(price.ours), identifier(price.theirs), price.workload.name
        if {(ours, name), (theirs, name)} <= asked:
            yield price, found.ratios(ours, theirs, name, price.cost)


def table(prices: Sequence[Price], found: Samples) -> Table:
    """What each pair costs."""
    rows = []
    for price, ratios in tried(prices, found):
        costs = [found.median(identifier(stack), price.workload.name, price.cost) for stack in (price.ours, price.theirs)]
        shown = ["failed" if cost is None else f"{cost:.1f}" for cost in costs]
        rows.append((price.what, price.opponent, *shown, shown_ratio(ratios), f"{price.at_most:g}", str(len(ratios))))
    of_streams = ", of a stream for each megabyte" if any(price.workload.streamed for price, _ in tried(prices, found)) else ""
    note = (
        f"µs of CPU time of the server's process and its children for each request{of_streams}; ratios are ours to theirs, taken within"
        f" each round: the median, and the smallest and the largest.{found.disturbance()}"
    )
    columns = ("asked", "against", "ours, µs of CPU time", "theirs", "ratio", "at most", "rounds")
    return Table("The price of a request", columns, rows, note)


def line(prices: Sequence[Price], found: Samples) -> str:
    """All of it in a line: `CPU time of a request as a multiple of theirs: bare ASGI, hello, against granian 0.71 on uvloop, …`."""
    told: dict[str, list[str]] = {}
    for price, ratios in tried(prices, found):
        shown = f"{median(ratios):.2f}" if ratios else "failed"
        told.setdefault(f"{price.asked}, against {price.opponent}", []).append(f"{shown} on {price.ours.loop}")
    lines = "; ".join(f"{what} {' and '.join(ratios)}" for what, ratios in told.items())
    return f"CPU time of a request as a multiple of theirs: {lines}." if lines else ""


def targets(prices: Sequence[Price], found: Samples) -> list[Target]:
    """All of them that were tried."""
    return [
        Target(
            f"CPU time of a {'megabyte' if price.workload.streamed else 'request'}, {price.what}, as a multiple of {price.opponent}",
            f"at most {price.at_most:.2f}",
            shown_ratio(ratios),
            bool(ratios) and median(ratios) <= price.at_most,
        )
        for price, ratios in tried(prices, found)
    ]
