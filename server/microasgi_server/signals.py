"""A process that serves: the loop that it starts, and the signals that stop it."""

import gc
import logging
import signal
import threading
from collections.abc import Callable
from importlib.util import find_spec

import anyio

from microasgi_server import metrics
from microasgi_server.asgi import ASGIApp
from microasgi_server.config import Config
from microasgi_server.errors import StartupError, single_error
from microasgi_server.server import serve

logger = logging.getLogger("microasgi_server")

EXTRAS = {"uvloop": "fast", "trio": "trio"}
"""Which extra of the distribution brings which loop."""


def run_until_signal(app: ASGIApp, config: Config, *, started: Callable[[list[str]], object] | None = None) -> None:
    """Serve `app` in an event loop of its own, chosen by `config.loop`, until SIGINT or SIGTERM.

    The first signal stops it gracefully, as `serve` tells; a second one at once, and even then the lifespan shutdown runs. One that
    comes before the server accepts cancels the app's startup.

    The process is the server's: its garbage collector leaves alone what exists by now (`gc.freeze`), and comes more rarely than
    Python's default. What the app's lifespan sets instead stays.

    :param started: called with the bound addresses, as `serve` gives them, once the server accepts
    :raises StartupError: this isn't the main thread, the loop isn't installed, the address can't be bound, or the app's startup failed
    """
    demand_loop(config)
    if config.metrics_port is not None:
        metrics.demand()
    if threading.current_thread() is not threading.main_thread():
        raise StartupError("only the main thread hears Ctrl+C; in another one, use microasgi_server.serve, in an event loop of your own")
    _collect_rarely(*config.limits.collect)
    uvloop = config.loop == "uvloop" or (config.loop == "auto" and find_spec("uvloop") is not None)
    if config.loop == "trio":
        anyio.run(_serve_until_signal, app, config, started, backend="trio")
    else:
        anyio.run(_serve_until_signal, app, config, started, backend="asyncio", backend_options={"use_uvloop": uvloop})


def demand_loop(config: Config) -> None:
    """Make sure that the loop can run, before anything else is done for it.

    :raises StartupError: it isn't installed
    """
    if config.loop in EXTRAS and find_spec(config.loop) is None:
        extra = EXTRAS[config.loop]
        raise StartupError(f"the loop {config.loop} is not installed; install it with: pip install 'microasgi[{extra}]'")


def _collect_rarely(objects: int, looks: int) -> None:
    gc.collect()
    gc.freeze()
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
            if config.metrics_port is not None:
                numbers = Config(
                    host=config.host, port=config.metrics_port, access_log=False, lifespan="off", server_header=config.server_header
                )
                addresses = await tasks.start(serve, metrics.app(app), numbers)
                logger.info("Metrics are at %s/metrics", addresses[0])
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
