"""Signals for who waits in a selector: they wake it, and are done there, not in the middle of whatever runs."""

import signal
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


class Wakeups:
    """The signals that have come.

    sock: readable when there are any.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._come: deque[signal.Signals] = deque()

    def note(self, number: int, _: object) -> None:
        """A signal handler."""
        self._come.append(signal.Signals(number))

    def take(self) -> Iterator[signal.Signals]:
        """Each once, in their order."""
        with suppress(BlockingIOError):
            while self.sock.recv(4096):
                pass
        while self._come:
            yield self._come.popleft()


@contextmanager
def waking(signals: Sequence[signal.Signals]) -> Iterator[Wakeups]:
    """Take these signals as long as the block lasts. Only in the main thread."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        wakeups = Wakeups(ours)
        # The first to come, the last to go: a signal that is noted and wakes nobody would wait for the next one.
        awake = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, wakeups.note) for number in signals}
        try:
            yield wakeups
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            signal.set_wakeup_fd(awake)
