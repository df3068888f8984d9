""" "Be the client": requests that are made here, since a browser can neither reset a connection, nor half-close it, nor stop reading.

They go to the app that is looked at, at 127.0.0.1 and its own port: nobody can have anything sent elsewhere.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from microasgi.checks import encode_header
from microasgi.exceptions import HTTPException
from microasgi.inspector.client import Client, Request
from microasgi.inspector.leaving import WAYS, Ending, Leaves, Sends, Way
from microasgi.inspector.told import Cut, Ends

AT_ONCE = 20
"""Visits that may go on at the same time."""

PATIENCE = 300.0
"""Seconds after which a client leaves that nobody has told to."""

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "WEBSOCKET")


@dataclass(frozen=True)
class Asked:
    """What a visit is to be.

    after: seconds until it leaves; None: when it is told to, or when its way to leave says so.
    """

    request: Request
    way: str
    after: float | None

    @property
    def seconds(self) -> float:
        if self.after is not None:
            return self.after
        return 0.0 if WAYS[self.way].leaves is Leaves.WITH_ITS_ANSWER else PATIENCE


@dataclass(eq=False)
class Visit:
    """A request that is made here.

    events: the client's own lane.
    over: whether it has ended.
    """

    number: int
    asked: Asked
    events: Ends = field(default_factory=Ends)
    client: Client | None = None
    over: bool = False

    @property
    def port(self) -> int | None:
        """The client's, by which the server's side of the connection is found."""
        return None if self.client is None else self.client.port

    def tell(self, what: str, **facts: Any) -> None:
        """The client does something. Called in its own thread."""
        at = round(time.perf_counter() * 1000, 3)
        self.events.append({"at": at, "connection": 0, "request": 0, "lane": "client", "what": what, "source": None, "facts": facts})


class Visits:
    """The visits that go on, each in a thread.

    :param port: the app's, once it can be asked
    :param cuts: makes what is told of the bytes that a client sends, and of those that it gets: without secrets
    :param changed: a visit has begun or ended; the words say it
    """

    def __init__(self, port: Callable[[], int], cuts: Callable[[], tuple[Cut, Cut]], changed: Callable[[Visit, str], object]) -> None:
        self.going_on: dict[int, Visit] = {}
        self._port, self._cuts, self._changed = port, cuts, changed
        self._last = 0

    def open(self, tasks: TaskGroup, asked: Asked) -> Visit:
        """Begin one.

        :raises HTTPException: 429, there are too many
        """
        if len(self.going_on) >= AT_ONCE:
            raise HTTPException(429, f"{AT_ONCE} requests are on their way already: have some of them leave first")
        self._last += 1
        visit = self.going_on[self._last] = Visit(self._last, asked)
        sends, gets = self._cuts()
        way = WAYS[asked.way]
        visit.client = Client(
            self._port(), asked.request, way, visit.tell, seconds=asked.seconds, patience=PATIENCE, sends=sends, gets=gets
        )
        tasks.start_soon(self._run, visit, visit.client)
        return visit

    def leave(self, number: int) -> None:
        """Have one leave now. One that has ended has left.

        :raises HTTPException: 404, there never was one of this number
        """
        if not 0 < number <= self._last:
            raise HTTPException(404, f"there is no visit {number}")
        visit = self.going_on.get(number)
        if visit is not None and visit.client is not None:
            visit.client.leave_now()

    async def _run(self, visit: Visit, client: Client) -> None:
        self._changed(visit, "on its way")
        words = "over"
        try:
            await to_thread.run_sync(client.run, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
            words = f"answered with {client.status}" if client.status else "left without an answer"
        except OSError as error:
            words = f"the app can't be reached: {error.strerror or error}"
        except Exception:  # the fault is ours, and no reason for the page to end
            words = "over, by a fault of the inspector's: the terminal shows it"
            logging.getLogger("microasgi").exception("A visit has failed: %s %s", visit.asked.request.method, visit.asked.request.path)
        finally:
            if not visit.over:
                visit.over = True
                del self.going_on[visit.number]
                self._changed(visit, words)
            client.leave_now()


def asked(values: Any) -> Asked:
    """What a page has asked for.

    :raises HTTPException: 422, with what is wrong where
    """
    try:
        return _read(values)
    except (ValueError, TypeError) as error:
        raise HTTPException(422, str(error)) from None


def _read(values: Any) -> Asked:
    if not isinstance(values, dict):
        raise ValueError("a visit is an object with method, path, headers, body, way and after")
    method, path, way, after = (values.get(name) for name in ("method", "path", "way", "after"))
    if method not in METHODS:
        raise ValueError(f"the method is one of {', '.join(METHODS)}, not {method!r}")
    if not isinstance(path, str) or not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError(f"the path starts with a slash, and is ASCII without spaces (write %20), not {path!r}")
    if not isinstance(way, str) or way not in WAYS:
        raise ValueError(f"the way to leave is one of {', '.join(WAYS)}, not {way!r}")
    _check(method, WAYS[way], way)
    if after is not None and not (isinstance(after, int | float) and 0 <= after <= PATIENCE):
        raise ValueError(f"after is a number of seconds, {PATIENCE:g} at most, not {after!r}")
    return Asked(Request(method, path, _fields(values.get("headers", "")), str(values.get("body", "")).encode()), way, after)


def _check(method: str, way: Way, name: str) -> None:
    """WebSockets and HTTP's requests aren't left in quite the same ways."""
    websocket = method == "WEBSOCKET"
    if way.ending is Ending.GOODBYE and not websocket:
        raise ValueError("only a WebSocket has a goodbye: choose the method WEBSOCKET")
    if websocket and (way.sends is not Sends.ALL or way.leaves in (Leaves.BEFORE_THE_LAST_BYTE, Leaves.WITH_ITS_ANSWER)):
        raise ValueError(f"a WebSocket can't be left by {name}: that is a way of an HTTP request")


def _fields(text: object) -> Sequence[tuple[str, str]]:
    """Header fields, as somebody has typed them: a line each."""
    fields = []
    for line in str(text).splitlines():
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not name and not colon:
            continue
        if not colon:
            raise ValueError(f"a header field is NAME: VALUE, not {line!r}")
        encode_header(name, value)
        fields.append((name, value))
    return fields


TITLES = {
    "fin": "close · FIN",
    "rst": "reset · RST",
    "half-close": "half-close · shutdown",
    "in-head": "in the middle of the head",
    "in-body": "in the middle of the body",
    "behind-body": "behind a body that nobody reads",
    "behind-request": "behind a pipelined request",
    "not-reading": "without reading anything",
    "before-last-byte": "before the last byte",
    "after": "after the last byte",
    "goodbye": "WebSocket: with a goodbye",
    "stay": "not at all",
}


def ways() -> list[dict[str, Any]]:
    """The ways to leave, for a page.

    waits: whether it leaves when it is told to.
    """
    return [
        {"name": name, "title": TITLES.get(name, name), "help": _help(way), "waits": way.leaves is Leaves.IN_TIME}
        for name, way in WAYS.items()
    ]


def _help(way: Way) -> str:
    """What it means; a page has no options."""
    return way.means.replace("--size", f"{Request.size:,}")
