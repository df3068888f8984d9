"""Clients that don't do their part are waited for as long as the options say, by a clock that the test winds."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from microasgi_server import Config, Limits, serve
from microasgi_server.patience import Flow, Standstill

from tests.harness import PATIENCE, Client, Served, access_lines, eventually, loud_lines, shared_of, within
from tests.websocket_client import HANDSHAKE

pytestmark = pytest.mark.anyio

PUT = b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


class Clock:
    """A clock that somebody else winds, and that knows how often it was asked."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now

    async def pass_by(self, seconds: float) -> None:
        """Let so much time pass, between two looks of the server's and two more."""
        await self.be_looked_at()
        self.now += seconds
        await self.be_looked_at()

    async def be_looked_at(self) -> None:
        looks = self.looks
        await eventually(lambda: self.looks >= looks + 2)


class App:
    """An app that the test tells what to do. It keeps its `receive`."""

    def __init__(self, *, reads: bool) -> None:
        self.reads = anyio.Event()
        if reads:
            self.reads.set()
        self.begun, self.ended = anyio.Event(), anyio.Event()
        self.received: list[Any] = []
        self.receive: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.receive = receive
        self.begun.set()
        try:
            if scope["method"] == "GET":
                await self.stream(send)
            await self.reads.wait()
            while True:
                message = await receive()
                self.received.append(message)
                if message["type"] == "http.disconnect":
                    return
        finally:
            self.ended.set()

    async def stream(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})


@asynccontextmanager
async def served(app: Any, clock: Clock, **options: Any) -> AsyncIterator[Served]:
    stop, ended = anyio.Event(), anyio.Event()
    config = Config(port=0, lifespan="off", **{"limits": Limits(look=0.002), **options})
    async with anyio.create_task_group() as tasks:

        async def run(*, task_status: Any) -> None:
            await serve(app, config, stop=stop, clock=clock, task_status=task_status)

        (address,) = await tasks.start(run)
        yield Served(address, stop, ended)
        tasks.cancel_scope.cancel()


async def arrived(app: App, size: int) -> None:
    """Wait until so much of the body is here."""
    await within(app.begun)
    await eventually(lambda: app.receive.__self__.exchange.received == size)


async def test_a_body_that_stops_coming_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """An app waits for more of a body, and for `timeout_body` nothing comes: 408, and the app hears of a departure."""
    app, clock = App(reads=True), Clock()
    async with served(app, clock) as server, await server.connect() as client:
        await client.send(PUT)
        await arrived(app, 0)
        await clock.pass_by(59)
        await client.send(bytes(30000))
        await arrived(app, 30000)
        await clock.pass_by(59)
        assert not app.ended.is_set()
        await clock.pass_by(2)
        response = await client.response(b"PUT")
        assert (response.status, response.body) == (408, "nothing came of the request's body for 60 s (RFC 9110 §15.5.9)\n".encode())
        await within(app.ended)
    assert app.received[-1] == {"type": "http.disconnect"}
    (line,) = access_lines(caplog)
    assert " 408 " in line
    assert loud_lines(caplog) == []


async def test_a_body_that_drips_is_refused() -> None:
    """A byte now and then keeps no connection: over a minute of waiting, 240 bytes a second have to come."""
    app, clock = App(reads=True), Clock()
    async with served(app, clock) as server, await server.connect() as client:
        await client.send(PUT)
        await arrived(app, 0)
        for size in range(1, 7):
            await clock.pass_by(9.9)
            await client.send(b"x")
            await arrived(app, size)
        await clock.pass_by(1)
        response = await client.response(b"PUT")
        assert (response.status, response.body) == (
            408,
            "the request's body came at less than 240 bytes a second (RFC 9110 §15.5.9)\n".encode(),
        )


async def test_a_body_that_nobody_reads_may_take_any_time() -> None:
    """As long as the app hasn't asked, or this server has paused reading, nothing that doesn't come is the client's fault."""
    app, clock = App(reads=False), Clock()
    async with served(app, clock) as server, await server.connect() as client:
        await client.send(PUT)
        await arrived(app, 0)
        for _ in range(5):
            await clock.pass_by(50)
        await client.send(bytes(90000))
        await eventually(lambda: app.receive.__self__._connection.transport.paused)
        await clock.pass_by(200)
        assert not app.ended.is_set()
        app.reads.set()
        await client.send(bytes(9999))
        await arrived(app, 99999)
        await clock.pass_by(59)
        await client.send(b"x")
        await arrived(app, 100000)
        await clock.pass_by(200)  # it is whole: the app waits for a departure, and may
        assert not app.ended.is_set()


