"""The core that decides: bytes in, exchanges out; ASGI messages in, bytes out.

No I/O, no event loop, no clock: every function here returns at once, and whoever calls it does the waiting.

                  bytes ──► Protocol.receive_bytes ──► Exchange      one request and its response (exchange.py)
    (from the socket)             │                       │
                                 h11                      ├─ take()         ──► ASGI messages for the app
                                  │                       ├─ send(message)  ──► ResponseEncoder ──► bytes for the socket
                                  └── after_response ◄────┘ done            ──► what comes next

This is the only file that knows h11. What is its business stays its business: framing, keep-alive, what a header may contain.
"""

from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import h11
from h11._headers import Headers as FieldBlock  # not public: tests check it against h11's own validation

from microasgi_server.asgi import Message
from microasgi_server.errors import AppError, Refusal
from microasgi_server.exchange import DRAIN_LIMIT, Exchange, Phase, Step, plain_text

Field = tuple[bytes, bytes, bytes]
"""A validated header field as h11 keeps it: the name as given, the name in lower case, the value."""

LOOK_AHEAD = 64 * 1024
"""Bytes read ahead of the app (body not asked for, requests behind this one) before reading pauses."""

MAX_HEAD = 64 * 1024
"""Bytes of a request head that is still incomplete."""

_END = h11.EndOfMessage()
_FRAMING = (b"content-length", b"transfer-encoding")
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


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


class ResponseEncoder:
    """`exchange.Encoder` over h11: the messages of one response to bytes.

    `_start` sets `_head`, `_bodyless`, `_remaining`, `_trailers` and `_flushed`; the exchange lets nothing that reads them come before.
    """

    __slots__ = ("_bodyless", "_flushed", "_head", "_identity", "_method", "_remaining", "_trailers", "_version", "_wire")

    def __init__(self, request: h11.Request, wire: h11.Connection, identity: Callable[[], list[Field]]) -> None:
        self._method = request.method
        self._version = request.http_version
        self._wire = wire
        self._identity = identity

    @property
    def awaits_go_ahead(self) -> bool:
        return self._wire.they_are_waiting_for_100_continue

    def go_ahead(self) -> bytes:
        return self._wire.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")) or b""

    def encode(self, step: Step, message: Message, *, close: bool) -> bytes:
        try:
            if step is Step.START:
                return self._start(message)
            if step is Step.HINT:
                return self._hint(message)
            if step is Step.TRAILERS or step is Step.LAST_TRAILERS:
                return self._finish(message, step)
            return self._body(message, step, close)
        except (h11.LocalProtocolError, TypeError, ValueError) as error:  # the last two: parts that aren't what ASGI says
            raise AppError(f"{message['type']!r} can't be sent: {error}") from error

    def _start(self, message: Message) -> bytes:
        """Build the head, which checks it: the error belongs to this message, though the bytes leave with the next."""
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise AppError(f"a response's status is a whole number from 200 to 999, not {status!r}")
        self._bodyless = self._method == b"HEAD" or status in (204, 304)  # RFC 9110 §6.4.1
        fields, length, chunked = self._fields(message.get("headers", ()), status)
        self._remaining = None if self._bodyless or chunked else length
        self._trailers: list[Field] = []
        self._flushed = False
        self._head = h11.Response(status_code=status, headers=FieldBlock(fields), reason=_REASONS.get(status, b""))
        return b""

    def _fields(self, headers: Any, status: int) -> tuple[list[Field], int | None, bool]:
        """The response's validated fields with Date and Server, the content-length if any, and whether it is chunked."""
        fields: list[Field] = []
        length: int | None = None
        chunked = False
        identity = self._identity()
        for name, value in headers:
            field = _checked_field(name, value)
            lower = field[1]
            if lower == b"content-length":
                if status == 204:  # RFC 9110 §8.6: not in a 204
                    continue
                if length is not None:
                    raise AppError("a response has one content-length")
                length = int(field[2])
            elif lower == b"transfer-encoding":
                if status in (204, 304):  # RFC 9112 §6.1: nor this; a 304 may have it, but then clients wait for chunks
                    continue
                if chunked:
                    raise AppError("a response has one transfer-encoding")
                chunked = True
            elif lower == b"date" or lower == b"server":
                identity = [own for own in identity if own[1] != lower]
            fields.append(field)
        fields.extend(identity)
        return fields, length, chunked

    def _body(self, message: Message, step: Step, close: bool) -> bytes:
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
        if not self._flushed:
            self._flushed = True
            head = _with_close(self._head) if close else self._head
            parts += self._wire.send_with_data_passthrough(head) or ()
        if body and not self._bodyless:
            parts += self._wire.send_with_data_passthrough(h11.Data(data=body)) or ()
        if step is Step.LAST_BODY:
            parts += self._wire.send_with_data_passthrough(_END) or ()
        return b"".join(parts)

    def _hint(self, message: Message) -> bytes:
        """103 Early Hints (RFC 8297), but not to HTTP/1.0, which knows no 1xx (RFC 9110 §15.2)."""
        if self._version == b"1.0":
            return b""
        links = [(b"link", link) for link in message.get("links", ())]
        hint = h11.InformationalResponse(status_code=103, headers=links, reason=b"Early Hints")
        # h11 takes any 1xx for the 100 that a client may be waiting for. It isn't one.
        waiting = self._wire.client_is_waiting_for_100_continue
        data = self._wire.send(hint) or b""
        self._wire.client_is_waiting_for_100_continue = waiting
        return data

    def _finish(self, message: Message, step: Step) -> bytes:
        trailers = [_checked_field(name, value) for name, value in message.get("headers", ())]
        if any(field[1] in _FRAMING for field in trailers):
            raise AppError("content-length and transfer-encoding can't be trailers (RFC 9110 §6.5.1)")
        self._trailers += trailers
        if step is Step.TRAILERS:
            return b""
        # Only a chunked body has room for trailers (RFC 9112 §7.1.2): elsewhere they are taken and dropped.
        chunked = not self._bodyless and self._remaining is None and self._version != b"1.0"
        return self._wire.send(h11.EndOfMessage(headers=FieldBlock(self._trailers)) if chunked else _END) or b""


def _checked_field(name: Any, value: Any) -> Field:
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        raise AppError(f"header names and values are bytes, not {name!r}: {value!r}")
    return validated_field(name, value)


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
                    self.exchange = self._begin(event)  # type: ignore[arg-type]
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

    def _begin(self, request: h11.Request) -> Exchange:
        headers = [(name.lower(), value) for name, value in request.headers.raw_items()]
        encoder = ResponseEncoder(request, self._wire, self._identity)
        return Exchange(request.method, request.target, request.http_version, headers, encoder)

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
        fields = [*plain_text(len(text)), (b"connection", b"close")]
        head = [validated_field(*field) for field in fields] + self._identity()
        events: list[h11.Event] = [h11.Response(status_code=status, headers=FieldBlock(head), reason=_REASONS.get(status, b""))]
        if exchange is None or exchange.method != b"HEAD":
            events.append(h11.Data(data=text))
        return b"".join(self._wire.send(event) or b"" for event in [*events, _END])
