"""Seeing a client leave while its socket isn't being read: `paused.py` by itself, over real sockets."""

import os
import select
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint
from microasgi_server.transports.paused import PausedSockets

from tests.harness import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is watched")]

FIN = "the client closed its side (FIN)"
RST = "the connection was reset (RST)"


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection: the server's, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            server.setblocking(False)
            client.setblocking(False)
            yield server, client


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class Watched:
    """`PausedSockets` that are being watched, and what they reported."""

    def __init__(self, paused: PausedSockets) -> None:
        self.paused = paused
        self.reports: list[tuple[str, str]] = []

    def add(self, name: str, sock: socket.socket, *, receive_buffer: int = 0, half_close: bool = False) -> bytes:
        def report(why: str) -> None:
            self.reports.append((name, why))

        return self.paused.add(sock, report, receive_buffer=receive_buffer, half_close=half_close)


@asynccontextmanager
async def watching() -> AsyncIterator[Watched]:
    watched = Watched(PausedSockets())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watched.paused.watch)
        await checkpoint()
        yield watched
        tasks.cancel_scope.cancel()


async def looked(watched: Watched) -> None:
    """Return when everything that had happened before is reported: something that happens now is."""
    with connected() as (server, client):
        watched.add("probe", server)
        client.close()
        await eventually(lambda: ("probe", FIN) in watched.reports)
        watched.reports.remove(("probe", FIN))


@pytest.mark.parametrize("unread", [0, 1, 50_000])
async def test_fin_and_rst_are_told_apart(unread: int) -> None:
    """The report says whether the client closed its side or reset the connection, whatever is unread."""
    async with watching() as watched:
        with connected() as (one, closing), connected() as (two, resetting), connected() as (three, shutting):
            for client in (closing, resetting, shutting):
                client.sendall(b"x" * unread)
            watched.add("closed", one)
            watched.add("reset", two)
            watched.add("shut", three)
            closing.close()
            reset(resetting)
            shutting.shutdown(socket.SHUT_WR)
            await eventually(lambda: len(watched.reports) == 3)
            await looked(watched)
    assert sorted(watched.reports) == [("closed", FIN), ("reset", RST), ("shut", FIN)]


async def test_a_unix_sockets_client_closes_its_side() -> None:
    """Unix sockets have no RST: their clients close, with and without unread bytes."""
    async with watching() as watched:
        for number, unread in enumerate([b"", b"unread"], 1):
            server, client = socket.socketpair()
            with server, client:
                client.sendall(unread)
                watched.add("unix", server)
                client.close()
                await eventually(lambda: len(watched.reports) == number)  # noqa: B023
    assert watched.reports == [("unix", FIN)] * 2


async def test_who_has_left_already_is_reported() -> None:
    """A client that left before its socket was added is reported all the same."""
    async with watching() as watched:
        with connected() as (one, closing), connected() as (two, resetting):
            closing.close()
            reset(resetting)
            watched.add("closed", one, receive_buffer=4_000_000)
            watched.add("reset", two, receive_buffer=4_000_000)
            await eventually(lambda: len(watched.reports) == 2)
    assert sorted(watched.reports) == [("closed", FIN), ("reset", RST)]


async def test_data_wakes_nobody() -> None:
    """Data that arrives, and goes on being there, is no event: nothing is reported, and the loop sleeps."""
    async with watching() as watched:
        with connected() as (server, client):
            watched.add("left", server)
            client.sendall(b"x" * 10_000)
            await looked(watched)
            assert watched.reports == []
            spent = time.process_time()
            await anyio.sleep(0.2)
            assert time.process_time() - spent < 0.1  # a loop that was woken all the time would have spent all of it
            client.sendall(b"x" * 10_000)
            client.close()
            await eventually(lambda: watched.reports)
    assert watched.reports == [("left", FIN)]


async def test_a_departure_is_reported_once() -> None:
    """A client that has left is reported once, however often the others are looked at, and the loop sleeps then too."""
    async with watching() as watched:
        with connected() as (server, client):
            watched.add("left", server)
            client.shutdown(socket.SHUT_WR)
            await eventually(lambda: watched.reports)
            reset(client)
            await looked(watched)
            await looked(watched)
            spent = time.process_time()
            await anyio.sleep(0.2)
            assert time.process_time() - spent < 0.1
            watched.paused.discard(server)  # does nothing any more
    assert watched.reports == [("left", FIN)]


async def test_who_is_discarded_is_not_reported() -> None:
    """After `discard` nothing is reported, neither of a client that leaves later nor of one that had left unnoticed."""
    async with watching() as watched:
        with connected() as (one, leaving), connected() as (two, left):
            watched.add("later", one)
            watched.paused.discard(one)
            watched.paused.discard(one)  # once more does nothing
            leaving.close()
            watched.add("unnoticed", two)
            reset(left)
            watched.paused.discard(two)
            await looked(watched)
    assert watched.reports == []


