"""A request's tasks: its own is number 0, and all that it starts, and what those start, have numbers from 1.

A task that is made by one of them inherits its context, and in that a variable says whose child it is. On asyncio the running loop's
`create_task` looks there, on trio an instrument does. What an app leaves behind when it returns is *detached*, and on its own.
"""

import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from time import perf_counter
from types import CoroutineType
from typing import Any

import anyio

from microasgi import promise
from microasgi.promise.asyncio_tasks import running_loop
from microasgi.promise.delivery import current_task
from microasgi.promise.stages import OVER
from microasgi.promise.telling import blocks
from microasgi.watching.following import Call, Followed
from microasgi.watching.places import Place, innermost, place_of, raised_at, suspended_in
from microasgi.watching.policies import Policy
from microasgi.watching.telling import Source, Tell, error_text

present: "ContextVar[Member | None]" = ContextVar("microasgi.watching.present", default=None)
"""Which member of which request the running task is."""


_PROMISE = str(Path(promise.__file__).parent)


class Members:
    """All of one request.

    tell: what happens to them.
    others: those that run, by number, but for its own.
    departed: whether its client has left.
    """

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.others: dict[int, Member] = {}
        self.departed = False
        self._count = 0

    def own(self, policy: Policy | None = None) -> "Member":
        """The request's own task. Asked for once."""
        return Member(self, 0, "") if policy is None else Own(self, policy)

    def add(self, name: str, parent: "Member") -> "Member":
        """A task has been made."""
        self._count += 1
        self.others[self._count] = member = Member(self, self._count, name)
        self.tell("handler", "child", _caller(), {"name": name, "task": self._count, "of": parent.number})
        return member

    def end(self) -> None:
        """The app has returned."""
        for member in self.others.values():
            member.detached = True
            self.tell("handler", "detached", None, {"name": member.name, "task": member.number})
        self.others.clear()


class Member:
    """One task, as its coroutine's listener.

    number, name: of the task.
    detached: whether the app has returned without it.
    """

    detached = False
    _outer: Any = None  # the block that the coroutine itself is in
    _places: Sequence[Place] = ()  # where it waited last
    _cancelled_at = 0.0  # when a cancellation came, the first since the client has left; 0: none, or its cleanup is told already

    def __init__(self, members: Members, number: int, name: str) -> None:
        self._members = members
        self.number = number
        self.name = name

    def child(self, call: Any, name: str) -> Any:
        """What a new task is to run instead of this coroutine, if it can be followed, and isn't the promise's own, as a pump is."""
        if self.detached or not isinstance(call, CoroutineType) or call.cr_code.co_filename.startswith(_PROMISE):
            return call
        return Followed(call, self._members.add(name, self))

    def begins(self) -> None:
        present.set(self)
        self._outer = blocks.get(current_task())

    def waits(self, call: Call) -> None:
        if self.detached:
            return
        self._places = places = suspended_in(call, self._outer)
        own = [place for place in places if place.own] or places
        facts = {"at": own[-1].at, "line": own[-1].line, "inner": places[-1].at, "chain": tuple([place.at for place in own])}
        self._tell("wait", facts)

    def goes_on(self) -> None:
        self._tell("go on", {})

    def is_thrown(self, error: BaseException) -> None:
        if getattr(error, "source", "") == "deadline" and any(place.code.co_name == "sleep_until" for place in self._places):
            self.goes_on()  # trio's way to end a sleep
            return
        if isinstance(error, anyio.get_cancelled_exc_class()) and not (self._members.departed and self._cancelled_at):
            self._cancelled_at = perf_counter()
        self._tell("thrown", {"error": _named(error)})

    def returns(self) -> None:
        self._end("returned", self._cleanup() if self._members.departed else {})

    def raises(self, error: BaseException) -> None:
        cancelled = self._members.departed or isinstance(error, anyio.get_cancelled_exc_class())
        self._end("raised", {"error": _named(error), "at": raised_at(error), **(self._cleanup() if cancelled else {})})

    def moves(self, old: Any, new: Any, source: Source) -> None:
        """How far the cancellation of the call has come."""
        self._members.departed = True
        facts = self._cleanup() if new is OVER else {}
        if not self.detached:
            self._members.tell("handler", "stage", source, {"old": old.name, "new": new.name, "means": new.value, **facts})

    def is_given_up(self, grace: float) -> None:
        """Its cleanup was to take no more than so many seconds, and every await is cancelled from now on."""
        if not self.detached:
            self._members.tell("handler", "grace is over", None, {"seconds": grace})

    def finds(self, what: str, facts: dict[str, Any]) -> None:
        """Somebody has found something in what is said between the server and the app."""
        if not self.detached:
            self._members.tell("asgi", what, _caller(), facts)

    def _cleanup(self) -> dict[str, Any]:
        began, self._cancelled_at = self._cancelled_at, 0.0
        return {"cleanup": perf_counter() - began} if began else {}

    def _tell(self, what: str, facts: dict[str, Any]) -> None:
        if not self.detached:
            source = innermost(self._places).source if self._places else None
            self._members.tell("handler", what, source, {**facts, "task": self.number})

    def _end(self, what: str, facts: dict[str, Any]) -> None:
        self._places, self._outer = (), None
        self._tell(what, facts)
        if self.number:
            self._members.others.pop(self.number, None)
        else:
            self._members.end()
            self.detached = True


class Own(Member):
    """The request's own task, which also tells whether that finishes without its client: known once its route is found."""

    def __init__(self, members: Members, policy: Policy) -> None:
        super().__init__(members, 0, "")
        self._policy = policy

    def waits(self, call: Call) -> None:
        news = self._policy.news()
        if news is not None and not self.detached:
            self._members.tell("handler", "policy", None, news)
        super().waits(call)


def _named(error: BaseException) -> str:
    """An exception; a cancellation by its type alone."""
    return type(error).__name__ if isinstance(error, anyio.get_cancelled_exc_class()) else error_text(error)


def follow_children() -> None:
    """Have the tasks that members make from now on be followed, in the running loop, once."""
    loop: Any = running_loop()
    if loop is None:
        sys.modules["trio"].lowlevel.add_instrument(_spawns)
    elif "create_task" not in vars(loop):
        loop.create_task = _following(loop.create_task)


def _following(create_task: Callable[..., Any]) -> Callable[..., Any]:
    """A loop's own way to make tasks, which looks for parents."""

    def create_following_task(coro: Any, **options: Any) -> Any:
        context = options.get("context")
        parent = present.get() if context is None else context.get(present)
        if parent is not None:
            coro = parent.child(coro, str(options.get("name") or getattr(coro, "__qualname__", type(coro).__name__)))
        return create_task(coro, **options)

    return create_following_task


class _Spawns:
    """An instrument of trio's: it hears of every task that is made, before that runs."""

    def task_spawned(self, task: Any) -> None:
        parent = task.context.get(present)
        if parent is not None:
            task.coro = parent.child(task.coro, task.name)


_spawns = _Spawns()


def _caller() -> Source | None:
    """The line of the app's own that is at work; None, if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        place = place_of(frame.f_code, frame.f_lasti)
        if place.own:
            return place.source
        frame = frame.f_back  # type: ignore[assignment]  # the outermost has none
    return None
