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


class Upload:
    """A body that arrives, as long as somebody waits for it.

    waited: seconds of waiting in the present window.
    mark: bytes that had arrived when that began.
    """

    __slots__ = ("_awaited", "_looked", "mark", "waited")

    def __init__(self, now: float, mark: int) -> None:
        self.mark = mark
        self.waited = 0.0
        self._looked = now
        self._awaited = False

    def is_too_slow(self, now: float, mark: int, awaited: bool, window: float, rate: int) -> bool:
        """Whether less came in a whole window than `rate` bytes a second.

        :param awaited: whether somebody waits for it now; time counts between two looks at which somebody did
        """
        if awaited and self._awaited:
            self.waited += now - self._looked
        self._looked, self._awaited = now, awaited
        if self.waited < window:
            return False
        slow = mark - self.mark < self.waited * rate
        self.waited, self.mark = 0.0, mark
        return slow


class Download(Standstill):
    """A response that waits to be taken, as long as there is more of it than the client takes.

    moved: bytes that were taken, as far as it can be seen: whenever there is room the app may write more, so that both ways count.
    """

    __slots__ = ("_flow", "moved")

    def __init__(self, now: float, mark: int) -> None:
        super().__init__(now, mark)
        self.moved = 0
        self._flow = Upload(now, 0)

    def seconds(self, now: float, mark: int) -> float:
        self.moved += abs(mark - self.mark)
        return super().seconds(now, mark)

    def is_too_slow(self, now: float, window: float, rate: int) -> bool:
        """Whether less was taken in a whole window than `rate` bytes a second."""
        return self._flow.is_too_slow(now, self.moved, True, window, rate)


class Patience:
    """What was seen of every client at the last look: of a connection, whether it takes; of a call, whether it sends."""

    def __init__(self, running: RunningServer) -> None:
        self._running = running
        self._now = running.clock()
        self._standstills: dict[Called, Standstill] = {}
        self._downloads: dict[Connected, Download] = {}
        self._uploads: dict[Called, Upload] = {}
        self._silences: dict[Called, Silence] = {}

    def look(self) -> None:
        """Look at every connection, and do what its deadline asks for, if that has passed."""
        self._now, limits = self._running.clock(), self._running.config.limits
        standstills, downloads, uploads, silences = self._standstills, self._downloads, self._uploads, self._silences
        self._standstills, self._downloads, self._uploads, self._silences = {}, {}, {}, {}
        for connection in list(self._running.connections):
            if connection.deadline <= self._now:
                self._act(connection, connection.wait, "the request's head took too long")
                continue
            call, transport = connection.call, connection.transport
            if transport.congested and connection.wait in (Wait.APP, Wait.TAKING):
                self._await_taking(connection, downloads.get(connection))
            if call is not None and call.exchange.converses:
                if not transport.paused:
                    self._listen(connection, call, silences.get(call))
            elif call is not None and call.exchange.uploads:
                received = call.exchange.received
                awaited = bool(call.listeners) and not transport.paused
                upload = self._uploads[call] = uploads.get(call) or Upload(self._now, received)
                slow = upload.is_too_slow(self._now, received, awaited, limits.body_window, limits.body_rate)
                if awaited:
                    self._standstills[call] = standstill = standstills.get(call) or Standstill(self._now, received)
                    if (
                        not self._judge(connection, Wait.BODY, standstill, received, "nothing came of the request's body for {:g} s")
                        and slow
                    ):
                        self._act(connection, Wait.BODY, f"the request's body came at less than {limits.body_rate} bytes a second")

    def _await_taking(self, connection: Connected, download: Download | None) -> None:
        """Give up who takes nothing of what is written, or next to nothing."""
        limits, mark = self._running.config.limits, -connection.transport.untaken()
        self._downloads[connection] = download = download or Download(self._now, mark)
        given_up = self._judge(connection, Wait.TAKING, download, mark, "the client took nothing of its response for {:g} s")
        if not given_up and download.is_too_slow(self._now, limits.body_window, limits.write_rate):
            self._act(connection, Wait.TAKING, f"the client took less than {limits.write_rate} bytes a second of its response")

    def _judge(self, connection: Connected, wait: Wait, standstill: Standstill, mark: int, why: str) -> bool:
        """How long nothing moved decides: true, if that was too long. `why` has a place for the seconds."""
        seconds, _ = self._running.deadlines[wait]
        if standstill.seconds(self._now, mark) < seconds:
            return False
        self._act(connection, wait, why.format(seconds))
        return True

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
