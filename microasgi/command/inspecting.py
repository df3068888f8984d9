"""What `microasgi inspect` is made of: the page's own server, and what a page has to know of an app."""

import logging
import os
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import anyio
from microasgi_server import Config, StartupError, serve
from microasgi_server.errors import single_error
from microasgi_server.http1.phases import DONE, GONE, TRANSITIONS
from microasgi_server.taps import Redaction
from microasgi_server.taps.streams import Stream

from microasgi.asgi import ASGIApp
from microasgi.command.routes import rows
from microasgi.inspector.page.session import Subject
from microasgi.inspector.told import Cut
from microasgi.promise.stages import Stage
from microasgi.routing import Router

PAGE_PORT = 8001

_LEAVES = "leaves"
_PLACEHOLDER = re.compile(r"\{(\w+)(:(\w+))?\}")
_EXAMPLES = {"int": "1", "float": "1.5", "uuid": "00000000-0000-4000-8000-000000000000"}


def subject(app: ASGIApp, target: str, loop: str, redaction: Redaction) -> Subject:
    """What a page has to know of an app."""
    asked = _paths(app)
    return Subject(
        target=target,
        loop=loop,
        server="microasgi",
        paths=asked,
        phases=_phases(),
        stages=[(stage.name, stage.value) for stage in Stage],
        terms=_terms(redaction),
        cuts=partial(cuts, redaction),
    )


def _paths(app: ASGIApp) -> list[tuple[str, str]]:
    """Method and path of each route, with something in place of what they capture. Another framework's app doesn't tell."""
    if not isinstance(app, Router):
        return []
    shown = [(methods.split(","), _PLACEHOLDER.sub(_example, path)) for methods, path, *_ in rows(app) if not path.endswith("/*")]
    found = [("GET" if "GET" in methods else methods[0], path) for methods, path in shown]
    return sorted(found, key=lambda each: each[0] != "GET")  # the harmless ones first


def _example(placeholder: "re.Match[str]") -> str:
    return _EXAMPLES.get(placeholder[3], "x")


def _phases() -> dict[str, Any]:
    """The server's table of phases, to be drawn; who leaves isn't in it."""
    steps = list(dict.fromkeys(step.name for row in TRANSITIONS.values() for step in row))
    return {
        "columns": [*steps, _LEAVES],
        "usual": ["START", "BODY", "LAST_BODY", _LEAVES],
        "unusual": ["TRAILERS"],
        "leaves": _LEAVES,
        "words": {"START": "start", "BODY": "body, more", "LAST_BODY": "last body", _LEAVES: "client leaves"},
        "rows": {
            phase.name: {**{step.name: after.name for step, after in row.items()}, _LEAVES: (DONE if phase is DONE else GONE).name}
            for phase, row in TRANSITIONS.items()
        },
    }


def _terms(redaction: Redaction) -> str:
    """What the page says of itself at its foot."""
    bodies = "bodies cut at 256 bytes" if redaction.bodies else "no bodies"
    hidden = ", ".join([*sorted(redaction.hidden), *(["queries"] if redaction.hide_query else [])])
    return f"hidden: {hidden} · {bodies} · loopback only"


def cuts(redaction: Redaction) -> tuple[Cut, Cut]:
    """What is told of the bytes that a client sends, and of those that it gets."""
    sends, gets = Stream(redaction), Stream(redaction)
    for stream in (sends, gets):
        stream.expect_head()
    return sends.piece, gets.piece


@contextmanager
def listening(port: int | None) -> Iterator[socket.socket]:
    """A socket for the page.

    :param port: None: 8001, or any that is free
    :raises StartupError: it is taken
    """
    wanted = [PAGE_PORT, 0] if port is None else [port]
    for each in wanted:
        try:
            with socket.create_server(("127.0.0.1", each)) as sock:
                yield sock
                return
        except OSError as error:
            if each == wanted[-1]:
                why = os.strerror(error.errno or 0)
                raise StartupError(f"can't listen on 127.0.0.1:{each} for the page: {why}; choose another --page-port") from None


@asynccontextmanager
async def serving(app: ASGIApp, session: Any, sock: socket.socket) -> AsyncIterator[str]:
    """Serve the page in the running loop, as long as the block lasts; gives its address."""
    config = Config(access_log=False, lifespan="off", timeout_graceful_shutdown=0)
    with single_error(), _quiet(threading.get_ident()):  # what ends the block is one error, as it was in there
        async with session.running(), anyio.create_task_group() as tasks:
            (address,) = await tasks.start(partial(serve, app, config, sockets=[sock]))
            yield address
            tasks.cancel_scope.cancel()


@contextmanager
def _quiet(thread: int) -> Iterator[None]:
    """The page's server says nothing of what is usual: its address is of no use without the token."""
    logger = logging.getLogger("microasgi_server")

    def wanted(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno > logging.INFO

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
