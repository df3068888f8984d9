"""The core that decides: bytes in, exchanges out; ASGI messages in, bytes out.

No I/O, no event loop, no clock: every function here returns at once, and whoever calls it does the waiting.

                  bytes ──► Protocol.receive_bytes ──► Exchange      one request and its response
    (from the socket)             │                       │
                                 h11                      ├─ take()         ──► ASGI messages for the app
                                  │                       ├─ send(message)  ──► bytes for the socket
                                  └── after_response ◄────┘ done            ──► what comes next

A response is in one `Phase`, and `TRANSITIONS` is all there is to know about how it moves. Two things the table does not
hold: a client can leave in any phase (`leave`), which ends all but a finished response; and an app that fails while nothing
is on the wire yet starts again with a 500 (`fail`).

This is the only file that knows h11.
"""

from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any

import h11
from h11._headers import Headers as FieldBlock  # not public: tests check it against h11's own validation

from microasgi_server.asgi import Message
from microasgi_server.errors import AppError, ClientDisconnected, Refusal

Field = tuple[bytes, bytes, bytes]
"""A validated header field as h11 keeps it: the name as given, the name in lower case, the value."""

LOOK_AHEAD = 64 * 1024
"""Bytes read ahead of the app (body not asked for, requests behind this one) before reading pauses."""

DRAIN_LIMIT = 256 * 1024
"""Bytes of an unread request body worth reading to keep a connection: about what a new connection costs."""

MAX_HEAD = 64 * 1024
"""Bytes of a request head that is still incomplete."""

CLIENT_CLOSED_REQUEST = 499
"""nginx's status, for the log only: the client left before it had its response."""

_SORRY = b"Internal Server Error\n"
_END = h11.EndOfMessage()
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Phase(Enum):
    """How far a response has come."""

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


class Step(Enum):
    """What an app's message amounts to."""

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


class Next(Enum):
    """What a connection does once a response is out."""

    REQUEST = auto()
    """The next request was here already: it is the protocol's `exchange` now."""
    IDLE = auto()
    """Wait for one."""
    DRAIN = auto()
    """Read on: the request's body has not all arrived, and the app no longer wants it."""
    LINGER = auto()
    """Close, but the client may still be sending: it must be able to read the response first."""
    CLOSE = auto()
    """Close."""


@lru_cache(maxsize=1024)
def _cached_field(name: bytes, value: bytes) -> Field:
    block = h11.Response(status_code=200, headers=[(name, value)]).headers
    return next(iter(block._full_items))


def validated_field(name: bytes, value: bytes) -> Field:
    """Check one header field, remembering the answer: most responses carry the same few fields again and again.

    Long values are seldom repeated, and some (cookies) should not be kept: they are checked and forgotten.

    :raises h11.LocalProtocolError: the name or the value has a byte that RFC 9110 §5 doesn't allow
    """
    if len(value) > 100:
        return _cached_field.__wrapped__(name, value)
    return _cached_field(name, value)


