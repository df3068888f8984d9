"""The same request to the same app on another server, for the page to show beside ours.

That server runs in a process of its own, as it does for `microasgi trace --server`, which hides what is always hidden. What else is to be
hidden here is hidden as soon as it comes from there.
"""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import anyio
from anyio import to_thread
from microasgi_server import StartupError
from microasgi_server.taps import Redaction

from microasgi.command.hosted import Task
from microasgi.command.hosting import hosting
from microasgi.command.inspecting import cuts
from microasgi.exceptions import HTTPException
from microasgi.inspector.client import Client
from microasgi.inspector.leaving import WAYS
from microasgi.inspector.page.routes import Compare
from microasgi.inspector.page.sheet import Sheet
from microasgi.inspector.page.visits import Asked
from microasgi.inspector.reasons import Seen
from microasgi.inspector.told import Recording, Shown, in_order

PATIENCE = 60.0
"""Seconds that a handler may take on the other server, after its client has left, before the comparison ends."""

HIDDEN = "***"


def comparing(host: Callable[[str, str], Task], redaction: Redaction) -> Compare:
    """Makes the request, as soon as somebody compares.

    :param host: what is to be served, for a method and a path
    """

    async def compare(asked: Asked) -> dict[str, Any]:
        task = host(asked.request.method, asked.request.path)
        if find_spec(task.server) is None:
            raise HTTPException(501, f"{task.server} is not installed; install it with: pip install {task.server}")
        comparison = _Comparison(task, asked, redaction)
        try:
            return await to_thread.run_sync(comparison.run, abandon_on_cancel=True)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(comparison.stop)

    return compare


class _Comparison:
    """One request on the other server, which may be broken off: its page has closed, or the inspector ends."""

    def __init__(self, task: Task, asked: Asked, redaction: Redaction) -> None:
        self._task, self._asked, self._redaction = task, asked, redaction
        self._ending = ExitStack()
        self._lock = threading.Lock()
        self._is_over = False

    def run(self) -> dict[str, Any]:
        """Make it, and wait for its end.

        :raises HTTPException: 502, the app can't be served there
        """
        task, asked, told = self._task, self._asked, Recording()
        sends, gets = cuts(self._redaction)
        try:
            with hosting(task.write(), sees_the_wire=False) as host:
                self._end_with(host.stop)
                client = Client(host.port(), asked.request, WAYS[asked.way], told, seconds=asked.seconds, sends=sends, gets=gets)
                self._end_with(client.leave_now)
                client.run()
                host.settles(PATIENCE)
                events = in_order([*told.events, *(hidden(event, self._redaction) for event in host.events)])
        except (SystemExit, StartupError):
            raise HTTPException(502, f"{task.server} doesn't serve {task.target}: the terminal says why") from None
        return Sheet(0, events, f"{task.server} {version(task.server)}").whole(Seen())

    def stop(self) -> None:
        """Break it off, wherever it is."""
        with self._lock:
            self._is_over = True
            self._ending.close()

    def _end_with(self, what: Callable[[], object]) -> None:
        """From now on that is a part of breaking it off."""
        with self._lock:
            if self._is_over:
                what()
            else:
                self._ending.callback(what)


def hidden(event: Shown, redaction: Redaction) -> Shown:
    """The event, without what is to be hidden of its scope or its message."""
    facts = {name: _hidden(value, redaction) if name in ("scope", "message") else value for name, value in event["facts"].items()}
    if "detail" in facts and not shows_values(redaction):
        facts["detail"] = ""
    return {**event, "facts": facts}


def shows_values(redaction: Redaction) -> bool:
    """Whether what is wrong with a message may be told with what is in it."""
    return redaction.bodies and not redaction.hide_query


def _hidden(told: Any, redaction: Redaction) -> Any:
    if not isinstance(told, dict):
        return told
    found = dict(told)
    for name, value in told.items():
        match name, value:
            case "headers", list():
                found[name] = [list(field) for field in redaction.fields(value)]
            case "query_string", str() if value and redaction.hide_query:
                found[name] = HIDDEN
            case "body" | "bytes" | "text", dict() if not redaction.bodies:
                found[name] = {**value, **{part: "" for part in ("bytes", "text") if part in value}}
    return found
