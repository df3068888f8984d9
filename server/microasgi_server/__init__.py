"""A small server for HTTP/1.1 and WebSockets, for any ASGI 3 app, on asyncio, uvloop and trio.

    import microasgi_server

    microasgi_server.run(app, port=8000)                                    # blocks, until Ctrl+C
    await microasgi_server.serve(app, microasgi_server.Config(port=8000))   # inside a running event loop

To learn how it works, read in this order: `http1`, `connection`, `call`, `transports.asyncio`, `server`.
Beside them lie rooms of their own: `websocket`, `transports.tls`, `proxies`, `workers`, `command`.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microasgi_server.public import *  # noqa: F403

__all__ = [  # noqa: F405
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


def __getattr__(name: str) -> Any:
    """The public names, once one of them is asked for."""
    if name in __all__:
        from microasgi_server import public

        globals().update({each: getattr(public, each) for each in __all__})
        return globals()[name]
    # With these two, Python itself asks whether another name was meant.
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
