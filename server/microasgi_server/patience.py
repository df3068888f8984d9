"""Waiting for clients, but not for ever: one look at all of them now and then costs less than a timer for every request.

Around requests a connection waits for one thing at a time, and sets its own deadline. While an app runs there is none; what is looked at
then is whether its client does its part. `deadlines.py` has how long each may take, and what follows.

    the app waits in receive() ──► something of the body comes       else 408; also if all of it together is too little
    the app's bytes wait       ──► the client takes some of them     else it counts as gone; also if all of them together are too few
    a WebSocket's client       ──► it says something                 else it is asked by a ping; if it doesn't answer, it counts as gone

Time in which nobody asks, or in which this server has paused reading, is not the client's fault: it doesn't count.
"""

import anyio

from microasgi_server.config import Config
from microasgi_server.deadlines import Consequence, Wait
from microasgi_server.errors import Refusal
from microasgi_server.running import Called, Connected, RunningServer

REQUEST_TIMEOUT = 408

WHY = {
    Wait.BODY: ("nothing came of the request's body for {:g} s", "the request's body came at less than {} bytes a second"),
    Wait.TAKING: ("the client took nothing of its response for {:g} s", "the client took less than {} bytes a second of its response"),
}
"""Of what must move, how long nothing did, and how little did."""


async def watch(running: RunningServer) -> None:
    """Look at every connection now and then, until cancelled."""
    patience = Patience(running)
    while True:
        await anyio.sleep(interval(running.config))
        patience.look()


def interval(config: Config) -> float:
    """Seconds between two looks: a quarter of the shortest time that anything may take, within reason."""
    limits = config.limits
    times = (config.timeout_handshake, config.timeout_header, config.timeout_body, config.timeout_write, config.timeout_keep_alive)
    return min(limits.look, max(0.05, min(*times, limits.ping, limits.pong) / 4))


class Standstill:
    """A wait in which nothing has moved.

    since: when something did last, or when the wait began.
    mark: what grows when something moves: bytes received, or less the bytes that are still to be taken.
    """

    __slots__ = ("mark", "since")

    def __init__(self, now: float, mark: int) -> None:
        self.since = now
        self.mark = mark

    def seconds(self, now: float, mark: int) -> float:
        """How long it has lasted by now."""
        if mark > self.mark:
            self.since = now
        self.mark = mark
        return now - self.since


class Silence(Standstill):
    """A WebSocket's client that says nothing. Whatever it sends is a sign of life; what waits unread may be one.

    asked: whether it was asked, since it said something last, if it is there.
    """

    __slots__ = ("asked",)

    def __init__(self, now: float, mark: int) -> None:
        super().__init__(now, mark)
        self.asked = False

    def seconds(self, now: float, mark: int) -> float:
        self.asked = self.asked and mark <= self.mark
        return super().seconds(now, mark)

    def ask(self, now: float) -> None:
        self.since, self.asked = now, True


class Flow(Standstill):
    """Bytes that are to move, as long as somebody waits for that: a request's body, or a response that its client is to take.

    moved: how many have, as far as it can be seen: whenever there is room the app may write more, so that both ways count.
    """

    __slots__ = ("_before", "_looked", "_waited", "moved")

    def __init__(self, now: float, mark: int) -> None:
        super().__init__(now, mark)
        self.moved = 0
        self._before = 0  # bytes that had moved when the present window began
        self._waited = 0.0  # seconds of waiting in it: between two looks at which somebody did
        self._looked: float | None = None  # when the last look was, if somebody waited then

    def rest(self) -> None:
        """Nobody waits now: the next wait begins anew."""
        self._looked = None

    def seconds(self, now: float, mark: int) -> float:
        if self._looked is None:
            self.since = now
        else:
            self._waited += now - self._looked
        self._looked = now
        self.moved += abs(mark - self.mark)
        return super().seconds(now, mark)

    def is_too_slow(self, window: float, rate: int) -> bool:
        """Whether less moved in a whole window than `rate` bytes a second."""
        if self._waited < window:
            return False
        slow = self.moved - self._before < self._waited * rate
        self._waited, self._before = 0.0, self.moved
        return slow


class Patience:
    """What was seen of every client at the last look: of a connection, whether it takes; of a call, whether it sends."""

    def __init__(self, running: RunningServer) -> None:
        self._running = running
        self._now = running.clock()
        self._flows: dict[Connected | Called, Flow] = {}
        self._silences: dict[Called, Silence] = {}

    def look(self) -> None:
        """Look at every connection, and do what its deadline asks for, if that has passed."""
        self._now, limits = self._running.clock(), self._running.config.limits
        flows, silences = self._flows, self._silences
        self._flows, self._silences = {}, {}
        for connection in list(self._running.connections):
            if connection.deadline <= self._now:
                self._act(connection, connection.wait, "the request's head took too long")
                continue
            call, transport = connection.call, connection.transport
            if transport.congested and connection.wait in (Wait.APP, Wait.TAKING):
                taken = -transport.untaken()
                self._flows[connection] = flow = flows.get(connection) or Flow(self._now, taken)
                self._judge(connection, Wait.TAKING, flow, taken, limits.write_rate)
            if call is not None and call.exchange.converses:
                if not transport.paused:
                    self._listen(connection, call, silences.get(call))
            elif call is not None and call.exchange.uploads:
                received = call.exchange.received
                self._flows[call] = flow = flows.get(call) or Flow(self._now, received)
                if call.listeners and not transport.paused:
                    self._judge(connection, Wait.BODY, flow, received, limits.body_rate)
                else:
                    flow.rest()

    def _judge(self, connection: Connected, wait: Wait, flow: Flow, mark: int, rate: int) -> None:
        """Give up who lets nothing move for too long, or next to nothing."""
        seconds, _ = self._running.deadlines[wait]
        nothing, little = WHY[wait]
        if flow.seconds(self._now, mark) >= seconds:
            self._act(connection, wait, nothing.format(seconds))
        elif flow.is_too_slow(self._running.config.limits.body_window, rate):
            self._act(connection, wait, little.format(rate))

    def _listen(self, connection: Connected, call: Called, silence: Silence | None) -> None:
        """Ask who has been silent for long (RFC 6455 §5.5.2), and give up who was asked and still is."""
        received = call.exchange.received
        self._silences[call] = silence = silence or Silence(self._now, received)
        seconds = silence.seconds(self._now, received)
        limits = self._running.config.limits
        if silence.asked and seconds >= limits.pong:
            why = f"no answer to a ping for {limits.pong:g} s"
            connection.transport.write(call.exchange.give_up(why))  # as much as fits: what is unsent is dropped
            self._act(connection, Wait.PONG, why)
        elif not silence.asked and seconds >= limits.ping:
            silence.ask(self._now)
            connection.transport.write(call.exchange.ping())

    def _act(self, connection: Connected, wait: Wait, why: str) -> None:
        """The time for something has passed."""
        match self._running.deadlines[wait][1]:
            case Consequence.CLOSE:
                connection.close()
            case Consequence.REFUSE:
                connection.refuse(Refusal(REQUEST_TIMEOUT, f"{why} (RFC 9110 §15.5.9)"))
            case Consequence.HANG_UP:
                connection.hang_up(why)
                connection.transport.abort()
            case Consequence.ABORT:
                connection.transport.abort()
