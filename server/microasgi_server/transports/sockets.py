"""The transport over plain sockets, for a loop that has no callbacks of its own: trio.

One task waits for all sockets at once, and calls whichever is ready: by epoll or kqueue, which can themselves be waited for, and one of
which trio needs anyhow where it isn't on Windows. A connection has no task, and a request one that was there before.

    sockets ──ready──► selector ──readable──► Reactor ──ready──► SocketTransport ──received, hang_up, drained──► Connection

Why not anyio's streams here: a connection that waits costs two tasks and two nurseries there, 20 KiB, a read
costs two more system calls, and a departure takes four times as long, most of it trio's work at the ends of tasks and nurseries.
"""

import logging
import selectors
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from enum import Enum, auto
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from microasgi_server.accepting import accepting, until_short
from microasgi_server.listening import client_of, send, server_of
from microasgi_server.running import RunningServer
from microasgi_server.transports.peers import unacknowledged, why_lost
from microasgi_server.transports.tasks import Tasks

logger = logging.getLogger("microasgi_server")


class Ending(Enum):
    """What becomes of the socket when all is sent that is written."""

    NOTHING = auto()
    SHUT = auto()
    """A FIN; reading goes on."""
    CLOSE = auto()
    CLOSED = auto()
    """It has been closed."""


NOTHING, SHUT, CLOSE, CLOSED = Ending  # as in http1/phases.py


class SocketTransport:
    """`transport.Transport` over a socket that `Reactor` watches."""

    __slots__ = (
        "_ending",
        "_events",
        "_limits",
        "_outgoing",
        "_reactor",
        "_running",
        "_socket",
        "client",
        "congested",
        "connection",
        "paused",
        "server",
    )

    def __init__(self, running: RunningServer, reactor: "Reactor", sock: socket.socket, remote: Any) -> None:
        self._running = running
        self._limits = running.config.limits
        self._socket = sock
        sock.setblocking(False)
        self._reactor = reactor
        self._ending = NOTHING
        self._events = 0  # what the reactor watches for
        self.paused = False
        self._outgoing = bytearray()  # what the socket didn't take at once
        self.client = client_of(remote)
        self.server = server_of(sock.getsockname())
        self.congested = False
        self._watch()
        self.connection = running.connection_class(running, self)

    def __repr__(self) -> str:
        state = self._ending.name if self._ending is not NOTHING else "paused" if self.paused else "reading"
        return f"<SocketTransport {self.client} {state}, {self.unsent()} bytes unsent>"

    def ready(self, events: int) -> None:
        """The socket can be read, or written to, or it is broken, which is both."""
        if events & self._events & selectors.EVENT_WRITE:
            self._flush()
        if events & self._events & selectors.EVENT_READ:
            try:
                data = self._socket.recv(self._limits.read)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._break(error)
                return
            if data:
                self.connection.received(data)
            elif self.connection.shut():
                self.pause_reading()  # there is nothing more to read, but a reset should be seen

    def write(self, data: bytes) -> None:
        if self._ending is not NOTHING:
            return
        if not self._outgoing:
            try:
                data = send(self._socket, data)
            except OSError as error:
                self._break(error)
                return
        if data:
            self._outgoing += data  # `congested` ends when all of it is sent
            self.congested = self.congested or len(self._outgoing) > self._limits.unsent
            self._watch()

    def _flush(self) -> None:
        try:
            with memoryview(self._outgoing) as unsent:
                sent = self._socket.send(unsent[: self._limits.write])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._break(error)
            return
        del self._outgoing[:sent]
        if self._outgoing:
            return
        if self.congested:
            self.congested = False
            self.connection.drained()
        self._settle()

    def _break(self, error: OSError) -> None:
        self._outgoing.clear()
        self.connection.hang_up(why_lost(error))

    def pause_reading(self) -> None:
        if self.paused or self._ending is CLOSED:
            return
        self.paused = True
        self._watch()
        if data := self._running.watch(self._socket, self.connection.hang_up):
            self.connection.received(data)

    def resume_reading(self) -> None:
        if self.paused:
            self.paused = False
            self._running.paused.discard(self._socket)
            self._watch()

    def _watch(self) -> None:
        """Have the reactor watch for what is wanted now."""
        reads = not self.paused and self._ending in (NOTHING, SHUT)
        events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if self._outgoing else 0)
        if events != self._events:
            self._reactor.watch(self._socket, self._events, events, self)
            self._events = events

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]], *, at_once: bool) -> anyio.CancelScope:
        return self._reactor.tasks.spawn(run)

    def unsent(self) -> int:
        return len(self._outgoing)

    def untaken(self) -> int:
        return self.unsent() + unacknowledged(self._socket)

    def shut_write(self) -> None:
        self.resume_reading()
        if self._ending is NOTHING:
            self._ending = SHUT
            self._settle()

    def close(self) -> None:
        self.resume_reading()
        if self._ending is not CLOSED:
            self._ending = CLOSE
            self._settle()

    def abort(self) -> None:
        self._outgoing.clear()
        self.close()

    def _settle(self) -> None:
        """Do what was to be done when all is sent, if it is."""
        if self._ending is SHUT and not self._outgoing:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:  # the client was quicker, with an RST
                self._ending = CLOSE
        self._watch()
        if self._ending is CLOSE and not self._outgoing:
            self._ending = CLOSED
            self._socket.close()
            self.connection.lost("the connection was closed")
            del self.connection  # the two hold each other, and nobody asks for it any more


class Reactor:
    """Waits for all sockets at once.

    tasks: run the requests of all connections.
    """

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks
        self._selector = selectors.DefaultSelector()

    def watch(self, sock: socket.socket, before: int, events: int, transport: SocketTransport) -> None:
        """Call `transport.ready` when any of the `events` happens, instead of those `before`; none is 0."""
        if not before:
            self._selector.register(sock, events, transport)
        elif events:
            self._selector.modify(sock, events, transport)
        else:
            self._selector.unregister(sock)

    async def run(self, scope: anyio.CancelScope) -> None:
        """Report until `scope` is cancelled."""
        with scope, self._selector:
            while True:
                await anyio.wait_readable(self._selector.fileno())
                for key, events in self._selector.select(0):
                    try:
                        key.data.ready(events)
                    except Exception:
                        logger.exception("A connection failed; this is a bug of the server")
                        key.data.abort()
                    del key  # or the last one would be kept until the next is ready


async def _run(running: RunningServer, server: TaskGroup, *, task_status: TaskStatus[Reactor]) -> None:
    """Serve the connections until the server ends, and then those that are left, whom `server._end` tells to."""
    async with anyio.create_task_group() as group:
        tasks = Tasks(running.context, group, running.config.limits.kept_tasks)
        reactor = Reactor(tasks)
        reading = anyio.CancelScope(shield=True)
        group.start_soon(reactor.run, reading)
        task_status.started(reactor)
        try:
            await anyio.sleep_forever()
        finally:
            running.stop()
            server.cancel_scope.cancel()  # if it isn't yet: an error has ended this task, as an app's KeyboardInterrupt does
            with anyio.CancelScope(shield=True):
                await running.changed.wait_until(lambda: not running.connections and not running.calls)
            reading.cancel()
            tasks.release()


@asynccontextmanager
async def listening(running: RunningServer, sockets: list[socket.socket], tasks: TaskGroup) -> AsyncIterator[None]:
    """Accept connections as long as the block lasts. Those that were accepted live on in `tasks`."""
    reactor: Reactor = await tasks.start(_run, running, tasks)
    async with accepting(running, sockets, partial(SocketTransport, running, reactor), until_short):
        yield
