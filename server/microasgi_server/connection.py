"""One connection, from its first byte to its last: what the transport reports, and what follows from it.

Transports call `Connection`, and the app calls `Call` (`call.py`), where every `await` stands. Decisions are `protocol.py`'s.

    transport ──received, hang_up, drained──► Connection ──spawn──► Call.run ──► app(scope, receive, send)
        ▲                                          │                    │
        └──────── write, pause_reading, close ─────┴────────────────────┘

The life of a request, by the functions it passes:

    1  received        bytes arrive; the protocol reads them
    2  _begin          a request has begun: a call is made for it, and a task spawned, in a fresh context
    3  Call.run        the app runs
    4  Call.receive    the body as it comes, or the disconnect
    5  Call.send       the response: bytes to the transport, and a wait while the client reads too slowly
    6  completed       the last byte is handed over: nothing can cancel this request any more
    7  _go_on          the next request, if it is here; else idle, drain or close
"""

from enum import Enum, auto

from microasgi_server import logs
from microasgi_server.call import Call
from microasgi_server.deadlines import NEVER, Wait
from microasgi_server.errors import Refusal
from microasgi_server.exchange import Next, Spoken
from microasgi_server.presence import CLIENT_CLOSED_REQUEST
from microasgi_server.running import Called, RunningServer
from microasgi_server.transports import Transport
from microasgi_server.websocket.protocol import UpgradingProtocol


class Input(Enum):
    """What may still come from the client."""

    OPEN = auto()
    """Bytes."""
    ENDED = auto()
    """None: it has shut its side, and is served all the same."""
    IGNORED = auto()
    """Nothing that counts: it left, or this connection is closing."""


SERVICE_UNAVAILABLE = 503
OPEN, ENDED, IGNORED = Input  # as in http1/phases.py
HANDSHAKE, FIRST_BYTE, HEAD, BODY, APP, NEXT_REQUEST, UNWANTED_BODY, TAKING, PONG, READING, FLUSHING = Wait
REQUEST, IDLE, MID_HEAD, DRAIN, LINGER, _ = Next

_NEXT = {IDLE: NEXT_REQUEST, MID_HEAD: HEAD, DRAIN: UNWANTED_BODY}
"""What is waited for behind a response."""


