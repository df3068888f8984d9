"""Why a handler hasn't stopped although its client has left, as far as what was told shows it. A sentence for each reason.

| what is seen | the reason |
|---|---|
| the loop didn't turn, or the handler computed for long | it blocks the loop: nobody can be told |
| nobody has subscribed to the departure | the app doesn't ask; `--cancel-on-disconnect` asks for it |
| who subscribed was told, and delivers nothing | `on_disconnect="finish"` |
| the delivery stays at CALLED, and a thread works | a thread, which has to ask |
| the delivery stays at CALLED | a shield |
| the cancellation was raised in a task, and that waits where it waited before, answers, or ends late and well | it was swallowed |
| the handler was told, and waits for a task that wasn't | that one's thread, or shield |
| the cancellation was raised, and the handler waits elsewhere, for long | cleanup that takes its time |
| the handler has stopped, and a task or thread of its own hasn't | nobody waits for that |
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from microasgi.inspector.course import CLIENT_CLOSED_REQUEST, FORGOTTEN_THREAD, SOON, Course, Task, course
from microasgi.inspector.enclosing import catching, shielding
from microasgi.inspector.summary import Story, span
from microasgi.inspector.told import Shown

LONG = 500.0
"""Milliseconds that computing, or cleanup, may take before it is worth a word."""

ADVICE = "An `except` there that catches `CancelledError` (bare, `BaseException`, or by its name) has taken it: clean up, and `raise`."


@dataclass(frozen=True)
class Blocked:
    """The app's loop didn't turn.

    began, ended: from when until when, in milliseconds like the events'.
    at: where it stood, with that line; empty, if that wasn't seen. caller: the app's own line that led there.
    """

    began: float
    ended: float
    at: str
    caller: str = ""

    def during(self, began: float, ended: float) -> float:
        """For how much of that time, in milliseconds."""
        return max(0.0, min(self.ended, ended) - max(self.began, began))


@dataclass(frozen=True)
class Seen:
    """What is seen from outside.

    blocked: when the app's loop stood still.
    threads: where worker threads stand, or stood when the request was last seen at work.
    files: the paths of the files that those places are in.
    """

    blocked: Sequence[Blocked] = ()
    threads: Sequence[str] = ()
    files: Sequence[str] = ()


def reasons(events: Sequence[Shown], told: Story, seen: Seen) -> list[str]:
    """The sentences; none, if the client hasn't left, or the handler stopped as it should."""
    if told.left is None or told.called is None or told.is_complete:
        return []
    return list(_reasons(course(events, told.left), told, told.left, seen))


def _reasons(news: Course, told: Story, left: float, seen: Seen) -> Iterator[str]:
    ended = told.last if told.over is None else told.over
    heard = ended if told.heard is None else told.heard
    blocks = list(_blocks(news, left, heard, seen)) or list(_is_blocked(told.called or 0, left, ended, seen))
    yield from blocks
    if heard - left >= SOON and not blocks:
        yield from _unheard(news, seen, heard - left, told.heard is not None)
    if told.heard is not None and ended - told.heard >= SOON:
        yield from _heard(news, ended - told.heard)
    yield from _left_behind(news)


CURE = "What takes long there belongs into a thread, or must await."
MEANWHILE = "Meanwhile the server could not even notice that the client left, nor serve anybody else."


def _blocks(news: Course, left: float, heard: float, seen: Seen) -> Iterator[str]:
    """That it keeps the loop from turning, for long, or for most of the time in which it doesn't hear."""
    until = news.since + news.computed
    late = min(until, heard) - max(news.since, left)
    if news.computed <= LONG and (heard - left < SOON or late < 0.5 * (heard - left)):
        return
    places = [each for each in seen.blocked if each.at and each.during(news.since, until) > 0]
    place = max(places, key=lambda each: each.during(news.since, until), default=None)
    if place is None:
        yield (
            f"*It blocks the event loop*: it was at work for {span(news.computed)} without an await. In which line was not seen. If it "
            f"isn't once more, it is in C code that lets no other thread run: `microasgi trace` sees that, too. {MEANWHILE} {CURE}"
        )
    else:
        yield f"*It blocks the event loop*, which stood in `{place.at}`{_called(place)} for {span(news.computed)}. {MEANWHILE} {CURE}"


def _is_blocked(called: float, left: float, ended: float, seen: Seen) -> Iterator[str]:
    """That somebody else does, for long."""
    held = [each for each in seen.blocked if each.ended - each.began >= LONG and each.began < ended and each.ended > max(left, called)]
    if held:
        each = max(held, key=lambda each: each.ended - each.began)
        where = f"which stood in `{each.at}`{_called(each)}" if each.at else "nobody saw where,"
        yield f"*Something else blocks the event loop*, {where} for {span(each.ended - each.began)}. {MEANWHILE} {CURE}"


def _called(place: Blocked) -> str:
    return f", called from `{place.caller}`," if place.caller else ""


