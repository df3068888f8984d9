"""What the server's tests share: a running server, and a client that can misbehave.

The server runs in the test's own event loop, on a real socket. The client is a bare socket, because libraries behave.
"""

import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import anyio
import h11
import pytest
from anyio.lowlevel import checkpoint
from microasgi_server import Config, ShutdownError, serve
from microasgi_server.errors import single_error
from microasgi_server.running import RunningServer

from microasgi.lint import Lint, Side

Headers = Sequence[tuple[bytes, bytes]]
Departure = Literal["FIN", "RST", "half-close", "close_notify", "close_notify, FIN"]

PATIENCE = 5.0
"""Seconds after which a wait in a test has failed. Nothing waits that long unless something is wrong."""

TURNS = 20
"""How many turns of its loop a poll looks after each, before it pauses between them."""


@dataclass
class Response:
    """One response as the client got it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    complete: bool
    http_version: bytes = b"1.1"
    informational: list[h11.InformationalResponse] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def header(self, name: bytes) -> bytes | None:
        return next((value for own, value in self.headers if own == name), None)


class Client:
    """A bare TCP or unix connection, for the bytes as they are."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._parser = h11.Connection(h11.CLIENT)

    def sealed(self, data: bytes) -> bytes:
        """The bytes that carry these."""
        return data

    async def send(self, data: bytes) -> None:
        """Send all of it, waiting as long as the server doesn't read."""
        await self.send_raw(self.sealed(data))

    async def send_raw(self, data: bytes) -> None:
        """Send these bytes as they are."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self.sock)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Some bytes; none at the end."""
        await anyio.wait_readable(self.sock)
        return self.sock.recv(max_bytes)

    async def receive_until_closed(self) -> bytes:
        """Everything, up to FIN."""
        data = b""
        while chunk := await self.receive():
            data += chunk
        return data

    async def response(self, method: bytes = b"GET") -> Response:
        """Read one response. One that the server broke off comes with `complete=False`."""
        parser = self._parser
        if parser.our_state is h11.DONE and parser.their_state is h11.DONE:
            parser.start_next_cycle()
        if parser.our_state is h11.IDLE:  # the bytes were sent by hand: tell h11 only what it needs to read the answer
            parser.send(h11.Request(method=method, target="/", headers=[("host", "test")]))
            parser.send(h11.EndOfMessage())
        result = Response(0, [], b"", complete=False)
        while True:
            try:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    parser.receive_data(await self.receive())
                    continue
            except (h11.RemoteProtocolError, ConnectionResetError):
                return result
            if isinstance(event, h11.InformationalResponse):
                result.informational.append(event)
            elif isinstance(event, h11.Response):
                result.status, result.headers, result.http_version = event.status_code, list(event.headers), event.http_version
            elif isinstance(event, h11.Data):
                result.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                result.trailers, result.complete = list(event.headers), True
                return result
            else:
                return result

    def leave(self, how: Departure = "FIN") -> None:
        """Go away: close, reset, or shut the sending side only."""
        if how == "half-close":
            self.sock.shutdown(socket.SHUT_WR)
            return
        if how == "RST":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sock.close()


class TLSClient(Client):
    """A connection whose bytes are TLS's: `sock` carries records. It can do less, and more, than Python's own TLS sockets."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def shake_hands(self) -> "TLSClient":
        """From the first byte to the end of the handshake, as the server sees it, too.

        :raises ssl.SSLError: there is no session
        """
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send_raw(self._outgoing.read())
                await self._more()
            else:
                await self.send_raw(self._outgoing.read())
                break
        if self.tls.version() == "TLSv1.3":  # the server answers with tickets, or why it won't: who closes with those unread sends an RST
            await self._more()
            with suppress(ssl.SSLWantReadError):
                self.tls.read(1)
        return self

    async def _more(self) -> None:
        if data := await super().receive():
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def sealed(self, data: bytes) -> bytes:
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        return self._outgoing.read()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Some bytes; none behind the server's close_notify.

        :raises ssl.SSLEOFError: the connection has ended without one
        """
        while True:
            try:
                return self.tls.read(max_bytes)
            except ssl.SSLWantReadError:
                await self._more()

    def last_words(self) -> bytes:
        """What this side has yet to say: an alert, where a handshake has failed."""
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        """The bytes of a close_notify."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    def leave(self, how: Departure = "FIN") -> None:
        if how.startswith("close_notify"):
            self.sock.send(self.goodbye())
        if how != "close_notify":
            super().leave("FIN" if how == "close_notify, FIN" else how)


def unsuspicious(most: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> ssl.SSLContext:
    """What a client needs that takes any server, with no newer version than this."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = most
    return context


@dataclass
class Served:
    """A running server. `stop` ends it gracefully; leaving the block ends it at once."""

    address: str
    stop: anyio.Event
    ended: anyio.Event

    @property
    def port(self) -> int:
        port = urlsplit(self.address).port
        assert port is not None
        return port

    async def connect(self, *, receive_buffer: int = 0) -> Client:
        """A new connection, over TLS if the server wants it so. `receive_buffer` makes the client's side small, so that it is soon full."""
        client = await self.connect_bare(receive_buffer=receive_buffer)
        return await TLSClient(client.sock, unsuspicious()).shake_hands() if self.address.startswith("https:") else client

    async def connect_bare(self, *, receive_buffer: int = 0) -> Client:
        """A new connection, before any byte."""
        if self.address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.connect(self.address.removeprefix("unix:"))
            return Client(sock)
        with ExitStack() as unless_connected:
            sock = unless_connected.enter_context(socket.socket())
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.setblocking(False)
            try:
                sock.connect(("127.0.0.1", self.port))
            except BlockingIOError:
                await anyio.wait_writable(sock)
            unless_connected.pop_all()
        return Client(sock)


