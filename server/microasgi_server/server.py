"""Serving: from the options to a running server, and down again in order.

    sockets bound → lifespan startup → accepting → no longer accepting → requests end → lifespan shutdown → sockets closed

Each of these is a block around the next, so that whatever ends the innermost, an error or a signal, undoes them all.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from microasgi_server.asgi import ASGIApp
from microasgi_server.certificates import Certificates, certificates_of
from microasgi_server.config import Config
from microasgi_server.connection import Connection
from microasgi_server.counting import registered
from microasgi_server.lifespan import running_lifespan
from microasgi_server.listening import announce, borrowed_sockets, bound_sockets
from microasgi_server.patience import watch
from microasgi_server.running import RunningServer
from microasgi_server.secured import connections
from microasgi_server.shutdown import end, finish, leaving_behind, report, until_any
from microasgi_server.transports import asyncio as asyncio_transport
from microasgi_server.transports import sockets as sockets_transport


async def serve(
    app: ASGIApp,
    config: Config | None = None,
    *,
    sockets: Sequence[socket.socket] | None = None,
    stop: anyio.Event | None = None,
    connection_class: type[Connection] | None = None,
    certificates: Certificates | None = None,
    clock: Callable[[], float] = time.monotonic,
    abandoned: Callable[[list[str]], object] = report,
    task_status: TaskStatus[list[str]] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` in the running event loop (asyncio, uvloop or trio) until `stop` is set or the surrounding scope is cancelled.

    Setting `stop` ends it gracefully: no new requests, up to `config.timeout_graceful_shutdown` seconds for those that run, then
    the app's lifespan shutdown, then this returns. Cancelling the scope skips the waiting: requests are cancelled at once,
    their cleanup and the lifespan shutdown still run. Signals are `run`'s business.

    :param app: an ASGI 3 application
    :param config: the options; `config.loop` and `config.metrics_port` have no meaning here
    :param sockets: bound stream sockets to accept on, instead of those that `config` names. They are set to non-blocking, and stay open
        when this ends: whoever hands them in closes them
    :param stop: set it to stop gracefully
    :param connection_class: what is made for every connection, for who wants to see what happens (`observers.py`)
    :param certificates: made of `config`, by who wants to have them read again while this runs
    :param clock: seconds, for the deadlines of connections
    :param abandoned: called at the end with the requests that don't end although they were cancelled, if there are any. Not given,
        they are logged. On asyncio they live on; on trio nobody can leave a task behind, and this doesn't return before they do
    :param task_status: with `await task_group.start(serve, app, config)`, gives the bound addresses, as in
        `["http://127.0.0.1:8000"]` or `["unix:/run/app.sock"]`, once the server accepts
    :raises StartupError: the address can't be bound, a certificate or key can't be used, or the app's startup failed
    :raises ShutdownError: the app's lifespan failed while serving, or its shutdown did
    """
    config = config or Config()
    made, scheme = connections(config, connection_class, certificates or certificates_of(config))
    with registered(RunningServer(app, config, {}, made, clock, scheme)) as running:
        async with leaving_behind(running, abandoned) as tasks:
            with bound_sockets(config) if sockets is None else borrowed_sockets(sockets) as listeners:
                async with running_lifespan(app, config, running.state) as broken:
                    await _accept(running, listeners, partial(until_any, stop, broken, running.enough), tasks, task_status)


async def _accept(
    running: RunningServer,
    listeners: list[socket.socket],
    stop: Callable[[], Awaitable[None]],
    tasks: TaskGroup,
    task_status: TaskStatus[list[str]],
) -> None:
    """From accepting to the last request's end. Where requests need a task group, it is `tasks`."""
    async with anyio.create_task_group() as watching:
        watching.start_soon(watch, running)
        watching.start_soon(running.paused.watch)
        try:
            async with _transport().listening(running, listeners, tasks):
                task_status.started(announce(listeners, running.scheme))
                await stop()
            await finish(running)
        finally:
            with anyio.CancelScope(shield=True):
                await end(running)
            watching.cancel_scope.cancel()


def _transport() -> Any:
    """The module whose `listening` fits the running event loop."""
    try:
        return asyncio_transport if asyncio.current_task() is not None else sockets_transport
    except RuntimeError:  # no loop of asyncio's runs here
        return sockets_transport
