"""Why a handler hasn't stopped although its client has left, as far as what was told shows it. A sentence for each reason.

| what is seen | the reason |
|---|---|
| the loop didn't turn, or the handler computed for long | it blocks the loop: nobody can be told |
| nobody has subscribed to the departure | the app doesn't ask; `--cancel-on-disconnect` asks for it |
| who subscribed was told, and delivers nothing | `on_disconnect="finish"` |
| the delivery stays at CALLED, and a thread works | a thread, which has to ask |
| the delivery stays at CALLED | a shield |
| the cancellation was raised, and the handler waits where it waited before, or answers | it was swallowed |
| the cancellation was raised, and the handler waits elsewhere, for long | cleanup that takes its time |
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from microasgi.inspector.summary import Story, span
from microasgi.inspector.told import Shown

SOON = 50.0
"""Milliseconds within which most handlers have heard."""

LONG = 500.0
"""Milliseconds that computing, or cleanup, may take before it is worth a word."""

CLIENT_CLOSED_REQUEST = 499
"""The status that our own block sends in place of a handler that was stopped."""

_THREAD = "run_sync"
"""What all that waits for a thread goes through: anyio's `to_thread.run_sync`."""


@dataclass(frozen=True)
class Blocked:
    """The app's loop didn't turn: from when until when, in milliseconds like the events', and where it stood."""

    began: float
    ended: float
    at: str


@dataclass(frozen=True)
class Seen:
    """What is seen from outside.

    blocked: when the app's loop stood still.
    threads: where worker threads stand, or stood when the request was last seen at work.
    """

    blocked: Sequence[Blocked] = ()
    threads: Sequence[str] = ()


@dataclass
class _Task:
    """One of a request's tasks.

    at: where it waits, or waited last.
    threaded: whether that is for a thread.
    raised: where the cancellation was raised.
    again: whether it has waited there once more.
    """

    at: str = ""
    threaded: bool = False
    raised: str | None = None
    again: bool = False


@dataclass
class _Course:
    """What became of the news in one request."""

    subscribed: bool = False
    told: bool = False
    stage: str = ""
    answered: int = 0
    computed: float = 0.0
    tasks: dict[int, _Task] = field(default_factory=dict)


def reasons(events: Sequence[Shown], told: Story, seen: Seen) -> list[str]:
    """The sentences; none, if the client hasn't left, or the handler stopped as it should."""
    if told.left is None or told.called is None or told.is_complete:
        return []
    return list(_reasons(_course(events, told.left), told, told.left, seen))


def _course(events: Sequence[Shown], left: float) -> _Course:
    found = _Course(computed=_computed(events))
    for event in events:
        facts: dict[str, Any] = event["facts"]
        match event["lane"], event["what"]:
            case "asgi", "subscribe":
                found.subscribed = True
            case "asgi", "told":
                found.told = True
            case "asgi", "send" if event["at"] > left and facts["message"]["type"] == "http.response.start":
                found.answered = facts["message"].get("status") or 0
            case "handler", "stage":
                found.stage = facts["new"]
            case "handler", what:
                _follow(found.tasks.setdefault(facts.get("task") or 0, _Task()), what, facts)
    return found


def _computed(events: Sequence[Shown]) -> float:
    """The longest time in which it was at work and did nothing that can be seen, in milliseconds: no await, no message."""
    longest, since = 0.0, None
    for event in events:
        kind = event["lane"], event["what"]
        if kind[0] in ("asgi", "handler") or kind[1] == "now":
            longest = max(longest, event["at"] - (event["at"] if since is None else since))
            begins = kind in (("asgi", "call"), ("handler", "go on"))
            since = event["at"] if begins or (since is not None and kind != ("handler", "wait")) else None
    return longest


def _follow(task: _Task, what: str, facts: dict[str, Any]) -> None:
    if what == "wait":
        task.at = facts.get("at") or ""
        task.threaded = any(_THREAD in step for step in (facts.get("inner") or "", facts.get("line") or "", *(facts.get("chain") or ())))
        task.again = task.again or task.at == task.raised
    elif what == "thrown" and task.raised is None and str(facts.get("error", "")).startswith("Cancel"):
        task.raised = task.at


def _reasons(course: _Course, told: Story, left: float, seen: Seen) -> Iterator[str]:
    ended = told.last if told.over is None else told.over
    blocked = [each for each in seen.blocked if each.began < ended and each.ended > left and each.ended > (told.called or 0)]
    if blocked:
        each = max(blocked, key=lambda each: each.ended - each.began)
        who = "It blocks the event loop" if course.computed > LONG else "Something else blocks the event loop"
        yield (
            f"*{who}*, which stood in `{each.at}` for {span(each.ended - each.began)}. Meanwhile the server could not even "
            "notice that the client left, nor serve anybody else. What takes long there belongs into a thread, or must await."
        )
    elif course.computed > LONG:
        yield f"*It computed for {span(course.computed)} without an await*: meanwhile the loop could tell nobody anything."
    if ended - left < SOON:
        return
    if told.heard is None:
        yield from () if blocked or course.computed > LONG else _unheard(course, told, seen)
    else:
        yield from _heard(course, ended - told.heard)


def _unheard(course: _Course, told: Story, seen: Seen) -> Iterator[str]:
    """Why nothing has reached the handler."""
    at = f", at `{told.at}`" if told.at else ""
    if not course.subscribed:
        yield (
            "*Nobody in this app has asked to be told* of a departure, and ASGI tells only who waits in `receive()`. "
            "`--cancel-on-disconnect` stops the handlers of such an app, too."
        )
    elif course.told and not course.stage:
        yield f'*Its route says `on_disconnect="finish"`*: it is told of no departure{at}. It works to its end; its answer is dropped.'
    elif any(task.threaded for task in course.tasks.values()):
        where = f", at `{seen.threads[0]}`" if len(seen.threads) == 1 else ""
        yield (
            f"*It is in a thread*{where}, and nobody can stop a thread. One that works for long can ask whether its client is there: "
            "`anyio.from_thread.check_cancelled()` raises if not."
        )
    elif course.stage:
        yield (
            f"*It is shielded*{at}: `CancelScope(shield=True)` holds off the cancellation, which is raised at the first await outside. "
            "A shield belongs around the few lines that must not be torn apart."
        )


def _heard(course: _Course, after: float) -> Iterator[str]:
    """Why it goes on although it has heard."""
    swallowed = next((task for task in course.tasks.values() if task.again), None)
    if swallowed is not None:
        yield (
            f"*It has swallowed the cancellation*: that was raised at `{swallowed.raised}`, and the handler waits there once more. "
            "A bare `except` or `except BaseException` has taken it for an error like others: clean up there, and `raise`."
        )
    elif course.answered not in (0, CLIENT_CLOSED_REQUEST):
        yield (
            f"*It has swallowed the cancellation*: after that was raised it still answered, with {course.answered}, which nobody gets. "
            "A bare `except` or `except BaseException` has taken it for an error like others: clean up there, and `raise`."
        )
    elif after > LONG:
        at = next((task.at for task in course.tasks.values() if task.at != task.raised), "")
        yield f"*Its cleanup takes {span(after)}*{f', at `{at}`' if at else ''}. When its grace is over, every await there is cancelled."
