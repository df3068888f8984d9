"""Where something else can take hold of the server: its sockets, its clock, its limits, and who wants to watch."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from microasgi_server import Config, Limits, serve
from microasgi_server.call import Call
from microasgi_server.connection import Connection
from microasgi_server.deadlines import NEVER, Consequence, Wait, deadlines
from microasgi_server.http1.exchange import Exchange
from microasgi_server.http1.protocol import Protocol
from microasgi_server.logs import TRACE
from microasgi_server.observers import Trace
from microasgi_server.taps.connections import TappedConnection

from tests.harness import GET, Client, Served, eventually, loud_lines, within

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
    limits = Limits(linger=3, flush=4, pong=6)
    times = Config(timeout_handshake=7, timeout_header=1, timeout_keep_alive=2, timeout_body=6, timeout_write=5, limits=limits)
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
        Wait.PONG: (6, Consequence.HANG_UP),
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


@pytest.fixture
def untapped(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--tapped"):
        pytest.skip("with --tapped every server is tapped")


@pytest.mark.usefixtures("untapped")
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
    plain, traced = classes
    assert plain is Connection
    assert issubclass(traced, TappedConnection)
    assert isinstance(traced.tap, Trace)


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
    assert shown[0] == f"<Connection of {host}:{port} OPEN, waits for APP, <UpgradingProtocol {exchange}, 0 bytes ahead>>"
    assert shown[1:5] == [f"<Call of {exchange}>", exchange, "<Head GET /a?b HTTP/1.1, 1 fields>", "<ResponseEncoder 200 LENGTH>"]
    assert "Transport" in shown[5]
    assert "reading, 0 bytes unsent" in shown[5]
    assert shown[6] == f"<Connection of {host}:{port} OPEN, waits for NEXT_REQUEST, <UpgradingProtocol None, 0 bytes ahead>>"
