"""The core that decides: bytes in, exchanges out; ASGI messages in, bytes out.

No I/O, no event loop, no clock: every function here returns at once, and whoever calls it does the waiting.

                  bytes ──► Protocol.receive_bytes ──► Exchange      one request and its response (exchange.py)
    (from the socket)             │                       │
                            Reader, Body                  ├─ take()         ──► ASGI messages for the app
                                  │                       ├─ send(message)  ──► ResponseEncoder ──► bytes for the socket
                                  └── after_response ◄────┘ done            ──► what comes next

`reader.py` alone says what a request may be; `body.py`, where it ends.
"""

from collections.abc import Callable

from microasgi_server.exchange import Next
from microasgi_server.http1.answers import refusal
from microasgi_server.http1.body import Body, Sized
from microasgi_server.http1.chunked import Chunked
from microasgi_server.http1.exchange import Exchange
from microasgi_server.http1.fields import Field
from microasgi_server.http1.limits import Limits
from microasgi_server.http1.phases import DONE, STARTED, WAITING
from microasgi_server.http1.reader import Reader

REQUEST, IDLE, MID_HEAD, DRAIN, LINGER, CLOSE = Next  # as in phases.py


class Protocol:
    """One connection's side of HTTP/1.1: RFC 9112's framing, one exchange at a time, in order.

    exchange_class: what it makes, as in `Connection`.
    exchange: the newest request and its response, or None while there is none in progress.
    """

    __slots__ = ("_behind", "_body", "_drained", "_identity", "_limits", "_reader", "exchange")

    exchange_class: type[Exchange] = Exchange

    def __init__(self, identity: Callable[[], list[Field]], limits: Limits) -> None:
        self._identity = identity  # the Date and Server fields of this second
        self._limits = limits
        self._reader = Reader(limits)
        self._body: Body = Sized(0)  # of `exchange`
        self._behind = bytearray()  # what came behind the request in progress
        self._drained = 0  # bytes of its body that came after its response, the framing included: it costs as much
        self.exchange: Exchange | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.exchange!r}, {self.look_ahead} bytes ahead>"

    @property
    def mid_head(self) -> bool:
        """Whether the first bytes of a request are here, but not yet its whole head."""
        return self._reader.begun

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
        else:
            self._read_body(exchange, data)
        return False

    def _read_head(self, data: bytes) -> bool:
        found = self._reader.read(data)
        if found is None:
            return False
        head, rest = found
        self.exchange = exchange = self.exchange_class(head, self._identity, self._limits)
        if not exchange.body_complete:
            self._drained = 0
            self._body = Chunked(self._limits) if head.length is None else Sized(head.length)
            self._read_body(exchange, rest)
        elif rest:
            self._behind += rest
        if head.upgrades:
            self._upgrade(exchange)
        return True

    def _upgrade(self, exchange: Exchange) -> None:
        """The client asks for another protocol: it may be ignored (RFC 9110 §7.8)."""

    def _read_body(self, exchange: Exchange, data: bytes) -> None:
        body, rest = self._body.read(data)
        self._behind += rest
        exchange.body_complete = self._body.complete
        if exchange.phase is DONE:
            self._drained += len(data) - len(rest)
        if body:
            exchange.arrived(body)

    def after_response(self) -> Next:
        """Decide what follows a response that is complete. May be asked again as more arrives.

        :raises Refusal: the next request was here already, and is none
        """
        exchange = self.exchange
        assert exchange is not None
        if not exchange.body_complete:
            return self._unfinished(exchange)
        if exchange.closing:
            return LINGER if self._behind else CLOSE
        self.exchange = None
        if not self._behind:
            return IDLE
        behind, self._behind = self._behind, bytearray()
        return REQUEST if self._read_head(bytes(behind)) else MID_HEAD if self.mid_head else IDLE

    def _unfinished(self, exchange: Exchange) -> Next:
        return DRAIN if not exchange.closing and self._drained <= self._limits.drain else LINGER

    def refuse(self, status: int, reason: str) -> bytes:
        """The last words to a client whose request won't be served: nothing, if a response is on the wire already."""
        exchange = self.exchange
        if exchange is None:
            bodyless = self._reader.bodyless
        elif exchange.phase is WAITING or exchange.phase is STARTED:
            bodyless = exchange.head.method == b"HEAD"
        else:
            return b""
        return refusal(status, reason, self._identity(), bodyless=bodyless)
