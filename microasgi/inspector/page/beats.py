"""Whether the app's event loop turns: a thread that asks it again and again to answer, and one that looks where it stands until it does.

A loop that is blocked can't say so, and nor can anything that runs in it. What is seen while it stands still is kept: whether that was
long enough to be told of turns out when it is over, and by then there is nothing to see.
"""

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from anyio import from_thread

from microasgi.inspector.page.standing import Standing, standing
from microasgi.inspector.reasons import Blocked

INTERVAL = 0.05
"""Seconds between two questions."""

LOOK = 0.03
"""Seconds between two looks, and after which there is one at a loop that hasn't answered."""

BLOCKED = 0.5
"""Seconds without an answer after which the loop counts as blocked. Less is usual: an import, a large body read as JSON."""

LEAST = 0.05
"""Seconds of a silence that is kept: it may be a part of what a handler computes."""

KEPT = 200
"""Silences that are remembered."""


@dataclass(eq=False)
class Silence:
    """The loop hasn't answered. Times by `time.perf_counter()`.

    began: when it was asked; ended: when it did; None: not yet.
    seen: where it stood, each time that somebody looked, if that was in the app's own code.
    """

    began: float
    ended: float | None = None
    seen: list[Standing] = field(default_factory=list)

    @property
    def place(self) -> Standing | None:
        """Where it stood for the most; None, if that wasn't seen."""
        if not self.seen:
            return None
        seen = self.seen.copy()
        ((at, _),) = Counter(each.told for each in seen).most_common(1)
        return next(each for each in seen if each.told == at)

    def shown(self, since: float) -> Blocked:
        """As a reason has it.

        :param since: what its times are counted from, in milliseconds
        """
        ended = time.perf_counter() if self.ended is None else self.ended
        place = self.place
        at, caller = ("", "") if place is None else (place.told, place.caller)
        return Blocked(1000 * self.began - since, 1000 * ended - since, at, caller)


class Beats:
    """Listens to a loop.

    thread: in which it runs.

    :param token: the loop's, as `anyio.lowlevel.current_token()` gives it
    """

    def __init__(self, token: Any, thread: int) -> None:
        self.thread = thread
        self._token = token
        self._now: Silence | None = None
        self._kept: deque[Silence] = deque(maxlen=KEPT)
        self._ended = False
        for work in self._ask, self._watch:
            threading.Thread(target=work, daemon=True, name="inspector: does the app's loop turn?").start()

    def blocked(self) -> float:
        """For how many seconds it hasn't turned; 0, if that isn't long enough to tell."""
        silence = self._now
        silent = 0.0 if silence is None else time.perf_counter() - silence.began
        return silent if silent >= BLOCKED and not self._ended else 0.0

    def silences(self) -> list[Silence]:
        """Those that are remembered, and the one that lasts."""
        now, kept = self._now, list(self._kept.copy())
        return kept if now is None or now.ended is not None else [*kept, now]

    def _ask(self) -> None:
        """Until the loop has ended."""
        while not self._ended:
            self._now = silence = Silence(time.perf_counter())
            try:
                from_thread.run_sync(self._answer, silence, token=self._token)
            except RuntimeError:  # of anyio or of the loop: it is over
                self._ended = True
            self._now = None
            time.sleep(INTERVAL)

    def _answer(self, silence: Silence) -> None:
        """All that a loop has to do to show that it turns. Called in its thread."""
        silence.ended = time.perf_counter()
        if silence.ended - silence.began >= LEAST:
            self._kept.append(silence)

    def _watch(self) -> None:
        while not self._ended:
            time.sleep(LOOK)
            silence = self._now
            if silence is None or time.perf_counter() - silence.began < LOOK:
                continue
            place = standing(self.thread)
            if place is not None and place.stack and silence.ended is None:  # else it is of what came behind
                silence.seen.append(place)
