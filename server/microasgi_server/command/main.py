"""The command `python -m microasgi_server`, and how a command ends."""

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from microasgi_server.command.checking import CHECK, checked_config, plan
from microasgi_server.command.levels import LEVELS, explained
from microasgi_server.command.output import let_all_out, remark, say
from microasgi_server.command.parser import DEFAULTS, SERVE_GROUPS, Parser, add_target, as_flags, config_fields
from microasgi_server.command.run import run
from microasgi_server.command.targets import a, load_app
from microasgi_server.config import Config
from microasgi_server.errors import OptionError, ShutdownError, StartupError
from microasgi_server.log_stream import let_out
from microasgi_server.places import place
from microasgi_server.signals import INTERRUPTED

NOBODY_READS = 141
"""The exit code of a command whose output nobody reads any more, as in `… | head`: 128 + SIGPIPE's 13."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. Ends with SystemExit: 0, 1 for what can't be served, 2 for a wrong command."""
    with ending():
        parser = Parser(prog="python -m microasgi_server", description="Serve an ASGI app until Ctrl+C.")
        add_serve(parser, "module:attribute, as in main:app: an ASGI app")
        arguments = parser.parse_args(argv)
        if arguments.check:
            _check(arguments)
        else:
            serve(run, arguments)


def _check(arguments: argparse.Namespace) -> None:
    config = checked_config(arguments)
    app = load_app(arguments.target, factory=arguments.factory, app_dir=arguments.app_dir)
    say(f"{arguments.target} can be served: {a(app)}", *plan(config))


def add_serve(parser: Parser, target: str) -> None:
    """All that there is to choose when serving.

    :param target: what the target may be
    """
    parser.takes_all = True
    add_target(parser, target)
    parser.add_options({"instead of serving": (CHECK,), **SERVE_GROUPS}, {**DEFAULTS, **vars(Config())})


def serve(run: Callable[..., None], arguments: argparse.Namespace, **more: Any) -> None:
    """Call `run` with what was chosen."""
    # A port that was picked must be known, also where the log doesn't say it.
    announce = _picks_port(arguments) and LEVELS[arguments.log_level] > logging.INFO
    run(
        arguments.target,
        factory=arguments.factory,
        app_dir=arguments.app_dir,
        log_level=arguments.log_level,
        log_format=arguments.log_format,
        log_config=arguments.log_config,
        started=_print_addresses if announce else None,
        **config_fields(arguments),
        **more,
    )
    with suppress(OSError):  # what the app has printed is its own business
        let_out(sys.stdout)


def _picks_port(arguments: argparse.Namespace) -> bool:
    """Whether the system picks one."""
    if arguments.bind:
        return any(place(text).port == 0 and not place(text).path for text in arguments.bind)
    return arguments.port == 0 and arguments.uds is None and not arguments.fd


def _print_addresses(addresses: list[str]) -> None:
    say(*addresses, flush=True)


@contextmanager
def ending() -> Iterator[None]:
    """Around a command: what ends it early is one line, or none, and an exit code."""
    try:
        try:
            yield
        finally:
            let_all_out()
    except (StartupError, ShutdownError) as error:
        told = as_flags(str(error)) if isinstance(error, OptionError) else explained(error)
        remark(f"error: {told}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        raise SystemExit(NOBODY_READS) from None
