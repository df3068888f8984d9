"""The newest events, as many as there is room for."""

from collections import deque
from threading import Lock
from typing import Any

from microasgi_server.taps.events import Event

EVENT = 400
"""Bytes that an event takes, about, beside the texts in it."""


class Ring:
    """A tap that keeps the newest requests, and says how many events it has left out. Any thread may ask.

    :param requests: how many, at most
    :param events: how many of all of them together
    :param size: bytes, about, of all of them together
    """

    def __init__(self, requests: int = 200, events: int = 20_000, size: int = 16 * 2**20) -> None:
        self._most = requests, events, size
        self._kept: dict[tuple[int, int], deque[Event]] = {}  # by connection and request, the oldest first
        self._count = self._size = 0
        self._left_out = 0
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        requests, events, size = self._most
        with self._lock:
            self._kept.setdefault((event.connection, event.request), deque()).append(event)
            self._count += 1
            self._size += _size(event)
            while len(self._kept) > requests or self._count > events or self._size > size:
                self._drop()

    def _drop(self) -> None:
        """Leave out the oldest request, or the oldest event of the only one."""
        oldest = next(iter(self._kept))
        dropped = [self._kept[oldest].popleft()] if len(self._kept) == 1 else list(self._kept.pop(oldest))
        self._count -= len(dropped)
        self._size -= sum(map(_size, dropped))
        self._left_out += len(dropped)
        if len(self._kept) == 1 and not self._kept.get(oldest, True):
            del self._kept[oldest]

    @property
    def left_out(self) -> int:
        """How many events there were that are kept no longer."""
        return self._left_out

    def events(self) -> list[Event]:
        """All that are kept, in order."""
        with self._lock:
            kept = [event for events in self._kept.values() for event in events]
        return sorted(kept, key=lambda event: event.at)


def _size(event: Event) -> int:
    return EVENT + _size_of(event.facts)


def _size_of(value: Any) -> int:
    if isinstance(value, str):
        return 64 + len(value)
    if isinstance(value, dict):
        return 64 + sum([64 + _size_of(inner) for inner in value.values()])
    if isinstance(value, list):
        return 64 + sum([8 + _size_of(inner) for inner in value])
    return 32
