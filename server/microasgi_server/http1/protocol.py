"""The core that decides: bytes in, exchanges out; ASGI messages in, bytes out.

No I/O, no event loop, no clock: every function here returns at once, and whoever calls it does the waiting.

                  bytes ──► Protocol.receive_bytes ──► Exchange      one request and its response (exchange.py)
    (from the socket)             │                       │
                                 h11                      ├─ take()         ──► ASGI messages for the app
                                  │                       ├─ send(message)  ──► ResponseEncoder ──► bytes for the socket
                                  └── after_response ◄────┘ done            ──► what comes next

This is the only file that knows h11. It reads every head and every chunk, and says what a header field may contain. A body of a known
length is simply the next bytes. Each request has an h11 of its own, which sees neither the response nor the next request.
"""

from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache
from typing import Any

import h11

from microasgi_server.errors import Refusal
from microasgi_server.http1.encoder import FRAMING, STATUS_LINES, Field, ResponseEncoder, options
from microasgi_server.http1.exchange import DONE, DRAIN_LIMIT, STARTED, WAITING, Exchange, plain_text

LOOK_AHEAD = 64 * 1024
"""Bytes read ahead of the app (body not asked for, requests behind this one) before reading pauses."""

MAX_HEAD = 64 * 1024
"""Bytes of a request head that is still incomplete."""

_CONTROLS = frozenset([*FRAMING, b"connection", b"expect"])
"""The fields of a request that speak of its body or of the connection. Most requests have at most one of them."""


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
    try:
        block = h11.Response(status_code=200, headers=[(name, value)]).headers
    except h11.LocalProtocolError as error:
        raise ValueError(str(error)) from error
    lower, kept = block[0]
    return lower, kept, b"%b: %b\r\n" % (block.raw_items()[0][0], kept)


def validated_field(name: bytes, value: bytes) -> Field:
    """Check one header field, remembering the answer: most responses carry the same few fields again and again.

    Long values are seldom repeated, and some (cookies) should not be kept: they are checked and forgotten.

    :raises ValueError: the name or the value has a byte that RFC 9110 §5 doesn't allow
    """
    if len(value) > 100:
        return _cached_field.__wrapped__(name, value)
    return _cached_field(name, value)


