"""A process that serves: the loop that it starts, the signals that stop it, and that it does stop."""

import gc
import logging
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from microasgi_server import metrics, notify
from microasgi_server.asgi import ASGIApp
from microasgi_server.certificates import Certificates, certificates_of
from microasgi_server.config import Config
from microasgi_server.connection import Connection
from microasgi_server.errors import StartupError, single_error
from microasgi_server.last_resort import LastResort
from microasgi_server.server import serve
from microasgi_server.shutdown import longest

logger = logging.getLogger("microasgi_server")

ALONE = (signal.SIGINT, signal.SIGTERM)
AT_ONCE = getattr(signal, "SIGQUIT", None)  # not on Windows, where there are no workers either
SUPERVISED = (signal.SIGTERM, *([AT_ONCE] if AT_ONCE else []))
"""The signals that stop a process: one that serves alone, and one of several."""

INTERRUPTED = 130
"""The exit code of a command that SIGINT ended before it could serve: the shells' convention, 128 + 2."""

EXTRAS = {"uvloop": "fast", "trio": "trio"}
"""Which extra of the distribution brings which loop."""


@dataclass(frozen=True)
class Shared:
    """What a process has that is one of several which serve the same (`workers`).

    Its signals are the supervisor's: SIGTERM, as often as it may come, and SIGQUIT for at once. Ctrl+C is none of its business.

    listeners: bound sockets to accept on; they belong to all.
    numbers: the same for the metrics; none, where there are to be no metrics.
    beside: runs as long as the app is served.
    """

    listeners: Sequence[socket.socket]
    numbers: Sequence[socket.socket]
    beside: Callable[[], Coroutine[Any, Any, None]]


def run_until_signal(
    app: ASGIApp,
    config: Config,
    *,
    started: Callable[[list[str]], object] | None = None,
    shared: Shared | None = None,
    connection_class: type[Connection] | None = None,
) -> None:
    """Serve `app` in an event loop of its own, chosen by `config.loop`, until SIGINT or SIGTERM.

    The first signal stops it gracefully, as `serve` tells; a second one at once, and even then the lifespan shutdown runs; a third one
    ends the process as it is. One that comes before the server accepts cancels the app's startup: SIGTERM's sender has what it wanted,
    while Ctrl+C goes on as what it is.

    The process ends whatever the app does. Requests that don't end although they were cancelled are named in the log; the exit code is
    0, or 1 if the lifespan failed, or 130, too. So it ends where anything else holds it for longer than all timeouts together.

    The process is the server's: its garbage collector leaves alone what exists by now (`gc.freeze`), and comes more rarely than
    Python's default. What the app's lifespan sets instead stays.

    :param started: called with the bound addresses, as `serve` gives them, once the server accepts
    :param shared: what it shares with other processes that serve the same, if there are any
    :param connection_class: as for `serve`
    :raises StartupError: this isn't the main thread, the loop isn't installed, the address can't be bound, or the app's startup failed
    :raises ShutdownError: the app's lifespan failed while serving, or its shutdown did
    :raises KeyboardInterrupt: Ctrl+C came before it could serve
    """
    demand_loop(config)
    if config.metrics_port is not None:
        metrics.demand()
    if threading.current_thread() is not threading.main_thread():
        raise StartupError("only the main thread hears Ctrl+C; in another one, use microasgi_server.serve, in an event loop of your own")
    collect_rarely(config)
    loop = chosen_loop(config)
    backend: dict[str, Any] = {"backend": "asyncio", "backend_options": {"use_uvloop": loop == "uvloop"}}
    if loop == "trio":
        backend = {"backend": "trio"}
    with LastResort() as last_resort:
        if anyio.run(_serve_until_signal, app, config, started, last_resort, shared, connection_class, **backend):
            raise KeyboardInterrupt


def chosen_loop(config: Config) -> str:
    """The loop that is started: `asyncio`, `uvloop` or `trio`."""
    if config.loop == "auto":
        return "uvloop" if find_spec("uvloop") is not None else "asyncio"
    return config.loop


def demand_loop(config: Config) -> None:
    """Make sure that the loop can run, before anything else is done for it.

    :raises StartupError: it isn't installed
    """
    if config.loop in EXTRAS and find_spec(config.loop) is None:
        extra = EXTRAS[config.loop]
        raise StartupError(f"the loop {config.loop} is not installed; install it with: pip install 'microasgi[{extra}]'")


def collect_rarely(config: Config) -> None:
    """Have the garbage collector leave alone what exists by now, and come more rarely than by default, where nobody has switched it off."""
    objects, looks = config.limits.collect
    gc.collect()
    gc.freeze()
    youngest, _, oldest = gc.get_threshold()
    if 0 < youngest < objects:
        gc.set_threshold(objects, looks, oldest)


