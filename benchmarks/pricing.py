"""What one stack costs as a multiple of another, which is asked the same beside it: in CPU time, which is judged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.load import Workload
from benchmarks.measuring import Run, Table, Target
from benchmarks.sampling import Sample, Samples, identifier, shown_ratio, take_heat
from benchmarks.stacks import SERVERS, Stack


@dataclass(frozen=True)
class Pair:
    """Two stacks on one loop that are asked the same."""

    ours: Stack
    theirs: Stack
    workload: Workload

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


@dataclass(frozen=True)
class Price(Pair):
    """
    at_most: ours may take so many times their CPU time.
    """

    at_most: float

    def cost(self, sample: Sample) -> float:
        """CPU time in µs: of a request, or of a megabyte where it streams."""
        return sample.cost_of_gigabyte * 1000 if self.workload.streamed else sample.cost


Heat = tuple[list[Stack], Workload]


def heats(run: Run, pairs: Sequence[Pair]) -> list[Heat]:
    """Those that run side by side with one workload: ours, and all who are compared with it there, as far as they are installed."""
    installed = run.installed(dict.fromkeys(stack for pair in pairs for stack in (pair.ours, pair.theirs)))
    found: dict[tuple[Stack, Workload], list[Stack]] = {}
    for pair in pairs:
        if pair.ours in installed and pair.theirs in installed:
            found.setdefault((pair.ours, pair.workload), [pair.ours]).append(pair.theirs)
    heats = [(stacks, workload) for (_, workload), stacks in found.items()]
    return heats[:1] if run.quick else heats


def measure(run: Run, heats: Sequence[Heat], rounds: int, seconds: float, wrk: str | None) -> Iterator[Sample]:
    """Every heat, in every round."""
    for number, (stacks, workload) in run.turns(heats, rounds):
        with run.step(f"round {number + 1}: {workload.name}: {' against '.join(stack.name for stack in stacks)}"):
            yield from take_heat(stacks, number, [workload], seconds, wrk)


def ratios(pair: Pair, found: Samples, value: Callable[[Sample], float]) -> list[float] | None:
    """Ours to theirs, in each round in which both succeeded; None if they weren't tried."""
    ours, theirs, name = identifier(pair.ours), identifier(pair.theirs), pair.workload.name
    if {(ours, name), (theirs, name)} <= {(each.stack, each.workload) for each in found.all}:
        return found.ratios(ours, theirs, name, value)
    return None


def _tried(prices: Sequence[Price], found: Samples) -> Iterator[tuple[Price, list[float]]]:
    for price in prices:
        if (shares := ratios(price, found, price.cost)) is not None:
            yield price, shares


def table(prices: Sequence[Price], found: Samples) -> Table:
    """What each pair costs."""
    rows = []
    for price, shares in _tried(prices, found):
        costs = [found.median(identifier(stack), price.workload.name, price.cost) for stack in (price.ours, price.theirs)]
        shown = ["failed" if cost is None else f"{cost:.1f}" for cost in costs]
        rows.append((price.what, price.opponent, *shown, shown_ratio(shares), f"{price.at_most:g}", str(len(shares))))
    of_streams = ", of a stream for each megabyte" if any(price.workload.streamed for price, _ in _tried(prices, found)) else ""
    note = (
        f"µs of CPU time of the server's process and its children for each request{of_streams}; ratios are ours to theirs, taken within"
        f" each round: the median, and the smallest and the largest.{found.disturbance()}"
    )
    columns = ("asked", "against", "ours, µs of CPU time", "theirs", "ratio", "at most", "rounds")
    return Table("The price of a request", columns, rows, note)


def line(prices: Sequence[Price], found: Samples) -> str:
    """All of it in a line: `CPU time of a request as a multiple of theirs: bare ASGI, hello, against granian 0.71 on uvloop, …`."""
    told: dict[str, list[str]] = {}
    for price, shares in _tried(prices, found):
        shown = f"{median(shares):.2f}" if shares else "failed"
        told.setdefault(f"{price.asked}, against {price.opponent}", []).append(f"{shown} on {price.ours.loop}")
    lines = "; ".join(f"{what} {' and '.join(found_on)}" for what, found_on in told.items())
    return f"CPU time of a request as a multiple of theirs: {lines}." if lines else ""


def targets(prices: Sequence[Price], found: Samples) -> list[Target]:
    """All of them that were tried."""
    return [
        Target(
            f"CPU time of a {'megabyte' if price.workload.streamed else 'request'}, {price.what}, as a multiple of {price.opponent}",
            f"at most {price.at_most:.2f}",
            shown_ratio(shares),
            bool(shares) and median(shares) <= price.at_most,
        )
        for price, shares in _tried(prices, found)
    ]
