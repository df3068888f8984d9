"""No process outlives the tests that began it, however these end: by a failure, a timeout (which is `os._exit`), or a signal.

Each process that runs tests marks its environment, which all that it begins inherit. A guard, a process of its own, waits until that one
is gone, and kills whoever has the mark then. What is left at an ordinary end is killed, too, and is an error besides.

It takes Linux's `/proc`; elsewhere nothing is found.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "BEGUN_BY_TESTS"

PATIENCE = 2.0
"""Seconds that a process has to end by itself, once the last test is over."""


def marked(value: str) -> dict[int, str]:
    """The processes that have this mark, and their commands."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            if f"{MARK}={value}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def kill(value: str) -> dict[int, str]:
    """Kill them all; who they were."""
    left = marked(value)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


@contextmanager
def none_left() -> Iterator[None]:
    """Mark what is begun in the block.

    :raises AssertionError: something of it was still there after the block
    """
    value = f"{os.getpid()}-{time.time_ns()}"
    before = os.environ.get(MARK)
    with subprocess.Popen([sys.executable, "-I", "-S", __file__, value], stdin=subprocess.PIPE, start_new_session=True):
        os.environ[MARK] = value
        try:
            yield
            deadline = time.monotonic() + PATIENCE
            while marked(value) and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            del os.environ[MARK]
            if before is not None:
                os.environ[MARK] = before
            left = kill(value)
    assert not left, f"tests have left these processes behind: {left}"


if __name__ == "__main__":  # the guard
    sys.stdin.read()
    kill(sys.argv[1])
