"""The running server: what its connections, its calls and its end share."""

import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from email.utils import formatdate
from random import randint
from typing import Any, Protocol

import anyio

from microasgi_server.access import writer
from microasgi_server.asgi import ASGIApp
from microasgi_server.config import Config
from microasgi_server.deadlines import Deadlines, Wait, deadlines
from microasgi_server.errors import Refusal
from microasgi_server.exchange import Exchange
from microasgi_server.http1.fields import Field, validated_field
from microasgi_server.journal import Journal
from microasgi_server.transports import Cancellable, Served, Transport
from microasgi_server.transports.paused import PausedSockets


class Connected(Served, Protocol):
    """What is needed of a connection beside what its transport needs.

    call: the app's call for the exchange in progress.
    wait, deadline: what is waited for, and until when, by the server's clock.
    """

    wait: Wait
    deadline: float

    @property
    def running(self) -> "RunningServer": ...

    @property
    def call(self) -> "Called | None": ...

    @property
    def transport(self) -> Transport: ...

    # Its calls need these.

    def regulate(self) -> None:
        """The app has taken something: there may be room to read more."""

    def reply(self, call: "Called") -> None:
        """Something has changed: say what is to be said at once, and whoever waits looks."""

    def completed(self, call: "Called") -> None:
        """The last byte of a response is handed over."""

    def ended(self, call: "Called") -> None:
        """The app has returned."""

    def break_off(self, why: str) -> None:
        """Close in the middle of a response."""

    # The server needs these, too.

    def refuse(self, refusal: Refusal) -> None:
        """Close with a status, if nothing of another is on the wire. Whatever runs for this client learns it as of a departure."""

    def close(self) -> None:
        """Send what is written, then close."""

    def shut_down(self) -> None:
        """The server stops: finish what runs, and close behind it."""

    def stop(self, why: str) -> None:
        """The server stops now: what has no answer yet gets a 503 for one."""


class Called(Protocol):
    """What is needed of a call of the app.

    exchange: what it answers.
    began: when the request did, by the server's clock.
    listeners: how many wait in `receive()`; when the client has left, how many did then.
    task: what the transport runs it in.
    """

    exchange: Exchange
    began: float
    listeners: int
    task: Cancellable

    def wake(self) -> None:
        """Something has changed. Who waits looks again."""

    def shut_down(self) -> None:
        """The server stops: who wants to know of that learns it now."""

    def cancel(self) -> None:
        """Stop it, wherever it is."""


class Event(Protocol):
    """What a call waits for: as much of `anyio.Event` as that takes."""

    def set(self) -> None: ...

    def wait(self) -> Awaitable[None]: ...


class Signal:
    """Wakes whoever waits for "something changed"; they look for themselves whether it concerns them."""

    _event: anyio.Event | None = None  # while somebody waits

    def notify(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()


@dataclass(eq=False)
class RunningServer:
    """One running server. Needs a running event loop.

    app: the ASGI app.
    config: the options.
    state: the lifespan's state; each request gets a shallow copy (ASGI lifespan spec, Lifespan State).
    connection_class: what is made for every connection.
    clock: seconds, for deadlines; not the time of day.
    scheme: of its URLs.
    connections: every open connection; each enters and leaves by itself.
    arriving: those that are accepted, but aren't connections yet.
    calls: every call of the app that runs, including those whose response is complete; shutdown waits for them.
    stopping: every connection closes after its response.
    choosy: whether a new request has to be admitted: the server stops, there are limits, or connections have to make room.
    requests: how many had to be.
    last_ones: how many of the next ones are the last on their connections.
    enough: set by the last one that is to be served.
    changed: notified when `connections`, `arriving` or, while stopping, `calls` shrink.
    paused: watches the sockets that aren't being read.
    journal: what becomes of requests.
    event: makes one for a call that waits. `anyio.Event` would look for the loop each time, which takes longer than all else.
    context: where every request's own context is copied from, so that none inherits another's variables.
    """

    app: ASGIApp
    config: Config
    state: dict[str, Any]
    connection_class: Callable[["RunningServer", Transport], Served]
    clock: Callable[[], float] = time.monotonic
    scheme: str = "http"
    connections: set[Connected] = field(default_factory=set)
    calls: set[Called] = field(default_factory=set)
    arriving: set[object] = field(default_factory=set)
    stopping: bool = False
    choosy: bool = False
    requests: int = 0
    last_ones: int = 0
    enough: anyio.Event = field(default_factory=anyio.Event)
    changed: Signal = field(default_factory=Signal)
    paused: PausedSockets = field(default_factory=PausedSockets)
    context: Context = field(default_factory=copy_context)
    event: Callable[[], Event] = field(init=False)
    deadlines: Deadlines = field(init=False)
    journal: Journal = field(init=False)
    _last_request: int = 0
    _second: int = 0
    _identity: list[Field] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = self.config
        self.event = type(self.enough)
        self.deadlines = deadlines(config)
        self.journal = Journal(writer(config), self.clock)
        self.choosy = bool(config.limit_concurrency or config.limit_max_requests)
        if config.limit_max_requests is not None:
            self._last_request = config.limit_max_requests + randint(0, config.limit_max_requests_jitter)

    @property
    def arrived(self) -> int:
        """How many connections there are, or will be in a moment."""
        return len(self.connections) + len(self.arriving)

    def has_arrived(self, one: object) -> None:
        """It is a connection now, or it never will be."""
        self.arriving.discard(one)
        self.changed.notify()

    def has_left(self, connection: Connected) -> None:
        """It is closed."""
        self.connections.discard(connection)
        self.changed.notify()

    def stop(self) -> None:
        """From now on every connection closes after its response."""
        self.stopping = self.choosy = True

    def close_behind(self, requests: int) -> None:
        """Let so many of the requests that begin next be the last on their connections: others want the room."""
        self.last_ones, self.choosy = requests, True

    def admits(self) -> bool:
        """Whether a new request may run now. While stopping it may: it hears of that as soon as it has begun."""
        limit = self.config.limit_concurrency
        if limit is not None and len(self.calls) >= limit:
            return False
        self.requests += 1
        if self.requests == self._last_request:
            self.enough.set()
        return True

    def has_begun(self, call: Called) -> None:
        """A call is made for a request that had to be admitted. It may be the last on its connection.

        While the server stops it is, and nothing for who would converse.
        """
        if self.stopping:
            call.shut_down()
        elif self.last_ones:
            self.last_ones -= 1
            call.exchange.closing = True

    def identity(self) -> list[Field]:
        """The fields of every response, made once a second. Not to be changed in place."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._identity = [validated_field(*field) for field in self._fields(now)]
        return self._identity

    def _fields(self, now: int) -> Iterator[tuple[bytes, bytes]]:
        """Date and Server (RFC 9110 §6.6.1, §10.2.4), and what the operator adds."""
        config = self.config
        lines = [line.encode("latin-1").partition(b":") for line in config.header]
        added = [(name, value.strip()) for name, _, value in lines]
        names = {name.lower() for name, _ in added}
        if config.date_header and b"date" not in names:
            yield b"date", formatdate(now, usegmt=True).encode()
        if config.server_header and b"server" not in names:
            yield b"server", b"microasgi"
        yield from added

    def watch(self, sock: socket.socket, on_departure: Callable[[str], None]) -> bytes:
        """Watch a socket that isn't read any more: see `PausedSockets.add`."""
        config = self.config
        return self.paused.add(sock, on_departure, receive_buffer=config.receive_buffer, half_close=config.half_close)
