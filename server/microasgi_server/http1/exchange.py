"""One request and its response, as the app sees them: ASGI messages on one side, an encoder of bytes on the other.

A response is in one `Phase`, and `TRANSITIONS` is all there is to know about how it moves. Two things the table does not hold: a
client can leave in any phase (`leave`), which ends all but a finished response; and an app that fails while nothing is on the wire
yet starts again with a 500 (`fail`).
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from typing import Protocol

from microasgi_server.asgi import Message
from microasgi_server.errors import AppError

DRAIN_LIMIT = 256 * 1024
"""Bytes of an unread request body worth reading to keep a connection: about what a new connection costs."""

CRUMB = 4096
"""Bytes below which a piece of the body is joined to the next: one that comes byte by byte must not cost an object for each."""

CLIENT_CLOSED_REQUEST = 499
"""nginx's status, for the log only: the client left before it had its response."""

_SORRY = b"Internal Server Error\n"


class Phase(Enum):
    """How far a response has come."""

    __hash__ = object.__hash__  # Enum's own is written in Python, and the table is asked twice a message

    WAITING = auto()
    """Nothing from the app yet, except early hints."""
    STARTED = auto()
    """The head is here, and held back until the first body message: both leave in one write, and until then a failure
    can still become a clean 500."""
    STREAMING = auto()
    """The head is on the wire."""
    TRAILERS = auto()
    """The body is complete; the trailers that the head announced are not."""
    DONE = auto()
    """The last byte was handed over. From here on the client can't disconnect: it has what it came for."""
    GONE = auto()
    """The client left first."""


WAITING, STARTED, STREAMING, TRAILERS, DONE, GONE = Phase  # in Python 3.11, `Phase.DONE` costs five times as much


class Step(Enum):
    """What an app's message amounts to."""

    __hash__ = object.__hash__  # as Phase's

    HINT = auto()
    START = auto()
    BODY = auto()
    LAST_BODY = auto()
    LAST_BODY_BEFORE_TRAILERS = auto()
    TRAILERS = auto()
    LAST_TRAILERS = auto()


TRANSITIONS: dict[Phase, dict[Step, Phase]] = {
    Phase.WAITING: {
        Step.HINT: Phase.WAITING,
        Step.START: Phase.STARTED,
    },
    Phase.STARTED: {
        Step.BODY: Phase.STREAMING,
        Step.LAST_BODY: Phase.DONE,
        Step.LAST_BODY_BEFORE_TRAILERS: Phase.TRAILERS,
    },
    Phase.STREAMING: {
        Step.BODY: Phase.STREAMING,
        Step.LAST_BODY: Phase.DONE,
        Step.LAST_BODY_BEFORE_TRAILERS: Phase.TRAILERS,
    },
    Phase.TRAILERS: {
        Step.TRAILERS: Phase.TRAILERS,
        Step.LAST_TRAILERS: Phase.DONE,
    },
    Phase.DONE: {},
    Phase.GONE: {},
}


class Encoder(Protocol):
    """What turns an exchange's messages into bytes. It trusts the exchange for their order, and nobody for what is in them."""

    @property
    def awaits_go_ahead(self) -> bool:
        """Whether the client holds its body back until it is told to go ahead (RFC 9110 §10.1.1)."""
        ...

    def encode(self, step: Step, message: Message, *, close: bool) -> bytes:
        """The bytes to write for one message; with the head, say `Connection: close` if `close`.

        :raises AppError: the message is malformed; nothing of it is encoded
        """
        ...

    def go_ahead(self) -> bytes:
        """A `100 Continue`."""
        ...


