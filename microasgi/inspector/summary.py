"""A conversation in a few sentences: when the client left, when that was known, and what it cost."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from microasgi.inspector.course import course
from microasgi.inspector.states import ends_it, is_turn
from microasgi.inspector.told import Shown
from microasgi.inspector.wording import is_reset

PARTED = {"FIN": "left", "RST": "left by a reset", "half": "shut its sending side", "goodbye": "said goodbye", "leave": "left"}
NOTICED = {"FIN": "Its FIN was read", "lost": "The reset was noticed", "hang_up": "The kernel told of it", "": "The server noticed"}
"""By what the server noticed; while it isn't reading, the kernel tells (EPOLLRDHUP)."""


_STATUS = re.compile(rb"HTTP/1\.\d (101|[2-9]\d\d)")


@dataclass(frozen=True)
class Story:
    """The moments of one connection that a sentence is made of, in milliseconds; None, if they didn't come.

    called: the app was; refused: it wasn't, and the server answered with this status.
    left: the client left, in this way; whole: with all of its response. Who leaves an app that has ended already leaves nothing.
    noticed: something of the server's knew, by this event.
    told: the request was told.
    heard: an await of the handler raised, or its `receive()` gave the news.
    by: how it heard, and where.
    done: the last byte of the response was handed over.
    clean: the delivery is over; over: the app returned; last: what is known last.
    status: of the response; 0: none.
    at: where the handler waited last; computes: it has gone on since, and not waited again.
    cleanup: how often it waited after it had heard.
    error: what the handler raised, while its client was there; raised_at: in which line.
    websocket: whether it was one.
    swallowed: whether it went on as if it hadn't heard.
    """

    called: float | None = None
    left: float | None = None
    way: str = "FIN"
    noticed: float | None = None
    noticed_by: str = ""
    told: float | None = None
    heard: float | None = None
    by: str = ""
    done: float | None = None
    clean: float | None = None
    over: float | None = None
    last: float = 0.0
    status: int = 0
    at: str = ""
    computes: bool = False
    cleanup: int = 0
    error: str = ""
    raised_at: str = ""
    refused: int = 0
    whole: bool = False
    websocket: bool = False
    swallowed: bool = False

    @property
    def late(self) -> float | None:
        """For how long the handler worked for nobody without hearing of it, in milliseconds; None: it didn't."""
        if self.called is None or self.left is None or self.heard is not None or self.is_complete:
            return None
        return (self.last if self.over is None else self.over) - self.left

    @property
    def is_complete(self) -> bool:
        """Whether the response was complete before the client left, or as good as that: it had all of it, and nobody was told."""
        return (self.whole and self.heard is None) or (self.done is not None and (self.left is None or self.done < self.left))


def story(events: Sequence[Shown]) -> Story:
    """What these events, which are in order, tell."""
    found: dict[str, Any] = {}
    for event in events:
        facts, at = event["facts"], event["at"]
        found["last"] = at
        for name, value in _moments(event, facts, at, found):
            if name in ("at", "computes", "over", "cleanup"):
                found[name] = value
            else:
                found.setdefault(name, value)
    for only_here in ("delivers", "wired"):
        found.pop(only_here, None)
    member = found.pop("member", None)
    if member is not None and "heard" not in found:
        found |= {"heard": member, "by": "was told in one of its tasks"}
    if "left" in found and "heard" in found:
        found["swallowed"] = course(events, found["left"]).swallowed
    told = Story(**found)
    if told.left is not None and told.over is not None and told.over <= told.left and not told.is_complete:
        return replace(told, left=None, noticed=None, told=None, heard=None, swallowed=False)
    return told


