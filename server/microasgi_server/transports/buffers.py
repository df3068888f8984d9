"""How many unread bytes the system keeps of a socket: behind more of them a FIN can't arrive (paused.py)."""

import os
import socket
from contextlib import suppress


def enlarge(sock: socket.socket, size: int) -> bytes:
    """Have the kernel hold up to `size` unread bytes of this socket. Returns a byte that had to be read for it, or none.

    Not by SO_RCVBUF, which ends the kernel's own tuning and shrinks the buffer where net.core.rmem_max is small, as it is by
    default. SO_RCVLOWAT makes room for the bytes it is set to, and the room stays when it is set back. Twice the size, because
    the kernel counts its own overhead too.

    A client that found the buffer full learns of the room after the next read, or else when it asks, after 0.2 s (measured).
    """
    if sock.family == socket.AF_UNIX or sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 2 * size:
        return b""
    with suppress(OSError):  # also when there is nothing to read, or when the client has reset the connection
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, min(2 * size, 2**31 - 1))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return os.read(sock.fileno(), 1)
    return b""