class Protocol:
    """One connection's side of HTTP/1.1: RFC 9112's framing, one exchange at a time, in order.

    exchange: the newest request and its response, or None while there is none in progress.
    mid_head: whether the first bytes of a request are here, but not yet its whole head.
    served: whether a request has been served on this connection.
    """

    __slots__ = ("_behind", "_chunked", "_drained", "_encoder", "_identity", "_missing", "_wire", "exchange", "mid_head", "served")

    _encoder: ResponseEncoder  # of `exchange`

    def __init__(self, identity: Callable[[], list[Field]]) -> None:
        self._wire = _reader()
        self._identity = identity  # the Date and Server fields of this second
        self._behind = bytearray()  # what came behind the request in progress
        self._chunked = False  # whether h11 reads this request's body
        self._missing = 0  # bytes of it that are still to come, if not
        self._drained = 0  # bytes of it that came after its response
        self.mid_head = False
        self.exchange: Exchange | None = None
        self.served = False

    @property
    def look_ahead(self) -> int:
        """Bytes that have arrived and that nobody has asked for yet."""
        return len(self._behind) + (self.exchange.ahead if self.exchange is not None else 0)

    def receive_bytes(self, data: bytes) -> bool:
        """Take what the socket gave. True if that began a new `exchange`.

        :raises Refusal: what came is not HTTP, or not what this server serves
        """
        exchange = self.exchange
        if exchange is None:
            return self._read_head(data)
        if exchange.body_complete:
            self._behind += data
        elif self._chunked:
            self._wire.receive_data(data)
            self._read_chunks(exchange)
        else:
            self._read_body(exchange, data)
        return False

    def _read_head(self, data: bytes) -> bool:
        self._wire.receive_data(data)
        event = self._next_event()
        if not isinstance(event, h11.Request):
            self.mid_head = True
            return False
        self.mid_head = False
        self._drained = 0
        self.exchange = exchange = self._begin(event)
        if self._chunked:
            self._read_chunks(exchange)
        else:
            self._read_body(exchange, self._rest())
        return True

    def _begin(self, request: h11.Request) -> Exchange:
        headers = [(name.lower(), value) for name, value in request.headers.raw_items()]
        controls = _CONTROLS.intersection([name for name, _ in headers])
        old = request.http_version < b"1.1"
        if b"transfer-encoding" in controls and (old or b"content-length" in controls):
            # RFC 9112 §6.1: somebody between the client and here may have read it otherwise.
            other = "an HTTP/1.0 request" if old else "one with a Content-Length"
            raise Refusal(400, f"a request with a Transfer-Encoding isn't {other}")
        self._encoder = ResponseEncoder(
            request.method,
            request.http_version,
            self._identity,
            validated_field,
            # RFC 9112 §9.3: HTTP/1.1 persists unless somebody says otherwise.
            closes=old or (b"connection" in controls and b"close" in options(headers, b"connection")),
            # RFC 9110 §10.1.1: HTTP/1.0 knows no 100.
            awaits_go_ahead=not old and b"expect" in controls and b"100-continue" in options(headers, b"expect"),
        )
        # RFC 9112 §6.3: without either there is no body. h11 has checked what they say.
        self._chunked = b"transfer-encoding" in controls
        self._missing = next((int(value) for name, value in headers if name == b"content-length"), 0) if controls else 0
        return Exchange(request.method, request.target, request.http_version, headers, self._encoder)

    def _read_body(self, exchange: Exchange, data: bytes) -> None:
        if len(data) > self._missing:
            self._behind += data[self._missing :]
            data = data[: self._missing]
        self._missing -= len(data)
        exchange.body_complete = not self._missing
        self._arrived(exchange, data)

    def _read_chunks(self, exchange: Exchange) -> None:
        while True:
            event = self._next_event()
            if isinstance(event, h11.Data):
                self._arrived(exchange, bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                exchange.body_complete = True
                self._behind += self._rest()
                return
            else:
                return

    def _rest(self) -> bytes:
        """What came behind that which h11 had to read. It would keep it, too: the next request gets a fresh one."""
        rest: bytes = self._wire.trailing_data[0]
        self._wire = _reader()
        return rest

    def _next_event(self) -> Any:
        try:
            return self._wire.next_event()
        except h11.RemoteProtocolError as error:
            raise Refusal(error.error_status_hint, str(error)) from error

    def _arrived(self, exchange: Exchange, data: bytes) -> None:
        if not data:
            return
        self._encoder.awaits_go_ahead = False  # it didn't
        if exchange.phase is DONE:
            self._drained += len(data)
        exchange.arrived(data)

    def after_response(self) -> Next:
        """Decide what follows a response that is complete. May be asked again as more arrives.

        :raises Refusal: the next request was here already, and is none
        """
        exchange = self.exchange
        assert exchange is not None
        assert exchange.phase is DONE
        keep = not exchange.closing and not self._encoder.closes
        if not exchange.body_complete:
            return Next.DRAIN if keep and self._drained <= DRAIN_LIMIT else Next.LINGER
        if not keep:
            return Next.LINGER if self._behind else Next.CLOSE
        self.served = True
        self.exchange = None
        if not self._behind:
            return Next.IDLE
        behind, self._behind = self._behind, bytearray()
        return Next.REQUEST if self._read_head(bytes(behind)) else Next.IDLE

    def refuse(self, status: int, reason: str) -> bytes:
        """The last words to a client whose request won't be served: nothing, if a response is on the wire already."""
        exchange = self.exchange
        if exchange is not None and exchange.phase is not WAITING and exchange.phase is not STARTED:
            return b""
        text = reason.encode() + b"\n"
        fields = [validated_field(*field) for field in [*plain_text(len(text)), (b"connection", b"close")]] + self._identity()
        head = b"%b%b\r\n" % (STATUS_LINES[status], b"".join([field[2] for field in fields]))
        return head if exchange is not None and exchange.method == b"HEAD" else head + text


def _reader() -> h11.Connection:
    """What reads one request."""
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
