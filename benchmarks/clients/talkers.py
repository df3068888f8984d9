"""Those who talk in WebSockets: hundreds of them in one process, which do as they are told.

    open(count, target)                so many more come
    echo(size, connections, seconds)   messages of this size, there and back, one on its way in each of so many connections
    broadcast(times)                   one of those who are here says something, and all hear it, so many times
    leave(goodbye)                     all leave, at once; answers when each did, by time.monotonic()
    bomb(megabytes)                    one says something that is small, until it is inflated

Run as `python -m benchmarks.clients.talkers PORT`; see `remote` for how it is told. What this costs counts: it takes the time of one of few
cores. So a message is two calls into the system, one that sends what was made beforehand, and one that returns when the whole answer is
there.
"""

import socket
import sys
import time
import zlib
from contextlib import ExitStack

from benchmarks.clients.connections import connect, wait_in_the_kernel
from benchmarks.clients.frames import (
    BINARY,
    COMPRESSED,
    DEFLATE,
    NORMAL,
    PING,
    answered,
    ask_for_upgrade,
    goodbye,
    said,
    take_upgrade,
    upgraded,
)
from benchmarks.clients.remote import obey
from benchmarks.errors import BenchmarkError

AT_ONCE = 50
"""Handshakes on their way, as in `crowd`."""

LOOK = 32
"""Messages between two looks at the clock."""

MEGABYTE = 1024 * 1024


class Talkers:
    """Those who are here now."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._clients: list[socket.socket] = []

    def open(self, count: int, target: str, tokens: str = "") -> None:
        """:param tokens: each asks under one of its own: TOKENS-0, TOKENS-1, ..."""
        for first in range(0, count, AT_ONCE):
            wave = [connect(self._port) for _ in range(min(AT_ONCE, count - first))]
            for number, sock in enumerate(wave, first):
                ask_for_upgrade(sock, f"{target}?token={tokens}-{number}" if tokens else target)
            for sock in wave:
                take_upgrade(sock)
                wait_in_the_kernel(sock)
            self._clients += wave

    def echo(self, size: int, connections: int, seconds: float) -> tuple[int, float, float]:
        """:returns: how many came back, in how many seconds, and how many seconds of CPU time that took here

        :raises BenchmarkError: what comes back isn't what was sent
        """
        payload = (bytes(range(256)) * (size // 256 + 1))[:size]
        question, answer = said(BINARY, payload), answered(BINARY, payload)
        self.open(connections, "/echo")
        buffer, length, whole = bytearray(len(answer)), len(answer), socket.MSG_WAITALL
        with ExitStack() as block:
            calls = [(sock.recv_into, sock.sendall) for sock in map(block.enter_context, self._clients)]
            self._clients = []
            messages = 0
            began, used = time.monotonic(), time.process_time()
            for _, send in calls:
                send(question)
            while time.monotonic() - began < seconds:
                for _ in range(max(1, LOOK // connections)):
                    for receive, send in calls:
                        receive(buffer, length, whole)
                        send(question)
                    messages += connections
                if buffer != answer:
                    raise BenchmarkError(f"{bytes(buffer[:20])!r}... is no echo")
            for receive, _ in calls:
                receive(buffer, length, whole)
            return messages + connections, time.monotonic() - began, time.process_time() - used

    def broadcast(self, times: int) -> list[float]:
        """:returns: the seconds until the last has heard it, each time

        :raises BenchmarkError: somebody hears something else
        """
        question, answer = said(BINARY, b"hear, hear!"), answered(BINARY, b"hear, hear!")
        found = []
        for _ in range(times):
            began = time.monotonic()
            self._clients[0].sendall(question)
            for sock in self._clients:
                heard = sock.recv(len(answer), socket.MSG_WAITALL)
                if heard != answer:
                    raise BenchmarkError(f"{heard!r} is not what was said in the room")
            found.append(time.monotonic() - began)
        return found

    def leave(self, *, goodbye: bool) -> list[float]:
        """:returns: the moment before each left, in the order of their tokens"""
        moments, now = [], time.monotonic
        for sock in self._clients:
            moments.append(now())
            if goodbye:
                sock.send(GOODBYE)
            else:
                sock.close()
        for sock in self._clients:
            sock.close()
        self._clients.clear()
        return moments

    def bomb(self, megabytes: int) -> int:
        """:returns: the opcode of what the server says to it: a close frame's, or the pong's behind it"""
        packer = zlib.compressobj(9, zlib.DEFLATED, -12)
        packed = b"".join([packer.compress(bytes(MEGABYTE)) for _ in range(megabytes)]) + packer.flush(zlib.Z_SYNC_FLUSH)
        with upgraded(self._port, "/receives", DEFLATE) as sock:
            sock.sendall(said(BINARY, packed.removesuffix(b"\0\0\xff\xff"), COMPRESSED))
            sock.sendall(said(PING))
            return sock.recv(1)[0] & 15


GOODBYE = goodbye(NORMAL)

if __name__ == "__main__":
    talkers = Talkers(int(sys.argv[1]))
    obey({name: getattr(talkers, name) for name in ("open", "echo", "broadcast", "leave", "bomb")})
