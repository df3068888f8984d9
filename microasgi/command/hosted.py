"""`python -m microasgi.command.hosted`: a process that serves one app for `microasgi trace`, and reports what is told.

What it reports goes to its standard output, a JSON object a line: `{"port": 41234}` once it can be asked, then each event. What the app
prints goes to standard error. In between there may be text, of a timer's (`blocking.py`). Whoever has started it may `ASK` for all of
it, and takes it along: it ends with its standard input.
"""

import json
import os
import sys
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from microasgi_server import TargetError
from microasgi_server.command.main import ending

from microasgi.asgi import ASGIApp
from microasgi.command.blocking import Lookout
from microasgi.command.servers import SERVERS
from microasgi.command.targets import load_app
from microasgi.inspector.told import Event, shown
from microasgi.lint.marking import marked
from microasgi.routing import Router
from microasgi.wrapping import CancelOnDisconnect

QUIET = 0.02
"""Seconds in which nothing was told, after which it is reported: not before, so as not to be in the way of what happens."""
LATEST = 0.5
"""Seconds after which it is reported in any case."""
ASK = b"?"
"""What standard input is sent by who wants all of it now; it is answered with how often that came, `{"asked": 1}`."""


@dataclass(frozen=True)
class Task:
    """What to serve, and how.

    target, factory, app_dir: as for `microasgi serve`.
    server: one of `SERVERS`; loop: its event loop.
    cancel_on_disconnect: stop the handlers of another framework's app, too.
    method, path: what it will be asked for.
    """

    target: str
    factory: bool
    app_dir: str
    server: str
    loop: str
    cancel_on_disconnect: bool
    method: str
    path: str

    @staticmethod
    def read(text: str) -> "Task":
        """As `write` has written it."""
        return Task(**json.loads(text))

    def write(self) -> str:
        """As text, for another process."""
        return json.dumps(asdict(self))


class Reports:
    """Keeps what is told, and reports it in the silence behind it, from a thread."""

    def __init__(self, out: BinaryIO) -> None:
        self._events: deque[Event] = deque()
        self._out = out
        self._lookout = Lookout(self._write, out)
        self._asked = threading.Event()
        self._times = 0

    def tap(self, event: Event) -> None:
        """Take an event: nothing is done with it now."""
        self._events.append(event)

    def meet(self) -> None:
        """This is the loop: it is looked at from now on. Called in it."""
        self._lookout.meet()

    def ready(self, port: int) -> None:
        """It can be asked."""
        self._write({"port": port})

    def ask(self) -> None:
        """Somebody wants to know now."""
        self._times += 1
        self._asked.set()

    def run(self) -> None:
        """Report, for ever."""
        before, since = 0, time.monotonic()
        while True:
            asked = self._asked.wait(QUIET)
            if asked:  # else it may have come just now, and is for the next turn
                self._asked.clear()
            self._lookout.look()
            times, count = self._times, len(self._events)
            if asked or count == before or time.monotonic() - since > LATEST:
                for _ in range(count):
                    self._write(shown(self._events.popleft()))
                count, since = 0, time.monotonic()
            if asked:
                self._write({"asked": times})
            before = count

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._out.write(json.dumps(line).encode() + b"\n")
            self._out.flush()
        except OSError:  # whoever has started this is gone
            os._exit(1)


def is_websocket(app: ASGIApp, method: str, path: str) -> bool:
    """Whether a Router has nothing there but a WebSocket, which answers an ordinary request with 404."""
    if not isinstance(app, Router) or method == "WEBSOCKET":
        return False
    path = path.partition("?")[0]
    return any(route.template.match(path) for route in app.websocket_routes) and not any(route.template.match(path) for route in app.routes)


def _reports() -> Reports:
    """What was standard output is for reports, from here on."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    reports = Reports(out)
    threading.Thread(target=reports.run, daemon=True).start()
    threading.Thread(target=_listen_to_whoever_started_it, args=(reports,), daemon=True).start()
    return reports


def _listen_to_whoever_started_it(reports: Reports) -> None:
    """Who does holds the other end of standard input, asks there, and takes this process along at the end."""
    while os.read(0, 1) == ASK:
        reports.ask()
    os._exit(1)


def main() -> None:
    """Serve until a signal comes. Ends with SystemExit: 1 for what can't be served."""
    with ending():
        task = Task.read(sys.argv[1])
        reports = _reports()
        app = load_app(task.target, factory=task.factory, app_dir=task.app_dir)
        if task.cancel_on_disconnect and not isinstance(app, Router):
            app = CancelOnDisconnect(app)
        if is_websocket(app, task.method, task.path):
            raise TargetError(f"{task.path} is a WebSocket's path: write WEBSOCKET instead of {task.method}")
        try:
            SERVERS[task.server](marked(app), task.loop, reports)
        except ModuleNotFoundError as error:
            if error.name != task.server:
                raise
            raise TargetError(f"{task.server} is not installed; install it with: pip install {task.server}") from None


if __name__ == "__main__":
    main()
