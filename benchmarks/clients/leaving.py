"""Clients that leave: what each sends, how it goes then, and what becomes of the handler that worked for it.

    connect, send                        as far as the kernel takes it: nobody waits for a server that doesn't read
    until every handler has begun        or for a while: some servers want the whole body first, and never call the handler
    leave, one after the other           the time is taken in the client, just before it closes
    the next requests                    are they answered in time?
    until every handler has ended        when and how, its note says; both processes read the same clock

The note says when a handler ended, so that this client may be slow without changing a result. Only the next requests are timed here;
`lag` says how late this client itself was at that time.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, Self

from benchmarks.clients.connections import connect, reset_at_close
from benchmarks.clients.messages import head
from benchmarks.running import get, notes

How = Literal["FIN", "RST", "half-close", "close_notify", "close_notify, FIN", "RST_STREAM"]
"""The last three only where there are sessions, or streams: see `carried`."""

Sample = float | str
"""How many milliseconds after its client left a handler was stopped; or one of the words below, if it wasn't."""

RAN_ON = "ran on"
NOT_BEGUN = "not begun"
LEFT_OPEN = "left open"
"""A stream of which nobody takes anything any more, and which nobody has closed: its cleanup waits for the garbage collector."""
ENDED_BEFORE = "ended before"
"""… its client had left: the server took what was sent for an error."""

GAP = 0.02
"""Seconds between two departures, so that a handler's end isn't measured in a queue of others. `latency` measures the queue."""

POLL = 0.05
"""Seconds between two looks at the notes."""

AFTERWARDS = 1.0
"""Seconds after which a handler that has neither ended nor been stopped, though its own time is over, is given up."""

ASKED_NEXT = 5
"""Requests that are timed after the departures."""


@dataclass(frozen=True)
class Way:
    """A way to leave.

    request: what is sent to a target.
    how: the client goes then.
    path: of the target.
    """

    request: Callable[[str], bytes]
    how: How = "FIN"
    path: str = "/wait"


def _get(target: str) -> bytes:
    return head("GET", target)


def _upload(size: int, sent: int) -> Callable[[str], bytes]:
    return lambda target: head("POST", target, f"Content-Length: {size}") + b"x" * sent


STREAM = "in a stream"

WAYS = {
    "FIN": Way(_get),
    "RST": Way(_get, "RST"),
    "half-close": Way(_get, "half-close"),
    "middle of the body": Way(_upload(100, 50)),
    "pipelined request": Way(lambda target: _get(target) + _get("/")),
    "stray byte": Way(lambda target: _get(target) + b"G"),
    "200 KB unread": Way(_upload(200_000, 200_000)),
    "4 of 8 MB unread": Way(_upload(8_000_000, 4_000_000)),
    STREAM: Way(_get, path="/ticks"),
}
"""The eight ways to leave a handler that waits, and a FIN in the middle of a response."""


@dataclass
class Guest:
    """One client.

    token: of its handler's note.
    unsent: what the kernel hasn't taken yet.
    left: when it left, by time.monotonic(); None as long as it is there.
    names: of the ways in which such a client can leave.
    """

    name: str
    token: str
    how: How
    sock: socket.socket
    unsent: memoryview = field(repr=False)
    left: float | None = None

    names: ClassVar[Sequence[str]] = tuple(WAYS)

    @classmethod
    def arrive(cls, port: int, name: str, token: str, seconds: float) -> Self:
        """Connect, and have the request ready."""
        way = WAYS[name]
        return cls(name, token, way.how, connect(port), memoryview(way.request(target(way.path, token, seconds))))

    def __post_init__(self) -> None:
        self.sock.setblocking(False)

    def push(self) -> bool:
        """Send as much as goes without waiting, and take what has been answered; True if that moved anything."""
        before = len(self.unsent)
        with suppress(BlockingIOError, ConnectionError):
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        self.drain()
        return len(self.unsent) < before

    def drain(self) -> None:
        """Read what is there: closed with something unread, a socket would send RST for FIN."""
        with suppress(BlockingIOError, ConnectionError):
            while self.sock.recv(65536):
                pass

    def leave(self) -> None:
        """Go, and note the time. Who has only shut its sending side keeps the socket."""
        self.drain()
        if self.how == "RST":
            reset_at_close(self.sock)
        self.left = time.monotonic()
        if self.how == "half-close":
            with suppress(OSError):  # the server has already closed
                self.sock.shutdown(socket.SHUT_WR)
        else:
            self.sock.close()


