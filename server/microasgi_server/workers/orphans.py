"""A worker whose supervisor is gone ends at once: else it would hold the port, and nobody could end it in order."""

import ctypes
import os
import select
import signal
import socket
import sys
import threading

_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when its parent dies."""


def die_with(parent: int, channel: socket.socket) -> None:
    """End this process when its supervisor ends, in whatever way.

    The system does it, where it can (Linux): even a process that hangs ends then. Elsewhere a thread waits for the channel's end.
    """
    if not _ask_the_system():
        threading.Thread(target=_wait_for_the_end, args=[channel], daemon=True).start()
    if os.getppid() != parent:  # it was too late
        _die()


def _ask_the_system() -> bool:
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # a C library without it
        return False


def _wait_for_the_end(channel: socket.socket) -> None:
    # Nothing comes down any more but the end: whoever reads the job has read it by now.
    poll = select.poll()
    poll.register(channel, select.POLLIN | select.POLLHUP)
    poll.poll()
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
