"""Clients whose requests go by something else than TCP alone: over TLS, over a unix socket, on a stream of HTTP/2.

What a way to leave is called there means what comes next to it: over HTTP/2 a pipelined request is one on another stream.
"""

import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from benchmarks.clients.connections import PATIENCE, connect
from benchmarks.clients.leaving import STREAM, WAYS, Guest, How, target
from benchmarks.running import trusting


class Neighbour(Guest):
    """A client on a unix socket, which knows no RST."""

    names: ClassVar[Sequence[str]] = tuple(name for name in WAYS if name != "RST")

    @classmethod
    def call(cls, path: Path, name: str, token: str, seconds: float) -> Self:
        """Connect, and have the request ready."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        way = WAYS[name]
        return cls(name, token, way.how, sock, memoryview(way.request(target(way.path, token, seconds))))


GOODBYES: dict[str, How] = {"close_notify": "close_notify", "close_notify, FIN": "close_notify, FIN"}
"""Ways to leave that only TLS has (RFC 8446 §6.1)."""


@dataclass(kw_only=True)
class Secured(Guest):
    """A client over TLS. Where it says no goodbye, it leaves as over TCP.

    goodbye: its close_notify.
    """

    goodbye: bytes

    names: ClassVar[Sequence[str]] = (*WAYS, *GOODBYES)

    @classmethod
    def arrive(cls, port: int, name: str, token: str, seconds: float) -> Self:
        """Connect, shake hands, and have the request ready."""
        way = WAYS.get(name) or WAYS["FIN"]
        sock = connect(port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = trusting().wrap_bio(incoming, outgoing)
        shaken = False
        while not shaken:
            with suppress(ssl.SSLWantReadError):
                session.do_handshake()
                shaken = True
            sock.sendall(outgoing.read())
            if not shaken:
                incoming.write(sock.recv(65536))
        session.write(way.request(target(way.path, token, seconds)))
        request = memoryview(outgoing.read())
        with suppress(ssl.SSLWantReadError):  # it would wait for the server's
            session.unwrap()
        return cls(name, token, GOODBYES.get(name) or way.how, sock, request, goodbye=outgoing.read())

    def leave(self) -> None:
        """Go, with a goodbye if that is the way."""
        if not self.how.startswith("close_notify"):
            super().leave()
            return
        self.drain()
        self.left = time.monotonic()
        with suppress(OSError):  # the server has already closed
            self.sock.send(self.goodbye)
        if self.how == "close_notify, FIN":
            self.sock.close()


@dataclass(frozen=True)
class Sent:
    """What a client of HTTP/2 sends.

    size, posted: bytes that its body is to have, and those that it sends.
    beside: a request on another stream.
    behind: bytes of the next frame, which are the last that it sends.
    """

    how: How = "FIN"
    size: int = 0
    posted: int = 0
    beside: bool = False
    behind: bytes = b""
    path: str = "/wait"


MULTIPLEXED = {
    "FIN": Sent(),
    "RST": Sent("RST"),
    "half-close": Sent("half-close"),
    "middle of the body": Sent(size=100, posted=50),
    "pipelined request": Sent(beside=True),
    "stray byte": Sent(behind=b"\0"),
    "200 KB unread": Sent(size=200_000, posted=200_000),
    "4 of 8 MB unread": Sent(size=8_000_000, posted=4_000_000),
    STREAM: Sent(path="/ticks"),
    "RST_STREAM": Sent("RST_STREAM"),
}
"""The same ways, and the one that browsers take: they give up a request, and keep the connection (RFC 9113 §5.4.2)."""


@dataclass(kw_only=True)
class Multiplexed(Guest):
    """A client that speaks HTTP/2, from its first byte on.

    speaker: h2's connection.
    body: what there is no window for yet.
    """

    speaker: Any
    sent: Sent
    body: memoryview = field(repr=False)

    names: ClassVar[Sequence[str]] = tuple(MULTIPLEXED)

    @classmethod
    def arrive(cls, port: int, name: str, token: str, seconds: float) -> Self:
        """Connect, and have the request ready."""
        from h2.connection import H2Connection

        sent = MULTIPLEXED[name]
        speaker = H2Connection()
        speaker.initiate_connection()
        where = [(":scheme", "http"), (":authority", "127.0.0.1")]
        method, length = ("POST", [("content-length", str(sent.size))]) if sent.size else ("GET", [])
        head = [(":method", method), *where, (":path", target(sent.path, token, seconds)), *length]
        speaker.send_headers(1, head, end_stream=not sent.size)
        if sent.beside:
            speaker.send_headers(3, [(":method", "GET"), *where, (":path", "/")], end_stream=True)
        request, body = memoryview(speaker.data_to_send()), memoryview(bytes(sent.posted))
        return cls(name, token, sent.how, connect(port), request, speaker=speaker, sent=sent, body=body)

    def push(self) -> bool:
        """As over TCP; and of the body as much as the proxy has a window for."""
        moved = super().push()
        window = min(self.speaker.local_flow_control_window(1), len(self.body)) if self.body else 0
        while window > 0:
            size = min(window, self.speaker.max_outbound_frame_size)
            piece, self.body = self.body[:size], self.body[size:]
            self.speaker.send_data(1, bytes(piece), end_stream=self.sent.size == self.sent.posted and not self.body)
            window -= size
        if said := self.speaker.data_to_send():
            self.unsent = memoryview(bytes(self.unsent) + said)
            return True
        return moved

    def drain(self) -> None:
        """Hear what the proxy says: it opens windows by and by, or says that it has enough."""
        from h2.exceptions import ProtocolError

        with suppress(BlockingIOError, ConnectionError, ProtocolError):
            while data := self.sock.recv(65536):
                self.speaker.receive_data(data)

    def leave(self) -> None:
        """Go, or give up the request."""
        if self.sent.behind:
            self.push()
            self.sock.send(self.sent.behind)
        if self.how != "RST_STREAM":
            super().leave()
            return
        self.drain()
        self.speaker.reset_stream(1, error_code=8)  # CANCEL
        self.left = time.monotonic()
        with suppress(OSError):
            self.sock.send(bytes(self.unsent) + self.speaker.data_to_send())
