"""What became of the news of a departure in one request, task by task: what `reasons.py` has its sentences from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from microasgi.inspector.states import is_turn
from microasgi.inspector.told import Shown

SOON = 50.0
"""Milliseconds within which most handlers have heard."""

CLIENT_CLOSED_REQUEST = 499
"""The status that our own block sends in place of a handler that was stopped."""

THREAD = "run_sync"
"""What all that waits for a thread goes through: anyio's `to_thread.run_sync`."""

FORGOTTEN_THREAD = " in to_thread"
"""asyncio's own way to a thread, which nobody waits for who is cancelled."""

WAITS_FOR_CHILDREN = (" in __aexit__", " in _aexit", " in _nested_child_finished")
"""Where the parent of a task group stands until the last of its tasks has ended, on asyncio."""

ANY_WAIT = " in _real_async_yield"
"""Where every task of trio stands: there only the app's own line tells of a task group."""


class Wait(NamedTuple):
    """A task waits: since when, where in the app's own code, where in all, whether for a thread, that line of the app's, and all such."""

    since: float
    at: str
    inner: str
    threaded: bool
    line: str
    chain: Sequence[str] = ()

    @property
    def for_children(self) -> bool:
        """Whether that is for the tasks that it has started."""
        return self.inner.endswith(WAITS_FOR_CHILDREN) or (self.inner.endswith(ANY_WAIT) and self.line.startswith("async with "))


@dataclass
class Task:
    """One of a request's tasks.

    name: as it was made; the request's own has none.
    at: where it waits, or waited last; last: all of that.
    held: its last wait before the news reached it, if that began before the client left: what the news had to wait for.
    raised: when the cancellation was, in it, and where; chain: through which of its functions.
    later: its waits behind that.
    ended: when, and how: `returned`, `raised` or `detached`.
    """

    number: int
    name: str = ""
    held: Wait | None = None
    last: Wait | None = None
    at: str = ""
    raised: tuple[float, str] | None = None
    chain: Sequence[str] = ()
    later: list[Wait] = field(default_factory=list)
    ended: tuple[float, str] | None = None

    def has_swallowed(self, patience: float) -> bool:
        """Whether it took the cancellation for something else: it waits there once more, or ended as if nothing had been, and late."""
        if self.raised is None:
            return False
        at, where = self.raised
        again = any(wait.at == where and not wait.for_children for wait in self.later)
        return again or (self.number > 0 and self.ended is not None and self.ended[1] == "returned" and self.ended[0] - at > patience)


@dataclass
class Course:
    """What became of the news.

    asked: whether somebody in the app has asked to be told; receiving: how many wait in `receive()`.
    told: whether they were; stage: how far the delivery has come.
    sent: how long after the departure the handler's task was cancelled, in milliseconds, whatever it waited for.
    answered: the status that the handler still answered with, once it had heard; 0: none.
    computed: for how long it was at work behind the departure and did nothing that can be seen, in milliseconds; since: when that began.
    policy: who has said that it finishes without its client, by its facts.
    files: the paths of the app's own files that it has waited in, by names.
    tasks: by number.
    """

    asked: bool = False
    receiving: int = 0
    told: bool = False
    stage: str = ""
    sent: float | None = None
    answered: int = 0
    computed: float = 0.0
    since: float = 0.0
    policy: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=lambda: {0: Task(0)})

    @property
    def own(self) -> Task:
        """The request's own task."""
        return self.tasks[0]

    @property
    def holds(self) -> str:
        """What holds the cancellation off, in words, once that is called."""
        held = self.own.held
        if held is None:
            return "it isn't waiting, but at work"
        if held.for_children:
            return "it waits for tasks of its own, which hear first"
        return "it waits for a thread, which nobody can stop" if held.threaded else "it is shielded"

    @property
    def swallowed(self) -> bool:
        """Whether the request's own task went on as if nothing had been."""
        return self.own.raised is not None and (self.own.has_swallowed(SOON) or self.answered not in (0, CLIENT_CLOSED_REQUEST))


def course(events: Sequence[Shown], left: float) -> Course:
    """What these events, which are in order, tell of it.

    :param left: when the client left
    """
    computed, since = _computed(events, left)
    found = Course(computed=computed, since=since, files=files_of(events))
    for event in events:
        facts: dict[str, Any] = event["facts"]
        match event["lane"], event["what"]:
            case "asgi", "subscribe":
                found.asked = True
            case "asgi", "told":
                found.told = True
            case "asgi", "receive?" | "receive":
                found.receiving += 1 if event["what"] == "receive?" else -1
            case "asgi", "send" if found.own.raised and facts["message"]["type"] == "http.response.start":
                found.answered = facts["message"].get("status") or 0
            case "handler", "policy":
                found.policy = facts
            case "handler", "stage":
                found.stage = facts["new"]
                if found.stage == "SENT" and found.sent is None:
                    found.sent = event["at"] - left
            case "handler", "thrown" if found.told and not found.stage:
                pass  # nothing is delivered: it is of the handler's own making, a timeout for example
            case "handler", what:
                number = facts.get("task") or 0
                _follow(found.tasks.setdefault(number, Task(number)), what, event["at"], facts, left, found.stage == "OVER")
    return found


def files_of(events: Sequence[Shown]) -> dict[str, str]:
    """The paths of the app's own files that these have seen it in, by their names."""
    own = [event for event in events if event["lane"] == "handler" and event["what"] != "stage"]
    waited = [event["source"].rpartition(":")[0] for event in own if event["source"]]
    declared = [event["facts"]["file"] for event in own if event["facts"].get("file")]
    return {Path(path).name: path for path in [*declared, *waited]}


def _computed(events: Sequence[Shown], left: float) -> tuple[float, float]:
    """The longest time that it computed, as far as that ended behind the departure: no await, no message. And since when."""
    longest, began, since = 0.0, 0.0, None
    for event in events:
        kind = event["lane"], event["what"]
        if kind[0] in ("asgi", "handler") or kind[1] == "now":
            if since is not None and event["at"] > left and event["at"] - since > longest:
                longest, began = event["at"] - since, since
            since = event["at"] if kind in _BEGINS or (since is not None and kind not in _ENDS) else None
    return longest, began


_BEGINS = {("asgi", "call"), ("handler", "go on"), ("handler", "thrown")}
_ENDS = {("handler", "wait"), ("handler", "returned"), ("handler", "raised")}
"""Between which a task is at work."""


def _follow(task: Task, what: str, at: float, facts: dict[str, Any], left: float, is_over: bool) -> None:
    """One more event of a task's."""
    match what:
        case "child":
            task.name = facts.get("name") or ""
        case "wait" if not is_turn(facts):
            steps = (facts.get("inner") or "", facts.get("line") or "", *(facts.get("chain") or ()))
            wait = Wait(at, facts.get("at") or "", facts.get("inner") or "", any(THREAD in step for step in steps), steps[1], steps[2:])
            if task.raised is None and (at <= left or task.held is None):
                task.held = wait
            elif task.raised is not None and not is_over:
                task.later.append(wait)
            task.at, task.last = wait.at, wait
        case "thrown" if task.raised is None and at > left and str(facts.get("error", "")).startswith("Cancel"):
            task.raised, task.chain = (at, task.at), task.last.chain if task.last is not None else ()
        case "returned" | "raised" | "detached":
            task.ended = at, what
