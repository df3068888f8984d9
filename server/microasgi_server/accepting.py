"""Accepting connections: the same on every loop, also when there are too many.

Left to themselves the loops differ. Out of descriptors, asyncio writes a traceback for each place in the backlog and stops for a second;
uvloop throws connections away. Here one line a second is logged, idle connections make room, and the rest wait in the system's backlog,
where they are found as soon as there is room again. So it is at `Config.limit_connections`.
"""

import errno
import heapq
import logging
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from operator import attrgetter
from typing import Any

import anyio

from microasgi_server.deadlines import Wait
from microasgi_server.running import RunningServer
from microasgi_server.sealing import settle
from microasgi_server.transports.peers import peer_options

logger = logging.getLogger("microasgi_server")

# accept(2) sorts its errors so: what is wrong with one connection that is gone by now, and what the machine is short of for now.
NEXT = {
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "EPERM", "EPROTO", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH"),
        *("ENETDOWN", "ENETUNREACH", "EOPNOTSUPP", "ETIMEDOUT"),
    )
    if hasattr(errno, name)  # not every system has all
}
LATER = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

INHERITED = sys.platform == "linux"
"""Whether an accepted socket has the options of the one it was accepted on: seven system calls less for each connection."""

PAUSE = 0.1
"""Seconds until the next try, unless a connection closes before: what is short may be somebody else's to give back."""

ROOM = 10
"""Idle connections that are closed at a time to make room: enough to keep up, too few to matter to who comes back."""


Serve = Callable[[socket.socket, Any], object]

UntilShort = Callable[[socket.socket, Callable[[socket.socket], str]], Awaitable[str]]
"""Calls a function with a listening socket, as often as that has connections to accept, until it says what there is too little of."""


@asynccontextmanager
async def accepting(running: RunningServer, sockets: list[socket.socket], serve: Serve, until_short: UntilShort) -> AsyncIterator[None]:
    """Accept on these sockets as long as the block lasts, and call `serve` with each new one and its client's address. Closes them.

    Those who are just connecting at the end are accepted, too, if the block ends without an error.
    """
    acceptor = Acceptor(running, serve, until_short)
    try:
        async with anyio.create_task_group() as tasks:
            for sock in sockets:
                sock.setblocking(False)
                if INHERITED and sock.family != socket.AF_UNIX:
                    for option in peer_options(running.config):
                        sock.setsockopt(*option)
                sock.listen(running.config.backlog)
                tasks.start_soon(acceptor.run, sock)
            yield
            await settle(sockets)
            tasks.cancel_scope.cancel()
    finally:
        for sock in sockets:
            sock.close()


class Acceptor:
    """Accepts on the server's listening sockets, each in a task of `run`."""

    def __init__(self, running: RunningServer, serve: Serve, until_short: UntilShort) -> None:
        self._running = running
        self._serve = serve
        self._until_short = until_short
        self._options = [] if INHERITED else peer_options(running.config)
        self._most = running.config.limit_connections or float("inf")
        self._warned = -float("inf")

    async def run(self, listener: socket.socket) -> None:
        """Accept until cancelled, and then what is connected by now: it would be reset when the listener is closed.

        Nothing that accept(2) reports about one connection, or about a full machine, ends this.

        :raises OSError: what it reports about the listener
        """
        try:
            while True:
                self._warn(await self._until_short(listener, self.accept))
                await self._make_room()
        finally:
            self._accept(listener, int(min(self._most - self._running.arrived, self._running.config.backlog)))

    def accept(self, listener: socket.socket) -> str:
        """Accept as many as may come at a time, and say what there is too little of, if there is."""
        room = self._most - self._running.arrived
        if room < 1:
            return f"there are {self._most} already, the limit"
        error = self._accept(listener, int(min(room, self._running.config.limits.accept)))
        return str(error.strerror) if error is not None else ""

    def _accept(self, listener: socket.socket, most: int) -> OSError | None:
        """Accept up to so many, and return what the system is short of, if it is."""
        for _ in range(most):
            try:
                sock, remote = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in LATER:
                    return error
                if error.errno not in NEXT:
                    raise
                continue
            try:
                if self._options and sock.family != socket.AF_UNIX:
                    for option in self._options:
                        sock.setsockopt(*option)
                self._serve(sock, remote)
            except OSError as error:  # it is broken already, or it is one too many
                logger.info("A connection was lost as it came: %s", error.strerror)
                sock.close()
        return None

    def _warn(self, why: str) -> None:
        now = time.monotonic()
        if now >= self._warned + 1:
            self._warned = now
            logger.warning("Can't accept connections for now: %s", why)

    async def _make_room(self) -> None:
        """Close the connections that have been idle for longest, and wait until one has closed, whichever, or for a moment.

        On one that was busy just now the next request is on its way, and would be lost: where there are no others, some of those that come
        next are told with the answer that their connection closes behind it.
        """
        running, before = self._running, self._running.arrived
        idle = [connection for connection in running.connections if connection.wait is Wait.NEXT_REQUEST]
        until = running.clock() + running.config.timeout_keep_alive - running.config.limits.farewell
        quiet = heapq.nsmallest(ROOM, [connection for connection in idle if connection.deadline <= until], key=attrgetter("deadline"))
        for connection in quiet:
            connection.close()
        if not quiet:
            running.close_behind(ROOM)
        with anyio.move_on_after(PAUSE):
            await running.changed.wait_until(lambda: running.arrived < before)


async def until_short(listener: socket.socket, accept: Callable[[socket.socket], str]) -> str:
    """`UntilShort` on any loop."""
    while True:
        await anyio.wait_readable(listener)
        if shortage := accept(listener):
            return shortage


async def until_short_by_callbacks(loop: Any, listener: socket.socket, accept: Callable[[socket.socket], str]) -> str:
    """The same on asyncio's and uvloop's, where to wait anew for every connection would cost as much as the connection."""
    short = loop.create_future()

    def ready() -> None:
        if short.done():  # cancelled earlier in this turn of the loop: `Acceptor.run` accepts what is here
            return
        try:
            shortage = accept(listener)
        except OSError as error:
            loop.remove_reader(listener)
            short.set_exception(error)
        else:
            if shortage:
                loop.remove_reader(listener)
                short.set_result(shortage)

    loop.add_reader(listener, ready)
    try:
        return str(await short)
    finally:
        loop.remove_reader(listener)


def run_without_task(waiting: Coroutine[Any, Any, None], ended: Callable[[object], object], _: object = None) -> None:
    """Run what only waits for the loop's own futures, at once and as far as it goes, and hand it to `ended` at its end.

    A task and its turns of the loop would be a tenth of what a connection costs.
    """
    try:
        waiting.send(None).add_done_callback(partial(run_without_task, waiting, ended))
    except StopIteration:
        ended(waiting)
