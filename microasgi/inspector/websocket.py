"""The little of WebSockets (RFC 6455) that a client says who comes to leave: a handshake and a frame."""

import base64
import os
from collections.abc import Sequence

TEXT, CLOSE = 0x1, 0x8
"""Opcodes (§5.2)."""


def handshake(path: str, host: str, headers: Sequence[tuple[str, str]]) -> bytes:
    """The request that opens one (§4.1)."""
    fields = [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
        ("Sec-WebSocket-Version", "13"),
    ]
    own = {name.lower() for name, _ in headers}
    fields = [*(field for field in fields if field[0].lower() not in own), *headers]
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), ""]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole message, masked, as a client's have to be (§5.3)."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    mask = os.urandom(4)
    return bytes([0x80 | opcode]) + length + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
