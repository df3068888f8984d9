"""Samples: what stacks under load come to, in requests and in CPU time, and how two stacks are compared.

A round starts fresh processes: where the system happens to put things in memory moves a result by some percent. Within a round the
machine's mood must be the same for those that are compared. They run side by side there, and the load goes from one to the next, there
and back: whoever has no load takes no time. A pair's ratio is taken within each round.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.load import Workload, put_load
from benchmarks.measuring import Data, spread
from benchmarks.processes import cpu_seconds, machine_seconds
from benchmarks.running import Running, running
from benchmarks.stacks import Stack

WARM_UP = Workload("warm-up")

WARMING_UP = 0.4
"""Seconds that don't count: the interpreter specialises its bytecode, the allocator gets its arenas."""

SETTLED = 0.01
"""Seconds of CPU time in four times as many, below which a server counts as quiet: some have timers, or threads of their own."""

SETTLING = 5.0
"""Seconds that a server gets to end what the last workload has left: an app may go on streaming to clients that are gone."""

QUIET = 0.3
"""Cores that others may use without a word about it: the kernel for the load's packets, a desktop, and we who measure."""

SATURATED = 0.9
"""The share of its core from which on the load generator is the limit."""


@dataclass(frozen=True)
class Sample:
    """One workload on one stack, in one turn.

    requests: that were answered; 0 if it failed.
    moved: bytes of bodies, for workloads with large ones.
    cpu: seconds of CPU time of the server and its children.
    busy: the share of its core that the load generator used.
    others: cores that were used by neither of the two.
    failure: why there is no result.
    """

    stack: str
    workload: str
    round: int
    requests: int = 0
    seconds: float = 0.0
    moved: int = 0
    cpu: float = 0.0
    busy: float = 0.0
    others: float = 0.0
    failure: str = ""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def cost(self) -> float:
        """CPU time of a request, in µs."""
        return self.cpu / self.requests * 1e6

    @property
    def flow(self) -> float:
        """Megabytes a second."""
        return self.moved / self.seconds / 1e6

    @property
    def cost_of_gigabyte(self) -> float:
        """CPU time of a gigabyte, in seconds."""
        return self.cpu / self.moved * 1e9


def identifier(stack: Stack) -> str:
    """How data name a stack: `starlette/uvicorn-h11/asyncio`."""
    return f"{stack.framework}/{stack.server}/{stack.loop}"


def identified(name: str) -> Stack:
    """The stack that data name so."""
    return Stack(*name.split("/"))


def take_turn(stack: Stack, number: int, workloads: Sequence[Workload], seconds: float, wrk: str | None) -> list[Sample]:
    """Start one stack, and measure workloads on it. What fails is a result, too; the others go on."""
    try:
        with running(stack) as server:
            put_load(server.port, WARM_UP, min(WARMING_UP, seconds), wrk, stack.scheme)
            return [_attempted(stack, number, server, workload, seconds, wrk) for workload in workloads]
    except BenchmarkError as error:
        return [_attempted(stack, number, error, workload, seconds, wrk) for workload in workloads]


def take_heat(
    stacks: Sequence[Stack], number: int, workloads: Sequence[Workload], seconds: float, wrk: str | None, laps: int = 1
) -> Iterator[Sample]:
    """Start stacks side by side, and measure one workload after the other on all of them, each for so long in all.

    What fails is a result, too.

    laps: how often the load goes there and back: the shorter its stays, the less can the machine's mood change between two.
    """
    with ExitStack() as block:
        servers: dict[Stack, Running | BenchmarkError] = {}
        for stack in stacks:
            try:
                servers[stack] = server = block.enter_context(running(stack))
                put_load(server.port, WARM_UP, min(WARMING_UP, seconds), wrk, stack.scheme)
            except BenchmarkError as error:
                servers[stack] = error

        def ask(workload: Workload, stack: Stack, seconds: float) -> Sample:
            return _attempted(stack, number, servers[stack], workload, seconds, wrk)

        for workload in workloads:
            yield from there_and_back(stacks, partial(ask, workload), seconds, laps)


def there_and_back(stacks: Sequence[Stack], ask: Callable[[Stack, float], Sample], seconds: float, laps: int = 1) -> list[Sample]:
    """A sample of each, which is asked for so many seconds in all: for as long on the way there as on the way back, in each lap."""
    slices: dict[Stack, list[Sample]] = {stack: [] for stack in stacks}
    for stack in [*stacks, *reversed(stacks)] * laps:
        slices[stack].append(ask(stack, seconds / 2 / laps))
    return [_sum(each) for each in slices.values()]