class Linting:
    """An app in a `Lint`, if `pytest --lint` says so: what the server does wrong fails the test then.

    The app can look through the `receive` that it gets, as it can without.
    """

    is_on = False

    def __init__(self, app: Any) -> None:
        self._app, self._lint = app, Lint(self._inside)
        self._servers: dict[int, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._servers[id(scope)] = receive.__self__
        await self._lint(scope, receive, send)

    async def _inside(self, scope: Any, receive: Any, send: Any) -> None:
        receive.__self__ = self._servers.pop(id(scope))
        await self._app(scope, receive, send)

    def check(self) -> None:
        assert [str(finding) for finding in self._lint.findings if finding.side is Side.SERVER] == []


@asynccontextmanager
async def serving(app: Any, connection_class: Any = None, **options: Any) -> AsyncIterator[Served]:
    """Serve `app` on a free port, or with `uds=`, as long as the block lasts. The options are those of `Config`."""
    stop, ended = anyio.Event(), anyio.Event()
    linting = Linting(app) if Linting.is_on else None

    async def run(*, task_status: Any) -> None:
        try:
            config = Config(**{"port": 0, **options})
            await serve(linting or app, config, stop=stop, connection_class=connection_class, task_status=task_status)
        finally:
            ended.set()

    async with anyio.create_task_group() as tasks:
        (address,) = await tasks.start(run)
        yield Served(address, stop, ended)
        tasks.cancel_scope.cancel()
    if linting is not None:
        linting.check()


@contextmanager
def fails_in_the_end(message: str) -> Iterator[None]:
    """A `ShutdownError` that says so, or begins so, must be the one error of the block."""
    with pytest.raises(ShutdownError, match=f"^{message}"), single_error():
        yield


async def call(
    app: Any, method: str = "GET", path: str = "/", *, headers: Headers = (), body: Sequence[bytes] = (b"",), **scope: Any
) -> Response:
    """Call an ASGI app as a server would, where no socket matters. What the app raises passes through.

    :param body: the request's body, one message for each part; then the client stays
    :param scope: what the scope has besides, or instead
    """
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in body]
    messages[-1]["more_body"] = False
    result = Response(0, [], b"", complete=False)

    async def receive() -> Any:
        if not messages:
            await anyio.sleep_forever()
        return messages.pop(0)

    async def send(message: Any) -> None:
        await checkpoint()
        assert not result.complete
        if message["type"] == "http.response.start":
            assert result.status == 0
            result.status, result.headers = message["status"], list(message["headers"])
        else:
            assert result.status
            result.body += message.get("body", b"")
            result.complete = not message.get("more_body", False)

    path, _, query = path.partition("?")
    whole = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 54321),
        "server": ("127.0.0.1", 80),
        "state": {},
        "extensions": {},
        **scope,
    }
    await app(whole, receive, send)
    return result


async def eventually(condition: Callable[[], Any], within: float = PATIENCE) -> None:
    """Wait until `condition` holds; fail if it takes longer than `within` seconds.

    Most often the loop has only a few turns to go until then, in which nothing waits for a clock.
    """
    deadline = time.monotonic() + within
    pauses = chain(repeat(0, TURNS), repeat(0.001))
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {within} s it still isn't so")
        await anyio.sleep(next(pauses))


async def within(event: anyio.Event, seconds: float = PATIENCE) -> None:
    """Wait for `event`; fail if it takes longer."""
    with anyio.fail_after(seconds):
        await event.wait()


GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


class Sleeper:
    """What waits for ever, as a handler or anywhere else, and remembers what became of it."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.ended = anyio.Event()
        self.ended_at = 0.0
        self.count = 0
        self.cancellations = 0

    async def sleep(self) -> None:
        self.count += 1
        self.begun.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.cancellations += 1
            raise
        finally:
            self.ended_at = time.monotonic()
            self.ended.set()

    async def __call__(self, request: Any) -> None:
        await self.sleep()


def refuses_connections(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.1).close()
    except ConnectionRefusedError:
        return True
    except TimeoutError:  # it is about to close, and makes no connections
        return False
    return False


def access_lines(caplog: Any) -> list[str]:
    """The access log so far."""
    return [record.getMessage() for record in caplog.records if record.name == "microasgi_server.access"]


def loud_lines(caplog: Any) -> list[str]:
    """What was logged above info so far, by whomever."""
    return [record.getMessage() for record in caplog.records if record.levelname not in ("TRACE", "DEBUG", "INFO")]


def shared_of(receive: Any) -> RunningServer:
    """The running server's own state, by the `receive` that it gave to an app (or a `Request`'s)."""
    running: RunningServer = receive.__self__._connection.running
    return running
