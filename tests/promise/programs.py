"""Random handlers: what they are made of, and how they are made.

A program is a tree of the nodes below. Its `repr` is Python that makes it again, so that a failure can be replayed.
"""

from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol

Library = Literal["anyio", "asyncio"]
Steps = tuple["Node", ...]
When = Literal["wait", "running", "turn"]


class Node:
    """Something that a handler does."""


@dataclass(frozen=True)
class Wait(Node):
    """Wait for what never comes."""

    what: Literal["sleep", "event", "anyio event", "stream", "queue", "lock"]


@dataclass(frozen=True)
class Pause(Node):
    """Wait for what comes soon."""

    what: Literal["yield", "checkpoint", "sleep soon"]


@dataclass(frozen=True)
class Thread(Node):
    """Ask `check_cancelled()` in a thread, again and again."""

    abandon: bool


@dataclass(frozen=True)
class Fail(Node):
    """Raise an error."""


@dataclass(frozen=True)
class Try(Node):
    """Clean up behind something: in a `finally`, or in an `except CancelledError` that raises it again."""

    body: Steps
    cleanup: Steps
    clause: Literal["finally", "except"]


@dataclass(frozen=True)
class Group(Node):
    """A task group, entered by itself, by an AsyncExitStack, or by an `@asynccontextmanager`."""

    library: Library
    entered: Literal["with", "stack", "manager"]
    children: tuple[Steps, ...]
    body: Steps


@dataclass(frozen=True)
class Gather(Node):
    """`asyncio.gather`."""

    children: tuple[Steps, ...]


@dataclass(frozen=True)
class Await(Node):
    """A task that is awaited: as it is, or by `asyncio.wait_for`."""

    child: Steps
    limit: bool


@dataclass(frozen=True)
class Detach(Node):
    """A task that nobody awaits."""


@dataclass(frozen=True)
class Timeout(Node):
    """`move_on_after`, `fail_after`, or `asyncio.timeout`; goes on when it has expired."""

    what: Literal["move on", "fail", "asyncio"]
    seconds: float
    body: Steps


@dataclass(frozen=True)
class Shield(Node):
    """`CancelScope(shield=True)`."""

    body: Steps


@dataclass(frozen=True)
class Iterate(Node):
    """An asynchronous generator that does this on its way to the next item."""

    body: Steps


@dataclass(frozen=True)
class Nested(Node):
    """A request within this one, whose client stays."""

    body: Steps


@dataclass(frozen=True)
class Program:
    """What the handler does, and when its client leaves.

    leave: as soon as so many waits have begun, in the next turn; or while the task runs that begins the last of them; or in that turn
        of the loop.
    """

    handler: Steps
    leave: tuple[When, int]
    cleanup_grace: float


LONG, BRIEF = 60.0, 0.05
"""Graces: of cleanup that ends, and of cleanup that doesn't."""


class Author:
    """Makes programs up.

    stuck: whether cleanup may wait for what never comes.
    calm: whether nothing but the client's departure fails or expires before that.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.stuck = self.random.random() < 0.12
        self.calm = self.random.random() < 0.7

    def program(self) -> Program:
        """A whole program."""
        choose = self.random
        kind: When = choose.choice(("wait", "wait", "running", "turn"))
        leave = (kind, choose.randint(1, 20 if kind == "turn" else 8))
        return Program(self.work(4), leave, BRIEF if self.stuck else LONG)

    def work(self, depth: int) -> Steps:
        """What a task does before the client leaves: it waits somewhere."""
        steps = [self.short_step(0) for _ in range(self.random.choice((0, 0, 1)))]
        return (*steps, self.work_step(depth), *(self.pause() for _ in range(self.random.randint(0, 2))))

    def work_step(self, depth: int) -> Node:
        choose, less = self.random, depth - 1
        if depth == 0:
            return self.wait()
        number = choose.random()
        if number < 0.27:
            return Try(self.work(less), self.cleanup(2), choose.choice(("finally", "except")))
        if number < 0.50:
            return self.group(lambda: self.work(less), choose.choice((self.work(less), self.short(1), ())))
        if number < 0.57:
            return Gather(self.several(lambda: self.work(less)))
        if number < 0.63:
            return Await(self.work(less), choose.random() < 0.5)
        if number < 0.73:
            soon = not self.calm and choose.random() < 0.5
            return Timeout(choose.choice(("move on", "fail", "asyncio")), choose.choice((0.0, 0.002)) if soon else LONG, self.work(less))
        if number < 0.77:
            return Iterate(self.work(less))
        if number < 0.80:
            return Nested(self.work(less))
        if number < 0.82:
            return Thread(choose.random() < 0.5)
        if number < 0.83:
            return Detach()
        return self.wait()

    def short(self, depth: int) -> Steps:
        """What ends soon by itself."""
        return tuple(self.short_step(depth) for _ in range(self.random.randint(1, 2)))

    def short_step(self, depth: int) -> Node:
        number = self.random.random()
        if not self.calm and number < 0.05:
            return Fail()
        if number < 0.30:
            return Shield(self.short(depth - 1) if depth > 0 else (self.pause(), self.pause()))
        if number < 0.45 and depth > 0:
            return self.group(lambda: self.short(depth - 1), self.short(depth - 1))
        if number < 0.50 and depth > 0:
            return Gather(self.several(lambda: self.short(depth - 1)))
        return self.pause()

    def cleanup(self, depth: int) -> Steps:
        """What a task does when it is told."""
        return tuple(self.cleanup_step(depth) for _ in range(self.random.randint(1, 3)))

    def cleanup_step(self, depth: int) -> Node:
        choose, less = self.random, depth - 1
        number = choose.random()
        if self.stuck and number < 0.25:
            return self.wait()
        if number < 0.06:
            return Fail()
        if depth == 0 or number < 0.55:
            return self.pause()
        if number < 0.64:
            return Timeout("asyncio", LONG, self.cleanup(less))
        if number < 0.72:
            return Timeout("move on", LONG, self.cleanup(less))
        if number < 0.80:
            return Shield(self.short(1))
        if number < 0.86:
            return self.group(lambda: self.cleanup(less), self.cleanup(less))
        if number < 0.92:
            return Gather(self.several(lambda: self.cleanup(less)))
        return Try(self.cleanup(less), self.cleanup(less), choose.choice(("finally", "except")))

    def group(self, child: "Maker", body: Steps) -> Group:
        library: Library = "anyio" if self.random.random() < 0.65 else "asyncio"
        return Group(library, self.random.choice(("with", "with", "stack", "manager")), self.several(child), body)

    def several(self, make: "Maker") -> tuple[Steps, ...]:
        return tuple(make() for _ in range(self.random.choice((1, 1, 2, 3))))

    def wait(self) -> Wait:
        return Wait(self.random.choice(("sleep", "event", "anyio event", "stream", "queue", "lock")))

    def pause(self) -> Pause:
        return Pause(self.random.choice(("yield", "yield", "checkpoint", "sleep soon")))


class Maker(Protocol):
    """What makes steps."""

    def __call__(self) -> Steps: ...
