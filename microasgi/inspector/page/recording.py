"""The requests that are remembered: a ring, whose oldest go first.

A connection's events are told apart by requests. What comes before a request's head, the connection's beginning or the head's bytes, is
told before the server has a number for it; it belongs to the request that follows.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from microasgi.inspector.told import Shown

REQUESTS = 200
EVENTS = 20_000
BYTES = 16 * 1024 * 1024

OF_ONE = 4_000
"""Events that are kept of one request: half of them its first, half of them its newest."""

BEGINNINGS = {("wire", "open"), ("wire", "in"), ("core", "head"), ("asgi", "call")}
"""What a request begins with, also on a connection whose older ones are forgotten."""


@dataclass(eq=False)
class Entry:
    """One request, as far as it has come.

    id: counted from 1, over all connections.
    connection: the server's number for it.
    number: of the request on its connection; 0: its head isn't whole.
    peer: the client's port.
    events, newest: as they were told; past the limit only the newest go on.
    left_out: how many between `events` and `newest` are forgotten.
    size: bytes that it takes, roughly.
    closed: whether nothing more can come.
    """

    id: int
    connection: int
    number: int = 0
    peer: int | None = None
    events: list[Shown] = field(default_factory=list)
    newest: deque[Shown] = field(default_factory=deque)
    left_out: int = 0
    size: int = 0
    ended: bool = False
    closed: bool = False

    def __len__(self) -> int:
        return len(self.events) + len(self.newest)

    def put(self, event: Shown) -> None:
        """One more event."""
        size = weight(event)
        if len(self.events) < OF_ONE // 2:
            self.events.append(event)
        else:
            self.newest.append(event)
            if len(self.newest) > OF_ONE // 2:
                self.left_out += 1
                size -= weight(self.newest.popleft())
        self.size += size

    def told(self) -> list[Shown]:
        """All that is kept."""
        return [*self.events, *self.newest]


class Recording:
    """Keeps requests within the limits."""

    def __init__(self, requests: int = REQUESTS, events: int = EVENTS, size: int = BYTES) -> None:
        self.entries: dict[int, Entry] = {}
        self._requests, self._events, self._size = requests, events, size
        self._newest: dict[int, Entry] = {}  # of each open connection
        self._numbered: dict[tuple[int, int], Entry] = {}
        self._last = self._count = self._bytes = 0

    def put(self, event: Shown) -> Entry | None:
        """Remember an event; gives the request that it belongs to. None: that is forgotten already."""
        entry = self._entry(event)
        if entry is None or entry.id not in self.entries:
            return None
        count, size = len(entry), entry.size
        entry.put(event)
        self._count += len(entry) - count
        self._bytes += entry.size - size
        match event["lane"], event["what"]:
            case "wire", "open":
                entry.peer = _port(event["facts"].get("client"))
            case "asgi", "end":
                entry.ended = True
            case "wire", "lost":
                entry.closed = True
        return entry

    def forget(self) -> Iterator[Entry]:
        """Forget the oldest until the rest is within the limits; gives those that went."""
        while len(self.entries) > 1 and (len(self.entries) > self._requests or self._count > self._events or self._bytes > self._size):
            entry = self.entries.pop(next(iter(self.entries)))
            self._numbered.pop((entry.connection, entry.number), None)
            if self._newest.get(entry.connection) is entry:
                del self._newest[entry.connection]
            self._count -= len(entry)
            self._bytes -= entry.size
            yield entry

    def _entry(self, event: Shown) -> Entry | None:
        """Whose event it is."""
        connection, kind = event["connection"], (event["lane"], event["what"])
        newest = self._newest.get(connection)
        if kind == ("core", "head"):
            entry = newest if newest is not None and not newest.number else self._begin(connection)
            entry.number = event["request"]
            self._numbered[connection, entry.number] = entry
            return entry
        if event["lane"] in ("asgi", "handler") and (numbered := self._numbered.get((connection, event["request"]))) is not None:
            return numbered  # the one before may still be at work while the next one is read
        if newest is None or (newest.ended and kind == ("wire", "in")):
            return self._begin(connection) if kind in BEGINNINGS else None
        return newest

    def _begin(self, connection: int) -> Entry:
        self._last += 1
        entry = self.entries[self._last] = self._newest[connection] = Entry(self._last, connection)
        return entry


def _port(client: Any) -> int | None:
    """Of an address as ASGI has it, with a host and a port."""
    return int(client[1]) if isinstance(client, list | tuple) and len(client) > 1 else None


def weight(value: Any) -> int:
    """How many bytes it takes, roughly."""
    match value:
        case str():
            return 50 + len(value)
        case dict():
            return 64 + sum(100 + weight(inner) for inner in value.values())
        case list() | tuple():
            return 56 + sum(8 + weight(inner) for inner in value)
    return 28
