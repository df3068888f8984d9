"""Seeing a client leave while its socket isn't being read.

A loop that has paused reading has taken the socket out of its poll set, and neither FIN nor RST wakes it: measured on
asyncio, uvloop and trio, 6 of 6 departures were missed. On Linux there is an event that says only this: EPOLLRDHUP. All
paused sockets of a server go into one epoll of their own, for nothing else; its descriptor is readable when any of them has
been left, and that is what the loop watches.

    paused sockets ──EPOLLRDHUP──► this epoll ──readable──► the event loop ──► on_departure(why)

A FIN has arrived only when everything sent before it has: behind more unread bytes than the kernel's buffer holds, it is
still with the client, and nobody can see it. So a socket that pauses also gets a larger buffer (`Config.receive_buffer`).
An RST stands in no queue: it is seen behind any number of bytes.

Where there is no epoll, nothing is watched, and a client that leaves behind a full look-ahead is noticed late.
"""

import select
import socket
from collections.abc import Callable

import anyio

from microasgi_server.transports.buffers import enlarge

_RDHUP = 0x2000  # select.EPOLLRDHUP, which Python has only where epoll is
_RESET_ONLY = 0
_ERR, _HUP = 0x08, 0x10  # which epoll always reports: of a TCP connection that was reset, at least the second


class PausedSockets:
    """The paused sockets of one server, each with the function to call when its client leaves."""

    def __init__(self) -> None:
        self._callbacks: dict[int, tuple[Callable[[str], None], int]] = {}  # and the events that mean a reset
        self._epoll = select.epoll() if hasattr(select, "epoll") else None

    def add(self, sock: socket.socket, on_departure: Callable[[str], None], *, receive_buffer: int, half_close: bool) -> bytes:
        """Call `on_departure` with the reason, once, if the client leaves before `discard`.

        :param receive_buffer: as in `Config`
        :param half_close: as in `Config`: only a reset counts
        :return: what had to be read to enlarge the buffer: a byte, or none. It comes before all that is read later
        """
        if self._epoll is None or self._epoll.closed:
            return b""
        first = enlarge(sock, receive_buffer)
        fd = sock.fileno()
        self._callbacks[fd] = on_departure, _ERR if sock.family == socket.AF_UNIX else _ERR | _HUP
        self._epoll.register(fd, _RESET_ONLY if half_close else _RDHUP)
        return first

    def discard(self, sock: socket.socket) -> None:
        """Stop watching. Must be called before the socket is closed; does nothing if it isn't watched."""
        if self._callbacks.pop(sock.fileno(), None) is not None and self._epoll is not None and not self._epoll.closed:
            self._epoll.unregister(sock.fileno())

    async def watch(self) -> None:
        """Report departures until cancelled."""
        if self._epoll is None:
            return
        with self._epoll:
            while True:
                await anyio.wait_readable(self._epoll.fileno())
                for fd, events in self._epoll.poll(0):
                    watched = self._callbacks.pop(fd, None)
                    if watched is not None:
                        self._epoll.unregister(fd)
                        on_departure, reset = watched
                        on_departure("the connection was reset (RST)" if events & reset else "the client closed its side (FIN)")
