"""The shell that waits: one connection, and one task for each of its requests.

Transports call `Connection`; the app calls `Call`. Decisions are `protocol.py`'s; here stands every `await` between the
socket and the app.

    transport ──received, hang_up, drained──► Connection ──spawn──► Call.run ──► app(scope, receive, send)
        ▲                                          │                    │
        └──────── write, pause_reading, close ─────┴────────────────────┘

The life of a request, by the functions it passes:

    1  received        bytes arrive; the protocol reads them
    2  _begin          a request has begun: its task is spawned, in a fresh context
    3  Call.run        the app runs
    4  Call.receive    the body as it comes, or the disconnect
    5  Call.send       the response: bytes to the transport, and a wait while the client reads too slowly
    6  completed       the last byte is handed over: nothing can cancel this request any more
    7  _go_on          the next request, if it is here; else idle, drain or close
"""

import time
from enum import Enum, auto

import anyio
from anyio.lowlevel import checkpoint

from microasgi_server import logs
from microasgi_server.asgi import Message, Scope
from microasgi_server.errors import Refusal
from microasgi_server.exchange import CLIENT_CLOSED_REQUEST, DONE, GONE, Exchange
from microasgi_server.head import build_scope
from microasgi_server.protocol import LOOK_AHEAD, Next, Protocol
from microasgi_server.shared import Shared
from microasgi_server.transport import Cancellable, Transport

NEVER = float("inf")

LINGER = 1.0
"""Seconds that a client which is still sending gets to read the last response (RFC 9112 §9.6)."""

FLUSH = 10.0
"""Seconds that a client gets to take what is still unsent when the connection closes: 64 KiB at most."""


STALL = 30.0
"""Seconds in which a client has to take at least something of a complete response that waits for it."""


class Input(Enum):
    """What may still come from the client."""

    OPEN = auto()
    """Bytes."""
    ENDED = auto()
    """None: it has shut its side, and is served all the same."""
    IGNORED = auto()
    """Nothing that counts: it left, or this connection is closing."""


OPEN, ENDED, IGNORED = Input  # as in exchange.py


