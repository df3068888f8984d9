"""A small server for HTTP/1.1 and WebSockets, for any ASGI 3 app, on asyncio, uvloop and trio.

    import microasgi_server

    microasgi_server.run(app, port=8000)                                    # blocks, until Ctrl+C
    await microasgi_server.serve(app, microasgi_server.Config(port=8000))   # inside a running event loop

To learn how it works, read in this order: `http1`, `connection`, `call`, `transports.asyncio`, `server`.
Beside them lie rooms of their own: `websocket`, `transports.tls`, `proxies`, `workers`, `command`.
"""

from microasgi_server.certificates import Certificates
from microasgi_server.command.run import run
from microasgi_server.config import Config
from microasgi_server.errors import AppError, ClientDisconnected, ServerError, ShutdownError, StartupError, TargetError
from microasgi_server.http1.limits import Limits
from microasgi_server.noted import request_id
from microasgi_server.proxies.headers import ProxyHeaders
from microasgi_server.proxies.hosts import AllowedHosts
from microasgi_server.server import serve
from microasgi_server.stats import Stats, stats

__all__ = [
    "AllowedHosts",
    "AppError",
    "Certificates",
    "ClientDisconnected",
    "Config",
    "Limits",
    "ProxyHeaders",
    "ServerError",
    "ShutdownError",
    "StartupError",
    "Stats",
    "TargetError",
    "request_id",
    "run",
    "serve",
    "stats",
]
