"""Whether the app's event loop turns: a thread that asks it again and again to answer, and notes when it did.

A loop that is blocked can't say so, and nor can anything that runs in it.
"""

import threading
import time
from typing import Any

from anyio import from_thread

INTERVAL = 0.1
"""Seconds between two questions."""

BLOCKED = 0.5
"""Seconds without an answer after which the loop counts as blocked. Less is usual: an import, a large body read as JSON."""


class Beats:
    """Listens to a loop.

    :param token: the loop's, as `anyio.lowlevel.current_token()` gives it
    :param thread: in which it runs
    """

    def __init__(self, token: Any, thread: int) -> None:
        self.thread = thread
        self._token = token
        self._asked: float | None = None
        self._ended = False
        threading.Thread(target=self._ask, daemon=True, name="inspector: does the app's loop turn?").start()

    def blocked(self) -> float:
        """For how many seconds it hasn't turned; 0, if that isn't long enough to tell."""
        asked = self._asked
        silent = 0.0 if asked is None else time.perf_counter() - asked
        return silent if silent >= BLOCKED and not self._ended else 0.0

    def _ask(self) -> None:
        """Until the loop has ended."""
        while not self._ended:
            self._asked = time.perf_counter()
            try:
                from_thread.run_sync(_nothing, token=self._token)
            except RuntimeError:  # of anyio or of the loop: it is over
                self._ended = True
            self._asked = None
            time.sleep(INTERVAL)


def _nothing() -> None:
    """All that a loop has to do to show that it turns."""
