"""The servers in which `microasgi trace` can run an app: ours, tapped, and others, where the app is all that can be watched.

Each runs in the main thread of a process of its own (`hosted.py`), until SIGTERM. Of ours the wire is seen, too; of another what its app
is told, and the handler.
"""

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any, Protocol

import anyio
from anyio.abc import TaskStatus
from microasgi_server import Config, serve
from microasgi_server.connection import Connection
from microasgi_server.errors import single_error
from microasgi_server.signals import chosen_loop, collect_rarely, demand_loop
from microasgi_server.taps import tapped, tapped_app

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.command.rehearsal import rehearse
from microasgi.lint.marking import HERE
from microasgi.watching import watch


class Witness(Protocol):
    """Who hears what happens."""

    def tap(self, event: Any) -> None:
        """Something has."""

    def meet(self) -> None:
        """Called in the loop, before the app can be asked."""

    def ready(self, port: int) -> None:
        """It can be asked, at this port."""


Serve = Callable[[ASGIApp, str, Witness], None]
"""Serve an app on a loop, with a witness."""

READY = "/microasgi-trace-is-ready"
"""A path that is answered around the app, so that whoever waits for a server knows that it is one."""

POLL = 0.02
"""Seconds between two looks at a server that is starting."""

HOST = "127.0.0.1"


def microasgi(app: ASGIApp, loop: str, witness: Witness) -> None:
    """Ours."""
    config = Config(host=HOST, port=0, loop=loop, access_log=False, timeout_graceful_shutdown=0)  # type: ignore[arg-type]
    demand_loop(config)
    name = chosen_loop(config)
    backend: dict[str, Any] = {"backend": "asyncio", "backend_options": {"use_uvloop": name == "uvloop"}}
    anyio.run(_serve, app, config, witness, **({"backend": "trio"} if name == "trio" else backend))


class _Ready:
    """A `TaskStatus` that hands on the port."""

    def __init__(self, ready: Callable[[int], None]) -> None:
        self._ready = ready

    def started(self, value: Any = None) -> None:
        self._ready(int(value[0].rpartition(":")[2]))


async def _serve(app: ASGIApp, config: Config, witness: Witness) -> None:
    stop = anyio.Event()
    with single_error():
        await rehearse(config.host)
        collect_rarely(config)  # as where it is served in earnest
        witness.meet()
        async with anyio.create_task_group() as tasks:
            await tasks.start(_stop_at_sigterm, stop, tasks.cancel_scope)
            made = tapped(Connection, witness.tap, beyond=[HERE])
            await serve(watch(app), config, stop=stop, connection_class=made, task_status=_Ready(witness.ready))
            tasks.cancel_scope.cancel()


async def _stop_at_sigterm(stop: anyio.Event, serving: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            logging.getLogger("microasgi_server").setLevel(logging.CRITICAL)  # whose handler still works is told elsewhere
            if stop.is_set():
                serving.cancel()
            stop.set()


def uvicorn(app: ASGIApp, loop: str, witness: Witness) -> None:
    """uvicorn, with the parser that it chooses."""
    from uvicorn import Config, Server

    with socket.create_server((HOST, 0)) as sock:
        server = Server(Config(_watched(app, witness), loop=loop, log_level="warning", timeout_graceful_shutdown=1))
        _tell_when_ready(sock.getsockname()[1], witness.ready)
        server.run([sock])


def hypercorn(app: ASGIApp, loop: str, witness: Witness) -> None:
    """Hypercorn, on asyncio."""
    import hypercorn
    from hypercorn.asyncio import serve

    config, port = hypercorn.Config(), _free_port()
    config.bind, config.loglevel, config.graceful_timeout = [f"{HOST}:{port}"], "WARNING", 1
    _tell_when_ready(port, witness.ready)
    watched: Any = _watched(app, witness)
    anyio.run(partial(serve, watched, config), backend_options={"use_uvloop": loop == "uvloop"})


def granian(app: ASGIApp, loop: str, witness: Witness) -> None:
    """Granian, in its embedded form, which lives in one process."""
    from granian.constants import Interfaces
    from granian.server.embed import Server

    port = _free_port()
    server = Server(_watched(app, witness), address=HOST, port=port, interface=Interfaces.ASGI, log_enabled=False)
    _tell_when_ready(port, witness.ready)
    anyio.run(server.serve, backend_options={"use_uvloop": loop == "uvloop"})


def daphne(app: ASGIApp, loop: str, witness: Witness) -> None:
    """Daphne, on Twisted's reactor for asyncio."""
    from daphne.server import Server

    port = _free_port()
    _tell_when_ready(port, witness.ready)
    Server(_watched(app, witness), endpoints=[f"tcp:{port}:interface={HOST}"], application_close_timeout=1).run()


SERVERS: Mapping[str, Serve] = {"microasgi": microasgi, "uvicorn": uvicorn, "hypercorn": hypercorn, "granian": granian, "daphne": daphne}


LOOPS: Mapping[str, tuple[str, ...]] = {
    "microasgi": ("asyncio", "uvloop", "trio"),
    "uvicorn": ("asyncio", "uvloop"),
    "hypercorn": ("asyncio", "uvloop"),
    "granian": ("asyncio", "uvloop"),
    "daphne": ("asyncio",),
}
"""The event loops that each can be run on here."""


def _watched(app: ASGIApp, witness: Witness) -> ASGIApp:
    """The app, watched from around it, and an answer to whoever asks whether it can be asked."""
    watched = tapped_app(watch(app), witness.tap)

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == READY:
            witness.meet()
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await watched(scope, receive, send)

    return answered


def _free_port() -> int:
    """For a server that takes no socket: a port that was free a moment ago."""
    with socket.create_server((HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def _tell_when_ready(port: int, ready: Callable[[int], None]) -> None:
    """Ask until there is an answer, in a thread."""

    def ask() -> None:
        while True:
            try:
                connection = HTTPConnection(HOST, port, timeout=5)
                connection.request("GET", READY)
                if connection.getresponse().status == 204:
                    connection.close()
                    ready(port)
                    return
            except (OSError, HTTPException):
                time.sleep(POLL)

    threading.Thread(target=ask, daemon=True).start()
