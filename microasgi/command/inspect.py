"""`microasgi inspect`, which is `microasgi serve --inspect`, too: its options. What it does is in `inspection.py`."""

import argparse
from typing import Any

from microasgi_server import Config
from microasgi_server.command.checking import CHECK
from microasgi_server.command.parser import DEFAULTS as PARSER_DEFAULTS
from microasgi_server.command.parser import SERVE_GROUPS, Parser, add_target
from microasgi_server.kinds import FLAG, NAMES, PORT, Kind
from microasgi_server.options import GROUPS, Groups, Option

from microasgi.command import serve

LOOPBACK = Kind(
    "127.0.0.1 or localhost, since the inspector shows everything to whoever reaches it",
    lambda value: value in ("127.0.0.1", "localhost"),
    str,
    "{127.0.0.1,localhost}",
)

HURRY = 0.5
"""Seconds that requests may go on after Ctrl+C, unless told otherwise: whoever looks at a handler that waits doesn't wait for its end."""

_ONE_PROCESS = "an app is inspected in one process"
_ONE_ADDRESS = "an app is inspected at one address of this machine, which is --host's and --port's"
_PLAIN = "the page is a client itself, and speaks plain HTTP"

NOT_HERE = {
    **dict.fromkeys(("workers", "timeout_worker", "limit_worker_memory", "limit_worker_age"), _ONE_PROCESS),
    **dict.fromkeys(("reload", "reload_dir", "reload_include"), _ONE_PROCESS),
    **dict.fromkeys(("bind", "uds", "uds_permissions", "fd", "reuse_port", "backlog"), _ONE_ADDRESS),
    **dict.fromkeys([option.name for option in GROUPS["how it encrypts"]], _PLAIN),
    **dict.fromkeys(("timeout_handshake", "proxy_protocol"), _PLAIN),
    CHECK.name: "microasgi serve has it",
}
"""The options of `serve` that make no sense for who looks inside, and why."""

_OF_SERVE: Groups = {
    heading: kept
    for heading, options in {**SERVE_GROUPS, **serve.GROUPS}.items()
    if (kept := tuple([option for option in options if option.name not in NOT_HERE and option.name not in ("host", "port")]))
}

OPTIONS: Groups = {
    "where it listens": (
        Option("host", LOOPBACK, "address of the app and of the page"),
        next(option for option in GROUPS["where it listens"] if option.name == "port"),
        Option("page_port", PORT, "of the page; without it 8001, or another one if that is taken"),
    ),
    "what it hides": (
        Option("hide", NAMES, "one more header field whose values are hidden, beside those that carry secrets"),
        Option("hide_query", FLAG, "hide what stands behind the question mark of a URL"),
        Option("bodies", FLAG, "show the beginning of bodies"),
    ),
    **_OF_SERVE,
}

DEFAULTS: dict[str, Any] = {
    **PARSER_DEFAULTS,
    **vars(Config()),
    "timeout_graceful_shutdown": HURRY,
    "page_port": None,
    "hide": (),
    "hide_query": False,
    "bodies": True,
    "cancel_on_disconnect": False,
    "lint": False,
}


def add(parser: Parser) -> None:
    """The options of `microasgi inspect`."""
    add_target(parser, "module:attribute, as in main:routes: an ASGI app, a Router or a list of routes")
    parser.add_options(OPTIONS, DEFAULTS)
    parser.not_here = {f"--{name.replace('_', '-')}": why for name, why in NOT_HERE.items()}
    parser.set_defaults(wrong=parser.error)


def inspect(arguments: argparse.Namespace) -> None:
    """Serve the app and the page until Ctrl+C.

    :raises StartupError: either can't be served
    """
    if arguments.page_port and arguments.page_port == arguments.port:
        arguments.wrong(f"--page-port {arguments.page_port} is the app's own port: choose another one")
    from microasgi.command.inspection import run  # which other commands needn't load

    run(arguments)
