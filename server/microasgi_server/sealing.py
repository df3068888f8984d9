"""Closing a listening socket without losing whoever is just connecting.

A connection that the system has made, but nobody has accepted, is reset when its listener closes, and a request that is in it is lost. To
accept all of them first isn't enough while others come in behind. So the door is sealed before: who is in the middle of a handshake ends
it, nobody else begins one, all who are there are accepted, and then it closes.

    TCP on Linux     a filter of the socket's drops every SYN, the packet that begins a connection; sent again, it meets a closed port
    a unix socket    its file is removed
    else             nothing: what comes between the last accept(2) and the close is reset
"""

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import anyio

SETTLING = 0.002
"""Seconds in which handshakes that have begun come to their end: a round trip or two within a data centre. Who begins one meanwhile waits
for a second, until his system tries again; that is better than to be lost, but not to be had more often than it must be."""

_SO_ATTACH_FILTER = 26
"""socket(7). Python has no name for it."""

# Linux's classic BPF: code, steps to go on if true, if false, operand. A TCP socket's filter sees the packet from TCP's header on.
_PASSES_ALL_BUT_SYN = [
    (0x30, 0, 0, 13),  # load the byte with the flags (RFC 9293 §3.1)
    (0x54, 0, 0, 0x12),  # keep SYN and ACK of it
    (0x15, 0, 1, 0x02),  # is it SYN alone?
    (0x06, 0, 0, 0),  # then drop the packet,
    (0x06, 0, 0, 0xFFFFFFFF),  # else pass all of it
]
_PROGRAM = b"".join([struct.pack("HBBI", *instruction) for instruction in _PASSES_ALL_BUT_SYN])


class Bound(socket.socket):
    """A socket that this process has bound itself. One that was handed over goes on listening for others, and must not be sealed."""

    _path = ""
    _file: tuple[int, int] | None = None

    def bind(self, address: Any, /) -> None:
        super().bind(address)
        if isinstance(address, str):
            self._path, self._file = address, _identity(address)

    def seal(self) -> None:
        """Let nobody else begin a connection, as far as the system can do that."""
        if self.family == socket.AF_UNIX:
            self.remove_file()
        elif sys.platform == "linux":
            program = ctypes.create_string_buffer(_PROGRAM)  # which the system copies
            with suppress(OSError):  # this one may not, in some container
                where = struct.pack("HP", len(_PASSES_ALL_BUT_SYN), ctypes.addressof(program))
                self.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, where)

    def remove_file(self) -> None:
        """Remove a unix socket's file, unless it is gone, or another server has taken the path over."""
        with suppress(FileNotFoundError):
            if self._file is not None and _identity(self._path) == self._file:
                os.unlink(self._path)


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_ino, found.st_dev


def seal(sockets: Iterable[socket.socket]) -> None:
    """Seal those of them that this process has bound."""
    for sock in sockets:
        if isinstance(sock, Bound):
            sock.seal()


async def settle(sockets: Iterable[socket.socket]) -> None:
    """Seal them, and let handshakes come to their end. A worker's are its supervisor's to seal, which has just done so."""
    seal(sockets)
    await anyio.sleep(SETTLING)
