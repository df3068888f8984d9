"""The transport for asyncio and uvloop: an `asyncio.Protocol`, which the loop calls with bytes that it has already read.

Why not an anyio stream here as well: on asyncio that pauses and resumes the socket around every read, and goes once around
the loop at every write. A bare h11 loop costs 103 µs a request this way and about 150 µs that way.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from anyio.abc import TaskGroup

from microasgi_server.accepting import accepting, run_without_task, until_short_by_callbacks
from microasgi_server.listening import client_of, server_of
from microasgi_server.running import RunningServer
from microasgi_server.transports.factories import made_by
from microasgi_server.transports.peers import unacknowledged, why_lost
from microasgi_server.transports.waiters import Waiter

_EAGERLY: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}
"""Has a task begin before the next turn of the loop."""


class AsyncioTransport:
    """`transport.Transport` over an asyncio transport."""

    __slots__ = ("_loop", "_running", "_socket", "_transport", "client", "congested", "connection", "paused", "server", "write")

    def __init__(self, running: RunningServer, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._running = running
        self._loop = loop
        self._transport = transport
        self.write: Callable[[bytes], None] = transport.write
        self._socket: socket.socket = transport.get_extra_info("socket")
        self.paused = False
        self.client = client_of(transport.get_extra_info("peername"))
        self.server = server_of(transport.get_extra_info("sockname"))
        self.congested = False
        transport.set_write_buffer_limits(high=running.config.limits.unsent)  # `congested` ends at a quarter of that
        if hasattr(transport, "max_size"):  # asyncio's: it allocates as much for each read, 256 KiB, which costs more than reading
            transport.max_size = running.config.limits.read
        self.connection = running.connection_class(running, self)

    def __repr__(self) -> str:
        state = "closing" if self._transport.is_closing() else "paused" if self.paused else "reading"
        return f"<AsyncioTransport {self.client} {state}, {self.unsent()} bytes unsent>"

    def pause_reading(self) -> None:
        if self.paused or self._transport.is_closing():
            return
        self.paused = True
        self._transport.pause_reading()
        if data := self._running.watch(self._socket, self.connection.hang_up):
            self.connection.received(data)

    def resume_reading(self) -> None:
        if not self.paused:
            return
        self.paused = False
        self._running.paused.discard(self._socket)
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]], *, at_once: bool) -> asyncio.Task[None]:
        loop, context = self._loop, self._running.context.copy()
        factory = loop.get_task_factory()
        if factory is None:
            eagerly = _EAGERLY if at_once else {}
            return asyncio.Task(run(), loop=loop, name="request", context=context, **eagerly)  # numbering them would cost more
        return made_by(factory, loop, context, run)

    def unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def untaken(self) -> int:
        return self.unsent() + unacknowledged(self._socket)

    def shut_write(self) -> None:
        if not self._transport.is_closing():
            self.resume_reading()
            try:
                self._transport.write_eof()
            except OSError:  # the client was quicker, with an RST that the loop has not seen yet
                self._transport.abort()

    def close(self) -> None:
        self.resume_reading()
        self._transport.close()

    def abort(self) -> None:
        self.resume_reading()
        self._transport.abort()

    def let_go(self) -> None:
        """Break the cycles of a connection that is over: it and this hold each other, and asyncio's transport (not uvloop's) holds itself.

        The collector would find them, but late: each that is open while it looks grows old in its eyes.
        """
        del self.connection
        if hasattr(self._transport, "_read_ready_cb"):
            self._transport._read_ready_cb = None


class AsyncioProtocol(asyncio.Protocol):
    """What the loop calls. One per connection; it works from `connection_made` on, as asyncio would have it."""

    __slots__ = ("_connection", "_loop", "_running", "_transport")

    def __init__(self, running: RunningServer, loop: asyncio.AbstractEventLoop) -> None:
        self._running = running
        self._loop = loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = AsyncioTransport(self._running, self._loop, cast(asyncio.Transport, transport))  # uvloop's is none by inheritance
        self._connection = self._transport.connection

    def data_received(self, data: bytes) -> None:
        self._connection.received(data)

    def eof_received(self) -> bool:
        if stays := self._connection.shut():
            self._transport.pause_reading()  # there is nothing more to read, but a reset should be seen
        return stays

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport.resume_reading()
        self._connection.lost(why_lost(exc))
        self._transport.let_go()

    def pause_writing(self) -> None:
        self._transport.congested = True

    def resume_writing(self) -> None:
        self._transport.congested = False
        # Later: asyncio's transport is still in the middle of its write, and a `close` in there makes it close twice.
        self._loop.call_soon(self._connection.drained)


@asynccontextmanager
async def listening(running: RunningServer, sockets: list[socket.socket], tasks: TaskGroup) -> AsyncIterator[None]:
    """Accept connections as long as the block lasts. Those that were accepted live on: here asyncio keeps them, not `tasks`."""
    loop = asyncio.get_running_loop()
    running.event = partial(Waiter, loop)
    factory = partial(AsyncioProtocol, running, loop)

    async def begin(sock: socket.socket) -> None:
        try:
            await loop.connect_accepted_socket(factory, sock)
        except OSError:  # it is broken already
            sock.close()

    def serve(sock: socket.socket, _: Any) -> None:
        beginning = begin(sock)
        running.arriving.add(beginning)
        run_without_task(beginning, running.has_arrived)

    async with accepting(running, sockets, serve, partial(until_short_by_callbacks, loop)):
        yield
