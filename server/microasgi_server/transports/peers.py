"""The other side of a connection, as the system knows it: whether it still answers, and what it has taken.

A machine that loses its power, its network or its address sends neither FIN nor RST. Who waits for it would wait for ever, and what was
sent to it is repeated for a quarter of an hour. So the system is to ask a silent client now and then (TCP keep-alive, RFC 9293 §3.8.4),
and to give up one that acknowledges nothing (its user timeout, RFC 5482). It is then seen as any broken connection is:

* a client to which nothing is sent, within `Limits.keepalive`: 60 s as it comes, or `Config.timeout_write` if that is longer (Linux)
* one that has bytes to acknowledge, within `Config.timeout_write`
"""

import errno
import math
import socket
import struct

from microasgi_server.config import Config

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Option = tuple[int, int, int]

IDLE = ("TCP_KEEPIDLE", "TCP_KEEPALIVE")
"""The names of one option; macOS has the second."""

SILENT = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}


def peer_options(config: Config) -> list[Option]:
    """What to set on every TCP connection: send at once, and notice dead peers; as far as this system has it."""
    idle, interval, count = config.limits.keepalive
    wanted: list[tuple[tuple[str, ...], int]] = [(("TCP_NODELAY",), 1)]
    if idle > 0:
        wanted += [(IDLE, idle), (("TCP_KEEPINTVL",), interval), (("TCP_KEEPCNT",), count)]
    if 0 < config.timeout_write < math.inf:
        wanted.append((("TCP_USER_TIMEOUT",), min(math.ceil(config.timeout_write * 1000), 2**31 - 1)))
    found = [(next((getattr(socket, name) for name in names if hasattr(socket, name)), None), value) for names, value in wanted]
    options = [(socket.IPPROTO_TCP, option, value) for option, value in found if option is not None]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(idle > 0)), *options]


def why_lost(error: Exception | None) -> str:
    """Why a connection is over, for the log, by the error that it ended with; None is in order."""
    if error is None:
        return "the connection was closed"
    if isinstance(error, OSError) and error.errno in SILENT:
        return "the client no longer answers"
    return "the connection was reset (RST)"


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that were sent and that the other side's system has not acknowledged; 0 where ours doesn't tell.

    A socket takes more only when a good part of its buffer is free, which may be megabytes: a slow client that reads all the time is seen
    to do so here only.
    """
    if fcntl is None or sock.fileno() < 0:
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0
