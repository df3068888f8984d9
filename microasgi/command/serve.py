"""`run`, and `microasgi serve`, which is the same from a command line."""

import argparse
import atexit
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from microasgi_server import Config
from microasgi_server.command.main import add_serve, serve
from microasgi_server.command.parser import Parser
from microasgi_server.command.run import chosen_config, prepare, start
from microasgi_server.kinds import FLAG
from microasgi_server.options import Groups, Option
from microasgi_server.workers.job import Job

from microasgi.asgi import ASGIApp
from microasgi.command.checking import check
from microasgi.command.targets import load_app
from microasgi.mounting import Mount
from microasgi.routes import Route
from microasgi.routing import Router
from microasgi.wrapping import CancelOnDisconnect

LOGGERS = ("microasgi_server", "microasgi")

FOREIGN_APPS = "stop the handlers of another framework's app too when their clients leave; a Router does so anyway"
LINT = "log once for each kind what app or server do against ASGI's rules, and which; for developing"
INSPECT = "be microasgi inspect: beside the app a page that shows what happens in it, with options of its own: see microasgi inspect --help"
GROUPS: Groups = {
    "another framework's app": (Option("cancel_on_disconnect", FLAG, FOREIGN_APPS),),
    "looking for mistakes": (Option("lint", FLAG, LINT),),
}


def run(
    target: str | ASGIApp | Sequence[Route | Mount],
    config: Config | None = None,
    *,
    factory: bool = False,
    app_dir: str = ".",
    cancel_on_disconnect: bool = False,
    lint: bool = False,
    log_level: str | None = None,
    log_format: str = "text",
    log_config: str | None = None,
    started: Callable[[list[str]], object] | None = None,
    **options: Any,
) -> None:
    """Serve a Router, a list of routes or any ASGI app until Ctrl+C, as `microasgi serve` does: `run("main:routes", port=8080)`.

    The server is microasgi_server's, and the process is its own: see `microasgi_server.run`. With `workers=4` or `reload=True` there are
    several, and each imports the app: the target must be a name then.

    :param target: what to serve, or `module:attribute` that names it
    :param config: the server's options
    :param factory: call what the target is or names, without arguments, and serve what it returns
    :param app_dir: the directory to import from
    :param cancel_on_disconnect: stop the handlers of another framework's app, too, when their clients leave; a Router does so anyway
    :param lint: log, once for each kind, what the app or the server does against the rules of ASGI, and count it at the process's end
    :param log_level: `critical`, `error`, `warning`, `info`, `debug` or `trace`; without it `info`, unless logging is configured already
    :param log_format: `text`, or `json` for an object a line; not where logging is configured already
    :param log_config: a file for Python's logging.config, instead of both
    :param started: called with the bound addresses, as in `["http://127.0.0.1:8000"]`, once the server accepts
    :param options: fields of `microasgi_server.Config`, instead of those in `config`
    :raises microasgi_server.TargetError: there is no such app
    :raises microasgi_server.StartupError: the loop isn't installed, the address can't be bound, the app's startup failed; uncaught, it is
        one line and exit code 1
    :raises ValueError: an option has a value that it may not have
    :raises TypeError: there is no such option
    :raises KeyboardInterrupt: Ctrl+C came before the server accepted
    """
    set_up = partial(prepare, log_level=log_level, log_format=log_format, log_config=log_config, loggers=LOGGERS)
    load = partial(loaded, target, factory=factory, app_dir=app_dir, cancel_on_disconnect=cancel_on_disconnect, lint=lint)
    start(Job(set_up, load, chosen_config(config, options), app_dir), target, started)


def loaded(target: Any, *, factory: bool, app_dir: str, cancel_on_disconnect: bool, lint: bool = False) -> ASGIApp:
    """The app that is `target`, or that it names, wrapped if that was asked for, and if it isn't ours.

    :raises TargetError: there is none
    """
    app = load_app(target, factory=factory, app_dir=app_dir)
    app = CancelOnDisconnect(app) if cancel_on_disconnect and not isinstance(app, Router) else app
    if lint:
        from microasgi.lint import Lint  # which others needn't load

        return Lint(app, lint_log())
    return app


def lint_log() -> Callable[[Any], object]:
    """A report that logs each kind of finding once, and how often each was at the process's end."""
    from microasgi.lint.reports import LogOnce

    log = LogOnce()
    atexit.register(log.count)
    return log


def add(parser: Parser) -> None:
    """The options of `microasgi serve`."""
    add_serve(parser, "module:attribute, as in main:routes: an ASGI app, a Router or a list of routes")
    parser.add_options(GROUPS, {"cancel_on_disconnect": False, "lint": False})
    parser.not_here = dict.fromkeys(("--page-port", "--hide", "--hide-query", "--bodies", "--no-bodies"), "write --inspect beside it")
    parser.add_argument_group("looking inside").add_argument("--inspect", action="store_true", help=INSPECT)


def serve_target(arguments: argparse.Namespace) -> None:
    """What `microasgi serve` does."""
    if arguments.check:
        check(arguments, *LOGGERS)
        return
    serve(run, arguments, cancel_on_disconnect=arguments.cancel_on_disconnect, lint=arguments.lint)
