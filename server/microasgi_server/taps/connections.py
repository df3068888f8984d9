"""The shell, told aloud: bytes in and out, what is decided of a connection, and the app's messages."""

from collections.abc import Sequence
from enum import IntEnum
from itertools import count
from typing import Any, cast

from microasgi_server.asgi import Message
from microasgi_server.call import Call
from microasgi_server.connection import Connection
from microasgi_server.errors import Refusal
from microasgi_server.exchange import Exchange
from microasgi_server.http1.protocol import Protocol
from microasgi_server.presence import CLIENT_CLOSED_REQUEST
from microasgi_server.running import Connected, RunningServer
from microasgi_server.taps.apps import EXTENSION, receive_told, send_told, told_app
from microasgi_server.taps.events import HERE, Tap, Teller, Voice
from microasgi_server.taps.exchanges import TappedExchange, TappedProtocol
from microasgi_server.taps.redaction import Redaction
from microasgi_server.taps.streams import Stream
from microasgi_server.taps.told import told
from microasgi_server.transports import Transport


class End(IntEnum):
    """How far a transport is at its end. What it is asked for once more, or behind that, changes nothing."""

    OPEN = 0
    SHUT = 1
    CLOSE = 2
    ABORT = 3


class TappedTransport:
    """A transport's double, which tells what it is asked to do, as far as that changes anything."""

    def __init__(self, inner: Transport, tell: Teller) -> None:
        self._inner: Any = inner
        self._tell = tell
        self._end = End.OPEN
        self.outgoing = Stream(tell.redaction)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __repr__(self) -> str:
        return repr(self._inner)

    @property
    def client(self) -> Any:
        return self._inner.client

    @client.setter
    def client(self, client: Any) -> None:  # as a proxy has it
        self._inner.client = client

    @property
    def server(self) -> Any:
        return self._inner.server

    @server.setter
    def server(self, server: Any) -> None:
        self._inner.server = server

    def write(self, data: bytes) -> None:
        inner = self._inner
        if data and self._end is End.OPEN:
            self._tell("wire", "out", {"data": self.outgoing.piece(data)})
        before = inner.congested
        inner.write(data)
        if inner.congested and not before:
            self._tell("wire", "congested", {"unsent": inner.unsent()})

    def pause_reading(self) -> None:
        if not self._inner.paused and self._end is End.OPEN:
            self._tell("wire", "pause", {})
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        if self._inner.paused:
            self._tell("wire", "resume", {})
        self._inner.resume_reading()

    def shut_write(self) -> None:
        self._reach(End.SHUT)
        self._inner.shut_write()

    def close(self) -> None:
        self._reach(End.CLOSE)
        self._inner.close()

    def abort(self) -> None:
        self._reach(End.ABORT)
        self._inner.abort()

    def _reach(self, end: End) -> None:
        if end > self._end:
            self._end = end
            self._tell("wire", end.name.lower(), {})


class TappedCall(Call):
    """A call that tells what is said between the server and the app."""

    tell: Teller

    def __init__(self, connection: Connected, exchange: Exchange) -> None:
        super().__init__(connection, exchange)
        self.tell = cast(TappedExchange, exchange).tell
        self.scope["extensions"][EXTENSION] = Voice(self.tell.tell)

    async def run(self) -> None:
        self.app = told_app(self.app, self.tell)
        await super().run()

    async def receive(self) -> Message:
        return await receive_told(super().receive, self.tell)

    async def send(self, message: Message) -> None:
        nobody = self.exchange.gone and not self.exchange.attended
        await send_told(super().send, message, self.tell, **({"dropped": True} if nobody else {}))


class TappedConnection(Connection):
    """A connection that tells what comes, and what becomes of it.

    tap, redaction, numbers, beyond: of all of them.
    """

    tap: Tap
    redaction: Redaction
    numbers: "count[int]"
    beyond: tuple[str, ...]

    _input = told("input")
    wait = told("waits for")

    def __init__(self, running: RunningServer, transport: Transport) -> None:
        self.tell = Teller(self.tap, self.redaction, next(self.numbers), beyond=self.beyond)
        self.tell("wire", "open", {"client": transport.client})
        self._incoming = Stream(self.redaction)
        double = TappedTransport(transport, self.tell)
        super().__init__(running, cast(Transport, double))
        if isinstance(self.protocol, TappedProtocol):
            self.protocol.tell, self.protocol.next_response = self.tell, double.outgoing.expect_head

    def received(self, data: bytes) -> None:
        protocol: Any = self.protocol
        if protocol.exchange is not None:
            self._incoming.expect_head(False)
        elif not protocol.mid_head:
            self._incoming.expect_head()
            self.tell.request = protocol.begun + 1
        self.tell("wire", "in", {"data": self._incoming.piece(data)})
        super().received(data)

    def shut(self, *why: str) -> bool:
        self.tell("wire", "FIN", {"why": why[0]} if why else {})
        return super().shut(*why)

    def hang_up(self, why: str, status: int = CLIENT_CLOSED_REQUEST) -> None:
        self.tell("core", "hang_up", {"why": why})
        super().hang_up(why, status)

    def _leave(self, why: str, status: int) -> bool:
        call = self.call
        left = super()._leave(why, status)
        if left and call is not None:
            facts = {"why": call.exchange.why_gone, "cancelled": call.exchange.cancelled, "seconds": self.running.clock() - call.began}
            cast(TappedCall, call).tell("core", "left", facts)
        return left

    def refuse(self, refusal: Refusal) -> None:
        self.tell("core", "refused", {"status": refusal.status, "reason": refusal.reason})
        super().refuse(refusal)

    def drained(self) -> None:
        self.tell("wire", "drained", {})
        super().drained()

    def lost(self, why: str) -> None:
        self.tell("wire", "lost", {"why": why})
        super().lost(why)


def tapped(base: type[Connection], tap: Tap, redaction: Redaction | None = None, beyond: Sequence[str] = ()) -> type[Connection]:
    """The class of connections that tell, and are otherwise `base`: for `serve(connection_class=…)`.

    :param base: one whose protocol is HTTP/1.1's
    :param tap: is called with every event
    :param redaction: what is left out; secrets by default
    :param beyond: files of middleware that only passes on what the app says: no event comes from there, but from whoever called it
    """
    protocol: Any = base.protocol_class
    if not issubclass(protocol, Protocol):
        raise TypeError(f"a tap needs connections whose protocol_class is a subclass of http1's Protocol, not {protocol.__qualname__}")
    exchange_class = _mixed(TappedExchange, protocol.exchange_class)
    made: type[Connection] = _mixed(
        TappedConnection,
        base,
        tap=staticmethod(tap),
        redaction=redaction or Redaction(),
        numbers=count(1),
        beyond=(HERE, *beyond),
        protocol_class=_mixed(TappedProtocol, protocol, exchange_class=exchange_class),
        call_class=_mixed(TappedCall, base.call_class),
    )
    return made


def _mixed(tapped_class: type[Any], base: type[Any], **attributes: Any) -> Any:
    """A subclass of both, which looks like `base`."""
    return type(base.__name__, (tapped_class, base), attributes)