class Connection:
    """One client's connection, from its first byte to its last.

    deadline: when `expire` is due, by `time.monotonic()`; the server looks about once a second.
    """

    __slots__ = ("_call", "_input", "_unsent", "deadline", "protocol", "shared", "transport")

    def __init__(self, shared: Shared, transport: Transport) -> None:
        self.shared = shared
        self.transport = transport
        self.protocol = Protocol(shared.identity)
        self.deadline = time.monotonic() + shared.config.timeout_header
        self._call: Call | None = None  # of the exchange in progress
        self._input = OPEN
        self._unsent = 0  # bytes of a complete response that the client had not taken at the last look
        shared.connections.add(self)
        if shared.trace:
            logs.trace(transport.client, "connection made")

    # The transport calls these.

    def received(self, data: bytes) -> None:
        """Bytes came."""
        if self._input is IGNORED:
            return
        protocol = self.protocol
        idle = not protocol.mid_head
        try:
            if protocol.receive_bytes(data):
                self._begin()
            elif self._call is not None:
                self._call.wake()
            elif protocol.exchange is not None:  # the rest of a body that the app didn't want
                if not self.transport.congested:
                    self._go_on()
            elif idle and protocol.served:  # for the first request the time runs from the connection
                self.deadline = time.monotonic() + self.shared.config.timeout_header
        except Refusal as refusal:
            self._refuse(refusal.status, refusal.reason)
        self.regulate()

    def hang_up(self, why: str, status: int = CLIENT_CLOSED_REQUEST) -> None:
        """The client left, or the socket broke: whatever runs for this client learns it now.

        :param status: for the log
        """
        self._input = IGNORED
        exchange = self.protocol.exchange
        if exchange is not None and self._leave(exchange, why, status) and self._call is not None:
            if self.shared.trace:
                logs.trace(
                    self.transport.client, f"{'cancelled' if exchange.cancelled else 'client left'} after {self._call.age():.3f} s: {why}"
                )
            self._call.wake()
        self._close()

    def shut(self) -> bool:
        """The client has shut its sending side. True if it is still to be served, as `Config.half_close` may want."""
        if self.shared.config.half_close and self._is_whole() and self._input is OPEN:
            self._input = ENDED
            return True
        self.hang_up("the client closed its side (FIN)")
        return False

    def drained(self) -> None:
        """`congested` has ended."""
        if self._call is not None:
            self._call.wake()
        elif self.protocol.exchange is not None:
            self._go_on()
            self.regulate()

    def lost(self, why: str) -> None:
        """The socket is closed, whichever side did it."""
        if self._input is not IGNORED:
            self.hang_up(why)
        shared = self.shared
        shared.connections.discard(self)
        if shared.stopping:
            shared.changed.notify()
        if shared.trace:
            logs.trace(self.transport.client, "connection lost")

    # The server calls these.

    def expire(self) -> None:
        """The deadline has passed."""
        unsent, self._unsent = self._unsent, self.transport.unsent()
        if self._input is IGNORED:
            self.transport.abort()
        elif self.transport.congested:
            if self._unsent < unsent:
                self.deadline = time.monotonic() + STALL
            else:
                self.transport.abort()
        elif self.protocol.mid_head:
            self._refuse(408, "the request's head took too long")
        else:
            self._close()

    def shut_down(self) -> None:
        """The server stops: finish what runs, begin nothing new."""
        exchange = self.protocol.exchange
        if exchange is None:
            self._close()
        else:
            exchange.closing = True

    # What follows from it.

    def _begin(self) -> None:
        exchange = self.protocol.exchange
        assert exchange is not None
        shared = self.shared
        self.deadline = NEVER
        exchange.closing = shared.stopping
        scope = build_scope(exchange.method, exchange.target, exchange.version, exchange.headers, shared.config.root_path)
        self._call = call = Call(self, exchange, scope)
        shared.calls.add(call)
        call.task = self.transport.spawn(call.run)

    def ended(self, call: "Call") -> None:
        """A call of the app has returned, whatever became of its response."""
        if self._call is call:
            self._call = None

    def completed(self, call: "Call") -> None:
        """The last byte of a response is handed over."""
        self._call = None
        call.wake()
        if self.shared.access_log:
            logs.access(self.transport.client, call.exchange, call.age())
        self._go_on()
        self.regulate()

    def _go_on(self) -> None:
        """What comes after a response that is complete: not before the client has taken most of it."""
        if self._input is IGNORED:
            return
        if self.transport.congested:
            self._unsent = self.transport.unsent()
            self.deadline = time.monotonic() + STALL
            return
        try:
            following = self.protocol.after_response()
            if following is Next.REQUEST:
                if self._input is ENDED and not self._is_whole():
                    self._close()
                else:
                    self._begin()
        except Refusal as refusal:
            self._refuse(refusal.status, refusal.reason)
            return
        match following:
            case Next.IDLE if self._input is ENDED:
                self._close()
            case Next.IDLE:
                config = self.shared.config
                self.deadline = time.monotonic() + (config.timeout_header if self.protocol.mid_head else config.timeout_keep_alive)
            case Next.DRAIN:
                self.deadline = min(self.deadline, time.monotonic() + self.shared.config.timeout_keep_alive)
            case Next.LINGER:
                self._linger()
            case Next.CLOSE:
                self._close()

    def _is_whole(self) -> bool:
        """Whether the newest request has arrived to its end."""
        exchange = self.protocol.exchange
        return exchange is not None and exchange.body_complete

    def break_off(self, why: str) -> None:
        """Close in the middle of a response, so that the client sees that it is not whole."""
        exchange = self.protocol.exchange
        if exchange is not None:
            self._leave(exchange, why, exchange.status)
        self._close()

    def _leave(self, exchange: Exchange, why: str, status: int = CLIENT_CLOSED_REQUEST) -> bool:
        if not exchange.leave(why, status):
            return False
        for fault in exchange.faults:
            logs.app_failed(exchange, fault)
        return True

    def _refuse(self, status: int, reason: str) -> None:
        data = self.protocol.refuse(status, reason)
        logs.refused(self.transport.client, status, reason)
        call, self._call = self._call, None
        if data:
            self.transport.write(data)
        if call is not None:
            self._leave(call.exchange, reason, status)
            call.wake()
        self._linger()

    def _linger(self) -> None:
        """Close in two steps. Closing with bytes unread makes the system send RST, which can overtake the response."""
        self._input = IGNORED
        self.deadline = time.monotonic() + (FLUSH if self.transport.unsent() else LINGER)
        self.transport.shut_write()

    def _close(self) -> None:
        self._input = IGNORED
        self.deadline = time.monotonic() + FLUSH
        self.transport.close()

    def regulate(self) -> None:
        """Read while the look-ahead has room: what the app doesn't take must stay with the client."""
        if self._input is IGNORED:
            self.transport.resume_reading()
        elif self._input is ENDED or self.protocol.look_ahead >= LOOK_AHEAD:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


