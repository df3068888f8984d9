"""Where an app blocks its event loop, in the process that serves it (`Lookout`), and for who has started that (`Blockages`).

A loop that is blocked can't say so. A thread beside it can, as long as it gets a turn: while the app waits in `time.sleep`, or in a
driver that lets others run. Who computes in C without ever letting go of the interpreter, as `re` does with a bad pattern, stops every
thread; then a timer of Python's own, in C, writes the stacks of all threads as text. It goes where reports go.
"""

import faulthandler
import linecache
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from anyio.lowlevel import current_token

from microasgi.inspector.page.beats import BLOCKED, Beats
from microasgi.inspector.reasons import Blocked
from microasgi.watching.places import is_own

AGAIN = 0.1
"""Seconds after which the timer is wound up anew: that takes a thread."""

_THREAD = re.compile(r"(?:Current thread|Thread) 0x([0-9a-f]+)")
_FRAME = re.compile(r'  File "(.+)", line (\d+) in (.+)')


class Lookout:
    """Looks at the loop, whenever the thread that reports has a turn.

    :param write: reports
    :param out: where the timer writes
    """

    def __init__(self, write: Callable[[dict[str, Any]], object], out: BinaryIO) -> None:
        self._write, self._out = write, out
        self._beats: Beats | None = None
        self._looked = self._wound = time.perf_counter()
        self._blocked: list[Any] = []  # since when, until when, where

    def meet(self) -> None:
        """This is the loop. Called in it; once is enough."""
        if self._beats is not None:
            return
        self._beats = Beats(current_token(), threading.get_ident())
        self._write({"thread": threading.get_ident()})

    def look(self) -> None:
        """Report where the loop was blocked up to now, if it was."""
        if self._beats is None:
            return
        now, before = time.perf_counter(), self._looked
        self._looked = now
        held_up = now - before >= BLOCKED  # nor had any thread a turn, also not to ask: the timer knows better
        if held_up:
            self._write({"blocked": [1000 * before, 1000 * now, "", "", True]})
        for silence in self._beats.silences():
            if silence.ended is None or silence.ended >= before:
                each = silence.shown(0.0)
                self._write({"blocked": [each.began, each.ended, each.at, each.caller, held_up]})
        if now - self._wound >= AGAIN:
            self._wound = now
            faulthandler.dump_traceback_later(BLOCKED, file=self._out)


class Blockages:
    """What is reported of that.

    thread: the loop's.
    """

    def __init__(self) -> None:
        self.thread = 0
        self._found: dict[int, Blocked] = {}
        self._since: float | None = None  # of what the timer has told, and nobody else yet
        self._stack: list[tuple[str, int, str]] = []  # the innermost first
        self._is_in_stack = False

    def take(self, began: float, ended: float, at: str, caller: str = "", held_up: bool = False) -> None:
        """The loop was blocked, by the clock of events, and stood there.

        :param held_up: whether nobody could look meanwhile: the timer could
        """
        written = self._since is not None and began <= self._since + 1000 * BLOCKED  # and before this was: its text was read first
        if written and (held_up or not at) and self._stood():
            at, caller = self._stood(), ""
        if written:
            self._since = None
        before = self._found.get(int(began))
        if before is not None and before.at and (held_up or not at):
            at, caller = before.at, before.caller
        self._found[int(began)] = Blocked(began, ended, at, caller)

    def read(self, line: str) -> None:
        """The timer has written this."""
        if line.startswith("Timeout"):
            self._since, self._stack, self._is_in_stack = 1000 * (time.perf_counter() - BLOCKED), [], False
        elif thread := _THREAD.match(line):
            self._is_in_stack = int(thread[1], 16) == self.thread
        elif self._is_in_stack and (frame := _FRAME.match(line)):
            self._stack.append((frame[1], int(frame[2]), frame[3]))

    def until(self, now: float) -> list[Blocked]:
        """All that is known now."""
        at = self._stood() if self._since is not None else ""
        still = [Blocked(self._since, now, at)] if self._since is not None and at else []
        return [*self._found.values(), *still]

    def _stood(self) -> str:
        """The innermost line of the app's own, by the timer; empty, if there is none."""
        for file, line, name in self._stack:
            if is_own(file):
                return f"{Path(file).name}:{line} in {name}: {linecache.getline(file, line).strip()}"
        return ""
