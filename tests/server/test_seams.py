"""Where something else can take hold of the server: its sockets, its clock, its limits, and who wants to watch."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from microasgi_server import Config, Limits, observers, serve
from microasgi_server.call import Call
from microasgi_server.connection import Connection
from microasgi_server.deadlines import NEVER, Consequence, Wait, deadlines
from microasgi_server.errors import AppError
from microasgi_server.exchange import Next
from microasgi_server.http1.exchange import Exchange
from microasgi_server.http1.protocol import Protocol
from microasgi_server.logs import TRACE
from microasgi_server.presence import Presence

from tests.harness import GET, PATIENCE, Client, Departure, Served, access_lines, eventually, loud_lines, within

pytestmark = pytest.mark.anyio


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers whatever it is asked."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(app: Any, config: Config, **more: Any) -> AsyncIterator[tuple[Served, list[str]]]:
    """Serve with what `serve` takes beside its config; gives the addresses, too."""
    stop, ended = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def run(*, task_status: Any) -> None:
            try:
                await serve(app, config, stop=stop, task_status=task_status, **more)
            finally:
                ended.set()

        addresses = await tasks.start(run)
        yield Served(addresses[0], stop, ended), addresses
        tasks.cancel_scope.cancel()


class Clock:
    """A clock that somebody else winds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def config(**options: Any) -> Config:
    return Config(port=0, lifespan="off", limits=Limits(look=0.01), **options)


# Sockets.


async def test_sockets_that_are_handed_in_are_served_and_left_open(caplog: pytest.LogCaptureFixture) -> None:
    """Sockets that somebody has bound are accepted on, all of them, and whoever has bound them closes them."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        for _ in range(2):  # a second time, too: the first has left them as they were
            async with serving(hello, config(), sockets=[one, other]) as (served, addresses):
                assert addresses == [f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in (one, other)]
                for address in addresses:
                    async with await Served(address, served.stop, served.ended).connect() as client:
                        await client.send(GET)
                        assert (await client.response()).body == b"ok"
                served.stop.set()
                await within(served.ended)
            assert one.fileno() >= 0
            assert one.getsockname()[1]
    assert loud_lines(caplog) == []


async def test_a_unix_socket_that_is_handed_in_keeps_its_path(tmp_path: Any) -> None:
    """The file of a socket that somebody else has bound isn't removed."""
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        async with serving(hello, config(), sockets=[sock]) as (served, addresses):
            assert addresses == [f"unix:{path}"]
            async with await served.connect() as client:
                await client.send(GET)
                assert (await client.response()).status == 200
        assert path.exists()


# Deadlines.


def test_every_wait_has_its_time_and_its_consequence() -> None:
    """Each thing that is waited for has a time, from the options or the limits, and something that follows; the app has all the time."""
    times = Config(
        timeout_handshake=7, timeout_header=1, timeout_keep_alive=2, timeout_body=6, timeout_write=5, limits=Limits(linger=3, flush=4)
    )
    table = deadlines(times)
    assert set(table) == set(Wait)
    assert table == {
        Wait.HANDSHAKE: (7, Consequence.ABORT),
        Wait.FIRST_BYTE: (1, Consequence.CLOSE),
        Wait.HEAD: (1, Consequence.REFUSE),
        Wait.BODY: (6, Consequence.REFUSE),
        Wait.APP: (NEVER, Consequence.CLOSE),
        Wait.NEXT_REQUEST: (2, Consequence.CLOSE),
        Wait.UNWANTED_BODY: (6, Consequence.CLOSE),
        Wait.TAKING: (5, Consequence.HANG_UP),
        Wait.READING: (3, Consequence.ABORT),
        Wait.FLUSHING: (4, Consequence.ABORT),
    }


async def closed(client: Client) -> bytes:
    """What comes until the server closes."""
    with anyio.fail_after(5):
        return await client.receive_until_closed()


CASES = {
    "says nothing": (b"", 10.0, b""),
    "half a head": (b"GET / HT", 10.0, b"HTTP/1.1 408 "),
    "an empty line": (b"\r\n", 10.0, b""),
    "idle": (GET, 75.0, b"HTTP/1.1 200 "),
    "idle, then half a head": (GET + b"GET", 10.0, b"HTTP/1.1 200 "),
    "an unwanted body": (GET.replace(b"GET", b"PUT")[:-2] + b"Content-Length: 9\r\n\r\n", 60.0, b"HTTP/1.1 200 "),
}


