"""A client's end of a connection."""

import socket
import struct

PATIENCE = 30.0
"""Seconds that a server may take for an answer."""

_NOTHING_LINGERS = struct.pack("ii", 1, 0)


def connect(port: int, source: str | None = None) -> socket.socket:
    """A new connection that sends small pieces at once.

    source: the client's address, which takes a port for itself alone; else ports are shared with other servers' clients.

    :raises OSError: the server doesn't accept it
    """
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE, None if source is None else (source, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def reset_at_close(sock: socket.socket) -> None:
    """Closing it will drop what is unsent, and send RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOTHING_LINGERS)


def wait_in_the_kernel(sock: socket.socket) -> None:
    """Have each call on it return when it is through, or fail after `PATIENCE`: Python's own timeouts wait in a call of their own."""
    sock.settimeout(None)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", int(PATIENCE), 0))
