"""`microasgi serve --check`: what would be served, and how it would react to a client that leaves."""

import argparse
from collections.abc import Iterator

from microasgi_server import Config
from microasgi_server.command.checking import checked_config, plan
from microasgi_server.command.output import say
from microasgi_server.command.targets import a

from microasgi.asgi import ASGIApp
from microasgi.command.routes import table
from microasgi.command.targets import load_app
from microasgi.promise.unknown import missing, way
from microasgi.routing import Router
from microasgi.wrapping import CancelOnDisconnect


def check(arguments: argparse.Namespace, *loggers: str) -> None:
    """Print it.

    :raises StartupError: it can't be served
    """
    config = checked_config(arguments, *loggers)
    app = load_app(arguments.target, factory=arguments.factory, app_dir=arguments.app_dir)
    served = CancelOnDisconnect(app) if arguments.cancel_on_disconnect and not isinstance(app, Router) else app
    say(f"{arguments.target} can be served: {a(app)}", *plan(config), "", *reaction(served, config))


def reaction(app: ASGIApp, config: Config) -> Iterator[str]:
    """What becomes of handlers whose client leaves."""
    how = "on trio only where that is shielded" if config.loop == "trio" else way(missing())
    if isinstance(app, Router):
        yield f"When a client leaves, its handler is cancelled, unless the route finishes it, with some time for cleanup: {how}"
        yield from table(app)
    elif isinstance(app, CancelOnDisconnect):
        yield f"When a client leaves, its handler is cancelled, with {app.cleanup_grace:g} s of cleanup: {how}"
    else:
        yield "When a client leaves, its handler goes on, unless its framework stops it; --cancel-on-disconnect does"