Notes = Callable[[], dict[str, Any]]

Arrive = Callable[[str, str, float], Guest]
"""What makes a client that is to leave in the way of this name, with a token, from a handler that would take so many seconds."""


def target(path: str, token: str, seconds: float) -> str:
    """What such a client asks for."""
    return f"{path}?token={token}&seconds={seconds}"


def depart(
    port: int,
    clients: int,
    seconds: float,
    patience: float,
    *,
    names: Sequence[str] = Guest.names,
    arrive: Arrive | None = None,
    scheme: str = "http",
) -> dict[str, Any]:
    """Let so many clients leave in each of the ways, from handlers that would take so many seconds.

    port: the server's own, where it tells its notes.
    patience: seconds that they wait for all the handlers to begin. If one hasn't by then, its client leaves all the same.
    arrive: makes a client; without it, each comes to that port, over TCP.
    scheme: of the server's URLs.

    {"ways": {name: [sample, …]}, "next": milliseconds of each request afterwards, "lag": milliseconds that this client was late}

    :raises OSError, http.client.HTTPException: the server doesn't answer any more
    """
    make = arrive or partial(Guest.arrive, port)
    told, visit = partial(notes, port, scheme), os.urandom(4).hex()  # a server may have had visitors before
    with ExitStack() as stack:
        guests: list[Guest] = []
        for number in range(clients):
            for name in names:
                guests.append(make(name, f"{visit}-{len(guests)}-{number}", seconds))
                stack.callback(guests[-1].sock.close)
        _until_begun(told, guests, patience)
        lag = _leave_in_turn(guests)
        following = [_timed(port, scheme) for _ in range(ASKED_NEXT)]
        found = until_ended(told, time.monotonic() + seconds + AFTERWARDS)
        looked = time.monotonic()
    ways: dict[str, list[Sample]] = {name: [] for name in names}
    for guest in guests:
        assert guest.left is not None
        ways[guest.name].append(outcome(found.get(guest.token), guest.left, looked))
    return {"ways": ways, "next": following, "lag": lag}


def outcome(note: dict[str, Any] | None, left: float, looked: float) -> Sample:
    """What became of a handler whose client left at that time, by its note, at which we looked at that time."""
    if note is None:
        return NOT_BEGUN
    ended: float | None = note["ended"]
    if ended is None and looked - note.get("ticked", looked) > AFTERWARDS / 2:
        return LEFT_OPEN
    if ended is None or (note["how"] == "finished" and ended >= left):
        return RAN_ON
    return ENDED_BEFORE if ended < left else round((ended - left) * 1000, 2)


def _until_begun(told: Notes, guests: list[Guest], patience: float) -> None:
    """Send, until every handler runs and the kernel takes no more; or until the time is over."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        moved = [guest.push() for guest in guests].count(True)
        if not moved and told()["notes"].keys() >= {guest.token for guest in guests}:
            return
        time.sleep(POLL)


def _leave_in_turn(guests: Iterable[Guest]) -> float:
    """The milliseconds that the longest gap was too long: how late this process was, at worst."""
    lag = 0.0
    for guest in guests:
        guest.leave()
        began = time.monotonic()
        time.sleep(GAP)
        lag = max(lag, time.monotonic() - began - GAP)
    return round(lag * 1000, 2)


def _timed(port: int, scheme: str) -> float:
    began = time.monotonic()
    get(port, "/", scheme)
    return round((time.monotonic() - began) * 1000, 2)


def until_ended(told: Notes, deadline: float) -> dict[str, Any]:
    """The notes, when every handler that has begun is through; or when the time is over."""
    while True:
        found: dict[str, Any] = told()["notes"]
        if time.monotonic() > deadline or all(note["ended"] is not None for note in found.values()):
            return found
        time.sleep(POLL)