class _Progress:
    """How far `serve` is, for the signals; a `TaskStatus`.

    accepting: whether there is something to end gracefully.
    addresses: where it accepts.
    interrupted: whether Ctrl+C came before that.
    """

    def __init__(self, announce: Callable[[list[str]], object] | None, *, alone: bool) -> None:
        self.accepting = self.interrupted = False
        self.addresses: list[str] = []
        self._announce = announce
        self._alone = alone

    def started(self, value: list[str] | None = None) -> None:
        self.accepting, self.addresses = True, value or []
        if self._alone:
            notify.ready(self.addresses)
        if self._announce is not None:
            self._announce(self.addresses)


async def _serve_until_signal(
    app: ASGIApp,
    config: Config,
    started: Callable[[list[str]], object] | None,
    last_resort: LastResort,
    shared: Shared | None,
    connection_class: type[Connection] | None,
) -> bool:
    """Serve. Whether Ctrl+C has ended it before it could."""
    stop = anyio.Event()
    progress = _Progress(started, alone=shared is None)
    with single_error():
        async with anyio.create_task_group() as tasks:
            listening = anyio.CancelScope(shield=True)
            wanted = ALONE if shared is None else SUPERVISED
            listen = partial(_listen_to_signals, wanted, config, stop, progress, last_resort, tasks.cancel_scope, listening)
            await tasks.start(listen)
            try:
                await _serve(app, config, tasks, stop, progress, last_resort, shared, connection_class)
                last_resort.code = 0
            except anyio.get_cancelled_exc_class():  # by the second signal
                if not progress.interrupted:
                    last_resort.code = 0
                raise
            finally:
                listening.cancel()
            tasks.cancel_scope.cancel()
    return progress.interrupted


async def _serve(
    app: ASGIApp,
    config: Config,
    tasks: TaskGroup,
    stop: anyio.Event,
    progress: _Progress,
    last_resort: LastResort,
    shared: Shared | None,
    connection_class: type[Connection] | None,
) -> None:
    """Serve, and the numbers beside it, if they are wanted."""
    certificates = certificates_of(config)
    if certificates is not None and shared is None and hasattr(signal, "SIGHUP"):  # a worker is replaced then
        await tasks.start(_read_certificates_at_sighup, certificates, progress)
    if config.metrics_port is not None:
        numbers = Config(host=config.host, port=config.metrics_port, access_log=False, lifespan="off", server_header=config.server_header)
        # A worker's successor answers for the same numbers as soon as the worker is to stop.
        sockets, end = (None, None) if shared is None else (shared.numbers, stop)
        addresses = await tasks.start(partial(serve, metrics.app(app), numbers, sockets=sockets, stop=end))
        logger.info("Metrics are at %s/metrics", addresses[0])
    if shared is not None:
        tasks.start_soon(shared.beside)
    listeners = None if shared is None else shared.listeners
    await serve(
        app,
        config,
        sockets=listeners,
        stop=stop,
        connection_class=connection_class,
        certificates=certificates,
        abandoned=last_resort.abandon,
        task_status=progress,
    )


async def _read_certificates_at_sighup(certificates: Certificates, progress: _Progress, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            if progress.accepting:
                notify.reloading()
            certificates.read_again()
            if progress.accepting:
                notify.ready(progress.addresses)


async def _listen_to_signals(
    wanted: Sequence[signal.Signals],
    config: Config,
    stop: anyio.Event,
    progress: _Progress,
    last_resort: LastResort,
    serving: anyio.CancelScope,
    listening: anyio.CancelScope,
    *,
    task_status: TaskStatus[None],
) -> None:
    """Do what the signals ask for, until `listening` is cancelled. It is shielded, so that a third one is heard, too."""
    level = logging.INFO if wanted is ALONE else logging.DEBUG  # the supervisor says it for all
    with listening, anyio.open_signal_receiver(*wanted) as signals:
        task_status.started()
        async for received in signals:
            if received is signal.SIGTERM and wanted is SUPERVISED and (stop.is_set() or serving.cancel_called):
                continue  # systemd tells all processes of a service, and the supervisor its workers once more
            if serving.cancel_called:
                logger.log(level, "%s once more: exiting", received.name)
                last_resort.exit()
            elif not progress.accepting or stop.is_set() or received is AT_ONCE:
                if received is signal.SIGINT and not progress.accepting:
                    progress.interrupted, last_resort.code = True, INTERRUPTED
                again = "" if received is AT_ONCE else " again" if progress.accepting else " during startup"
                logger.log(level, "%s%s: stopping at once", received.name, again)
                last_resort.due_in(longest(config, graceful=False))
                serving.cancel()
            else:
                logger.log(level, "%s: stopping; once more stops at once", received.name)
                last_resort.due_in(longest(config, graceful=True))
                if wanted is ALONE:
                    notify.stopping()
                stop.set()
