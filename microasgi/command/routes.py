"""`microasgi routes`: a router's routes, and what a disconnect does to each."""

import argparse
from collections.abc import Iterator

from microasgi_server import TargetError
from microasgi_server.command.output import say
from microasgi_server.command.parser import Parser, add_target

from microasgi.command.targets import load_app
from microasgi.conversing import WebSocketRoute
from microasgi.mounting import Mount
from microasgi.routes import Route
from microasgi.routing import Router


def add(parser: Parser) -> None:
    """The options of `microasgi routes`."""
    add_target(parser, "module:attribute, as in main:routes: a Router or a list of routes")


def show(arguments: argparse.Namespace) -> None:
    """Print a line for each route.

    :raises TargetError: it is no router
    """
    app = load_app(arguments.target, factory=arguments.factory, app_dir=arguments.app_dir)
    if not isinstance(app, Router):
        raise TargetError(f"{arguments.target!r} is neither a Router nor a list of routes, and only those tell what they have")
    say(*table(app))


def table(router: Router) -> Iterator[str]:
    """A line for each route, under a heading."""
    found = [("METHODS", "PATH", "HANDLER", "ON DISCONNECT"), *rows(router)]
    widths = [max(len(row[column]) for row in found) for column in range(3)]
    for row in found:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])


def rows(router: Router, prefix: str = "", policy: str = "cancel", grace: float = 5.0) -> list[tuple[str, str, str, str]]:
    """A row for each route, with the policy that holds there: the innermost opinion, from the outside in."""
    policy, grace = router.on_disconnect or policy, router.cleanup_grace if router.cleanup_grace is not None else grace
    found = []
    for route in router.routes:
        own, own_grace = route.on_disconnect or policy, route.cleanup_grace if route.cleanup_grace is not None else grace
        path = prefix + route.path
        shown = _shown(own, own_grace)
        if isinstance(route, Route):
            methods = sorted({*route.methods, "HEAD"} if "GET" in route.methods else route.methods)
            found.append((",".join(methods), path, str(route.name), shown))
        elif isinstance(route, Mount) and isinstance(route.app, Router):
            found.extend(rows(route.app, path, own, own_grace))
        else:
            name = getattr(route.app, "__name__", type(route.app).__name__)
            found.append(("*", f"{path}/*", route.name or name, shown))
    for socket in router.websocket_routes:
        if isinstance(socket, WebSocketRoute):
            own, own_grace = socket.on_disconnect or policy, socket.cleanup_grace if socket.cleanup_grace is not None else grace
            found.append(("WEBSOCKET", prefix + socket.path, socket.name, _shown(own, own_grace)))
    return found


def _shown(policy: str, grace: float) -> str:
    return policy if policy == "finish" else f"cancel, {grace:g} s of cleanup"
