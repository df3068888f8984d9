"""A client on the loopback that makes one request and leaves, in a way of `leaving.py`, telling what it does.

It is written with plain sockets that block: a browser can send no RST, can't half-close and can't stop reading, and an HTTP library
would do neither. Whoever has an event loop runs it in a thread. It tells before it acts, so that its event comes before what it causes.
"""

import selectors
import socket
import struct
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from microasgi.inspector.answers import Answer
from microasgi.inspector.leaving import Ending, Leaves, Sends, Way
from microasgi.inspector.told import Cut, Tell, cut
from microasgi.inspector.websocket import CLOSE, TEXT, frame, handshake

MOST = 65536
NOT_READING = 4096
"""The receive buffer of a client that reads nothing, in bytes: what the kernel takes for it doesn't reach the server's send buffer."""


@dataclass(frozen=True)
class Request:
    """What it asks for.

    method: `WEBSOCKET` opens one, and says the body there.
    size: bytes of the body of who leaves behind a long one.
    """

    method: str
    path: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    size: int = 1_000_000

    @property
    def websocket(self) -> bool:
        return self.method == "WEBSOCKET"


def bytes_of(request: Request, way: Way, host: str) -> bytes:
    """All that such a client sends at once."""
    if request.websocket:
        return handshake(request.path, host, request.headers)
    body = request.body
    if way.sends is Sends.A_LONG_BODY:
        body = (body or b"x").ljust(request.size, body[-1:] or b"x")
    elif way.sends is Sends.HALF_A_BODY:
        body = body or b"x" * 100
    names = {name.lower() for name, _ in request.headers}
    fields = [] if "host" in names else [("Host", host)]
    fields += request.headers
    if (body or request.method in ("POST", "PUT", "PATCH")) and not names & {"content-length", "transfer-encoding"}:
        fields.append(("Content-Length", str(len(body))))
    if way.leaves is Leaves.NEVER:
        fields.append(("Connection", "close"))
    head = "".join(f"{line}\r\n" for line in (f"{request.method} {request.path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields))) + "\r\n"
    whole = head.encode("latin-1") + body
    match way.sends:
        case Sends.HALF_A_HEAD:
            return whole[: len(head) // 2]
        case Sends.HALF_A_BODY:
            return whole[: len(head) + len(body) // 2]
        case Sends.TWO_REQUESTS:
            return whole + f"GET {request.path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")
    return whole


class Client:
    """One request of one client. `run` makes it, to its end.

    answer: what it was answered with.
    port: its own, once it is connected: by this the server's side of the connection is found.

    :param port: of 127.0.0.1
    :param seconds: when it leaves, for who leaves in time, counted from when its request is sent
    :param patience: it leaves after so many seconds in any case
    :param sends, gets: what is told of the bytes that it sends, and of those that it gets
    """

    def __init__(
        self,
        port: int,
        request: Request,
        way: Way,
        tell: Tell,
        *,
        seconds: float,
        patience: float = 60.0,
        sends: Cut = cut,
        gets: Cut = cut,
    ) -> None:
        self.port: int | None = None
        self._sends, self._gets = sends, gets
        self.answer = Answer(request.method)
        self._port, self._request, self._way, self._tell = port, request, way, tell
        self._seconds, self._patience = seconds, patience
        self._wakes, self._wake = socket.socketpair()
        self._leaving = self._closed = False

    @property
    def status(self) -> int:
        """What it was answered with; 0, if with nothing."""
        return self.answer.status

    def leave_now(self) -> None:
        """Leave without waiting any longer. May be called from any thread, more than once."""
        self._leaving = True
        with suppress(OSError):  # it has left already
            self._wake.send(b"x")

    def run(self) -> None:
        """Connect, ask, leave.

        :raises OSError: nobody listens there
        """
        with self._wakes, self._wake, socket.socket() as sock:
            if not self._way.reads:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NOT_READING)
            self._tell("connect")
            sock.connect(("127.0.0.1", self._port))
            self.port = sock.getsockname()[1]
            sock.setblocking(False)
            began = time.perf_counter()
            self._ask(sock, began + self._seconds)
            self._stay(sock, began + self._seconds)
            self._leave(sock)

    def _ask(self, sock: socket.socket, until: float) -> None:
        """Send what there is to send. Who is at it when it has to leave stops in the middle."""
        in_time = until if self._way.leaves is Leaves.IN_TIME else self._end()
        self._send(sock, bytes_of(self._request, self._way, f"127.0.0.1:{self._port}"), in_time)
        if self._request.websocket and self._request.body:
            self._read(sock, in_time, self._has_answer)
            self._send(sock, frame(TEXT, self._request.body), in_time)
        if not self._way.reads:
            self._tell("stops reading")

    def _stay(self, sock: socket.socket, until: float) -> None:
        """Until it is time to leave."""
        match self._way.leaves:
            case Leaves.IN_TIME if not self._way.reads:
                self._ready(None, 0, until)
            case Leaves.IN_TIME:
                self._read(sock, min(until, self._end()), self._has_all)
            case Leaves.BEFORE_THE_LAST_BYTE:
                self._read(sock, self._end(), self._has_all, but=1)
            case Leaves.WITH_ITS_ANSWER:
                self._read(sock, self._end(), self._has_all)
                self._read(sock, time.perf_counter() + self._seconds, _never)
            case Leaves.NEVER:
                self._read(sock, self._end(), _never)

    def _end(self) -> float:
        """When its patience ends that begins now."""
        return time.perf_counter() + self._patience

    def _has_answer(self) -> bool:
        return self.answer.complete

    def _has_all(self) -> bool:
        """Whether there is nothing more to wait for: a WebSocket's client has more to hear behind the handshake."""
        return self._has_answer() and not (self._request.websocket and self.status == 101)

    def _send(self, sock: socket.socket, data: bytes, until: float) -> None:
        self._tell("send", data=self._sends(data))
        view = memoryview(data)
        with suppress(OSError):  # the server has closed; what it has said can be read all the same
            while view:
                try:
                    view = view[sock.send(view) :]
                except BlockingIOError:
                    if not self._ready(sock, selectors.EVENT_WRITE, until):
                        return

    def _read(self, sock: socket.socket, until: float, enough: Callable[[], bool], but: int = 0) -> None:
        """Read until then, until it is enough, or until the server closes.

        :param but: bytes of the end to leave to the kernel
        """
        while not self._closed and self._ready(sock, selectors.EVENT_READ, until):
            try:
                data = sock.recv(MOST, socket.MSG_PEEK if but else 0)
            except OSError as error:
                self._closed = True
                self._tell("closed by the server", how="RST" if isinstance(error, ConnectionResetError) else str(error))
                return
            if not data:
                self._closed = True
                self.answer.close()
                self._tell("closed by the server", how="FIN")
                return
            is_enough = but > 0 and self.answer.look(data).complete
            if is_enough:
                data = data[: self._end_in(data) - but]
            if but:
                sock.recv(len(data))
            self.answer.feed(data)
            if data:
                self._tell("received", data=self._gets(data))
            if is_enough or enough():
                return

    def _end_in(self, data: bytes) -> int:
        """How many of these bytes the response still has, which they complete."""
        return bisect_left(range(len(data)), True, key=lambda count: self.answer.look(data[:count]).complete)

    def _leave(self, sock: socket.socket) -> None:
        ending = self._way.ending
        if ending is Ending.GOODBYE and self._request.websocket:
            self._tell("close", way="goodbye")
            self._send(sock, frame(CLOSE, struct.pack("!H", 1001)), self._end())
        if ending is Ending.HALF and not self.answer.complete and not self._closed:
            self._tell("close", way="half")
            sock.shutdown(socket.SHUT_WR)
            self._leaving = False
            self._read(sock, self._end(), _never)
        if ending is Ending.RST:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._tell("close", way="RST" if ending is Ending.RST else "FIN", whole=self._has_all())
        sock.close()

    def _ready(self, sock: socket.socket | None, events: int, until: float) -> bool:
        """Whether the socket is ready before then; not, if it is to leave now. Who always has something to read leaves in time, too."""
        if time.perf_counter() >= until:
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakes, selectors.EVENT_READ)
            if sock is not None:
                selector.register(sock, events)
            ready = {key.fileobj for key, _ in selector.select(until - time.perf_counter())}
        if self._wakes in ready:
            self._wakes.recv(MOST)
        return sock in ready and not self._leaving


def _never() -> bool:
    return False
