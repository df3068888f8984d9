"""Where each public name comes from. `microasgi_server` loads this when it is first asked for one.

So the command is there at once, and catches a Ctrl+C that comes while the rest is being imported.
"""

from microasgi_server.certificates import Certificates
from microasgi_server.command.run import run
from microasgi_server.config import Config
from microasgi_server.counting import Stats, stats
from microasgi_server.errors import AppError, ClientDisconnected, ServerError, ShutdownError, StartupError, TargetError
from microasgi_server.http1.limits import Limits
from microasgi_server.noted import request_id
from microasgi_server.proxies.headers import ProxyHeaders
from microasgi_server.proxies.hosts import AllowedHosts
from microasgi_server.server import serve

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
