"""Two clients that don't keep up: one hardly reads, the other sends to a handler that doesn't read. How much does the server pile up?

Both go on for a fixed time, and meanwhile the server's memory is looked at. What the system keeps in its own buffers, some megabytes
on each side of a connection, is in no process's memory.

Run as `python -m benchmarks.clients.slow PORT PID`, of the server and its process; see `remote` for how it is told. Both answer
[grown, passed] in bytes: by how much the server's memory grew at most from before the client came, and what the client has received or
got rid of.
"""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from benchmarks.clients.connections import connect
from benchmarks.clients.messages import head
from benchmarks.clients.remote import obey
from benchmarks.errors import BenchmarkError
from benchmarks.processes import resident_bytes

MEGABYTE = 1024 * 1024
LOOK = 0.05
"""Seconds from one look at the memory to the next."""

SIP = 1024
"""Bytes that the slow reader takes between two looks."""

_PIECE = bytes(64 * 1024)


Pile = tuple[int, int]


def read_slowly(port: int, pid: int, megabytes: int, seconds: float) -> Pile:
    """Ask for a large body, and read next to nothing of it.

    :raises BenchmarkError: there is no such body
    """
    with connect(port) as sock:
        before = resident_bytes(pid)
        sock.sendall(head("GET", f"/stream/{megabytes}"))
        first = sock.recv(SIP)
        if not first.startswith(b"HTTP/1.1 200"):
            raise BenchmarkError(f"not the expected response: {first[:200]!r}")
        return _watched(pid, before, len(first), seconds, lambda: len(sock.recv(SIP)))


def send_unread(port: int, pid: int, megabytes: int, seconds: float) -> Pile:
    """Send a large body, as fast as the server lets us, to a handler that waits for longer than this lasts."""
    with connect(port) as sock:
        before = resident_bytes(pid)
        size = megabytes * MEGABYTE
        sock.sendall(head("POST", f"/wait?seconds={seconds + 0.2}", f"Content-Length: {size}"))
        sock.setblocking(False)
        left = size

        def send() -> int:
            nonlocal left
            sent = 0
            began = time.monotonic()
            with suppress(BlockingIOError):
                # Never longer than a look: a server that takes everything must be watched, too.
                while left and time.monotonic() - began < LOOK:
                    done = sock.send(_PIECE[:left])
                    sent += done
                    left -= done
            return sent

        return _watched(pid, before, 0, seconds, send)


def _watched(pid: int, before: int, passed: int, seconds: float, act: Callable[[], int]) -> Pile:
    """Let the client act between looks. If the server hangs up, that is the end of it."""
    highest = before
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        highest = max(highest, resident_bytes(pid))
        try:
            done = act()
        except (BrokenPipeError, ConnectionResetError):
            break
        passed += done
        time.sleep(0.001 if done > SIP else LOOK)
    return max(highest, resident_bytes(pid)) - before, passed


if __name__ == "__main__":
    port, pid = (int(argument) for argument in sys.argv[1:])
    obey({"read": partial(read_slowly, port, pid), "send": partial(send_unread, port, pid)})
