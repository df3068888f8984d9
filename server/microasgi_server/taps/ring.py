"""The newest events, as many as there is room for."""

from collections import deque
from threading import Lock

from microasgi_server.taps.events import Event

EVENT = 400
"""Bytes that an event takes, about, beside the texts in it."""


class Ring:
    """A tap that keeps the newest requests. Any thread may ask.

    left_out: how many events there were that are kept no longer.

    :param requests: how many, at most
    :param events: how many of all of them together
    :param size: bytes, about, of all of them together
    """

    def __init__(self, requests: int = 200, events: int = 20_000, size: int = 16 * 2**20) -> None:
        self._most = requests, events, size
        self._kept: dict[tuple[int, int], Kept] = {}  # by connection and request, the oldest first
        self._count = self._size = 0
        self.left_out = 0
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        requests, events, most = self._most
        size = _size(event)
        with self._lock:
            kept = self._kept.get(event[1:3])
            if kept is None:
                kept = self._kept[event[1:3]] = Kept()
            kept.events.append(event)
            kept.size += size
            self._count += 1
            self._size += size
            while len(self._kept) > requests or self._count > events or self._size > most:
                self._drop()

    def _drop(self) -> None:
        """Leave out the oldest request, or the oldest event of the only one."""
        oldest, kept = next(iter(self._kept.items()))
        if len(self._kept) > 1 or len(kept.events) == 1:
            del self._kept[oldest]
            count, size = len(kept.events), kept.size
        else:
            count, size = 1, _size(kept.events.popleft())
            kept.size -= size
        self._count -= count
        self._size -= size
        self.left_out += count

    def events(self) -> list[Event]:
        """All that are kept, in order."""
        with self._lock:
            kept = [event for kept in self._kept.values() for event in kept.events]
        return sorted(kept, key=lambda event: event.at)


class Kept:
    """One request's events.

    size: of all of them.
    """

    __slots__ = ("events", "size")

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.size = 0


def _size(event: Event) -> int:
    """About: what is in texts, and in lists and mappings of texts."""
    size = EVENT
    for value in event.facts.values():
        kind = type(value)
        if kind is str:
            size += len(value)
        elif kind is dict:
            for inner in value.values():
                kind = type(inner)
                if kind is str:
                    size += len(inner) + 64
                elif kind is tuple or kind is dict:
                    size += 64 + 256 * len(inner)
        elif kind is tuple:
            size += 256 * len(value)
    return size