async def test_a_stream_that_nobody_takes_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """A client that for `timeout_write` takes nothing of a stream counts as gone; one that takes a little now and then doesn't."""
    app, clock = App(reads=True), Clock()
    async with served(app, clock) as server, await server.connect(receive_buffer=65536) as client:
        await client.send(GET)
        await within(app.begun)
        transport = app.receive.__self__._connection.transport
        await eventually(lambda: transport.congested)
        for _ in range(3):
            await settled(transport)
            await clock.pass_by(59)
            await sip(app, client, 65536)
        await settled(transport)
        assert not app.ended.is_set()
        await clock.pass_by(61)
        await within(app.ended)
        await eventually(lambda: not shared_of(app.receive).connections)
    (line,) = access_lines(caplog)
    assert " 499 " in line
    assert line.endswith("the client took nothing of its response for 60 s")
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("floor", [0, 2000])
async def test_a_stream_that_is_sipped_is_given_up(floor: int, caplog: pytest.LogCaptureFixture) -> None:
    """Something now and then keeps no handler, if it is less than so many bytes a second over a minute. Without a floor it is enough."""
    app, clock = App(reads=True), Clock()
    limits = Limits(look=0.002, write_rate=floor)
    async with served(app, clock, limits=limits) as server, await server.connect(receive_buffer=4096) as client:
        await client.send(GET)
        await within(app.begun)
        transport = app.receive.__self__._connection.transport
        await eventually(lambda: transport.congested)
        for _ in range(7):
            await settled(transport)
            await clock.pass_by(9.9)
            await sip(app, client, 500)
        assert app.ended.is_set() == bool(floor)
    assert not floor or access_lines(caplog)[0].endswith("the client took less than 2000 bytes a second of its response")
    assert loud_lines(caplog) == []


async def sip(app: App, client: Client, size: int) -> None:
    """Take something, at most so many bytes at a time, until the server knows of it, unless the client has been given up."""
    transport = app.receive.__self__._connection.transport
    before = transport.untaken()
    with anyio.fail_after(PATIENCE):
        while transport.untaken() >= before and not app.ended.is_set():
            await client.receive(size)
            await anyio.sleep(0.001)


async def settled(transport: Any) -> None:
    """Wait until nothing moves any more on its way to the client."""
    seen = [0, 1]
    while len(set(seen[-20:])) != 1:
        await anyio.sleep(0.002)
        seen.append(transport.untaken())


@pytest.mark.parametrize("denies", [False, True], ids=["connecting", "denying"])
async def test_who_is_asked_to_wait_owes_nothing(denies: bool) -> None:
    """A handshake has no body: an app that waits in `receive()` before it has answered may do so as long as it likes."""
    clock = Clock()
    waits, answers = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if denies:
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"n", "more_body": True})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            waits.set()
            await answers.wait()
            tasks.cancel_scope.cancel()
        await send({"type": "websocket.http.response.body", "body": b"o"} if denies else {"type": "websocket.close"})

    async with served(app, clock) as server, await server.connect() as client:
        await client.send(HANDSHAKE)
        await within(waits)
        await clock.pass_by(1e6)
        answers.set()
        response = await client.response()
        assert (response.status, response.complete) == (401 if denies else 403, True)


async def test_infinite_patience() -> None:
    """`inf` switches a timeout off."""
    app, clock = App(reads=True), Clock()
    options = {"timeout_body": float("inf"), "limits": Limits(look=0.002, body_rate=0)}
    async with served(app, clock, **options) as server, await server.connect() as client:
        await client.send(PUT)
        await arrived(app, 0)
        await clock.pass_by(1e9)
        assert not app.ended.is_set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_a_standstill_lasts_until_something_moves(anyio_backend: str) -> None:
    """What grows ends a standstill; what shrinks, as when the app writes more, doesn't."""
    standstill = Standstill(10.0, -500)
    assert [standstill.seconds(now, mark) for now, mark in ((11.0, -500), (12.0, -900), (13.0, -800), (15.0, -800))] == [1, 2, 0, 2]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_only_waiting_counts_against_an_upload(anyio_backend: str) -> None:
    """A window of an upload is as long as somebody has waited for it at both of two looks. A standstill begins with a wait."""
    upload = Flow(0.0, 0)

    def look(now: float, received: int) -> tuple[float, bool]:
        return upload.seconds(now, received), upload.is_too_slow(60, 240)

    assert [look(30, 0), look(60, 0)] == [(0, False), (30, False)]
    upload.rest()
    assert [look(180, 0), look(209, 0)] == [(0, False), (29, False)]
    assert look(211, 60 * 240) == (0, True)
    assert look(272, 60 * 240 + 61 * 240) == (0, False)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_what_moves_of_a_download_counts(anyio_backend: str) -> None:
    """What was taken, and what was written because of that, are both movement; a window with too little of it is too slow."""

    def slow(amounts: Sequence[int]) -> bool:
        download, mark = Flow(0.0, 0), 0
        for now, amount in enumerate(amounts):
            mark += amount
            download.seconds(now, mark)
            if download.is_too_slow(60, 240):
                return True
        return False

    assert not slow([240, -240] * 100)
    assert not slow([14_400, *[0] * 59] * 3)
    assert not slow([0] * 60)
    assert slow([0] * 62)
    assert slow([200, -200] * 31)
