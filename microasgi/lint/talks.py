"""How far a conversation is: the small state of one call of the app.

Each side's part is one Enum. What the server has said counts when `receive()` has returned it, what the app says when it calls `send()`:
the server may act on it before that returns.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any


class Heard(Enum):
    """What the app has been told."""

    NOTHING = "nothing yet"
    OPEN = "that its client is there"
    """A part of a body, a `websocket.connect`, a `lifespan.startup`."""
    WHOLE = "the whole body"
    GONE = "that it is over"
    """A disconnect, or a `lifespan.shutdown`."""


class Said(Enum):
    """What the app has answered."""

    NOTHING = "nothing"
    HEAD = "the start of a response"
    """Also of one that denies a WebSocket."""
    BODY = "a part of the body"
    TRAILERS = "the whole body, but not the trailers"
    ACCEPTED = "yes"
    """It accepts a WebSocket, or has started."""
    DONE = "everything"
    """The last byte, a close, a startup that failed, a shutdown."""


class Talk:
    """One call of the app.

    scope: as the server gave it.
    kind: the scope's type.
    version: of the spec, as the server promises it; (2, 0) if it says nothing (ASGI HTTP & WebSocket, HTTP Connection Scope).
    extensions: what the server offers beside, by name.
    heard, said: how far both are.
    last: what the app has said with its last body message.
    settled: what the app has said by a `send()` that has returned: of this the server knows.
    asked: what was settled when it called the `receive()` that has returned.
    told: what it had heard when it called the `send()` that has returned.
    refusals: how often `send()` has raised because the client has left.
    kept: the scope's entries as they were, to be compared.
    loop: the event loop that it runs in.
    lifespan: that of the same app, if there was one.
    others: the app's other conversations now.
    started: of a lifespan: the state as it was when the app had started.
    """

    def __init__(
        self, scope: Mapping[str, Any], loop: object = None, lifespan: "Talk | None" = None, others: Iterable["Talk"] = ()
    ) -> None:
        self.scope = scope
        self.kind: str = scope["type"]
        self.version = _version(scope.get("asgi"))
        offered = scope.get("extensions")
        self.extensions: Mapping[str, Any] = offered if isinstance(offered, dict) else {}
        self.heard, self.said, self.last = Heard.NOTHING, Said.NOTHING, Said.DONE
        self.settled, self.asked, self.told = self.said, self.said, self.heard
        self.refusals = 0
        self.kept = dict(scope)
        self.loop, self.lifespan, self.others = loop, lifespan, others
        self.started: dict[str, Any] = {}

    @property
    def where(self) -> str:
        """What it is about, for a finding."""
        return f"{self.scope.get('method', self.kind)} {self.scope.get('path', '')}".strip()

    @property
    def is_over(self) -> bool:
        """Whether the client has left, or has all that it gets, as far as the app can know."""
        return self.heard is Heard.GONE or self.said is Said.DONE or self.refusals > 0

    @property
    def owes(self) -> bool:
        """Whether somebody still waits for the app's answer: a whole response, or what becomes of a WebSocket."""
        return not self.is_over and self.kind != "lifespan" and self.said is not Said.ACCEPTED

    def receives(self, message: Mapping[str, Any]) -> None:
        """The app gets this."""
        if self.heard is not Heard.GONE:
            more = message["type"] == "http.request" and not message.get("more_body", False)
            self.heard = Heard.WHOLE if more else _HEARD.get(message["type"], self.heard)

    def sends(self, message: Mapping[str, Any]) -> None:
        """The app says this. What comes too early or too late moves nothing."""
        kind = message["type"].removeprefix("websocket.")
        if kind == "http.response.start" and self.said is Said.NOTHING:
            self.said = Said.HEAD
            if message.get("trailers", False) and "http.response.trailers" in self.extensions:
                self.last = Said.TRAILERS
        elif kind in BODIES and self.said in (Said.HEAD, Said.BODY):
            self.said = Said.BODY if message.get("more_body", False) else self.last
        elif kind == "http.response.trailers" and self.said is Said.TRAILERS:
            self.said = Said.TRAILERS if message.get("more_trailers", False) else Said.DONE
        elif kind in ("accept", "lifespan.startup.complete") and self.said is Said.NOTHING:
            self.said = Said.ACCEPTED
            state = self.scope.get("state")
            self.started = dict(state) if isinstance(state, dict) else {}
        elif kind in ("close", "lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            self.said = Said.DONE


BODIES = ("http.response.body", "http.response.zerocopysend", "http.response.pathsend")
"""The messages that carry a body."""

_HEARD = {
    "http.request": Heard.OPEN,
    "http.disconnect": Heard.GONE,
    "websocket.connect": Heard.OPEN,
    "websocket.disconnect": Heard.GONE,
    "lifespan.startup": Heard.OPEN,
    "lifespan.shutdown": Heard.GONE,
}


def _version(asgi: Any) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in asgi["spec_version"].split("."))
    except (AttributeError, KeyError, TypeError, ValueError):
        return 2, 0
