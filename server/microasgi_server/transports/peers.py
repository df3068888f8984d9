"""The other side of a connection, as the system knows it."""

import socket
import struct

from microasgi_server.config import Config

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def watch_peer(sock: socket.socket, config: Config) -> None:
    """Send what is written at once."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


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