@pytest.mark.parametrize(("data", "seconds", "expected"), CASES.values(), ids=CASES.keys())
async def test_a_deadline_is_kept_by_the_clock_that_is_handed_in(data: bytes, seconds: float, expected: bytes) -> None:
    """Nothing happens before its time, and then at once, by the clock that the server was given."""
    clock, connections = Clock(), []

    class Watched(Connection):
        __slots__ = ()

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            connections.append(self)

    async with serving(hello, config(), clock=clock, connection_class=Watched) as (served, _), await served.connect() as client:
        await client.send(data)
        answer = b""
        if expected.endswith(b"200 "):
            while b"ok" not in answer:
                answer += await client.receive()
        await eventually(lambda: connections)
        half = b"half" if data.endswith((b"GET", b"HT")) else b""
        await eventually(lambda: connections[0].protocol.mid_head is bool(half))
        assert connections[0].deadline == clock.now + seconds
        clock.now += seconds - 0.1
        with anyio.move_on_after(0.05) as early:
            answer += await client.receive()
        assert early.cancelled_caught
        clock.now += 0.2
        clock_before = clock.now
        answer += await client.receive()
        clock.now = clock_before + 2  # the client has read it
        answer += await closed(client)
    assert answer.startswith(expected)
    assert (b" 408 " in answer) is bool(half)


# Who wants to see.


async def test_subclasses_see_what_happens(caplog: pytest.LogCaptureFixture) -> None:
    """A connection class that is handed in is made for each connection, and makes its own protocols, exchanges and calls."""
    seen: list[str] = []

    class SeenExchange(Exchange):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            seen.append(self.line)

    class SeenProtocol(Protocol):
        __slots__ = ()
        exchange_class = SeenExchange

        def receive_bytes(self, data: bytes) -> bool:
            seen.append(f"{len(data)} bytes")
            return super().receive_bytes(data)

    class SeenCall(Call):
        __slots__ = ()

        async def send(self, message: Any) -> None:
            seen.append(message["type"])
            await super().send(message)

    class SeenConnection(Connection):
        __slots__ = ()
        protocol_class = SeenProtocol
        call_class = SeenCall

        def lost(self, why: str) -> None:
            super().lost(why)
            seen.append(why)

    async with serving(hello, config(), connection_class=SeenConnection) as (served, _):
        async with await served.connect() as client:
            await client.send(GET)
            await client.response()
        await eventually(lambda: len(seen) == 5)
    assert seen[:4] == [f"{len(GET)} bytes", "GET / HTTP/1.1", "http.response.start", "http.response.body"]
    assert seen[4].startswith("the c")
    assert loud_lines(caplog) == []


async def test_the_trace_is_an_observer(caplog: pytest.LogCaptureFixture) -> None:
    """At level TRACE the connections are traced ones, and at any other they are not."""
    classes: list[type] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        classes.append(type(receive.__self__._connection))
        await hello(scope, receive, send)

    for level in (logging.DEBUG, TRACE):
        caplog.set_level(level, logger="microasgi_server")
        async with serving(app, config()) as (served, _), await served.connect() as client:
            await client.send(GET)
            await client.response()
    assert classes == [Connection, observers.TracedConnection]


# What one sees in a debugger.


async def test_what_has_state_shows_it() -> None:
    """Connection, call, exchange, protocol and transport print the state that one would ask for."""
    shown: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        call = receive.__self__
        connection = call._connection
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        shown.extend(map(repr, [connection, call, call.exchange, call.exchange.head, call.exchange._encoder, connection.transport]))
        await send({"type": "http.response.body", "body": b"ok"})
        shown.append(repr(connection))

    async with serving(app, config()) as (served, _), await served.connect() as client:
        await client.send(GET.replace(b" / ", b" /a?b "))
        await client.response()
        host, port = client.sock.getsockname()
    exchange = "<Exchange 'GET /a?b HTTP/1.1' STARTED>"
    assert shown[0] == f"<Connection of {host}:{port} OPEN, waits for APP, <Protocol {exchange}, 0 bytes ahead>>"
    assert shown[1:5] == [f"<Call of {exchange}>", exchange, "<Head GET /a?b HTTP/1.1, 1 fields>", "<ResponseEncoder 200 LENGTH>"]
    assert "Transport" in shown[5]
    assert "reading, 0 bytes unsent" in shown[5]
    assert shown[6] == f"<Connection of {host}:{port} OPEN, waits for NEXT_REQUEST, <Protocol None, 0 bytes ahead>>"


# Another protocol.


class Echo(Presence):
    """A toy's one exchange, of lines: to a ping it answers by itself, `bye` ends it, and all else is the app's."""

    line = "ECHO"
    whole = False  # as long as it lasts
    closing = False

    def __init__(self) -> None:
        self._begun = b""  # a line's beginning
        self._due: list[bytes] = []
        self._lines: list[bytes] = []
        self._bye = False

    @property
    def ahead(self) -> int:
        return sum(map(len, [*self._due, *self._lines]))

    def arrived(self, data: bytes) -> None:
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            self._bye = self._bye or line == b"bye"
            (self._due if line.startswith(b"ping") or line == b"bye" else self._lines).append(line + b"\n")

    def replies(self) -> bytes:
        data = b"".join(self._due).replace(b"ping", b"pong")
        self._due.clear()
        if self._bye:
            self.status = 1000
            self.fulfil()
        return data

    def scope(self, client: Any, server: Any, root_path: str, state: dict[str, Any]) -> Any:
        return {"type": "echo", "extensions": {"microasgi.disconnect": {"subscribe": self.subscribe}}}

    def take(self) -> Any:
        if self.gone or self.complete:
            return {"type": "echo.disconnect"}
        return {"type": "echo.receive", "line": self._lines.pop(0)} if self._lines else None

    def asked(self) -> bytes:
        return b""

    def send(self, message: Any) -> bytes:
        if self.complete:
            raise AppError("it is over")
        return b"" if self.gone else bytes(message["line"])

    def fail(self) -> bytes | None:
        return None


