"""What a WebSocket's client sends, and what it should get: all that these benchmarks must know of RFC 6455.

Frames are made beforehand. Their mask is the same in all: it costs the server what any mask does.
"""

import socket
import struct

from benchmarks.clients.connections import connect
from benchmarks.clients.messages import head
from benchmarks.errors import BenchmarkError

BINARY, CLOSE, PING = 2, 8, 9

NORMAL, GOING_AWAY = 1000, 1001
"""Codes to close with; the second is what a browser says that leaves the page."""

COMPRESSED = 0x40
"""RSV1: the message is compressed (RFC 7692 §6)."""

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"

_FIN, _MASKED = 0x80, 0x80
_MASK = b"\x37\xfa\x21\x3d"  # RFC 6455 §5.7's own
_FIELDS = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


def answered(opcode: int, payload: bytes) -> bytes:
    """A whole message in one frame, as a server sends it."""
    return _head(opcode, len(payload), 0) + payload


def said(opcode: int, payload: bytes = b"", bits: int = 0) -> bytes:
    """A whole message in one frame, as a client sends it.

    bits: of the extensions.
    """
    size = len(payload)
    mask = (_MASK * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)
    return _head(opcode | bits, size, _MASKED) + _MASK + masked


def goodbye(code: int) -> bytes:
    """A client's close frame."""
    return said(CLOSE, struct.pack("!H", code))


def _head(first: int, length: int, masked: int) -> bytes:
    if length < 126:
        return bytes([_FIN | first, masked | length])
    if length < 2**16:
        return struct.pack("!BBH", _FIN | first, masked | 126, length)
    return struct.pack("!BBQ", _FIN | first, masked | 127, length)


def ask_for_upgrade(sock: socket.socket, target: str, *fields: str) -> None:
    """Send a handshake."""
    sock.sendall(head("GET", target, *_FIELDS, *fields))


def take_upgrade(sock: socket.socket) -> bytes:
    """The 101's head; what follows is left unread.

    :raises BenchmarkError: it is another answer
    """
    received = b""
    while b"\r\n\r\n" not in received:
        # Byte by byte would be slow: look first, then take what belongs to the head.
        seen = sock.recv(65536, socket.MSG_PEEK)
        end = (received + seen).find(b"\r\n\r\n")
        taken = sock.recv(len(seen) if end < 0 else end + 4 - len(received))
        if not taken:
            raise BenchmarkError(f"the server closed a connection instead of answering the handshake: {received[:200]!r}")
        received += taken
    if not received.startswith(b"HTTP/1.1 101 "):
        raise BenchmarkError(f"not the expected answer to a handshake: {received[:200]!r}")
    return received


def upgraded(port: int, target: str, *fields: str) -> socket.socket:
    """A new WebSocket.

    :raises OSError: the server doesn't accept the connection
    :raises BenchmarkError: it doesn't agree to the upgrade
    """
    sock = connect(port)
    ask_for_upgrade(sock, target, *fields)
    take_upgrade(sock)
    return sock
