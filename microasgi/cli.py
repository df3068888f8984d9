"""The command line: `microasgi serve` and `microasgi routes`.

The only place where framework and server meet.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NoReturn

import microasgi_server
from microasgi_server.logs import TRACE

from microasgi.asgi import ASGIApp
from microasgi.promise.unknown import missing, way
from microasgi.promise.visit import CancelOnDisconnect
from microasgi.routes import Mount, Route
from microasgi.routing import Router
from microasgi.targets import TargetError, load_app

LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}

INTERRUPTED = 130
"""The exit code of a command that SIGINT ended before it could serve: the shells' convention, 128 + 2."""

LIMITS = {
    "request_line": ("limit-request-line", "bytes of a request's first line; longer ones are answered with 414"),
    "fields": ("limit-request-fields", "header fields of a request; more are answered with 431"),
    "head": ("limit-header-size", "bytes of a request's head; larger ones are answered with 431"),
    "body": ("limit-body", "bytes of a request's body, unless the app says otherwise; longer ones are answered with 413; 0: no limit"),
}
"""The fields of `Limits` that have an option, with its name and meaning."""

logger = logging.getLogger("microasgi")


class MissingExtra(Exception):
    """An option needs a package that isn't installed."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. Ends with SystemExit: 0, 1 for what can't be served, 2 for a wrong command."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (TargetError, MissingExtra, microasgi_server.StartupError) as error:
        hint = ""
        if error.__cause__ is not None and isinstance(error, TargetError) and hasattr(arguments, "log_level"):
            logger.debug("Where it comes from:", exc_info=error.__cause__)
            hint = "" if logger.isEnabledFor(logging.DEBUG) else "; --log-level debug shows more"
        print(f"error: {error}{hint}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse would print the usage first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see: {self.prog} --help\n")


class _Version(argparse.Action):
    """Says what this is, and what it can do with the anyio that is there."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"microasgi {version('microasgi')} with anyio {version('anyio')}: {way(missing())}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="microasgi",
        description="Serve an ASGI app whose handlers stop when their clients go away.",
        epilog="Try: microasgi serve microasgi.demo:routes",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version, how a departure is delivered, and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="serve an app", description="Serve an app until Ctrl+C."))
    routes = commands.add_parser("routes", help="show a Router's routes", description="Show a Router's routes and what a disconnect does.")
    routes.set_defaults(run=_routes)
    _add_target(routes)
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.set_defaults(run=_serve)
    _add_target(serve)
    defaults = microasgi_server.Config()
    serve.add_argument("--host", default=defaults.host, help="address to listen on; 0.0.0.0 is every one (default: %(default)s)")
    serve.add_argument("--port", type=_port, default=defaults.port, help="0 picks a free one and prints it (default: %(default)s)")
    serve.add_argument("--uds", metavar="PATH", help="listen on a unix socket instead of host and port")
    loops = ["auto", "asyncio", "uvloop", "trio"]
    serve.add_argument(
        "--loop", choices=loops, default=defaults.loop, help="auto is uvloop if installed, else asyncio (default: %(default)s)"
    )
    level = "trace shows every message, debug where an import failed (default: %(default)s)"
    serve.add_argument("--log-level", choices=list(LEVELS), default="info", help=level)
    serve.add_argument("--access-log", action=argparse.BooleanOptionalAction, default=True, help="a line for each request (default: on)")
    serve.add_argument(
        "--root-path", type=_prefix, default="", metavar="PREFIX", help="what a proxy in front strips from paths, as in /api"
    )
    modes = ["auto", "on", "off"]
    lifespan = "startup and shutdown of the app: auto if it has one, on if it must work (default: %(default)s)"
    serve.add_argument("--lifespan", choices=modes, default=defaults.lifespan, help=lifespan)
    for name, meaning in {
        "timeout-keep-alive": "how long a connection may be idle",
        "timeout-header": "how long a request's head may take",
        "timeout-graceful-shutdown": "how long requests may go on after Ctrl+C",
    }.items():
        default = getattr(defaults, name.replace("-", "_"))
        serve.add_argument(f"--{name}", type=_seconds, default=default, metavar="SECONDS", help=f"{meaning} (default: %(default)g)")
    for name, (option, meaning) in LIMITS.items():
        default = getattr(defaults.limits, name)
        serve.add_argument(f"--{option}", type=_count, default=default, metavar="N", help=f"{meaning} (default: %(default)s)")
    serve.add_argument("--half-close", action="store_true", help="serve clients that shut their sending side; they count as gone otherwise")
    cancel = "stop the handlers of another framework's app too when their clients leave; a Router does so anyway"
    serve.add_argument("--cancel-on-disconnect", action="store_true", help=cancel)


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="module:attribute, as in main:routes: an ASGI app, a Router or a list of routes")
    parser.add_argument("--factory", action="store_true", help="TARGET is a function that takes nothing and returns the app")
    parser.add_argument("--app-dir", default=".", metavar="DIR", help="the directory to import from (default: this one)")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # nan isn't either
        raise argparse.ArgumentTypeError(f"a time is a number of seconds, 0 or more, not {text!r}")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a limit is a whole number, 0 or more, not {text!r}")
    return int(text)


def _prefix(text: str) -> str:
    if text and not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"a prefix starts with a slash, as in /{text}")
    return text.rstrip("/")


def _load(arguments: argparse.Namespace) -> ASGIApp:
    return load_app(arguments.target, factory=arguments.factory, app_dir=arguments.app_dir)


def _serve(arguments: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    level = LEVELS[arguments.log_level]
    for name in ("microasgi", "microasgi_server"):
        logging.getLogger(name).setLevel(level)
    if arguments.loop in ("uvloop", "trio") and find_spec(arguments.loop) is None:
        extra = {"uvloop": "fast", "trio": "trio"}[arguments.loop]
        raise MissingExtra(f"--loop {arguments.loop} needs {arguments.loop}; install it with: pip install 'microasgi[{extra}]'")
    app = _load(arguments)
    if arguments.cancel_on_disconnect and not isinstance(app, Router):
        app = CancelOnDisconnect(app)
    config = microasgi_server.Config(
        host=arguments.host,
        port=arguments.port,
        uds=arguments.uds,
        loop=arguments.loop,
        lifespan=arguments.lifespan,
        root_path=arguments.root_path,
        access_log=arguments.access_log,
        timeout_header=arguments.timeout_header,
        timeout_keep_alive=arguments.timeout_keep_alive,
        timeout_graceful_shutdown=arguments.timeout_graceful_shutdown,
        half_close=arguments.half_close,
        limits=microasgi_server.Limits(**{name: getattr(arguments, option.replace("-", "_")) for name, (option, _) in LIMITS.items()}),
    )
    # A port that was picked must be known, also where the log doesn't say it.
    announce = arguments.port == 0 and arguments.uds is None and level > logging.INFO
    microasgi_server.run(app, config, started=_print_addresses if announce else None)


def _print_addresses(addresses: list[str]) -> None:
    print(*addresses, sep="\n", flush=True)


def _routes(arguments: argparse.Namespace) -> None:
    app = _load(arguments)
    if not isinstance(app, Router):
        raise TargetError(f"{arguments.target!r} is neither a Router nor a list of routes, and only those tell what they have")
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
            name = getattr(route.app, "__name__", type(route.app).__name__)
            rows.append(("*", f"{path}/*", route.name or name, shown))
    return rows