def _unheard(news: Course, seen: Seen, late: float, at_last: bool) -> Iterator[str]:
    """Why nothing has reached the handler, or so late.

    :param at_last: whether it has heard, in the end
    """
    held = news.own.held
    at = f", at `{held.at}`" if held is not None and held.at else ""
    is_, for_ = ("was", f" for {span(late)}") if at_last else ("is", "")
    swallowed = next((task for task in news.tasks.values() if task.number and task.has_swallowed(SOON)), None)
    deaf = _deaf(news) if held is not None and held.for_children else None
    if not news.asked and news.receiving <= 0:
        yield (
            "*Nobody in this app has asked to be told* of a departure, and ASGI tells only who waits in `receive()`. "
            "`--cancel-on-disconnect` stops the handlers of such an app, too."
        )
    elif not news.asked and not at_last:
        yield "*The server has told nobody*: somebody in this app waits in `receive()`, which has not returned."
    elif news.told and not news.stage:
        yield _finishes(news)
    elif swallowed is not None:
        yield _swallowed(swallowed, news)
    elif deaf is not None:
        yield _waits_for(deaf)
    elif held is not None and held.threaded:
        where = f", at `{seen.threads[0]}`" if len(seen.threads) == 1 else ""
        yield (
            f"*It {is_} in a thread*{for_}{where}, and nobody can stop a thread. One that works for long can ask whether its client is "
            "there: `anyio.from_thread.check_cancelled()` raises if not. `run_sync(…, abandon_on_cancel=True)` stops the handler at once, "
            "and leaves the thread at work."
        )
    elif news.sent is not None and news.sent < SOON:  # it awaits a task of its own, which was cancelled with it
        yield from _cleanup(news, late)
    elif news.stage:
        shield = shielding(held.chain, news.files) if held is not None else ""
        by = f"`{shield}`" if shield else "`CancelScope(shield=True)`"
        yield (
            f"*It {is_} shielded*{for_}{at}: {by} holds off the cancellation, which is raised at the first await outside. If there is "
            "none, it never hears. A shield belongs around the few lines that must not be torn apart."
        )


def _heard(news: Course, after: float) -> Iterator[str]:
    """Why it goes on although it has heard."""
    swallowed = next((task for task in news.tasks.values() if task.has_swallowed(SOON)), None)
    waits = news.own.later or ([news.own.held] if news.own.held is not None and news.own.raised is None else [])
    deaf = _deaf(news) if any(wait.for_children for wait in waits) else None
    if swallowed is not None:
        yield _swallowed(swallowed, news)
    elif news.answered not in (0, CLIENT_CLOSED_REQUEST):
        yield (
            f"*It has swallowed the cancellation*: after that was raised it still answered, with {news.answered}, which nobody gets. "
            f"{_caught(news.own, news)}"
        )
    elif deaf is not None:
        yield _waits_for(deaf)
    else:
        yield from _cleanup(news, after)


def _cleanup(news: Course, after: float) -> Iterator[str]:
    if after > LONG:
        at = next((f", at `{wait.at}`" for task in news.tasks.values() for wait in task.later if not wait.for_children), "")
        yield f"*Its cleanup takes {span(after)}*{at}. When its grace is over, every await there is cancelled."


def _deaf(news: Course) -> Task | None:
    """A task that the handler has started, and that hears nothing when it does."""
    heard = min((task.raised[0] for task in news.tasks.values() if task.raised), default=0.0)
    late = (task for task in news.tasks.values() if task.number and (task.raised is None or task.raised[0] - heard > SOON))
    return next((task for task in late if task.held is not None), None)


def _waits_for(deaf: Task) -> str:
    where = f"{'in a thread' if deaf.held.threaded else 'shielded'}, at `{deaf.held.at}`" if deaf.held is not None else "shielded"
    return f"*It waits for task {deaf.number}*, `{deaf.name}`, which is {where}: who has started a task in a group waits for its end."


def _finishes(news: Course) -> str:
    """It is meant to."""
    by = news.policy.get("by") or "its route, or a Router around it"
    at = f", in `{news.policy['written']}`" if news.policy.get("written") else ""
    return (
        f'*It is meant to finish*: {by} says `on_disconnect="finish"`{at}, so nothing stops it. It works to its end, for nobody. '
        "Without that option it is cancelled when its client leaves."
    )


def _swallowed(task: Task, news: Course) -> str:
    who, what = (f"Task {task.number}, `{task.name}`,", "the task") if task.number else ("It", "the handler")
    at = task.raised[1] if task.raised else ""
    then = "waits there once more" if at in {wait.at for wait in task.later} else "went on"
    return f"*{who} has swallowed the cancellation*: that was raised at `{at}`, and {what} {then}. {_caught(task, news)}"


def _caught(task: Task, news: Course) -> str:
    """What has taken it, and what to do about that."""
    taken = catching(task.chain, news.files)
    return f"`{taken}` has taken it: clean up there, and `raise`." if taken else ADVICE


def _left_behind(news: Course) -> Iterator[str]:
    """What works on when the handler has stopped."""
    behind = [task for task in news.tasks.values() if task.ended is not None and task.ended[1] == "detached"]
    if behind:
        names = ", ".join(f"`{task.name}`" for task in behind)
        what = "a task" if len(behind) == 1 else "tasks"
        yield f"*It has left {what} behind*, {names}: nobody stops what isn't waited for in a task group."
    if news.own.raised is not None and news.own.held is not None and news.own.held.inner.endswith(FORGOTTEN_THREAD):
        yield (
            f"*It has left a thread behind*, at `{news.own.held.at}`: who is cancelled in `asyncio.to_thread` doesn't wait for its thread, "
            "and that can't ask. `anyio.to_thread.run_sync` does, and there it can."
        )
