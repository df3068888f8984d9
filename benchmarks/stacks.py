"""The stacks: which framework runs on which server, and how each is started.

A stack is one app of `benchmarks/apps`, one server and one event loop. All that differs between two servers is in `SERVERS`, all that
differs between two frameworks in `FRAMEWORKS`. Access logs are off where the server's name doesn't say otherwise, and nothing is tuned but
what a part would run into: how long a connection may be idle, and how many there may be.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

IDLE = 120
"""Seconds that connections may be idle: longer than any part leaves them so."""

MANY = 20_000
"""Connections and requests at once that a server is allowed, where it asks for a limit: more than any part opens."""

CERTIFICATE, KEY, SOCKET = "certificate.pem", "key.pem", "socket"
"""Files in a server's folder."""

ASYNCIO = ("asyncio", "uvloop")
EVERY = ("asyncio", "uvloop", "trio")


@dataclass(frozen=True)
class Server:
    """A server program.

    name: as tables show it.
    package: the distribution that must be installed.
    command: what follows `python -m`; {app}, {port}, {loop} and {folder} are filled in. The folder is empty, but for a certificate where
        the server speaks TLS.
    loops: the event loops that it runs on; the first is what its users get.
    framework: the only framework that it serves; None for a server of any ASGI app.
    manner: in which it runs, where that is what is compared.
    scheme: of its URLs.
    """

    name: str
    package: str
    command: str
    loops: tuple[str, ...]
    framework: str | None = None
    manner: str = ""
    scheme: str = "http"


@dataclass(frozen=True)
class Framework:
    """A framework, in one of the ways that people use it.

    name: as tables show it.
    package: the distribution that must be installed.
    app: module and attribute below `benchmarks.apps`.
    loops: the event loops that it runs on.
    server: the only server that it runs on; None for an ASGI app.
    """

    name: str
    package: str
    app: str
    loops: tuple[str, ...] = ASYNCIO
    server: str | None = None


_QUIET = "--no-access-log --log-level warning"
_TLS = f"--ssl-certfile {{folder}}/{CERTIFICATE} --ssl-keyfile {{folder}}/{KEY}"
_OURS = f"microasgi serve {{app}} --port {{port}} --loop {{loop}} --timeout-keep-alive {IDLE}"
_UVICORN = f"uvicorn {{app}} --port {{port}} --loop {{loop}} --timeout-keep-alive {IDLE}"
_HYPERCORN = f"hypercorn {{app}} --bind 127.0.0.1:{{port}} -k {{loop}} --workers 0 --log-level warning --keep-alive {IDLE}"

SERVERS = {
    "microasgi": Server("microasgi", "microasgi", f"{_OURS} {_QUIET}", EVERY),
    "microasgi-logging": Server("microasgi with its access log", "microasgi", f"{_OURS} --access-log", EVERY, manner="with the access log"),
    "microasgi-tls": Server("microasgi over TLS", "microasgi", f"{_OURS} {_QUIET} {_TLS}", EVERY, manner="over TLS", scheme="https"),
    "microasgi-workers": Server("microasgi, two workers", "microasgi", f"{_OURS} {_QUIET} --workers 2", EVERY, manner="two workers"),
    "microasgi-unix": Server(
        "microasgi with a unix socket",
        "microasgi",
        f"microasgi serve {{app}} --bind 127.0.0.1:{{port}} --bind unix:{{folder}}/{SOCKET} --loop {{loop}}"
        f" --timeout-keep-alive {IDLE} {_QUIET}",
        EVERY,
    ),
    "microasgi-limited": Server("microasgi", "microasgi", "benchmarks.apps.limited {app} {port} {loop}", EVERY),
    "uvicorn-h11": Server("uvicorn h11", "uvicorn", f"{_UVICORN} {_QUIET} --http h11", ASYNCIO),
    "uvicorn-httptools": Server("uvicorn httptools", "httptools", f"{_UVICORN} {_QUIET} --http httptools", ASYNCIO),
    "uvicorn-httptools-logging": Server(
        "uvicorn httptools with its access log",
        "httptools",
        f"{_UVICORN} --access-log --http httptools",
        ASYNCIO,
        manner="with the access log",
    ),
    "uvicorn-httptools-tls": Server(
        "uvicorn httptools over TLS",
        "httptools",
        f"{_UVICORN} {_QUIET} --http httptools {_TLS}",
        ASYNCIO,
        manner="over TLS",
        scheme="https",
    ),
    "uvicorn-httptools-workers": Server(
        "uvicorn httptools, two workers", "httptools", f"{_UVICORN} {_QUIET} --http httptools --workers 2", ASYNCIO, manner="two workers"
    ),
    "uvicorn-websockets": Server("uvicorn websockets", "websockets", f"{_UVICORN} {_QUIET} --http h11 --ws websockets-sansio", ASYNCIO),
    "uvicorn-wsproto": Server("uvicorn wsproto", "wsproto", f"{_UVICORN} {_QUIET} --http h11 --ws wsproto", ASYNCIO),
    "hypercorn": Server("hypercorn", "hypercorn", _HYPERCORN, EVERY),
    "granian": Server(
        "granian",
        "granian",
        f"granian {{app}} --interface asgi --port {{port}} --loop {{loop}} --workers 1 --no-access-log --log-level warning"
        f" --backlog {MANY} --backpressure {MANY}",
        ASYNCIO,
    ),
    "daphne": Server("daphne", "daphne", "daphne -b 127.0.0.1 -p {port} -v 0 {app}", ("asyncio",)),
    "gunicorn": Server(
        "gunicorn asgi",
        "gunicorn",
        f"gunicorn {{app}} --bind 127.0.0.1:{{port}} -k asgi --workers 1 --asgi-loop {{loop}} --log-level warning --keep-alive {IDLE}"
        f" --worker-connections {MANY}",
        ASYNCIO,
    ),
    "constant": Server("an asyncio.Protocol with a constant answer", "microasgi", "benchmarks.apps.constant {port} {loop}", ASYNCIO),
    "aiohttp": Server("aiohttp", "aiohttp", "benchmarks.apps.aiohttp {app} {port} {loop}", ASYNCIO, framework="aiohttp"),
    "sanic": Server("Sanic", "sanic", "benchmarks.apps.sanic {app} {port} {loop}", ASYNCIO, framework="Sanic"),
}
"""By the names that the parts use."""