def _sum(slices: Sequence[Sample]) -> Sample:
    for each in slices:
        if each.failure:
            return each
    seconds = sum(each.seconds for each in slices)
    return replace(
        slices[0],
        requests=sum(each.requests for each in slices),
        seconds=round(seconds, 3),
        moved=sum(each.moved for each in slices),
        cpu=round(sum(each.cpu for each in slices), 3),
        busy=round(sum(each.busy * each.seconds for each in slices) / seconds, 3),
        others=round(sum(each.others * each.seconds for each in slices) / seconds, 3),
    )


def _attempted(stack: Stack, number: int, server: Running | BenchmarkError, workload: Workload, seconds: float, wrk: str | None) -> Sample:
    """A sample, or the failure. A stack that isn't there has failed at all that is tried."""
    name = identifier(stack)
    try:
        if isinstance(server, BenchmarkError):
            raise server
        _settle(server.pid)
        return _measured(name, number, server, workload, seconds, wrk)
    except BenchmarkError as error:
        return Sample(name, workload.name, number, failure=str(error)[:300])


def _measured(name: str, number: int, server: Running, workload: Workload, seconds: float, wrk: str | None) -> Sample:
    before, (machine_before, _) = cpu_seconds(server.pid), machine_seconds()
    result = put_load(server.port, workload, seconds + workload.opening, wrk, server.stack.scheme)
    used, (machine_after, _) = cpu_seconds(server.pid) - before, machine_seconds()
    moved = workload.body * result.requests if workload.body else result.received
    if not moved or used <= 0 or not (result.requests or workload.streamed):
        raise BenchmarkError(f"{result.requests} answers and {used:.2f} s of CPU time are too little to measure")
    others = max(0.0, (machine_after - machine_before - used) / result.seconds - result.busy)
    took, used, busy, others = (round(each, 3) for each in (result.seconds, used, result.busy, others))
    return Sample(name, workload.name, number, result.requests, took, moved, used, busy, others)


def _settle(pid: int) -> None:
    deadline = time.monotonic() + SETTLING
    before = -math.inf
    while (used := cpu_seconds(pid)) - before > SETTLED and time.monotonic() < deadline:
        before = used
        time.sleep(4 * SETTLED)


def rate(sample: Sample) -> float:
    """Requests a second."""
    return sample.rate


def cost(sample: Sample) -> float:
    """CPU time of a request, in µs."""
    return sample.cost


def plain(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """As JSON; an empty failure isn't told."""
    return [{name: value for name, value in asdict(sample).items() if name != "failure" or value} for sample in samples]


class Samples:
    """What a part's data hold."""

    def __init__(self, data: Data) -> None:
        self.all = [Sample(**each) for each in data["samples"]]

    def rounds(self, stack: str, workload: str) -> dict[int, Sample]:
        """Those that succeeded, by their round."""
        return {each.round: each for each in self.all if (each.stack, each.workload) == (stack, workload) and not each.failure}

    def failed(self, stack: str, workload: str) -> bool:
        """It was tried, and never succeeded."""
        return any((each.stack, each.workload) == (stack, workload) for each in self.all) and not self.rounds(stack, workload)

    def median(self, stack: str, workload: str, value: Callable[[Sample], float]) -> float | None:
        """Of all rounds; None if there is no result."""
        values = [value(each) for each in self.rounds(stack, workload).values()]
        return median(values) if values else None

    def saturated(self, stack: str, workload: str) -> bool:
        """The generator was the limit."""
        return (self.median(stack, workload, lambda sample: sample.busy) or 0) > SATURATED

    def ratios(self, first: str, second: str, workload: str, value: Callable[[Sample], float]) -> list[float]:
        """The first's value as a share of the second's, in each round in which both succeeded."""
        return [value(one) / value(other) for one, other in self.paired(first, second, workload)]

    def paired(self, first: str, second: str, workload: str) -> list[tuple[Sample, Sample]]:
        """Both's samples of each round in which both succeeded."""
        ours, theirs = self.rounds(first, workload), self.rounds(second, workload)
        return [(ours[number], theirs[number]) for number in sorted(ours.keys() & theirs.keys())]

    def disturbance(self) -> str:
        """A sentence, if something else was running: then requests a second mean little, and CPU time less than it could."""
        others = [each.others for each in self.all if not each.failure]
        if not others or median(others) <= QUIET:
            return ""
        return (
            f" **The machine wasn't quiet**: others used {spread(others, '{:.2f}')} cores meanwhile; measure again before believing this."
        )

    def failures(self) -> list[tuple[str, str, str]]:
        """Stack, workload and why."""
        told = dict.fromkeys((each.stack, each.workload, " ".join(each.failure.split())) for each in self.all if each.failure)
        return [(identified(stack).name, workload, failure) for stack, workload, failure in told]


def shown_ratio(ratios: Sequence[float]) -> str:
    """`1.31 (1.25 to 1.40)`, or that there is none."""
    return spread(ratios, "{:.2f}") if ratios else "failed"
