"""The command line: `microasgi serve` and `microasgi routes`.

The only place where framework and server meet.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import NoReturn

import microasgi_server
from microasgi_server.logs import TRACE

from microasgi.asgi import ASGIApp
from microasgi.disconnect import CancelOnDisconnect
from microasgi.routing import Mount, Route, Router
from microasgi.targets import TargetError, load_app

LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. Ends with SystemExit: 0, 1 for what can't be served, 2 for a wrong command."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (TargetError, microasgi_server.StartupError, ValueError) as error:
        if getattr(arguments, "log_level", "") in ("debug", "trace"):
            logging.getLogger("microasgi").debug("Where it comes from:", exc_info=error)
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="microasgi", description="Serve an ASGI app whose handlers stop when their clients go away.")
    parser.add_argument("--version", action="version", version=f"microasgi {version('microasgi')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve an app", description="Serve an app until Ctrl+C.")
    serve.set_defaults(run=_serve)
    _add_target(serve)
    defaults = microasgi_server.Config()
    serve.add_argument("--host", default=defaults.host, help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=defaults.port, help="port; 0 picks a free one and prints it (default: %(default)s)")
    serve.add_argument("--uds", metavar="PATH", help="listen on a unix socket instead")
    loops = ["auto", "asyncio", "uvloop", "trio"]
    serve.add_argument("--loop", choices=loops, default=defaults.loop, help="event loop (default: %(default)s)")
    serve.add_argument("--log-level", choices=list(LEVELS), default="info", help="trace shows every message (default: %(default)s)")
    serve.add_argument("--access-log", action=argparse.BooleanOptionalAction, default=True, help="a line for each request (default: on)")
    serve.add_argument("--root-path", default="", metavar="PATH", help="the prefix that a proxy in front strips")
    modes = ["auto", "on", "off"]
    serve.add_argument("--lifespan", choices=modes, default=defaults.lifespan, help="the app's startup and shutdown (default: %(default)s)")
    for name, meaning in {
        "timeout-keep-alive": "how long a connection may be idle",
        "timeout-header": "how long a request's head may take",
        "timeout-graceful-shutdown": "how long requests may go on after Ctrl+C",
    }.items():
        default = getattr(defaults, name.replace("-", "_"))
        serve.add_argument(f"--{name}", type=float, default=default, metavar="SECONDS", help=f"{meaning} (default: %(default)g)")
    serve.add_argument("--half-close", action="store_true", help="serve clients that have shut their sending side")
    serve.add_argument(
        "--cancel-on-disconnect", action="store_true", help="stop the handlers of any framework's app when their clients leave"
    )
    routes = commands.add_parser("routes", help="show an app's routes", description="Show a Router's routes and what a disconnect does.")
    routes.set_defaults(run=_routes)
    _add_target(routes)
    return parser


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="module:attribute: an ASGI app, a Router or a list of routes")
    parser.add_argument("--factory", action="store_true", help="TARGET is to be called, and returns the app")
    parser.add_argument("--app-dir", default=".", metavar="DIR", help="the directory to import from (default: this one)")


def _load(arguments: argparse.Namespace) -> ASGIApp:
    return load_app(arguments.target, factory=arguments.factory, app_dir=arguments.app_dir)


def _serve(arguments: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    for name in ("microasgi", "microasgi_server"):
        logging.getLogger(name).setLevel(LEVELS[arguments.log_level])
    if arguments.loop in ("uvloop", "trio") and find_spec(arguments.loop) is None:
        extra = {"uvloop": "fast", "trio": "trio"}[arguments.loop]
        raise ValueError(f"--loop {arguments.loop} needs {arguments.loop}; install it with: pip install 'microasgi[{extra}]'")
    app = _load(arguments)
    if arguments.cancel_on_disconnect and not isinstance(app, Router):
        app = CancelOnDisconnect(app)
    config = microasgi_server.Config(
        host=arguments.host,
        port=arguments.port,
        uds=arguments.uds,
        loop=arguments.loop,
        lifespan=arguments.lifespan,
        root_path=arguments.root_path.rstrip("/"),
        access_log=arguments.access_log,
        timeout_header=arguments.timeout_header,
        timeout_keep_alive=arguments.timeout_keep_alive,
        timeout_graceful_shutdown=arguments.timeout_graceful_shutdown,
        half_close=arguments.half_close,
    )
    microasgi_server.run(app, config)


def _routes(arguments: argparse.Namespace) -> None:
    app = _load(arguments)
    if not isinstance(app, Router):
        raise TargetError(f"{arguments.target!r} is a {type(app).__name__}, whose routes only itself knows; this shows a Router's")
    rows = [("METHODS", "PATH", "HANDLER", "ON DISCONNECT"), *_rows(app, "", "cancel", 5.0)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))


def _rows(router: Router, prefix: str, policy: str, grace: float) -> list[tuple[str, str, str, str]]:
    """A row for each route, with the policy that holds there: the innermost opinion, from the outside in."""
    policy, grace = router.on_disconnect or policy, router.cleanup_grace if router.cleanup_grace is not None else grace
    rows = []
    for route in router.routes:
        own, own_grace = route.on_disconnect or policy, route.cleanup_grace if route.cleanup_grace is not None else grace
        path = prefix + route.path
        shown = own if own == "finish" else f"cancel, {own_grace:g} s of cleanup"
        if isinstance(route, Route):
            methods = sorted({*route.methods, "HEAD"} if "GET" in route.methods else route.methods)
            rows.append((",".join(methods), path, str(route.name), shown))
        elif isinstance(route, Mount) and isinstance(route.app, Router):
            rows.extend(_rows(route.app, path, own, own_grace))
        else:
            rows.append(("*", f"{path}/*", route.name or type(route.app).__name__, shown))
    return rows