def _moments(event: Shown, facts: dict[str, Any], at: float, found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What an event adds. Of most, the first one counts."""
    gone = "left" in found
    match event["lane"], event["what"]:
        case "client", "close":
            yield "left", at
            yield "way", facts.get("way", "FIN")
            yield "whole", facts.get("whole", False)
        case ("wire", "FIN" | "lost") | ("core", "hang_up") if gone:
            yield "noticed", at
            yield "noticed_by", "lost" if is_reset(facts.get("why") or "") else event["what"]
        case "wire", "in":
            yield "wired", True  # the server's own side is seen, too
        case ("wire", "out") | ("client", "received"):
            if line := _STATUS.match(bytes.fromhex(facts["data"]["bytes"])):
                yield "status", int(line[1])
        case "core", "phase" if facts["new"] == "DONE":
            yield "done", at
        case "core", "refused":
            yield "refused", facts["status"]
        case "asgi", "call":
            yield "called", at
            yield "websocket", facts.get("scope", {}).get("type") == "websocket"
        case "asgi", "told" if gone:
            yield "told", at
        case "asgi", "receive" if gone and str(facts["message"]["type"]).endswith(".disconnect"):
            yield "heard", at
            yield "by", "heard of it in receive()"
        case "asgi", "send" if not facts.get("dropped") and not found.keys() & {"heard", "noticed"}:
            yield from _sent(facts["message"], at)
        case "asgi", "end":
            yield "over", at
        case "handler", _ if not facts.get("task"):
            yield from _handled(event["what"], facts, at, found)
        case "handler", "thrown" if (
            "delivers" in found and "clean" not in found
        ):  # on trio, who waits for a task group hears when its tasks have ended
            yield "member", at


def _sent(message: dict[str, Any], at: float) -> Iterator[tuple[str, Any]]:
    if message["type"] == "http.response.start":
        yield "status", message.get("status") or 0
    elif ends_it(message):
        yield "done", at


def _handled(what: str, facts: dict[str, Any], at: float, found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    match what:
        case "wait" if not is_turn(facts):
            if "heard" not in found:
                yield "at", facts.get("at") or ""
                yield "computes", False
            elif "clean" not in found:
                yield "cleanup", found.get("cleanup", 0) + 1
        case "go on":
            yield "computes", True
        case "stage":
            yield ("clean" if facts["new"] == "OVER" else "delivers"), at
        case "thrown" if ("delivers" if "told" in found else "noticed" if "wired" in found else "left") in found:
            # Else it is of the handler's own making, as a timeout's is.
            yield "heard", at
            yield "by", f"was told at {found['at']}" if found.get("at") else "was told"
        case "raised" if "left" not in found and not str(facts.get("error", "")).startswith("Cancel"):
            yield "error", str(facts.get("error", ""))
            yield "raised_at", facts.get("at") or ""


def summary(events: Sequence[Shown]) -> str:
    """The sentences. What matters most in them stands between asterisks."""
    return " ".join(_sentences(story(events)))


def _sentences(told: Story) -> Iterator[str]:
    if told.called is None:
        yield from _without_a_call(told)
        return
    if told.is_complete and told.left is not None and (told.done is None or told.done > told.left):
        yield f"The client left at {clock(told.left)} with all of its response, {told.status}: nothing was cancelled."
        return
    if told.is_complete:
        assert told.done is not None
        what = "The app closed the WebSocket" if told.websocket else f"The response, {told.status}, was complete"
        yield f"{what} at {clock(told.done)}."
        if told.left is not None:
            yield f"The client left after that, at {clock(told.left)}: nothing was cancelled."
        return
    if told.left is not None:
        yield from _departure(told, told.left)
    if told.error:
        at = f" at {told.raised_at}" if told.raised_at else ""
        yield f"{'The handler' if told.left is None else 'It'} ended with {told.error.partition(':')[0]}{at}."
    elif told.left is None:
        yield f"The client was there to the end, at {clock(told.last)}."
    if not told.websocket:
        yield _answer(told)


def _answer(told: Story) -> str:
    if not told.status:
        return "499, no response." if told.heard is not None or told.noticed is not None else "There was no response."
    if told.done is not None:
        return f"Its response, {told.status}, reached nobody."
    return f"Of its response, {told.status}, not all was sent."


def _without_a_call(told: Story) -> Iterator[str]:
    if told.refused:
        yield f"The server refused it with {told.refused} by itself: the app was not called."
    elif told.left is not None:
        yield f"The client left at {clock(told.left)}, before its request's head was whole: the app was not called."
    else:
        yield "The app was not called."


def _departure(told: Story, left: float) -> Iterator[str]:
    yield f"The client {PARTED[told.way]} at {clock(left)}."
    known = told.noticed
    if known is not None and known > left and told.way != "goodbye" and (told.heard is None or known <= told.heard):
        yield f"{NOTICED[told.noticed_by]} {span(known - left)} later{_hearing(told, known)}"
    elif told.heard is not None:
        yield f"The handler {told.by} *{span(told.heard - left)}* later{_ending(told)}"
    else:
        yield _never(told)


def _hearing(told: Story, known: float) -> str:
    if told.heard is None:
        return f". {_never(told)}"
    return f", the handler {told.by} *{span(told.heard - known)}* after that{_ending(told)}"


def _ending(told: Story) -> str:
    assert told.heard is not None
    if told.swallowed:
        if told.over is None:
            return f". It swallowed that, and was *still at work for nobody {span(told.last - told.heard)}* later."
        return f". It swallowed that, and *worked on for nobody for {span(told.over - told.heard)}*."
    if told.over is None:
        return f", and was still at work {span(told.last - told.heard)} later."
    over = told.over if told.clean is None else told.clean
    if not told.cleanup:
        return f", and was over {span(over - told.heard)} later."
    awaits = "1 await" if told.cleanup == 1 else f"{told.cleanup} awaits"
    return f", and was over after {span(over - told.heard)} of cleanup ({awaits})."


def _never(told: Story) -> str:
    late = span(told.late or 0.0)
    if told.over is None:
        return f"The handler never heard of it: it was *still at work for nobody {late}* later{_place(told)}."
    return f"The handler never heard of it: it *worked on for nobody for {late}*."


def _place(told: Story) -> str:
    """Where it was last, as far as that is known: who computes doesn't say where."""
    return f", {'behind' if told.computes else 'at'} {told.at}" if told.at else ""


def clock(milliseconds: float) -> str:
    """A moment, counted from the first event."""
    return f"{milliseconds / 1000:.3f} s" if milliseconds >= 1000 else f"{milliseconds:.0f} ms"


def span(milliseconds: float) -> str:
    """A time, with three digits."""
    number, unit = (milliseconds, "ms") if milliseconds < 999.5 else (milliseconds / 1000, "s")
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} {unit}"
