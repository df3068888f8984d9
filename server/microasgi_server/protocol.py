"""The core that decides: bytes in, exchanges out; ASGI messages in, bytes out.

No I/O, no event loop, no clock: every function here returns at once, and whoever calls it does the waiting.

                  bytes ──► Protocol.receive_bytes ──► Exchange      one request and its response (exchange.py)
    (from the socket)             │                       │
                                 h11                      ├─ take()         ──► ASGI messages for the app
                                  │                       ├─ send(message)  ──► ResponseEncoder ──► bytes for the socket
                                  └── after_response ◄────┘ done            ──► what comes next

This is the only file that knows h11. What a client may send is its business: it reads every byte of a request, and checks every
header field of a response, once. Writing a response down takes less: the fields that were checked are kept as the lines they make,
and what is left is the framing (RFC 9112 §6), which stands here. h11's own writer does the same work through three events and a
second state machine, which was a quarter of a small request's time. The tests hold each against the other, byte for byte.
"""

from collections.abc import Callable, Iterable
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import h11

from microasgi_server.asgi import Message
from microasgi_server.errors import AppError, Refusal
from microasgi_server.exchange import DRAIN_LIMIT, Exchange, Phase, Step, plain_text

Field = tuple[bytes, bytes, bytes]
"""A validated header field: its name in lower case, its value, and the line that it makes on the wire."""

LOOK_AHEAD = 64 * 1024
"""Bytes read ahead of the app (body not asked for, requests behind this one) before reading pauses."""

MAX_HEAD = 64 * 1024
"""Bytes of a request head that is still incomplete."""

_FRAMING = (b"content-length", b"transfer-encoding")
_CONTROLS = frozenset([*_FRAMING, b"connection", b"expect"])
"""The fields of a request that speak of its body or of the connection. Most requests have at most one of them."""
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


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
    lower, kept = block[0]
    return lower, kept, b"%b: %b\r\n" % (block.raw_items()[0][0], kept)


def validated_field(name: bytes, value: bytes) -> Field:
    """Check one header field, remembering the answer: most responses carry the same few fields again and again.

    Long values are seldom repeated, and some (cookies) should not be kept: they are checked and forgotten.

    :raises h11.LocalProtocolError: the name or the value has a byte that RFC 9110 §5 doesn't allow
    """
    if len(value) > 100:
        return _cached_field.__wrapped__(name, value)
    return _cached_field(name, value)


class ResponseEncoder:
    """`exchange.Encoder`: the messages of one response to bytes.

    closes: whether the connection ends behind this response: as the request said, and then as the response's head does.

    `_start` sets what describes the response; the exchange lets nothing that reads it come before.
    """

    __slots__ = (
        "_bodyless",
        "_chunked",
        "_ends_by_closing",
        "_fields",
        "_flushed",
        "_identity",
        "_remaining",
        "_request",
        "_status",
        "_told_to_go_ahead",
        "_trailers",
        "_wire",
        "closes",
    )

    def __init__(self, request: h11.Request, wire: h11.Connection, identity: Callable[[], list[Field]], *, closes: bool) -> None:
        self.closes = closes
        self._request = request
        self._wire = wire
        self._identity = identity
        self._told_to_go_ahead = False
        self._flushed = False

    @property
    def awaits_go_ahead(self) -> bool:
        return self._wire.they_are_waiting_for_100_continue and not self._told_to_go_ahead

    def go_ahead(self) -> bytes:
        self._told_to_go_ahead = True
        return b"HTTP/1.1 100 Continue\r\n\r\n"

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
        """Check the head: the error belongs to this message, though the bytes leave with the next."""
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise AppError(f"a response's status is a whole number from 200 to 999, not {status!r}")
        self._status = int(status)
        fields, length, chunked = self._read(message.get("headers", ()), status)
        never_has_body = status == 204 or status == 304
        self._bodyless = never_has_body or self._request.method == b"HEAD"  # RFC 9110 §6.4.1
        self._chunked = self._ends_by_closing = False
        if (chunked or length is None) and not never_has_body:
            # The length isn't known in advance (RFC 9112 §6.3): in chunks, or by closing for HTTP/1.0, which knows no chunks.
            fields = [field for field in fields if field[0] not in _FRAMING]
            if self._request.http_version < b"1.1":
                self._ends_by_closing = not self._bodyless
            else:
                fields.append((b"transfer-encoding", b"chunked", b"Transfer-Encoding: chunked\r\n"))
                self._chunked = not self._bodyless
            length = None
        self._fields = fields
        self._remaining = None if self._bodyless else length
        self._trailers: list[Field] = []
        return b""

    def _read(self, headers: Any, status: int) -> tuple[list[Field], int | None, bool]:
        """The response's validated fields with Date and Server, the content-length if any, and whether the app wants chunks."""
        fields: list[Field] = []
        length: int | None = None
        chunked = False
        identity = self._identity()
        for name, value in headers:
            field = _checked_field(name, value)
            lower = field[0]
            if lower == b"content-length":
                if status == 204:  # RFC 9110 §8.6: not in a 204
                    continue
                if length is not None:
                    raise AppError("a response has one content-length")
                length = int(field[1])
            elif lower == b"transfer-encoding":
                if status in (204, 304):  # RFC 9112 §6.1: nor this; a 304 may have it, but then clients wait for chunks
                    continue
                if chunked:
                    raise AppError("a response has one transfer-encoding")
                chunked = True
            elif lower == b"date" or lower == b"server":
                identity = [own for own in identity if own[0] != lower]
            fields.append(field)
        fields.extend(identity)
        return fields, length, chunked

    def _head(self, close: bool) -> bytes:
        """The head, which says whether the connection goes on (RFC 9112 §9.6)."""
        fields = self._fields
        if self.closes or close or self._ends_by_closing:
            options = sorted(_options(fields) - {b"keep-alive"} | {b"close"})
            fields = [field for field in fields if field[0] != b"connection"]
            fields += [(b"connection", option, b"Connection: %b\r\n" % option) for option in options]
        self.closes = b"close" in _options(fields)
        line = _STATUS_LINES.get(self._status) or b"HTTP/1.1 %d \r\n" % self._status
        return b"%b%b\r\n" % (line, b"".join([field[2] for field in fields]))

    def _body(self, message: Message, step: Step, close: bool) -> bytes:
        body = message.get("body", b"")
        if not isinstance(body, bytes):
            if not isinstance(body, bytearray | memoryview):
                raise AppError(f"a response's body is bytes, not {type(body).__name__}")
            body = bytes(body)
        if self._remaining is not None:
            # Checked while the head is held back: this can still become a 500.
            left = self._remaining - len(body)
            if left < 0 or (left and step is not Step.BODY):
                raise AppError(f"the body is {'longer' if left < 0 else 'shorter'} than the response's content-length says")
            self._remaining = left
        if self._bodyless:
            body = b""
        elif self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk + b"0\r\n\r\n" if step is Step.LAST_BODY else chunk
        if self._flushed:
            return body
        self._flushed = True
        return self._head(close) + body

    def _hint(self, message: Message) -> bytes:
        """103 Early Hints (RFC 8297), but not to HTTP/1.0, which knows no 1xx (RFC 9110 §15.2)."""
        if self._request.http_version < b"1.1":
            return b""
        links = [_checked_field(b"link", link)[2] for link in message.get("links", ())]
        return b"%b%b\r\n" % (_STATUS_LINES[103], b"".join(links))

    def _finish(self, message: Message, step: Step) -> bytes:
        trailers = [_checked_field(name, value) for name, value in message.get("headers", ())]
        if any(field[0] in _FRAMING for field in trailers):
            raise AppError("content-length and transfer-encoding can't be trailers (RFC 9110 §6.5.1)")
        self._trailers += trailers
        # Only a chunked body has room for trailers (RFC 9112 §7.1.2): elsewhere they are taken and dropped.
        if step is Step.TRAILERS or not self._chunked:
            return b""
        return b"0\r\n%b\r\n" % b"".join([field[2] for field in self._trailers])