class Connection:
    """One client's connection, from its first byte to its last.

    protocol_class, call_class: what it makes; who wants to see what happens in them puts subclasses here (`observers.py`).
    call: of the exchange in progress.
    wait, deadline: what is waited for, and until when, by the running server's clock (`patience.py`).
    """

    __slots__ = ("_input", "_room", "call", "deadline", "protocol", "running", "transport", "wait")

    protocol_class: type[Spoken] = UpgradingProtocol
    call_class: type[Call] = Call

    def __init__(self, running: RunningServer, transport: Transport) -> None:
        self.running = running
        self.transport = transport
        self.protocol = self.protocol_class(running.identity, running.config.limits)
        self.call: Call | None = None
        self._input = OPEN
        self._room = running.config.limits.look_ahead  # bytes
        self.wait_for(FIRST_BYTE)
        running.connections.add(self)

    def __repr__(self) -> str:
        state = f"{self._input.name}, waits for {self.wait.name}"
        return f"<{type(self).__name__} of {logs.address(self.transport.client)} {state}, {self.protocol!r}>"

    def wait_for(self, what: Wait) -> None:
        """Have so long for this from now on, as the table says."""
        self.wait = what
        self.deadline = self.running.clock() + self.running.deadlines[what][0]

    # The transport calls these.

    def received(self, data: bytes) -> None:
        """Bytes came."""
        if self._input is IGNORED:
            return
        protocol = self.protocol
        try:
            if protocol.receive_bytes(data):
                self._begin(at_once=True)
            elif self.call is not None:
                self.reply(self.call)
            elif protocol.exchange is not None:  # the rest of a body that the app didn't want
                if not self.transport.congested:
                    self._go_on()
            elif protocol.mid_head and self.wait is FIRST_BYTE:
                self.wait = HEAD  # whose time runs from the connection's beginning
            elif protocol.mid_head and self.wait is not HEAD:
                self.wait_for(HEAD)
        except Refusal as refusal:
            self.refuse(refusal)
        if protocol.look_ahead >= self._room:
            self.regulate()

    def hang_up(self, why: str, status: int = CLIENT_CLOSED_REQUEST) -> None:
        """The client left, or the socket broke: whatever runs for this client learns it now.

        :param status: for the log
        """
        self._input = IGNORED
        self._leave(why, status)
        self.close()

    def shut(self, why: str = "the client closed its side (FIN)") -> bool:
        """The client has shut its sending side. True if it is still to be served, as `Config.half_close` may want."""
        if self.running.config.half_close and self._is_whole() and self._input is OPEN:
            self._input = ENDED
            return True
        self.hang_up(why)
        return False

    def drained(self) -> None:
        """`congested` has ended."""
        if self.call is not None:
            self.reply(self.call)
        elif self.protocol.exchange is not None:
            self._go_on()
        self.regulate()

    def lost(self, why: str) -> None:
        """The socket is closed, whichever side did it."""
        if self._input is not IGNORED:
            self.hang_up(why)
        self.running.has_left(self)

    # The server calls these.

    def shut_down(self) -> None:
        """The server stops: finish what runs, and close behind it."""
        if self.protocol.exchange is not None:
            self.protocol.exchange.closing = True
            if self.wait is UNWANTED_BODY:
                self._go_on()

    def stop(self, why: str) -> None:
        """The server stops now: what has no answer yet gets a 503 for one."""
        if self._input is IGNORED:  # it is closing already
            return
        waits = self.call is None or (self._is_whole() and not self.protocol.look_ahead)
        if self.call is not None:
            self.refuse(Refusal(SERVICE_UNAVAILABLE, why))
        if waits:
            self.close()

    # What follows from it.

    def _begin(self, *, at_once: bool) -> None:
        exchange = self.protocol.exchange
        assert exchange is not None
        running = self.running
        self.wait, self.deadline = APP, NEVER
        if running.choosy and not running.admits():
            self.refuse(Refusal(SERVICE_UNAVAILABLE, "too many requests at once"))
            return
        self.call = call = self.call_class(self, exchange)
        running.calls.add(call)
        if running.choosy:
            running.has_begun(call)
        try:
            call.start(at_once=at_once)
        except Exception as error:  # of the loop, or of somebody's task factory. Those behind it would fare no better
            running.calls.discard(call)
            self.call = None
            logs.call_failed(exchange, error)
            self.refuse(Refusal(SERVICE_UNAVAILABLE, "no task could be made"))

    def reply(self, call: Called) -> None:
        """Something has arrived, or the client takes bytes again: say what is to be said at once, and whoever waits looks."""
        exchange = call.exchange
        if (exchange.over or not self.transport.congested) and (data := exchange.replies()):
            self.transport.write(data)
        if exchange.complete:
            self.completed(call)
        else:
            call.wake()
            if exchange.over:
                self._linger()

    def ended(self, call: Called) -> None:
        """A call of the app has returned, whatever became of its response."""
        if self.call is call:
            self.call = None

    def completed(self, call: Called) -> None:
        """The last byte of a response is handed over."""
        self.call = None
        call.wake()
        self.running.journal.completed(self.transport.client, call.exchange, call.began)
        self._go_on()
        if self.transport.paused:
            self.regulate()

    def _go_on(self) -> None:
        """What comes after a response that is complete: not before the client has taken most of it."""
        if self._input is IGNORED:
            return
        if self.transport.congested:
            self.wait, self.deadline = TAKING, NEVER
            return
        try:
            following = self.protocol.after_response()
        except Refusal as refusal:
            self.refuse(refusal)
            return
        if following is REQUEST and (self._input is not ENDED or self._is_whole()):
            self._begin(at_once=False)  # or pipelined requests would begin inside each other
        elif (wait := _NEXT.get(following)) is not None and self._input is not ENDED:
            if self.wait is not wait:
                self.wait_for(wait)
        elif following is LINGER:
            self._linger()
        else:
            self.close()

    def _is_whole(self) -> bool:
        """Whether the newest request has arrived to its end."""
        exchange = self.protocol.exchange
        return exchange is not None and exchange.whole

    def break_off(self, why: str) -> None:
        """Close in the middle of a response, so that the client sees that it is not whole."""
        self.call = None
        if (exchange := self.protocol.exchange) is not None:
            self._leave(why, exchange.status)
        self.close()

    def _leave(self, why: str, status: int) -> bool:
        """The newest request's client has left, or counts as gone: who has subscribed to that learns it, and so does who waits."""
        exchange = self.protocol.exchange
        left = False
        if exchange is not None and (left := exchange.leave(why, status)):
            for fault in exchange.faults:
                logs.app_failed(exchange, fault)
        if self.call is not None:
            self.call.wake()
        return left

    def refuse(self, refusal: Refusal) -> None:
        """Close with a status, if nothing of another is on the wire. Whatever runs for this client learns it as of a departure."""
        journal, client, exchange = self.running.journal, self.transport.client, self.protocol.exchange
        data = self.protocol.refuse(refusal.status, refusal.reason)
        journal.refused(client, refusal)
        if data:
            self.transport.write(data)  # which may find that the client has left
        if exchange is not None and self._leave(refusal.reason, refusal.status) and self.call is None:
            journal.completed(client, exchange, self.running.clock())
        self.call = None
        self._linger()

    def _linger(self) -> None:
        """Close in two steps. Closing with bytes unread makes the system send RST, which can overtake the response."""
        self._input = IGNORED
        self.wait_for(FLUSHING if self.transport.unsent() else READING)
        self.transport.shut_write()

    def close(self) -> None:
        """Send what is written, then close."""
        self._input = IGNORED
        self.wait_for(FLUSHING)
        self.transport.close()

    def regulate(self) -> None:
        """Read while the look-ahead has room: what the app doesn't take must stay with the client."""
        full = self.protocol.look_ahead >= self._room
        if self._input is ENDED or (full and self._input is OPEN):
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()
