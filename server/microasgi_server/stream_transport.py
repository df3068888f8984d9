"""The transport over any anyio byte stream: for trio where sockets can't be waited for at once (`socket_transport.py`), and for tests.

A connection here is a task that reads, and one that runs its requests. Writing doesn't wait: bytes go straight into the socket,
and only what it doesn't take is left to a third task, which lasts until it does.

    converse ── read ──► Connection ── write ──► socket
                                         └─ what is left ──► _flush ──► socket
"""

import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream, TaskGroup

from microasgi_server.connection import Connection
from microasgi_server.shared import Shared
from microasgi_server.sockets import accept, client_of, send, server_of
from microasgi_server.transport import HIGH_WATER, RECEIVE
from microasgi_server.workers import Workers

logger = logging.getLogger("microasgi_server")


class StreamTransport:
    """`transport.Transport` over an anyio byte stream.

    :param own: runs what belongs to the socket, and ends with it
    :param workers: run this connection's requests, which may outlast the socket
    """

    def __init__(self, shared: Shared, stream: ByteStream, own: TaskGroup, workers: Workers) -> None:
        self._shared = shared
        self._stream = stream
        self._own = own
        self._workers = workers
        raw = stream.extra(SocketAttribute.raw_socket, None)
        self._socket = raw if isinstance(raw, socket.socket) else None  # asyncio's stand-in for a socket can't send
        self._reading = anyio.CancelScope()
        self._resumed = anyio.Event()  # waited for while `_paused`
        self._paused = False
        self._outgoing = bytearray()  # what the socket didn't take at once
        self._flushing = False
        self._shut = False
        self.client = client_of(stream.extra(SocketAttribute.remote_address, None))
        self.server = server_of(stream.extra(SocketAttribute.local_address, None))
        self.congested = False
        self.connection = Connection(shared, self)

    async def read(self) -> None:
        """Feed the connection until its client leaves, or until it closes."""
        with self._reading:
            while True:
                if self._paused:
                    await self._resumed.wait()
                    continue
                try:
                    data = await self._receive()
                except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                    self.connection.hang_up("the connection was reset (RST)")
                else:
                    if data:
                        self.connection.received(data)
                    elif self.connection.shut():
                        self.pause_reading()  # there is nothing more to read, but a reset should be seen
                        await anyio.sleep_forever()  # until that, or until the connection closes

    async def _receive(self) -> bytes:
        """The next bytes, or none at the end of the stream."""
        if self._socket is None:
            try:
                return await self._stream.receive(RECEIVE)
            except anyio.EndOfStream:
                return b""
        while True:  # one system call instead of trio's two, which tries to read before it waits
            await anyio.wait_readable(self._socket)
            try:
                return self._socket.recv(RECEIVE)
            except (BlockingIOError, InterruptedError):
                pass

    def write(self, data: bytes) -> None:
        if not self._outgoing and self._socket is not None:
            try:
                data = send(self._socket, data)
            except OSError:
                self._break()
                return
        if data:
            self._outgoing += data  # `congested` ends when all of it is sent
            self.congested = self.congested or len(self._outgoing) > HIGH_WATER
            self._start_flush()

    def _start_flush(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._own.start_soon(self._flush)

    async def _flush(self) -> None:
        try:
            while self._outgoing:
                data = bytes(self._outgoing[:HIGH_WATER])
                await self._stream.send(data)
                del self._outgoing[: len(data)]
            if self._shut:
                await self._stream.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            self._break()
        finally:
            self._flushing = False
        if self.congested:
            self.congested = False
            self.connection.drained()

    def _break(self) -> None:
        self._outgoing.clear()
        self.connection.hang_up("the connection was reset (RST)")

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self._resumed = anyio.Event()
            if self._socket is not None and (data := self._shared.watch(self._socket, self.connection.hang_up)):
                self.connection.received(data)

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._resumed.set()
            if self._socket is not None:
                self._shared.paused.discard(self._socket)

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> anyio.CancelScope:
        return self._workers.spawn(run)

    def end(self) -> None:
        """The connection is closed."""
        self.connection.lost("the connection was closed")
        del self.connection  # the two hold each other, and nobody asks for it any more
        self._workers.release()

    def unsent(self) -> int:
        return len(self._outgoing)

    def shut_write(self) -> None:
        self.resume_reading()
        self._shut = True
        self._start_flush()

    def close(self) -> None:
        self.resume_reading()
        self._reading.cancel()

    def abort(self) -> None:
        self.resume_reading()
        self._own.cancel_scope.cancel()


async def converse(shared: Shared, stream: ByteStream) -> None:
    """Serve one connection from accept to close, and until the last of its requests has ended."""
    try:
        async with anyio.create_task_group() as calls:
            # What cancels the server doesn't come in here: `server._end` tells each request first, as on asyncio.
            calls.cancel_scope.shield = True
            with ExitStack() as at_the_end:
                async with stream, anyio.create_task_group() as own:
                    transport = StreamTransport(shared, stream, own, Workers(shared.context, calls))
                    at_the_end.callback(transport.end)  # not before `own` has sent what was left
                    try:
                        await transport.read()
                    finally:
                        transport.connection.hang_up("the connection was closed")
    except Exception:
        logger.exception("A connection failed; this is a bug of the server")


@asynccontextmanager
async def listening(shared: Shared, sockets: list[socket.socket], tasks: TaskGroup) -> AsyncIterator[None]:
    """Accept connections as long as the block lasts. Those that were accepted live on in `tasks`."""

    async def serve(sock: socket.socket) -> None:
        try:
            stream = await SocketStream.from_socket(sock)
        except ValueError:  # it isn't connected any more: its client has reset it
            sock.close()
        else:
            await converse(shared, stream)

    async with anyio.create_task_group() as accepting:
        for sock in sockets:
            sock.listen(shared.config.backlog)
            accepting.start_soon(accept, sock, lambda sock, _: tasks.start_soon(serve, sock))
        yield
        accepting.cancel_scope.cancel()
