"""A WebSocket's client, with as much of RFC 6455 as a probe needs."""

import struct
from enum import IntEnum
from typing import NamedTuple

from microasgi.lint.probes.peer import NotOfferedError, Peer

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Opcode(IntEnum):
    """RFC 6455 §5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Frame(NamedTuple):
    opcode: int
    payload: bytes


class Socket:
    """A WebSocket whose handshake is on its way."""

    def __init__(self, peer: Peer, behaviour: str) -> None:
        fields = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY)]
        self.asked = peer.ask(behaviour, "/caf%C3%A9?a=1", fields=[*fields, ("Sec-WebSocket-Protocol", "chat, other")])
        self._data = b""

    def head(self) -> str:
        """The response's head, once it is there, in small letters."""
        head, _, self._data = self.asked.bytes_until(b"\r\n\r\n").partition(b"\r\n\r\n")
        return head.decode("latin-1").lower()

    def open(self) -> "Socket":
        """Wait until it is open.

        :raises NotOfferedError: the server answers as if this were no handshake
        """
        head = self.head()
        if " 101" not in head.partition("\r\n")[0]:
            self.asked.sock.close()
            raise NotOfferedError(f"no WebSockets: it answers {head.partition(chr(13))[0]!r}")
        return self

    def send(self, opcode: Opcode, payload: bytes = b"", *, final: bool = True) -> None:
        """One frame, masked with zeroes (RFC 6455 §5.3)."""
        self.asked.sock.sendall(bytes([opcode | (0x80 if final else 0), 0x80 | len(payload)]) + bytes(4) + payload)

    def receive(self) -> Frame | None:
        """The next frame; None, if there is none."""
        head = self._exactly(2)
        if head is None:
            return None
        length = head[1] & 127
        if length == 126:
            length = struct.unpack("!H", self._exactly(2) or bytes(2))[0]
        payload = self._exactly(length)
        return None if payload is None else Frame(head[0] & 15, payload)

    def _exactly(self, size: int) -> bytes | None:
        while len(self._data) < size:
            try:
                more = self.asked.sock.recv(65536)
            except OSError:
                return None
            if not more:
                return None
            self._data += more
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.sock.close()
