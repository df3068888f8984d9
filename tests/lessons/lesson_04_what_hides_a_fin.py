"""What hides a FIN.

A FIN stands in the queue behind every byte that was sent before it, a reset stands in no queue, and a loop that has paused reading sees
neither.

Predict: a server has stopped reading from a client, because its handler hasn't asked for the rest of the body. The client closes. Who
knows: the client's kernel, the server's kernel, the event loop?
"""

import asyncio
import select
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from microasgi import Route, Router
from tests.harness import Sleeper, eventually, serving, within
from tests.lessons.form import Break, Place

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="EPOLLRDHUP is Linux's; elsewhere nobody knows")


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's socket, and the one that its server has."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            yield client, server


def fill(client: socket.socket) -> int:
    """Send until both kernels are full: what the server's has no room for stays with the client's."""
    client.setblocking(False)
    sent = 0
    try:
        while True:
            sent += client.send(bytes(65536))
    except BlockingIOError:
        return sent


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# A loop that pauses reading takes the socket out of the set that it polls: bytes that nobody wants must stay with their sender (lesson 6).
# But an end is read, too, and now nobody reads it.
#
# (How does one know that nothing will be heard, without waiting for it? Another client leaves after the others. When that is heard, so is
# everything that was before it.)


class Listener(asyncio.Protocol):
    """What asyncio calls when something has happened to a connection."""

    heard = False

    def connection_lost(self, error: Exception | None) -> None:
        self.heard = True


async def test_a_paused_loop_hears_nothing() -> None:
    """Neither a FIN nor a reset wakes a loop that has paused reading."""
    connect = asyncio.get_running_loop().connect_accepted_socket
    with connected() as (closing, one), connected() as (resetting, two), connected() as (last, three):
        ends = [await connect(Listener, server) for server in (one, two, three)]
        for transport, _ in ends[:2]:
            transport.pause_reading()
        closing.close()
        reset(resetting)
        last.close()
        await eventually(lambda: ends[2][1].heard)
        assert [listener.heard for _, listener in ends] == [False, False, True]
        for transport, _ in ends:
            transport.abort()


# The kernel knows. Linux has an event that says only this, EPOLLRDHUP, and an epoll in which a socket stands for that alone isn't woken by
# data. A reset comes with EPOLLHUP beside it, asked for or not.


def departures(epoll: select.epoll, at_last: socket.socket) -> dict[int, int]:
    """What epoll reports once it reports this socket: the descriptors, each with its events."""
    while at_last.fileno() not in (events := dict(epoll.poll(5))):
        assert events
    return events


def test_the_kernel_has_heard_it() -> None:
    """Behind bytes that nobody reads, `EPOLLRDHUP` tells of a departure, and of which kind it is."""
    with select.epoll() as epoll, connected() as (closing, one), connected() as (resetting, two):
        for client, server in ((closing, one), (resetting, two)):
            epoll.register(server, select.EPOLLRDHUP)
            client.sendall(bytes(50_000))
        closing.close()
        reset(resetting)
        events = departures(epoll, two)
        assert events[one.fileno()] == select.EPOLLRDHUP
        assert events[two.fileno()] & select.EPOLLHUP


# But it knows only what has arrived. Of a client that has sent more than the server's kernel has room for, the rest waits in the client's
# own kernel, and the FIN waits behind it. No server can see it there. A reset isn't sent behind anything: it throws away what waits.


def test_a_fin_waits_behind_what_has_no_room() -> None:
    """Behind more bytes than the server's kernel takes nobody can see a FIN, but a reset; when the bytes are read, the FIN comes."""
    with select.epoll() as epoll, connected() as (closing, one), connected() as (resetting, two):
        epoll.register(one, select.EPOLLRDHUP)
        epoll.register(two, select.EPOLLRDHUP)
        sent = fill(closing)
        closing.close()
        fill(resetting)
        reset(resetting)
        assert one.fileno() not in departures(epoll, two)
        read = 0
        while data := one.recv(65536):
            read += len(data)
        print(f"  a FIN was hidden behind {sent:,} bytes")
        assert read == sent
        assert one.fileno() in departures(epoll, one)


# The server of this repository puts every socket that it pauses into one such epoll, and has the kernel make as much room as it may, some
# 3 MB: so much may lie there unread, and a handler that reads nothing still hears its client leave.


async def test_a_handler_that_reads_nothing_hears_it() -> None:
    """A client that leaves behind a megabyte of unread body stops its handler."""
    handler = Sleeper()
    routes = Router([Route("/", handler, methods=["POST"])])
    async with serving(routes, lifespan="off") as served, await served.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000))
        client.leave("FIN")
        await within(handler.ended)
    assert handler.cancellations == 1


# Break it: let the first client reset its connection instead of closing it. Then nothing is hidden.

BREAK = Break(
    old="        sent = fill(closing)\n        closing.close()\n",
    new="        sent = fill(closing)\n        reset(closing)\n",
    fails="assert one.fileno() not in departures(epoll, two)",
)

READ_NEXT = [
    Place("server/microasgi_server/transports/paused.py", "PausedSockets.watch"),  # one epoll for all paused sockets
    Place("server/microasgi_server/transports/buffers.py", "enlarge"),  # how the kernel is made to take more
    Place("server/microasgi_server/connection.py", "Connection.regulate"),  # when reading pauses
]