class Exchange:
    """One request and its response, seen from the app's side. Made by `Protocol`, one at a time.

    method, target, version, headers: the request's head as it came, the header names in lower case.
    phase: how far the response is. Only `send`, `fail` and `leave` change it.
    status: the response's status as soon as the app said it, else 0.
    why_gone: why the client counts as gone, for the log; empty while it doesn't.
    cancelled: whether a subscriber said that it stopped something when the client left.
    closing: whether to say `Connection: close` and mean it; the shell sets it when the server is stopping.
    body: the look-ahead, what has arrived of the body and was not taken yet.
    body_complete: whether `body` ends the request's body.
    received: bytes of the body that have arrived so far, taken or not.

    `_start` sets `_head`, `_bodyless`, `_remaining` and `_trailers`; the table lets nothing that reads them run before it.
    """

    __slots__ = (
        "_bodyless",
        "_callbacks",
        "_head",
        "_identity",
        "_remaining",
        "_taken",
        "_trailers",
        "_wire",
        "body",
        "body_complete",
        "cancelled",
        "closing",
        "headers",
        "method",
        "phase",
        "received",
        "status",
        "target",
        "version",
        "why_gone",
    )

    def __init__(self, request: h11.Request, wire: h11.Connection, identity: Callable[[], list[Field]]) -> None:
        self.method = request.method
        self.target = request.target
        self.version = request.http_version
        self.headers = [(name.lower(), value) for name, value in request.headers.raw_items()]
        self.phase = Phase.WAITING
        self.status = 0
        self.why_gone = ""
        self.cancelled = False
        self.closing = False
        self.body = bytearray()
        self.body_complete = False
        self.received = 0
        self._taken = False  # whether the app has the whole body
        self._wire = wire
        self._identity = identity
        self._callbacks: dict[object, Callable[[], object]] = {}

    # The request: what `receive()` answers.

    def take(self) -> Message | None:
        """The next ASGI message for the app, or None: there is none yet.

        After a disconnect, and after the response, it is `http.disconnect`, every time (ASGI HTTP spec, Disconnect).
        """
        if self.phase is Phase.DONE or self.phase is Phase.GONE:
            return {"type": "http.disconnect"}
        if self.body or (self.body_complete and not self._taken):
            body = bytes(self.body)
            self.body.clear()
            self._taken = self.body_complete
            return {"type": "http.request", "body": body, "more_body": not self.body_complete}
        return None

    def go_ahead(self) -> bytes:
        """The `100 Continue` that the client waits for, once; else nothing. Due when the app asks for the body (RFC 9110 §10.1.1)."""
        nothing_sent = self.phase is Phase.WAITING or self.phase is Phase.STARTED
        if self._wire.they_are_waiting_for_100_continue and nothing_sent:
            return self._wire.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")) or b""
        return b""

    # The response: what `send()` does.

    def send(self, message: Message) -> bytes:
        """Turn one ASGI message into the bytes to write now: often none, as the head waits for the first body message.

        :raises ClientDisconnected: the client has left
        :raises AppError: the message is malformed, or doesn't belong here; nothing of it is on the wire
        """
        if self.phase is Phase.GONE:
            raise ClientDisconnected(self.why_gone)
        step = self._step(message)
        phase = TRANSITIONS[self.phase].get(step)
        if phase is None:
            raise AppError(f"{message['type']!r} can't be sent now: the response is {self.phase.name}")
        try:
            if step is Step.START:
                self._start(message)
                data = b""
            elif step is Step.HINT:
                data = self._encode_hint(message)
            elif step is Step.TRAILERS or step is Step.LAST_TRAILERS:
                data = self._encode_trailers(message, step)
            else:
                data = self._encode_body(message, step)
        except (h11.LocalProtocolError, TypeError, ValueError) as error:  # the last two: parts that aren't what ASGI says
            raise AppError(f"{message['type']!r} can't be sent: {error}") from error
        self.phase = phase
        if phase is Phase.DONE:
            self._callbacks.clear()
        return data

    def fail(self) -> bytes | None:
        """A clean 500 if nothing of a response is on the wire yet; None if there is, and only closing is left."""
        if self.phase is not Phase.WAITING and self.phase is not Phase.STARTED:
            return None
        self.phase = Phase.WAITING
        start = {"type": "http.response.start", "status": 500, "headers": _plain_text(len(_SORRY))}
        return self.send(start) + self.send({"type": "http.response.body", "body": _SORRY})

    # The disconnect.

    def leave(self, why: str, status: int = CLIENT_CLOSED_REQUEST) -> bool:
        """The client is gone. Tell every subscriber, once, now; True unless the response was complete (or gone) already.

        :param why: the reason, for the log and for `ClientDisconnected`
        :param status: the status to log
        """
        if self.phase is Phase.DONE or self.phase is Phase.GONE:
            return False
        self.phase = Phase.GONE
        self.status = status
        self.why_gone = why
        self.body.clear()
        callbacks = list(self._callbacks.values())
        self._callbacks.clear()
        for callback in callbacks:
            self._tell(callback)
        return True

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """The extension `microasgi.disconnect`: call `callback` when the client leaves before the response is complete.

        It is called at most once, synchronously, in the event loop's thread; at once if the client is gone already; never
        after the response is complete. It must neither raise nor block. It may return True to say, for the log, that it
        cancelled something.

        :return: a function that takes the subscription back, and may be called at any time
        """
        token = object()
        if self.phase is Phase.GONE:
            self._tell(callback)
        elif self.phase is not Phase.DONE:
            self._callbacks[token] = callback
        return partial(self._unsubscribe, token)

    def _tell(self, callback: Callable[[], object]) -> None:
        self.cancelled = callback() is True or self.cancelled

    def _unsubscribe(self, token: object) -> None:
        self._callbacks.pop(token, None)

    @property
    def watched(self) -> bool:
        """Whether anybody has subscribed to the disconnect."""
        return bool(self._callbacks)

    # Messages to h11's events. Nothing below touches the phase.

    def _step(self, message: Message) -> Step:
        match message.get("type"):
            case "http.response.body":
                if message.get("more_body", False):
                    return Step.BODY
                if self.phase is not Phase.WAITING and self._trailers is not None:
                    return Step.LAST_BODY_BEFORE_TRAILERS
                return Step.LAST_BODY
            case "http.response.start":
                return Step.START
            case "http.response.early_hint":
                return Step.HINT
            case "http.response.trailers":
                return Step.TRAILERS if message.get("more_trailers", False) else Step.LAST_TRAILERS
            case other:
                raise AppError(f"an HTTP response has no message of type {other!r}")

    def _start(self, message: Message) -> None:
        """Build the head, which checks it: the error belongs to this message, though the bytes leave with the next."""
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise AppError(f"a response's status is a whole number from 200 to 999, not {status!r}")
        self._bodyless = self.method == b"HEAD" or status in (204, 304)  # RFC 9110 §6.4.1
        fields, length, chunked = self._fields(message.get("headers", ()), no_framing=status == 204)
        self._remaining = None if self._bodyless or chunked else length
        # Only a chunked body has room for trailers (RFC 9112 §7.1.2): elsewhere they are taken and dropped.
        self._trailers: list[Field] | None = [] if message.get("trailers", False) else None
        if self.closing:
            fields.append(validated_field(b"connection", b"close"))
        self._head = h11.Response(status_code=status, headers=FieldBlock(fields), reason=_REASONS.get(status, b""))
        self.status = status

    def _fields(self, headers: Any, *, no_framing: bool) -> tuple[list[Field], int | None, bool]:
        """The response's validated fields with Date and Server, the content-length if any, and whether it is chunked."""
        fields: list[Field] = []
        length: int | None = None
        chunked = False
        identity = self._identity()
        for name, value in headers:
            if not isinstance(name, bytes) or not isinstance(value, bytes):
                raise AppError(f"header names and values are bytes, not {name!r}: {value!r}")
            field = validated_field(name, value)
            lower = field[1]
            if lower == b"content-length":
                if no_framing:  # RFC 9110 §8.6: not in a 204
                    continue
                if length is not None:
                    raise AppError("a response has one content-length")
                length = int(field[2])
            elif lower == b"transfer-encoding":
                if no_framing:  # RFC 9112 §6.1: nor this
                    continue
                if chunked:
                    raise AppError("a response has one transfer-encoding")
                chunked = True
            elif lower == b"date" or lower == b"server":
                identity = [own for own in identity if own[1] != lower]
            fields.append(field)
        fields.extend(identity)
        return fields, length, chunked

    def _encode_body(self, message: Message, step: Step) -> bytes:
        body = message.get("body", b"")
        if not isinstance(body, bytes):
            if not isinstance(body, bytearray | memoryview):
                raise AppError(f"a response's body is bytes, not {type(body).__name__}")
            body = bytes(body)
        if self._remaining is not None:
            # Checked before h11 sees it: while the head is held back this can still become a 500.
            left = self._remaining - len(body)
            if left < 0 or (left and step is not Step.BODY):
                raise AppError(f"the body is {'longer' if left < 0 else 'shorter'} than the response's content-length says")
            self._remaining = left
        parts: list[bytes] = []
        if self.phase is Phase.STARTED:
            if self._must_close():
                self._head = _with_close(self._head)
            parts += self._wire.send_with_data_passthrough(self._head) or ()
        if body and not self._bodyless:
            parts += self._wire.send_with_data_passthrough(h11.Data(data=body)) or ()
        if step is Step.LAST_BODY:
            parts += self._wire.send_with_data_passthrough(_END) or ()
        return b"".join(parts)

    def _must_close(self) -> bool:
        """Whether this connection can't be used again, as the client should learn from the head (RFC 9112 §9.6).

        A client that waits for its 100 and gets a final answer may or may not send the body after all: nobody could tell
        the body from the next request. And a long body that the app didn't want costs more to read than a new connection.
        """
        if self.body_complete:
            return False
        if self._wire.they_are_waiting_for_100_continue:
            return True
        length = next((int(value) for name, value in self.headers if name == b"content-length"), 0)
        return length - self.received > DRAIN_LIMIT

    def _encode_hint(self, message: Message) -> bytes:
        """103 Early Hints (RFC 8297), but not to HTTP/1.0, which knows no 1xx (RFC 9110 §15.2)."""
        if self.version == b"1.0":
            return b""
        links = [(b"link", link) for link in message.get("links", ())]
        hint = h11.InformationalResponse(status_code=103, headers=links, reason=b"Early Hints")
        # h11 takes any 1xx for the 100 that a client may be waiting for. It isn't one.
        waiting = self._wire.client_is_waiting_for_100_continue
        data = self._wire.send(hint) or b""
        self._wire.client_is_waiting_for_100_continue = waiting
        return data

    def _encode_trailers(self, message: Message, step: Step) -> bytes:
        assert self._trailers is not None
        self._trailers += [validated_field(name, value) for name, value in message.get("headers", ())]
        if step is Step.TRAILERS:
            return b""
        chunked = not self._bodyless and self._remaining is None and self.version != b"1.0"
        return self._wire.send(h11.EndOfMessage(headers=FieldBlock(self._trailers)) if chunked else _END) or b""


