"""What the part `disconnect` has measured, as a matrix: a row for each stack, a cell for each way to leave.

Three clients left in each way. A cell is as bad as the worst of them: one handler in three that runs on is a handler that runs on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from statistics import median

from benchmarks.clients.leaving import ENDED_BEFORE, LEFT_OPEN, NOT_BEGUN, RAN_ON, STREAM, WAYS, Sample
from benchmarks.measuring import Data
from benchmarks.stacks import FRAMEWORKS, SERVERS, Stack

LATE = 1000.0
"""Milliseconds from which on a handler was stopped, but too late to call it so."""

EIGHT = [name for name in WAYS if name != STREAM]
"""The ways to leave a handler that waits."""


class State(Enum):
    """What became of the handlers of a cell; the worse first."""

    RAN_ON = RAN_ON
    LEFT_OPEN = LEFT_OPEN
    LATE = "stopped late"
    ENDED_BEFORE = ENDED_BEFORE
    STOPPED = "stopped"
    NOT_BEGUN = NOT_BEGUN


SIGNS = {State.RAN_ON: "\N{MULTIPLICATION SIGN}", State.LEFT_OPEN: "…", State.ENDED_BEFORE: "?", State.NOT_BEGUN: "\N{EN DASH}"}
"""What stands in a cell that has no time to show."""


@dataclass(frozen=True)
class Cell:
    """One stack, and one way to leave it."""

    samples: tuple[Sample, ...]

    @property
    def state(self) -> State:
        """The worst that happened."""
        return min(map(_state, self.samples), key=list(State).index)

    @property
    def milliseconds(self) -> list[float]:
        """How long after their clients the stopped ones ended."""
        return [sample for sample in self.samples if not isinstance(sample, str)]

    @property
    def short(self) -> str:
        """For a picture: the median, or a sign; the maximum, if that is what makes it late."""
        return SIGNS.get(self.state) or brief((max if self.state is State.LATE else median)(self.milliseconds))

    @property
    def long(self) -> str:
        """For a table: the median and the maximum; or what happened, and to how many if not to all."""
        if self.state in (State.STOPPED, State.LATE):
            return f"{brief(median(self.milliseconds))} ({brief(max(self.milliseconds))})"
        states = [_state(sample) for sample in self.samples]
        count = states.count(self.state)
        return self.state.value if count == len(states) else f"{self.state.value} ({count} of {len(states)})"


def _state(sample: Sample) -> State:
    if isinstance(sample, str):
        return State(sample)
    return State.STOPPED if sample <= LATE else State.LATE


@dataclass(frozen=True)
class Row:
    """One stack.

    next: milliseconds of each request after the departures.
    """

    stack: Stack
    cells: dict[str, Cell]
    next: list[float]

    @property
    def where(self) -> str:
        """The server and the loop, as `uvicorn h11, asyncio`."""
        own = SERVERS[self.stack.server].framework is not None
        return f"{'its own' if own else SERVERS[self.stack.server].name}, {self.stack.loop}"

    def ways(self, *states: State) -> list[str]:
        """Those of the eight that ended so."""
        return [name for name in EIGHT if self.cells[name].state in states]

    @property
    def stops_always(self) -> bool:
        """In all of the eight ways."""
        return len(self.ways(State.STOPPED)) == len(EIGHT)

    @property
    def score(self) -> str:
        """For an overview: in how many of the ways in which it began the handler stopped, and how fast: `7/8 · 0.4 ms, 1 late`."""
        stopped, late = self.ways(State.STOPPED), self.ways(State.LATE)
        score = f"{len(stopped)}/{len(EIGHT) - len(self.ways(State.NOT_BEGUN))}"
        if stopped:
            score += f" · {brief(median(median(self.cells[name].milliseconds) for name in stopped))} ms"
        return f"{score}, {len(late)} late" if late else score


def rows(data: Data) -> list[Row]:
    """The matrix."""
    found = []
    for each in data["stacks"]:
        cells = {name: Cell(tuple(samples)) for name, samples in each["ways"].items()}
        found.append(Row(Stack(each["framework"], each["server"], each["loop"]), cells, each["next"]))
    return found


def by_framework(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each framework, by its name for tables."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(FRAMEWORKS[row.stack.framework].name, []).append(row)
    return found


def listed(chosen: list[Row], matrix: list[Row]) -> str:
    """Some rows in words: `Starlette and FastAPI on every server but daphne; aiohttp on its own server`."""
    of_all = by_framework(matrix)
    frameworks: dict[str, list[str]] = {}
    for name, some in by_framework(chosen).items():
        frameworks.setdefault(_places(some, of_all[name]), []).append(name)
    return "; ".join(f"{_and(names)} on {places}" for places, names in frameworks.items()) or "none"


def _places(some: list[Row], of_all: list[Row]) -> str:
    """The servers of some of a framework's rows; by those that aren't among them, if these are few. Loops only where they differ."""
    found, every = _loops(some), _loops(of_all)
    others = [server for server in every if server not in found]
    names = [server if loops == every[server] else f"{server} ({'/'.join(loops)})" for server, loops in found.items()]
    if len(every) == 1 or len(others) * 2 > len(found) or any(server not in names for server in found):
        return _and(names)
    return f"every server but {_and(others)}" if others else "every server"


def _loops(some: list[Row]) -> dict[str, list[str]]:
    """The loops of some rows, by the name of their server."""
    loops: dict[str, list[str]] = {}
    for row in some:
        own = SERVERS[row.stack.server].framework is not None
        loops.setdefault("its own server" if own else SERVERS[row.stack.server].name, []).append(row.stack.loop)
    return loops


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def brief(milliseconds: float) -> str:
    """As few digits as tell something; seconds have their unit: `0.4`, `12`, `1.2 s`."""
    if milliseconds < 9.95:
        return f"{milliseconds:.1f}"
    return f"{milliseconds:.0f}" if milliseconds < 999.5 else f"{milliseconds / 1000:.1f} s"