async def test_pausing_many_times_leaves_nothing_behind() -> None:
    """A socket can pause and go on any number of times, and a departure counts only in a pause."""
    async with watching() as watched:
        with connected() as (server, client):
            for number in range(200):
                watched.add(str(number), server)
                if number % 7 == 0:
                    await checkpoint()
                watched.paused.discard(server)
            client.close()
            await looked(watched)
            assert watched.reports == []
            watched.add("at last", server)
            await eventually(lambda: watched.reports)
    assert watched.reports == [("at last", FIN)]


async def test_a_descriptor_used_again_is_another_socket() -> None:
    """A new socket with the number of an old one has nothing to do with it: neither registration nor report is inherited."""
    async with watching() as watched:
        with connected() as (old, old_client), connected() as (new, new_client):
            number = old.fileno()
            watched.add("old", old)
            watched.paused.discard(old)
            old.close()
            again = socket.socket(fileno=_dup_to(new, number))
            with again:
                assert again.fileno() == number
                watched.add("new", again)
                reset(old_client)
                await looked(watched)
                assert watched.reports == []
                new_client.close()
                await eventually(lambda: watched.reports)
    assert watched.reports == [("new", FIN)]


def _dup_to(sock: socket.socket, number: int) -> int:
    """A second descriptor for `sock`, with this number."""
    return os.dup2(sock.fileno(), number)


async def test_one_report_may_discard_another() -> None:
    """When many leave in the same moment, a report that ends other connections ends their reports too."""
    reports: list[int] = []
    paused = PausedSockets()
    async with anyio.create_task_group() as tasks:
        with connected() as (one, one_client), connected() as (two, two_client):
            servers = [one, two]

            def report(number: int) -> None:
                reports.append(number)
                paused.discard(servers[1 - number])
                servers[1 - number].close()

            paused.add(one, lambda _: report(0), receive_buffer=0, half_close=False)
            paused.add(two, lambda _: report(1), receive_buffer=0, half_close=False)
            one_client.close()
            two_client.close()
            tasks.start_soon(paused.watch)
            await eventually(lambda: reports)
            for _ in range(5):
                await checkpoint()
        tasks.cancel_scope.cancel()
    assert len(reports) == 1


@pytest.mark.parametrize("unread", [0, 1000])
async def test_with_half_close_only_a_reset_counts(unread: int) -> None:
    """With `half_close` a FIN is no departure, and an RST after it is."""
    async with watching() as watched:
        with connected() as (server, client):
            client.sendall(b"x" * unread)
            watched.add("left", server, half_close=True)
            client.shutdown(socket.SHUT_WR)
            await looked(watched)
            assert watched.reports == []
            reset(client)
            await eventually(lambda: watched.reports)
    assert watched.reports == [("left", RST)]


async def fill(client: socket.socket) -> int:
    """Send until the kernel has taken nothing for a while, and return how much that was."""
    sent = 0
    while True:
        with anyio.move_on_after(0.05) as stuck:
            await anyio.wait_writable(client)
        if stuck.cancelled_caught:
            return sent
        sent += client.send(bytes(65536))


@pytest.mark.parametrize("size", [500_000, 2_000_000])
async def test_a_pause_makes_room_for_what_a_fin_stands_behind(size: int) -> None:
    """`receive_buffer` bytes fit into the kernel however small the buffer was, and a client that met a full one learns it at once."""
    async with watching() as watched:
        with connected() as (server, client):
            before = server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            stuck_at = await fill(client)
            first = watched.add("left", server, receive_buffer=size + stuck_at)
            assert len(first) == 1
            assert server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > before
            since = time.monotonic()
            with anyio.fail_after(5):
                left = size
                while left:
                    await anyio.wait_writable(client)
                    left -= client.send(bytes(min(left, 65536)))
            client.close()
            await eventually(lambda: watched.reports)
            took = time.monotonic() - since
            received = len(first)
            while chunk := server.recv(1_000_000):
                received += len(chunk)
    assert received == stuck_at + size
    assert watched.reports == [("left", FIN)]
    assert took < 0.15  # the client asks by itself after 0.2 s


async def test_a_buffer_is_never_made_smaller() -> None:
    """A socket whose buffer is large enough is left alone, and nothing is read from it."""
    async with watching() as watched:
        with connected() as (server, client):
            client.sendall(b"data")
            before = server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            for size in (0, 1000, before // 2):
                assert watched.add("nobody", server, receive_buffer=size) == b""
                watched.paused.discard(server)
                assert server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before
            assert server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
            await eventually(lambda: server.recv(100, socket.MSG_PEEK) == b"data")


async def test_after_the_end_nothing_is_watched() -> None:
    """When watching was cancelled, sockets may still be added and discarded, and nothing happens."""
    async with watching() as watched:
        with connected() as (server, _):
            watched.add("kept", server)
    with connected() as (other, _):
        watched.paused.discard(server)
        watched.add("late", other)
        watched.paused.discard(other)
    assert watched.reports == []


async def test_where_there_is_no_epoll_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without epoll everything can be called, and nothing is reported."""
    monkeypatch.delattr(select, "epoll")
    watched = Watched(PausedSockets())
    with connected() as (server, client):
        assert watched.add("nobody", server, receive_buffer=1_000_000) == b""
        client.close()
        with anyio.fail_after(1):
            await watched.paused.watch()
        watched.paused.discard(server)
    assert watched.reports == []