class EchoProtocol(Protocol):
    """HTTP/1.1 that goes over to `Echo` behind the response to any request for `/echo`."""

    __slots__ = ()

    exchange: Any

    def receive_bytes(self, data: bytes) -> bool:
        if not isinstance(self.exchange, Echo):
            return super().receive_bytes(data)
        self.exchange.arrived(data)
        return False

    def after_response(self) -> Next:
        if isinstance(self.exchange, Echo):
            return Next.CLOSE
        if self.exchange.head.target != b"/echo":
            return super().after_response()
        self.exchange = Echo()
        self.exchange.arrived(bytes(self._behind))
        self._behind.clear()
        return Next.UPGRADE


class EchoConnection(Connection):
    __slots__ = ()
    protocol_class = EchoProtocol


UPGRADE = GET.replace(b" / ", b" /echo ")


async def upgraded(served: Served, behind: bytes = b"") -> Client:
    """A client that has its response, and goes on in the other protocol; `behind` comes with its request."""
    client = await served.connect()
    await client.send(GET)  # an ordinary one before it
    assert (await client.response()).body == b"ok"
    await client.send(UPGRADE + behind)
    answer = b""
    while not answer.endswith(b"\r\n\r\nok"):
        answer += await client.receive(1)
    return client


async def received(client: Client, size: int) -> bytes:
    """So many bytes."""
    data = bytearray()
    with anyio.fail_after(PATIENCE):
        while len(data) < size:
            data += await client.receive(size - len(data))
    return bytes(data)


async def test_another_protocol_goes_on_behind_an_upgrade(caplog: pytest.LogCaptureFixture) -> None:
    """Bytes behind an upgrade are the next exchange's, at once and later; what it replies by itself is written, and may end it."""
    lines: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await hello(scope, receive, send)
            return
        while (message := await receive())["type"] == "echo.receive":
            lines.append(message["line"])
            await send({"line": message["line"].upper()})
        lines.append(message["type"])

    async with serving(app, config(), connection_class=EchoConnection) as (served, _):
        async with await upgraded(served, b"ping 1\nhel") as client:
            assert await received(client, 7) == b"pong 1\n"
            await client.send(b"lo\n")
            assert await received(client, 6) == b"HELLO\n"
            await client.send(b"ping 2\nbye\nnobody reads this\n")
            assert await received(client, 11) == b"pong 2\nbye\n"
            assert await closed(client) == b""
        await eventually(lambda: lines == [b"hello\n", "echo.disconnect"])
    assert [line.partition(" - ")[2][:11] for line in access_lines(caplog)] == ['"GET / HTTP', '"GET /echo ', '"ECHO" 1000']
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_who_leaves_another_protocol_has_left(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """The exchange behind an upgrade has a client, too, and hears of its departure as any other does."""
    heard = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await hello(scope, receive, send)
            return
        scope["extensions"]["microasgi.disconnect"]["subscribe"](heard.set)
        assert (await receive())["type"] == "echo.disconnect"

    async with serving(app, config(), connection_class=EchoConnection) as (served, _):
        client = await upgraded(served)
        await client.send(b"ping\n")
        assert await received(client, 5) == b"pong\n"
        client.leave(how)
        await within(heard)
        await eventually(lambda: len(access_lines(caplog)) == 3)
    assert '"ECHO" 499' in access_lines(caplog)[2]
    assert loud_lines(caplog) == []


async def test_who_takes_no_reply_is_not_read_any_more() -> None:
    """Replies wait in the exchange while the client takes nothing, and there stop the reading: they can't pile up. None is lost."""
    ahead, paused, ended = [0], anyio.Event(), anyio.Event()

    class Watched(EchoConnection):
        __slots__ = ()

        def received(self, data: bytes) -> None:
            super().received(data)
            ahead[0] = max(ahead[0], self.protocol.look_ahead + self.transport.unsent())
            if self.transport.paused:
                paused.set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await hello(scope, receive, send)
            return
        await receive()
        ended.set()

    pings = b"".join(b"ping %d" % number + b"x" * 4096 + b"\n" for number in range(5_000))
    async with serving(app, config(receive_buffer=0), connection_class=Watched) as (served, _):
        async with await upgraded(served) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(client.send, pings)
            await within(paused)
            assert await received(client, len(pings)) == pings.replace(b"ping", b"pong")
        await within(ended)
    assert 64 * 1024 <= ahead[0] < 1024 * 1024