class Exchange:
    """One request and its response, seen from the app's side. Made by `Protocol`, one at a time.

    method, target, version, headers: the request's head as it came, the header names in lower case.
    phase: how far the response is. Only `send`, `fail` and `leave` change it.
    status: the response's status as soon as the app said it, else 0.
    why_gone: why the client counts as gone, for the log; empty while it doesn't.
    cancelled: whether something was stopped because the client left: a subscriber said so, or the shell did it.
    told: whether anybody heard of it, as a subscriber.
    faults: what subscribers raised when the client left, against the contract.
    closing: whether to say `Connection: close` and mean it; the shell sets it when the server is stopping.
    body_complete: whether the request's body has arrived to its end.
    ahead: bytes of it that have arrived and were not taken yet: the look-ahead.
    received: bytes of it that have arrived so far, taken or not.
    """

    __slots__ = (
        "_callbacks",
        "_encoder",
        "_pieces",
        "_taken",
        "_trailers_follow",
        "ahead",
        "body_complete",
        "cancelled",
        "closing",
        "faults",
        "headers",
        "method",
        "phase",
        "received",
        "status",
        "target",
        "told",
        "version",
        "why_gone",
    )

    def __init__(self, method: bytes, target: bytes, version: bytes, headers: list[tuple[bytes, bytes]], encoder: Encoder) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.phase = WAITING
        self.status = 0
        self.why_gone = ""
        self.cancelled = False
        self.told = False
        self.faults: Sequence[Exception] = ()
        self.closing = False
        self.body_complete = False
        self.ahead = 0
        self.received = 0
        self._pieces: list[bytes] = []  # of the body, `ahead` bytes in all
        self._taken = False  # whether the app has the whole body
        self._trailers_follow = False  # whether the head announced trailers
        self._encoder = encoder
        self._callbacks: dict[object, Callable[[], object]] = {}

    # The request: what `receive()` answers.

    def take(self) -> Message | None:
        """The next ASGI message for the app, or None: there is none yet.

        After a disconnect, and after the response, it is `http.disconnect`, every time (ASGI HTTP spec, Disconnect).
        """
        if self.phase is DONE or self.phase is GONE:
            return {"type": "http.disconnect"}
        if self._pieces or (self.body_complete and not self._taken):
            body = b"".join(self._pieces)
            self._forget()
            self._taken = self.body_complete
            return {"type": "http.request", "body": body, "more_body": not self.body_complete}
        return None

    def arrived(self, data: bytes) -> None:
        """The next piece of the body is here. Behind the response, and behind the client, nobody wants it any more."""
        self.received += len(data)
        if self.phase is not DONE and self.phase is not GONE:
            if self._pieces and len(self._pieces[-1]) < CRUMB:
                self._pieces[-1] += data
            else:
                self._pieces.append(data)
            self.ahead += len(data)

    def _forget(self) -> None:
        self._pieces.clear()
        self.ahead = 0

    def go_ahead(self) -> bytes:
        """The `100 Continue` that the client waits for, once; else nothing. Due when the app asks for the body (RFC 9110 §10.1.1)."""
        nothing_sent = self.phase is WAITING or self.phase is STARTED
        due = nothing_sent and not self.body_complete and self._encoder.awaits_go_ahead
        return self._encoder.go_ahead() if due else b""

    # The response: what `send()` does.

    def send(self, message: Message) -> bytes:
        """Turn one ASGI message into the bytes to write now: often none, as the head waits for the first body message.

        Once the client has left there are none, whatever the message.

        :raises AppError: the message is malformed, or doesn't belong here; nothing of it is on the wire
        """
        if self.phase is GONE:
            return b""
        step = self._step(message)
        phase = TRANSITIONS[self.phase].get(step)
        if phase is None:
            raise AppError(f"{message['type']!r} can't be sent now: the response is {self.phase.name}")
        close = self.phase is STARTED and (self.closing or self._must_close())
        data = self._encoder.encode(step, message, close=close)
        if step is Step.START:
            self.status = int(message["status"])
            self._trailers_follow = bool(message.get("trailers", False))
        self.phase = phase
        if phase is DONE:
            self._callbacks.clear()
            self._forget()
        return data

    def fail(self) -> bytes | None:
        """A clean 500 if nothing of a response is on the wire yet; None if there is, and only closing is left."""
        if self.phase is not WAITING and self.phase is not STARTED:
            return None
        self.phase = WAITING
        start = {"type": "http.response.start", "status": 500, "headers": plain_text(len(_SORRY))}
        return self.send(start) + self.send({"type": "http.response.body", "body": _SORRY})

    # The disconnect.

    def leave(self, why: str, status: int = CLIENT_CLOSED_REQUEST) -> bool:
        """The client is gone. Tell every subscriber, once, now; True unless the response was complete (or gone) already.

        :param why: the reason, for the log and for `send()`'s error
        :param status: the status to log
        """
        if self.phase is DONE or self.phase is GONE:
            return False
        self.phase = GONE
        self.status = status
        self.why_gone = why
        self._forget()
        for callback in list(self._callbacks.values()):
            try:
                self._tell(callback)
            except Exception as error:  # one subscriber's bug must not keep the news from the others
                self.faults = [*self.faults, error]
        return True

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], object]:
        """The extension `microasgi.disconnect`: call `callback` when the client leaves before the response is complete.

        It is called at most once, synchronously, in the event loop's thread; at once if the client is gone already; never
        after the response is complete. It must neither raise nor block. It may return True to say, for the log, that it
        cancelled something.

        :return: a function that takes the subscription back, and may be called at any time
        """
        token = object()
        if self.phase is GONE:
            self._tell(callback)
        if self.phase is not DONE:
            self._callbacks[token] = callback
        return partial(self._callbacks.pop, token, None)

    def _tell(self, callback: Callable[[], object]) -> None:
        self.told = True
        self.cancelled = callback() is True or self.cancelled

    @property
    def attended(self) -> bool:
        """Whether a subscriber is there that has not taken its subscription back, told or not."""
        return bool(self._callbacks)

    def _step(self, message: Message) -> Step:
        match message.get("type"):
            case "http.response.body":
                if message.get("more_body", False):
                    return Step.BODY
                return Step.LAST_BODY_BEFORE_TRAILERS if self._trailers_follow else Step.LAST_BODY
            case "http.response.start":
                return Step.START
            case "http.response.early_hint":
                return Step.HINT
            case "http.response.trailers":
                return Step.TRAILERS if message.get("more_trailers", False) else Step.LAST_TRAILERS
            case other:
                raise AppError(f"an HTTP response has no message of type {other!r}")

    def _must_close(self) -> bool:
        """Whether this connection can't be used again, as the client should learn from the head (RFC 9112 §9.6).

        A client that waits for its 100 and gets a final answer may or may not send the body after all: nobody could tell
        the body from the next request. And a long body that the app didn't want costs more to read than a new connection.
        """
        if self.body_complete:
            return False
        if self._encoder.awaits_go_ahead:
            return True
        length = next((int(value) for name, value in self.headers if name == b"content-length"), 0)
        return length - self.received > DRAIN_LIMIT


def plain_text(length: int) -> list[tuple[bytes, bytes]]:
    """The header fields of the few texts that the server itself sends."""
    return [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % length)]