class Call:
    """One call of the app: the task of one request, and the `receive` and `send` it is given.

    task: what the transport runs this call in; kept here because asyncio itself holds its tasks only weakly.
    running: whether `run` has begun. A task that is cancelled before never will.
    """

    __slots__ = ("_began", "_connection", "_waiters", "exchange", "running", "scope", "task")

    task: Cancellable

    def __init__(self, connection: Connection, exchange: Exchange, scope: Scope) -> None:
        self.exchange = exchange
        self.scope = scope
        self._connection = connection
        self._began = time.monotonic()
        self._waiters: list[anyio.Event] = []
        self.running = False
        shared = connection.shared
        scope["client"] = connection.transport.client
        scope["server"] = connection.transport.server
        scope["scheme"] = "http"
        scope["state"] = shared.state.copy()
        scope["extensions"] = {
            "http.response.early_hint": {},
            "http.response.trailers": {},
            # The exchange's, not the call's: the call has the scope, and a cycle for each request is work for the collector.
            "microasgi.disconnect": {"subscribe": exchange.subscribe},
        }

    def age(self) -> float:
        """Seconds since the request began."""
        return time.monotonic() - self._began

    async def run(self) -> None:
        """Call the app, and answer for it if it doesn't."""
        shared = self._connection.shared
        exchange = self.exchange
        self.running = True
        try:
            if shared.trace:
                await logs.traced(shared.app, self._connection.transport.client)(self.scope, self.receive, self.send)
            else:
                await shared.app(self.scope, self.receive, self.send)
        except BaseException as error:
            cancelled = self._cancelled(error)
            if not cancelled and not (exchange.phase is GONE and logs.is_disconnect(error)):
                logs.app_failed(exchange, error)
            self._give_up()
            if cancelled:
                raise
        else:
            if exchange.phase is not DONE and exchange.phase is not GONE:
                logs.app_unfinished(exchange)
                self._give_up()
        finally:
            if exchange.phase is GONE and shared.access_log:
                logs.access(self._connection.transport.client, exchange, self.age())
            shared.calls.discard(self)
            self._connection.ended(self)
            if shared.stopping:
                shared.changed.notify()

    async def receive(self) -> Message:
        """The app's `receive()` (ASGI HTTP spec). A message that is ready comes without a checkpoint."""
        exchange = self.exchange
        while True:
            message = exchange.take()
            if message is not None:
                self._connection.regulate()
                return message
            go_ahead = exchange.go_ahead()
            if go_ahead:
                self._connection.transport.write(go_ahead)
            await self._wait()

    async def send(self, message: Message) -> None:
        """The app's `send()` (ASGI HTTP spec).

        :raises ClientDisconnected: the client has left; an OSError
        :raises AppError: the message is malformed, or out of order
        """
        exchange = self.exchange
        data = exchange.send(message)
        if not data and exchange.phase is not DONE:
            return
        transport = self._connection.transport
        transport.write(data)
        if exchange.phase is DONE:
            self._connection.completed(self)
            return
        # An app that only ever sends would otherwise never let the loop look at the socket.
        await checkpoint()
        while transport.congested and exchange.phase is not GONE:
            await self._wait()

    def wake(self) -> None:
        """Something has changed: the body, the phase, the congestion. Who waits looks again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.set()

    async def _wait(self) -> None:
        waiter = anyio.Event()
        self._waiters.append(waiter)
        try:
            await waiter.wait()
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _cancelled(self, error: BaseException) -> bool:
        """Whether `error` has to pass: the server cancels this call, or Python ends. Everything else is the app's, and ends here.

        Also a cancellation can be: a task that the app awaits and that somebody cancelled raises asyncio's error in the app.
        """
        if isinstance(error, BaseExceptionGroup):
            return all(self._cancelled(inner) for inner in error.exceptions)
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return self._connection.shared.stopping or anyio.current_effective_deadline() == -NEVER
        return isinstance(error, KeyboardInterrupt | GeneratorExit)

    def _give_up(self) -> None:
        exchange = self.exchange
        if exchange.phase is DONE or exchange.phase is GONE:
            return
        data = exchange.fail()
        if data is None:
            self._connection.break_off("the app failed in the middle of its response")
        else:
            self._connection.transport.write(data)
            self._connection.completed(self)
