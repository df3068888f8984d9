"""Ctrl+C and SIGTERM: everything that we have started ends before we do.

The signal becomes an exception in the main thread, and every block on its way ends what it has started, as it does without a signal.
What such a block can't know of, as a process in the moment of its birth, is found in /proc and killed at the end.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from benchmarks.processes import tree

SIGNALS = (signal.SIGINT, signal.SIGTERM)

ENDING = 30.0
"""Seconds in which another signal changes nothing: the first one's blocks are ending. After that, the first one may have been lost, as
an exception in a destructor is."""


class Interrupted(KeyboardInterrupt):
    """We were told to end.

    number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.strsignal(number))
        self.number = number


@contextmanager
def ending_all() -> Iterator[None]:
    """Until the block ends, a signal is `Interrupted`; and when it has ended, however that came, we have no child left.

    :raises Interrupted: by a signal
    """
    patient_until = 0.0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal patient_until
        if time.monotonic() > patient_until:
            patient_until = time.monotonic() + ENDING
            raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        patient_until = time.monotonic() + ENDING
        _, *left = tree(os.getpid())
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for number, handler in before.items():
            signal.signal(number, handler)
