"""What can be seen of a program that runs: when its tasks, their blocks and their waits began and ended, and how.

Task ─┬─ Part ── Part ── Leaf          what a task waits for, and the blocks that this stands in
      └─ its parent: the part of another task that started it
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.promise import programs as p


class Moment(NamedTuple):
    """When something was seen."""

    number: int
    turn: int
    time: float


class Boom(Exception):
    """An error of the program's own."""


@dataclass
class Outcome:
    """How something ended: by a cancellation, or by errors, or by neither."""

    cancelled: bool = False
    errors: frozenset[str] = frozenset()

    @property
    def ok(self) -> bool:
        return not self.cancelled and not self.errors


def outcome_of(error: BaseException | None) -> Outcome:
    """The leaves of an exception."""
    leaves = list(_leaves(error)) if error is not None else []
    names = frozenset(str(leaf) if isinstance(leaf, Boom) else type(leaf).__name__ for leaf in leaves)
    return Outcome("CancelledError" in names, names - {"CancelledError"})


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


@dataclass(eq=False)
class Task:
    """A task of the program. started_by: "host", the kind of part that started it, or "detach"."""

    parent: "Part | None"
    started_by: str
    spawned: Moment
    ended: Moment | None = None
    outcome: Outcome = field(default_factory=Outcome)


@dataclass(eq=False)
class Part:
    """A block that a task is in.

    kind: a library's group, "gather", "await", "wait_for", "scope", "shield", "timeout" (asyncio's), "nested" or "cleanup"
    exits: when its body had ended.
    """

    kind: str
    task: Task
    outer: "Part | None"
    opened: Moment
    deadline: float = float("inf")
    children: list[Task] = field(default_factory=list)
    exits: Moment | None = None
    body: Outcome = field(default_factory=Outcome)
    left: Moment | None = None
    outcome: Outcome = field(default_factory=Outcome)


@dataclass(eq=False)
class Leaf:
    """A wait."""

    node: p.Node
    task: Task
    part: Part | None
    begun: Moment
    ended: Moment | None = None
    cancelled: bool = False
    thread: str = ""  # "runs", "told", "never told"


@dataclass
class Seen:
    """All that was seen."""

    program: p.Program
    tasks: list[Task] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    departure: Moment | None = None
    hung: bool = False
    outcome: Outcome = field(default_factory=Outcome)
    cancelling: int = 0
    scope: Any = None
    tasks_left: list[Any] = field(default_factory=list)
    remembered: list[Any] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