FRAMEWORKS = {
    "bare": Framework("bare ASGI", "microasgi", "bare:app", EVERY),
    "microasgi": Framework("microasgi", "microasgi", "microasgi:app", EVERY),
    "microasgi-unprotected": Framework("microasgi without the promise", "microasgi", "microasgi:unprotected", EVERY),
    "starlette": Framework("Starlette", "starlette", "starlette:app", EVERY),
    "starlette-cancelled": Framework("Starlette in CancelOnDisconnect", "starlette", "starlette:cancelled", EVERY),
    "starlette-watched": Framework("Starlette with a watcher in the handler", "starlette", "starlette:watched", EVERY),
    "fastapi": Framework("FastAPI", "fastapi", "fastapi:app", EVERY),
    "fastapi-cancelled": Framework("FastAPI in CancelOnDisconnect", "fastapi", "fastapi:cancelled", EVERY),
    "litestar": Framework("Litestar", "litestar", "litestar:app", EVERY),
    "quart": Framework("Quart", "quart", "quart:app"),
    "django": Framework("Django", "django", "django:app"),
    "blacksheep": Framework("BlackSheep", "blacksheep", "blacksheep:app"),
    "sanic": Framework("Sanic", "sanic", "sanic:app"),
    "aiohttp": Framework("aiohttp", "aiohttp", "aiohttp:app", server="aiohttp"),
    "aiohttp-cancelling": Framework("aiohttp, handler_cancellation=True", "aiohttp", "aiohttp:cancelling", server="aiohttp"),
}
"""By the names that the parts use."""


@dataclass(frozen=True)
class Stack:
    """One framework on one server on one loop.

    :raises ValueError: these don't go together
    """

    framework: str
    server: str
    loop: str

    def __post_init__(self) -> None:
        framework, server = FRAMEWORKS[self.framework], SERVERS[self.server]
        if self.loop not in framework.loops or self.loop not in server.loops:
            raise ValueError(f"{framework.name} on {server.name} doesn't run on {self.loop}")
        if server.framework is not None and server.framework != FRAMEWORKS[self.framework.partition("-")[0]].name:
            raise ValueError(f"{server.name} doesn't serve {framework.name}")
        if framework.server not in (None, self.server):
            raise ValueError(f"{framework.name} is no ASGI app: it runs on its own server only")
        if (self.framework, self.server) == ("sanic", "daphne"):  # which doesn't speak the lifespan protocol, where Sanic finds its loop
            raise ValueError(f"{framework.name} doesn't run on {server.name}")

    @property
    def name(self) -> str:
        """For tables: `Starlette on uvicorn h11, asyncio`."""
        framework, server = FRAMEWORKS[self.framework], SERVERS[self.server]
        on = "" if server.framework is not None else f" on {server.name}"
        return f"{framework.name}{on}, {self.loop}"

    def command(self, port: int, folder: str, options: str = "") -> list[str]:
        """The command that serves this stack on 127.0.0.1 at a port, with its files in a folder, and with these options beside its own."""
        app = f"benchmarks.apps.{FRAMEWORKS[self.framework].app}"
        command = SERVERS[self.server].command.format(app=app, port=port, loop=self.loop, folder=folder)
        return [sys.executable, "-m", *command.split(), *options.split()]

    @property
    def scheme(self) -> str:
        """Of its URLs."""
        return SERVERS[self.server].scheme

    @property
    def missing(self) -> list[str]:
        """The packages that it needs and that aren't installed."""
        needed = {FRAMEWORKS[self.framework].package, SERVERS[self.server].package}
        return missing_packages(needed | ({self.loop} - {"asyncio"}))


def missing_packages(names: Iterable[str]) -> list[str]:
    """Those of them that aren't installed."""
    return sorted(name for name in names if not _is_installed(name))


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
