"""Serving: from the options to a running server, and down again in order.

    sockets bound → lifespan startup → accepting → no longer accepting → requests end → lifespan shutdown → sockets closed

Each of these is a block around the next, so that whatever ends the innermost, an error or a signal, undoes them all.
"""

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import anyio
from anyio.abc import TaskStatus

from microasgi_server import logs
from microasgi_server.asgi import ASGIApp
from microasgi_server.config import Config
from microasgi_server.connection import Connection
from microasgi_server.errors import single_error
from microasgi_server.lifespan import running_lifespan
from microasgi_server.listening import borrowed_sockets, bound_sockets, describe
from microasgi_server.observers import TracedConnection
from microasgi_server.running import RunningServer
from microasgi_server.shutdown import end, finish
from microasgi_server.transports import asyncio as asyncio_transport
from microasgi_server.transports import sockets as sockets_transport

logger = logging.getLogger("microasgi_server")

COLLECT_AFTER = 50_000, 2
"""New objects after which `run` lets Python look for garbage in cycles, and after how many such looks it looks through the survivors, too.
The default (700, or 2,000 from 3.13 on) makes the collector walk through thousands of waiting requests again and again, which costs more
than serving them. Survivors are mostly connections that were open at the moment, and asyncio's leave a cycle behind."""


async def serve(
    app: ASGIApp,
    config: Config | None = None,
    *,
    sockets: Sequence[socket.socket] | None = None,
    stop: anyio.Event | None = None,
    connection_class: type[Connection] | None = None,
    clock: Callable[[], float] = time.monotonic,
    task_status: TaskStatus[list[str]] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` in the running event loop (asyncio, uvloop or trio) until `stop` is set or the surrounding scope is cancelled.

    Setting `stop` ends it gracefully: no new requests, up to `config.timeout_graceful_shutdown` seconds for those that run, then
    the app's lifespan shutdown, then this returns. Cancelling the scope skips the waiting: requests are cancelled at once,
    their cleanup and the lifespan shutdown still run. Signals are `run`'s business.

    :param app: an ASGI 3 application
    :param config: the options; `config.loop` has no meaning here
    :param sockets: bound stream sockets to accept on, instead of those that `config` names. They are set to non-blocking, and stay open
        when this ends: whoever hands them in closes them
    :param stop: set it to stop gracefully
    :param connection_class: what is made for every connection, for who wants to see what happens (`observers.py`)
    :param clock: seconds, for the deadlines of connections
    :param task_status: with `await task_group.start(serve, app, config)`, gives the bound addresses, as in
        `["http://127.0.0.1:8000"]` or `["unix:/run/app.sock"]`, once the server accepts
    :raises StartupError: the address can't be bound, or the app's startup failed
    """
    config = config or Config()
    if connection_class is None:
        connection_class = TracedConnection if logger.isEnabledFor(logs.TRACE) else Connection
    with single_error(), bound_sockets(config) if sockets is None else borrowed_sockets(sockets) as listeners:
        async with running_lifespan(app, config.lifespan, config.timeout_graceful_shutdown) as state:
            access_log = config.access_log and logs.access_logger.isEnabledFor(logging.INFO)
            running = RunningServer(app, config, state, access_log, connection_class, clock)
            await _accept(running, listeners, stop, task_status)


async def _accept(
    running: RunningServer, listeners: list[socket.socket], stop: anyio.Event | None, task_status: TaskStatus[list[str]]
) -> None:
    """From accepting to the last request's end."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_sweep, running)
        tasks.start_soon(running.paused.watch)
        try:
            async with _transport().listening(running, listeners, tasks):
                addresses = describe(listeners)
                for address in addresses:
                    logger.info("Serving on %s (Ctrl+C stops)", address)
                task_status.started(addresses)
                await (stop.wait() if stop is not None else anyio.sleep_forever())
            await finish(running)
        finally:
            with anyio.CancelScope(shield=True):
                await end(running)
            tasks.cancel_scope.cancel()


def run(app: ASGIApp, config: Config | None = None, *, started: Callable[[list[str]], object] | None = None) -> None:
    """Serve `app` in an event loop of its own, chosen by `config.loop`, until SIGINT or SIGTERM.

    The first signal stops it gracefully, as `serve` tells; a second one at once, and even then the lifespan shutdown runs. One that
    comes before the server accepts cancels the app's startup.

    The process is the server's: its garbage collector leaves alone what exists by now (`gc.freeze`), and comes more rarely than
    Python's default. What the app's lifespan sets instead stays.

    :param started: called with the bound addresses, as `serve` gives them, once the server accepts
    :raises StartupError: the address can't be bound, or the app's startup failed
    """
    config = config or Config()
    _collect_rarely()
    uvloop = config.loop == "uvloop" or (config.loop == "auto" and find_spec("uvloop") is not None)
    if config.loop == "trio":
        anyio.run(_serve_until_signal, app, config, started, backend="trio")
    else:
        anyio.run(_serve_until_signal, app, config, started, backend="asyncio", backend_options={"use_uvloop": uvloop})


def _collect_rarely() -> None:
    gc.collect()
    gc.freeze()
    objects, looks = COLLECT_AFTER
    youngest, _, oldest = gc.get_threshold()
    if 0 < youngest < objects:  # 0: it is switched off
        gc.set_threshold(objects, looks, oldest)


class _Progress:
    """How far `serve` is, for the signals; a `TaskStatus`.

    accepting: whether there is something to end gracefully.
    """

    def __init__(self, announce: Callable[[list[str]], object] | None) -> None:
        self.accepting = False
        self._announce = announce

    def started(self, value: list[str] | None = None) -> None:
        self.accepting = True
        if self._announce is not None:
            self._announce(value or [])


async def _serve_until_signal(app: ASGIApp, config: Config, started: Callable[[list[str]], object] | None) -> None:
    stop = anyio.Event()
    progress = _Progress(started)
    with single_error():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_listen_to_signals, stop, progress, tasks.cancel_scope)
            await serve(app, config, stop=stop, task_status=progress)
            tasks.cancel_scope.cancel()


async def _listen_to_signals(stop: anyio.Event, progress: _Progress, scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for received in signals:
            if not progress.accepting:
                logger.info("%s during startup: stopping", received.name)
                scope.cancel()
            elif stop.is_set():
                logger.info("%s again: stopping at once", received.name)
                scope.cancel()
            else:
                logger.info("%s: stopping; once more stops at once", received.name)
                stop.set()


async def _sweep(running: RunningServer) -> None:
    """Expire what is overdue. One look at every connection now and then costs less than a timer for every request."""
    config = running.config
    interval = min(config.limits.look, max(0.05, min(config.timeout_header, config.timeout_keep_alive) / 4))
    while True:
        await anyio.sleep(interval)
        now = running.clock()
        for connection in [connection for connection in running.connections if connection.deadline <= now]:
            connection.expire()


def _transport() -> Any:
    """The module whose `listening` fits the running event loop."""
    try:
        return asyncio_transport if asyncio.current_task() is not None else sockets_transport
    except RuntimeError:  # no loop of asyncio's runs here
        return sockets_transport
