"""A WebSocket client that can misbehave: frames by hand (RFC 6455 §5.2), masked with zeros or not, on the harness's bare connection."""

import struct
from typing import Any

import anyio

from tests.harness import PATIENCE, Client, Served

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3's own

HANDSHAKE = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13\r\n\r\n" % KEY
)


def with_fields(*fields: bytes, handshake: bytes = HANDSHAKE) -> bytes:
    """A handshake with more fields."""
    return handshake[:-2] + b"".join([field + b"\r\n" for field in fields]) + b"\r\n"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, rsv: int = 0) -> bytes:
    """One frame as a client sends it, with the mask 0."""
    length = len(payload)
    size = (
        bytes([length]) if length < 126 else b"\x7e" + struct.pack("!H", length) if length < 2**16 else b"\x7f" + struct.pack("!Q", length)
    )
    return bytes([(0x80 if fin else 0) | rsv | opcode, size[0] | (0x80 if masked else 0)]) + size[1:] + bytes(4 if masked else 0) + payload


def goodbye(code: int | None = None, reason: str = "") -> bytes:
    """A close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """What a server has sent behind its handshake: opcode and payload of each whole frame, none of them masked, all of them final."""
    found, at = [], 0
    while at < len(data):
        assert data[at] & 0xF0 == 0x80
        size, start = data[at + 1], at + 2
        if size == 126:
            size, start = struct.unpack_from("!H", data, start)[0], start + 2
        elif size == 127:
            size, start = struct.unpack_from("!Q", data, start)[0], start + 8
        found.append((data[at] & 15, data[start : start + size]))
        assert len(found[-1][1]) == size
        at = start + size
    return found


class Talker:
    """A client that is connected, and reads frame by frame. `head` is what its handshake was answered with, `patience` what it has."""

    def __init__(self, client: Client, data: bytes, head: bytes, patience: float = PATIENCE) -> None:
        self.client = client
        self.head = head
        self.patience = patience
        self.leave = client.leave
        self._data = data

    async def send(self, data: bytes | str) -> None:
        """A text message, or bytes as they are."""
        await self.client.send(frame(TEXT, data.encode()) if isinstance(data, str) else data)

    async def receive(self) -> tuple[int, bytes]:
        """The next frame; `(0, b"")` at the connection's end."""
        with anyio.fail_after(self.patience):
            while True:
                size = self._size()
                if size and len(self._data) >= size:
                    (found,) = frames(self._data[:size])
                    self._data = self._data[size:]
                    return found
                try:
                    data = await self.client.receive()
                except ConnectionResetError:
                    return 0, b"reset"
                if not data:
                    return 0, b""
                self._data += data

    def _size(self) -> int:
        """Bytes of the frame that comes next, as far as it is known; else 0."""
        data = self._data
        if len(data) < 10 and (len(data) < 2 or data[1] > 125):
            return 0
        if data[1] < 126:
            return 2 + data[1]
        return int(4 + struct.unpack_from("!H", data, 2)[0] if data[1] == 126 else 10 + struct.unpack_from("!Q", data, 2)[0])

    async def closed_with(self) -> int:
        """The code of the server's goodbye, which is answered; 0 if there is none before the connection ends."""
        opcode, payload = await self.receive()
        while opcode not in (CLOSE, 0):
            opcode, payload = await self.receive()
        if not opcode:
            return 0
        self.client.sock.setblocking(False)
        await self.client.send(frame(CLOSE, payload))
        assert (await self.receive())[0] == 0
        return int(struct.unpack_from("!H", payload)[0]) if payload else 1005

    async def __aenter__(self) -> "Talker":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.sock.close()


async def talk(served: Served, *, handshake: bytes = HANDSHAKE, **options: Any) -> Talker:
    """Connect, and have the handshake done."""
    return await shake_hands(await served.connect(**options), handshake)


async def shake_hands(client: Client, handshake: bytes = HANDSHAKE, patience: float = PATIENCE) -> Talker:
    """The same on a connection of the caller's."""
    await client.send(handshake)
    data = b""
    with anyio.fail_after(patience):
        while b"\r\n\r\n" not in data:
            if not (more := await client.receive()):
                raise ConnectionResetError("the connection was closed in the handshake")
            data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert ACCEPT in head
    return Talker(client, rest, head, patience)