def _plain_text(length: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % length)]


def _with_close(head: h11.Response) -> h11.Response:
    fields = [*head.headers._full_items, validated_field(b"connection", b"close")]
    return h11.Response(status_code=head.status_code, headers=FieldBlock(fields), reason=head.reason)


class Protocol:
    """One connection's side of HTTP/1.1: RFC 9112's framing, one exchange at a time, in order.

    exchange: the newest request and its response, or None while there is none in progress.
    served: whether a request has been served on this connection.
    """

    __slots__ = ("_behind", "_drained", "_head_begun", "_identity", "_wire", "exchange", "served")

    def __init__(self, identity: Callable[[], list[Field]]) -> None:
        self._wire = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._identity = identity  # the Date and Server fields of this second
        self._behind = 0  # bytes that came behind the request in progress
        self._drained = 0  # bytes of this request's body that came after its response
        self._head_begun = False
        self.exchange: Exchange | None = None
        self.served = False

    @property
    def look_ahead(self) -> int:
        """Bytes that have arrived and that nobody has asked for yet."""
        return self._behind + (len(self.exchange.body) if self.exchange is not None else 0)

    @property
    def mid_head(self) -> bool:
        """Whether the first bytes of a request are here, but not yet its whole head."""
        return self._head_begun

    def receive_bytes(self, data: bytes) -> bool:
        """Take what the socket gave. True if that began a new `exchange`.

        :raises Refusal: what came is not HTTP, or not what this server serves
        """
        exchange = self.exchange
        self._wire.receive_data(data)
        if exchange is not None and exchange.body_complete:
            self._behind += len(data)
            return False
        return self._parse()

    def _parse(self) -> bool:
        begun = False
        try:
            while True:
                event = self._wire.next_event()
                kind = type(event)
                if kind is h11.Request:
                    self.exchange = Exchange(event, self._wire, self._identity)  # type: ignore[arg-type]
                    self._drained = 0
                    begun = True
                elif kind is h11.Data:
                    self._body_arrived(event.data)  # type: ignore[union-attr]
                elif kind is h11.EndOfMessage:
                    assert self.exchange is not None
                    self.exchange.body_complete = True
                    self._behind = len(self._wire.trailing_data[0])
                    break
                else:  # NEED_DATA, or PAUSED: a request that asks to switch protocols waits for its answer
                    break
        except h11.RemoteProtocolError as error:
            raise Refusal(error.error_status_hint, str(error)) from error
        self._head_begun = self.exchange is None
        return begun

    def _body_arrived(self, data: bytes) -> None:
        exchange = self.exchange
        assert exchange is not None
        exchange.received += len(data)
        if exchange.phase is Phase.DONE or exchange.phase is Phase.GONE:
            self._drained += len(data)
        else:
            exchange.body += data

    def after_response(self) -> Next:
        """Decide what follows a response that is complete. May be asked again as more arrives.

        :raises Refusal: the next request was here already, and is none
        """
        exchange = self.exchange
        assert exchange is not None
        assert exchange.phase is Phase.DONE
        wire = self._wire
        keep = not exchange.closing and wire.our_state is h11.DONE
        if not exchange.body_complete:
            exchange.body.clear()
            return Next.DRAIN if keep and self._drained <= DRAIN_LIMIT else Next.LINGER
        if not keep or wire.their_state is not h11.DONE:
            return Next.LINGER if self._behind else Next.CLOSE
        wire.start_next_cycle()
        self.served = True
        self.exchange = None
        self._head_begun = False
        if not self._behind:
            return Next.IDLE
        self._behind = 0
        return Next.REQUEST if self._parse() else Next.IDLE

    def refuse(self, status: int, reason: str) -> bytes:
        """The last words to a client whose request won't be served: nothing, if a response is on the wire already."""
        exchange = self.exchange
        if exchange is not None and exchange.phase is not Phase.WAITING and exchange.phase is not Phase.STARTED:
            return b""
        text = reason.encode() + b"\n"
        fields = [*_plain_text(len(text)), (b"connection", b"close")]
        head = [validated_field(*field) for field in fields] + self._identity()
        events = (h11.Response(status_code=status, headers=FieldBlock(head), reason=_REASONS.get(status, b"")), h11.Data(data=text), _END)
        return b"".join(self._wire.send(event) or b"" for event in events)
