"""Events on their way from the threads in which they happen to the one that serves the page."""

import threading
from collections import deque

from microasgi.inspector.told import Event

MOST = 20_000
"""How many may wait: what comes while the page's thread gets no turn."""


class Feed:
    """A queue that takes from any thread, and never makes one wait: what it has no room for it counts."""

    def __init__(self, most: int = MOST) -> None:
        self._waiting: deque[Event] = deque()
        self._most = most
        self._left_out = 0
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Something happened: a `Tap`."""
        with self._lock:
            if len(self._waiting) < self._most:
                self._waiting.append(event)
            else:
                self._left_out += 1

    def take(self) -> tuple[list[Event], int]:
        """All that has come, in order, and how much else has been left out since the last time."""
        with self._lock:
            events, self._waiting = self._waiting, deque()
            left_out, self._left_out = self._left_out, 0
        return list(events), left_out
