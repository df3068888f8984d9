"""What every part is made of: how it measures, and what it tells.

measure(run) -> data        takes minutes; the data is plain JSON
tables, targets, figures, page, claim of data      take none: they can be made again from the data at any time
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from benchmarks.stacks import Stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Data = dict[str, Any]
"""What a part has measured: JSON."""

T = TypeVar("T")


class Progress(Protocol):
    """Who is told how far a part is."""

    def total(self, steps: int) -> None:
        """The part will take so many steps."""

    def began(self, step: str) -> None:
        """This is done now."""

    def ended(self) -> None:
        """It has been done."""

    def missing(self, what: str, remedy: str) -> None:
        """This can't be measured here, and that is what would help."""


@dataclass(frozen=True)
class Run:
    """One run of a part.

    quick: only show that it works, in seconds; the numbers mean nothing.
    rounds: turns for each contestant, where the part doesn't say otherwise; None for the part's own number.
    """

    progress: Progress
    quick: bool = False
    rounds: int | None = None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Something that takes its time; `name` is shown meanwhile."""
        self.progress.began(name)
        yield
        self.progress.ended()

    def installed(self, stacks: Iterable[Stack]) -> list[Stack]:
        """Those of them that can be run here. The others are reported, never skipped in silence."""
        found = []
        for stack in stacks:
            if missing := stack.missing:
                self.progress.missing(stack.name, f"pip install {' '.join(missing)}")
            else:
                found.append(stack)
        return found

    def turns(self, contestants: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
        """Every contestant in every round, as (round, contestant). Every other round goes backwards."""
        for number in range(self.rounds or rounds):
            for contestant in contestants if number % 2 == 0 else reversed(contestants):
                yield number, contestant


@dataclass(frozen=True)
class Table:
    """Something to show.

    note: what a reader must know before believing it; Markdown.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Target:
    """Something that we have promised ourselves, and what came of it.

    what: is measured, as `CPU time of …, share of …`.
    wanted: as `at most 1.10`.
    measured: with its spread.
    """

    what: str
    wanted: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Part:
    """One question, and how it is answered.

    figures: by the name of the file, without its ending.
    page: what benchmarks/README.md shows of it, as Markdown; None if it shows nothing.
    claim: what README.md says of it in a paragraph, as Markdown; None if it says nothing.
    """

    name: str
    question: str
    measure: Callable[[Run], Data]
    tables: Callable[[Data], list[Table]]
    targets: Callable[[Data], list[Target]] = lambda data: []
    figures: Callable[[Data], "dict[str, Figure]"] = lambda data: {}
    page: Callable[[Data], str] | None = None
    claim: Callable[[Data], str] | None = None


def spread(samples: Sequence[float], form: str = "{:.1f}") -> str:
    """The median, and the smallest and the largest: `1.21 (1.16 to 1.47)`."""
    return f"{form.format(median(samples))} ({form.format(min(samples))} to {form.format(max(samples))})"


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least this share of them don't exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
