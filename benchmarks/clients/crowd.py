"""A crowd: thousands of clients in one process, which come, ask and leave as they are told.

    open(count)             so many new connections, each of which has had one answer
    arrive(count, prefix)   so many new connections, each asks for /wait, under a token of its own: PREFIX-0, PREFIX-1, ...
    leave(reset)            all close, at once; answers when each did, by time.monotonic()
    kept()                  how many the server hasn't closed
    requests(count)         so many requests on a few kept connections
    visits(count)           so many clients come, ask for /wait, and leave when their handler has begun

Run as `python -m benchmarks.clients.crowd PORT`; see `remote` for how it is told.
"""

import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator

from benchmarks.clients.connections import connect, reset_at_close
from benchmarks.clients.messages import REQUEST, body, head, is_whole
from benchmarks.clients.remote import obey
from benchmarks.errors import BenchmarkError

AT_ONCE = 64
"""Clients that may be waiting for their first answer. The smallest backlog of all servers here is 100; a client that finds it full
would only be let in a second later."""

WAVE = 500
"""Visitors at a time."""

KEPT = 32
"""Connections for `requests`."""

SECONDS = 600
"""How long /wait is to wait: longer than any part takes."""

DEADLINE = 30.0
"""Seconds that a server may take until it answers somebody, or until it notices what a wave has done."""


class Crowd:
    """Those who are here now."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._clients: list[socket.socket] = []

    def open(self, count: int) -> float:
        """:returns: the seconds that it took"""
        began = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for _ in range(count):
                while len(selector.get_map()) >= AT_ONCE:
                    self._hear(selector)
                sock = connect(self._port)
                sock.send(REQUEST)
                selector.register(sock, selectors.EVENT_READ, bytearray())
            while selector.get_map():
                self._hear(selector)
        return time.monotonic() - began

    def _hear(self, selector: selectors.BaseSelector) -> None:
        for sock, received in _readable(selector):
            if _is_answered(sock, received):
                selector.unregister(sock)
                sock.setblocking(False)
                self._clients.append(sock)

    def arrive(self, count: int, prefix: str) -> float:
        """:returns: the seconds that it took"""
        began = time.monotonic()
        for number in range(count):
            sock = connect(self._port)
            if number % AT_ONCE == AT_ONCE - 1:
                # Servers accept in order: once this one has been answered, nobody before it is waiting at the door.
                sock.send(REQUEST)
                _hear_all(sock)
            sock.send(_wait_request(f"{prefix}-{number}"))
            self._clients.append(sock)
        return time.monotonic() - began

    def leave(self, reset: bool = False) -> list[float]:
        """:returns: the moment before each close, in the order of their tokens"""
        if reset:
            for sock in self._clients:
                reset_at_close(sock)
        moments = []
        now = time.monotonic
        for sock in self._clients:
            moments.append(now())
            sock.close()
        self._clients.clear()
        return moments

    def kept(self) -> int:
        return sum(_is_open(sock) for sock in self._clients)

    def requests(self, count: int) -> None:
        self.open(min(KEPT, count))
        unasked = count - len(self._clients)
        with selectors.DefaultSelector() as selector:
            for sock in self._clients[:unasked]:
                sock.send(REQUEST)
                selector.register(sock, selectors.EVENT_READ, bytearray())
            unasked -= len(selector.get_map())
            while selector.get_map():
                for sock, received in _readable(selector):
                    if not _is_answered(sock, received):
                        continue
                    received.clear()
                    if unasked:
                        sock.send(REQUEST)
                        unasked -= 1
                    else:
                        selector.unregister(sock)
        self.leave()

    def visits(self, count: int) -> None:
        """Half of them leave with FIN, half with RST.

        :raises BenchmarkError: a handler doesn't begin, or doesn't stop
        """
        watcher = connect(self._port)
        before = _counts(watcher)
        for number, size in enumerate(_waves(count)):
            # Each wave has an address of its own: ports that the last minute's clients have used aren't free again (TIME_WAIT).
            clients = [connect(self._port, f"127.0.0.{2 + number % 250}") for _ in range(size)]
            for sock in clients:
                sock.send(_wait_request(""))
            self._until(watcher, "began", before["began"] + number * WAVE + size)
            for sock in clients[::2]:
                reset_at_close(sock)
            for sock in clients:
                sock.close()
            self._until(watcher, "stopped", before["stopped"] + number * WAVE + size)
        watcher.close()

    def _until(self, watcher: socket.socket, what: str, wanted: int) -> None:
        deadline = time.monotonic() + DEADLINE
        while (count := _counts(watcher)[what]) < wanted:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{what}: {count} handlers of {wanted}, {DEADLINE:.0f} s after the last client did its part")
            time.sleep(0.005)


def _waves(count: int) -> Iterator[int]:
    """Cut into waves: sizes that sum up to it."""
    for begin in range(0, count, WAVE):
        yield min(WAVE, count - begin)


def _wait_request(token: str) -> bytes:
    return head("GET", f"/wait?token={token}&seconds={SECONDS}")


def _readable(selector: selectors.BaseSelector) -> list[tuple[socket.socket, bytearray]]:
    ready = [(key.fileobj, key.data) for key, _ in selector.select(DEADLINE)]
    if not ready:
        raise BenchmarkError(f"the server has answered nobody for {DEADLINE:.0f} s")
    return ready  # type: ignore[return-value]  # only sockets are registered


def _is_answered(sock: socket.socket, received: bytearray) -> bool:
    """Take what has come. Is the response whole?

    :raises BenchmarkError: there won't be one
    """
    data = sock.recv(65536)
    if not data:
        raise BenchmarkError("the server closed a connection instead of answering")
    received += data
    return is_whole(received)


def _counts(sock: socket.socket) -> dict[str, int]:
    sock.send(head("GET", "/notes"))
    counts: dict[str, int] = json.loads(body(_hear_all(sock)))["counts"]
    return counts


def _hear_all(sock: socket.socket) -> bytearray:
    """A whole response, waited for."""
    received = bytearray()
    while not _is_answered(sock, received):
        pass
    return received


def _is_open(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except OSError:
        return False


if __name__ == "__main__":
    crowd = Crowd(int(sys.argv[1]))
    obey({name: getattr(crowd, name) for name in ("open", "arrive", "leave", "kept", "requests", "visits")})
