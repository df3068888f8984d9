"""What `microasgi inspect` does: it serves an app as usual, and beside it the page that shows what happens in it.

the main thread       the app, tapped and watched, in the loop that was chosen
a thread beside it    the page, in a loop of its own, so that it answers when the app's loop doesn't
"""

import argparse
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import current_token
from microasgi_server.command.output import say
from microasgi_server.command.run import chosen_config, prepare
from microasgi_server.connection import Connection
from microasgi_server.options import LIMITS, OPTIONS
from microasgi_server.signals import chosen_loop, run_until_signal
from microasgi_server.taps import Redaction, tapped

from microasgi.command.comparing import comparing, shows_values
from microasgi.command.hosted import Task
from microasgi.command.inspecting import listening, serving, subject
from microasgi.command.serve import LOGGERS, lint_log, loaded
from microasgi.inspector.page.beats import Beats
from microasgi.inspector.page.routes import page
from microasgi.inspector.page.session import Session
from microasgi.lint.marking import HERE, marked
from microasgi.watching import watch

OTHER = "uvicorn"
"""The server to compare with."""

WARNING = "It shows what goes through the app, and sends requests to it: to develop with, never where others can reach it."


def run(arguments: argparse.Namespace) -> None:
    """Serve the app and the page until Ctrl+C.

    :raises StartupError: either can't be served
    """
    given = vars(arguments)
    config = chosen_config(None, {option.name: given[option.name] for option in (*OPTIONS, *LIMITS) if option.name in given})
    logs = {name: given[name] for name in ("log_level", "log_format", "log_config")}
    config = prepare(config, **logs, loggers=LOGGERS)
    app = loaded(
        arguments.target,
        factory=arguments.factory,
        app_dir=arguments.app_dir,
        cancel_on_disconnect=arguments.cancel_on_disconnect,
    )
    redaction = Redaction(arguments.hide, hide_query=arguments.hide_query, bodies=arguments.bodies)
    session = Session(subject(app, arguments.target, chosen_loop(config), redaction), compares=OTHER)
    linted = marked(app, lint_log() if arguments.lint else None, details=shows_values(redaction))
    with _page(session, arguments, redaction) as address:
        run_until_signal(
            watch(linted),
            config,
            started=partial(_begin, session, arguments.target, address),
            connection_class=tapped(Connection, session.feed, redaction, beyond=[HERE]),
        )


@contextmanager
def _page(session: Session, arguments: argparse.Namespace, redaction: Redaction) -> Iterator[str]:
    """Serve the page, in a thread of its own, with a loop of its own; gives its address, with the token."""
    token = secrets.token_hex(16)
    host = partial(Task, arguments.target, arguments.factory, arguments.app_dir, OTHER, "asyncio", arguments.cancel_on_disconnect)
    with listening(arguments.page_port) as sock, start_blocking_portal() as portal:
        app = page(session, token, comparing(host, redaction))
        with portal.wrap_async_context_manager(serving(app, session, sock)) as address:
            yield f"{address}/#t={token}"


def _begin(session: Session, target: str, page_address: str, addresses: list[str]) -> None:
    """The app accepts. Called in its loop."""
    (address,) = addresses
    session.accepts("127.0.0.1", int(address.rpartition(":")[2]), Beats(current_token(), threading.get_ident()))
    say(f"Inspecting {target} at {address}; look at {page_address}", WARNING, flush=True)
