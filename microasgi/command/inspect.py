"""`microasgi inspect`: its options. What it does is in `inspection.py`."""

import argparse
from typing import Any

from microasgi_server.command.levels import LOG_LEVEL
from microasgi_server.command.parser import Parser, add_target
from microasgi_server.kinds import FLAG, NAMES, PORT, Kind
from microasgi_server.options import GROUPS, Groups, Option

from microasgi.command import serve

LOOPBACK = Kind(
    "127.0.0.1 or localhost, since the inspector shows everything to whoever reaches it",
    lambda value: value in ("127.0.0.1", "localhost"),
    str,
    "{127.0.0.1,localhost}",
)

_KNOWN = {option.name: option for group in GROUPS.values() for option in group}

OPTIONS: Groups = {
    "where it listens": (
        Option("host", LOOPBACK, "address of the app and of the page"),
        _KNOWN["port"],
        Option("page_port", PORT, "of the page; without it 8001, or another one if that is taken"),
    ),
    "what it hides": (
        Option("hide", NAMES, "one more header field whose values are hidden, beside those that carry secrets"),
        Option("hide_query", FLAG, "hide what stands behind the question mark of a URL"),
        Option("bodies", FLAG, "show the beginning of bodies"),
    ),
    "how it runs the app": (*(_KNOWN[name] for name in ("loop", "lifespan", "root_path", "half_close", "limit_body")), LOG_LEVEL),
    **serve.GROUPS,
}

DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 8000,
    "page_port": None,
    "hide": (),
    "hide_query": False,
    "bodies": True,
    "loop": "auto",
    "lifespan": "auto",
    "root_path": "",
    "half_close": False,
    "limit_body": 0,
    "log_level": "info",
    "cancel_on_disconnect": False,
    "lint": False,
}


def add(parser: Parser) -> None:
    """The options of `microasgi inspect`."""
    add_target(parser, "module:attribute, as in main:routes: an ASGI app, a Router or a list of routes")
    parser.add_options(OPTIONS, DEFAULTS)
    parser.set_defaults(wrong=parser.error)


def inspect(arguments: argparse.Namespace) -> None:
    """Serve the app and the page until Ctrl+C.

    :raises StartupError: either can't be served
    """
    if arguments.page_port and arguments.page_port == arguments.port:
        arguments.wrong(f"--page-port {arguments.page_port} is the app's own port: choose another one")
    from microasgi.command.inspection import run  # which other commands needn't load

    run(arguments)