def _checked_field(name: Any, value: Any) -> Field:
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        raise AppError(f"header names and values are bytes, not {name!r}: {value!r}")
    return validated_field(name, value)


def _options(fields: Iterable[tuple[bytes, ...]]) -> set[bytes]:
    """What the Connection fields list, in lower case (RFC 9110 §7.6.1)."""
    values = [field[1] for field in fields if field[0] == b"connection"]
    return {option for value in values for part in value.lower().split(b",") if (option := part.strip())} if values else set()


class Protocol:
    """One connection's side of HTTP/1.1: RFC 9112's framing, one exchange at a time, in order.

    exchange: the newest request and its response, or None while there is none in progress.
    served: whether a request has been served on this connection.
    """

    __slots__ = ("_behind", "_drained", "_encoder", "_head_begun", "_identity", "_wire", "exchange", "served")

    _encoder: ResponseEncoder  # of `exchange`

    def __init__(self, identity: Callable[[], list[Field]]) -> None:
        self._wire = _reader()
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
                    self.exchange = exchange = self._begin(event)  # type: ignore[arg-type]
                    self._drained = 0
                    begun = True
                    if exchange.body_complete:
                        self._behind = len(self._wire.trailing_data[0])
                        break
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
        controls = _CONTROLS.intersection([name for name, _ in headers])
        # RFC 9112 §9.3: HTTP/1.1 persists unless somebody says otherwise.
        closes = request.http_version < b"1.1" or (b"connection" in controls and b"close" in _options(headers))
        self._encoder = ResponseEncoder(request, self._wire, self._identity, closes=closes)
        exchange = Exchange(request.method, request.target, request.http_version, headers, self._encoder)
        # RFC 9112 §6.3: without framing there is no body. h11 need not be asked, nor told what the client expects.
        exchange.body_complete = controls <= {b"connection"}
        return exchange

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
        keep = not exchange.closing and not self._encoder.closes
        if not exchange.body_complete:
            exchange.body.clear()
            return Next.DRAIN if keep and self._drained <= DRAIN_LIMIT else Next.LINGER
        if not keep:
            return Next.LINGER if self._behind else Next.CLOSE
        # h11 is done with this request, but hasn't seen the response. Another one reads on, where this one has stopped.
        behind = self._wire.trailing_data[0]
        self._wire = _reader()
        self.served = True
        self.exchange = None
        self._head_begun = False
        if not self._behind:
            return Next.IDLE
        self._behind = 0
        self._wire.receive_data(behind)
        return Next.REQUEST if self._parse() else Next.IDLE

    def refuse(self, status: int, reason: str) -> bytes:
        """The last words to a client whose request won't be served: nothing, if a response is on the wire already."""
        exchange = self.exchange
        if exchange is not None and exchange.phase is not Phase.WAITING and exchange.phase is not Phase.STARTED:
            return b""
        text = reason.encode() + b"\n"
        fields = [validated_field(*field) for field in [*plain_text(len(text)), (b"connection", b"close")]] + self._identity()
        head = b"%b%b\r\n" % (_STATUS_LINES[status], b"".join([field[2] for field in fields]))
        return head if exchange is not None and exchange.method == b"HEAD" else head + text


def _reader() -> h11.Connection:
    """What reads one request, and whatever comes behind it."""
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
