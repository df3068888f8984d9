"""The ways to leave: whatever else is in the socket, the handler has ended a tenth of a second later."""

import gc
import time
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from microasgi import Request, Router
from microasgi.promise.visit import VISIT
from tests.certificates import Files
from tests.harness import GET, Client, Departure, Sleeper, access_lines, eventually, loud_lines, serving, within

pytestmark = pytest.mark.anyio


SOON = 0.1
"""Seconds from the departure to the handler's end. Kept even on a busy machine: the best of a few attempts counts."""

ATTEMPTS = 4

MEGABYTE = 1024 * 1024

HANDED_ON = 5 * (64 + 256) * 1024
"""Bytes that the look-ahead and one read take at most (64 and 256 KiB on asyncio), with the copies of a moment."""


def post(size: int) -> bytes:
    """The head of a request with a body of `size` bytes."""
    return b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % size


OVER = ["TCP", "TLS"]

DEPARTURES: list[tuple[str, Departure]] = [
    *[(over, how) for over in OVER for how in ("FIN", "RST", "half-close")],  # over TLS the first and the last without close_notify
    ("TLS", "close_notify, FIN"),
    ("TLS", "close_notify"),
]

by_every_departure = pytest.mark.parametrize(
    ("over", "how"), DEPARTURES, ids=[f"{over}-{how}" for over, how in DEPARTURES], indirect=["over"]
)


@pytest.fixture(params=OVER)
def over(request: pytest.FixtureRequest, certificates: Files) -> dict[str, Any]:
    """What carries the connection: the server's options for that."""
    return certificates.options if request.param == "TLS" else {}


def said(how: Departure, line: str) -> bool:
    """Whether a line of the log tells this departure. A close_notify that is behind what nobody reads isn't seen, but the FIN behind it."""
    return {"RST": "(RST)", "close_notify": "(close_notify)"}.get(how, "(FIN)") in line or ("," in how and "(close_notify)" in line)


async def send_what_fits(client: Client, data: bytes) -> int:
    """Send bytes as they are until the kernel takes nothing for a while; how much it took. Nothing but time tells that it is full."""
    view = memoryview(data)
    while view:
        with anyio.move_on_after(0.2) as stuck:
            await anyio.wait_writable(client.sock)
        if stuck.cancelled_caught:
            break
        view = view[client.sock.send(view) :]
    return len(data) - len(view)


WAYS: dict[str, bytes] = {
    "with nothing else": GET,
    "in the middle of the body": post(100) + b"x" * 50,
    "in the middle of a chunk": b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + b"x" * 50,
    "behind a body that is complete": post(100) + b"x" * 100,
    "behind a pipelined request": GET + GET,
    "behind one stray byte": GET + b"\r",
    "with 200 KB of body unread": post(200_000) + b"x" * 200_000,
    "with 200 KB of body unread, half of it missing": post(400_000) + b"x" * 200_000,
    "with 200 KB of pipelined requests unread": GET + (200_000 // len(GET)) * GET,
}


async def attempt(over: dict[str, Any], sleeper: Sleeper, data: bytes, how: Departure, caplog: pytest.LogCaptureFixture) -> float:
    """Send, leave, check all but the time, and return the seconds from the departure to the handler's end."""
    caplog.clear()
    routes = Router()
    routes.route("/", ["GET", "POST"])(sleeper)
    async with serving(routes, **over) as served, await served.connect() as client:
        await client.send(data)
        await within(sleeper.begun)
        left_at = time.monotonic()
        client.leave(how)
        await within(sleeper.ended)
        await eventually(lambda: access_lines(caplog))
    (line,) = access_lines(caplog)  # and so no pipelined request has begun, not even at shutdown
    assert ' HTTP/1.1" 499 ' in line
    assert said(how, line)
    assert (sleeper.count, sleeper.cancellations) == (1, 1)
    assert loud_lines(caplog) == []
    return sleeper.ended_at - left_at


async def best_of(measure: Callable[[], Awaitable[float]]) -> float:
    """The shortest of a few attempts: other programs on this machine can only make it longer."""
    best = float("inf")
    for _ in range(ATTEMPTS):
        best = min(best, await measure())
        if best < SOON:
            break
    return best


@by_every_departure
@pytest.mark.parametrize("way", list(WAYS))
async def test_the_handler_ends_at_once(over: dict[str, Any], way: str, how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """However a client leaves, its handler is cancelled once and has ended within 100 ms, and one line with 499 says so."""
    if how == "close_notify" and "unread" in way:
        how = "close_notify, FIN"  # see test_stated_limits.py
    assert await best_of(lambda: attempt(over, Sleeper(), WAYS[way], how, caplog)) < SOON


def kernel_holds(size: int) -> bool:
    """Whether a socket's receive buffer may be so large that `size` bytes fit, with what Linux adds to each packet."""
    try:
        return int(Path("/proc/sys/net/ipv4/tcp_rmem").read_text().split()[2]) >= 4 * size
    except OSError:
        return False


with_room = pytest.mark.skipif(
    not kernel_holds(4 * MEGABYTE), reason="net.ipv4.tcp_rmem is so small that a FIN behind 4 MB can't reach this machine"
)


@pytest.mark.parametrize("how", [pytest.param("FIN", marks=with_room), "RST", pytest.param("half-close", marks=with_room)])
async def test_with_4_of_8_megabytes_unread(over: dict[str, Any], how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves with megabytes unread is noticed within 100 ms too, and those megabytes are never in our memory."""
    body = bytes(8 * MEGABYTE)

    async def measure() -> float:
        caplog.clear()
        sleeper, routes = Sleeper(), Router()

        @routes.post("/")
        async def upload(request: Request) -> None:
            read = 0
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    read += len(chunk)
                    if read >= 4 * MEGABYTE:
                        break
            await sleeper.sleep()

        async with serving(routes, **over) as served, await served.connect() as client:
            data = client.sealed(post(len(body))) + client.sealed(body)
            async with traced_memory() as peak:
                sent = await send_what_fits(client, data)
                await within(sleeper.begun)
                left_at = time.monotonic()
                client.leave(how)
                await within(sleeper.ended)
            await eventually(lambda: access_lines(caplog))
        assert sent >= 4 * MEGABYTE
        assert peak() < HANDED_ON
        (line,) = access_lines(caplog)
        assert ' HTTP/1.1" 499 ' in line
        assert said(how, line)
        assert sleeper.cancellations == 1
        assert loud_lines(caplog) == []
        return sleeper.ended_at - left_at

    assert await best_of(measure) < SOON


@asynccontextmanager
async def traced_memory() -> AsyncIterator[Callable[[], int]]:
    """Yields a function that tells how many bytes Python held at most during the block, beyond those it held before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        most = 0
        yield lambda: most
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_flood_of_pipelined_requests(over: dict[str, Any], how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """Megabytes of requests behind one that waits stay in the kernel, and none of them ever begins."""
    flood = GET * (3 * MEGABYTE // len(GET))
    sleeper, routes = Sleeper(), Router()
    routes.get("/")(sleeper)
    async with serving(routes, **over) as served, await served.connect() as client:
        data = client.sealed(flood)
        async with traced_memory() as peak:
            sent = await send_what_fits(client, data)
            await within(sleeper.begun)
            if how == "FIN" and not kernel_holds(4 * MEGABYTE):
                how = "RST"  # this machine's kernel doesn't take so much that a FIN could follow it
            client.leave(how)
            await within(sleeper.ended)
    assert sent > 200_000
    assert peak() < HANDED_ON
    assert (sleeper.count, sleeper.cancellations) == (1, 1)
    assert len(access_lines(caplog)) == 1
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("data", [GET, GET + GET, post(200_000) + b"x" * 200_000], ids=["nothing else", "pipelined", "200 KB unread"])
async def test_over_a_unix_socket(data: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A unix socket's client is missed as quickly."""
    sleeper, routes = Sleeper(), Router()
    routes.route("/", ["GET", "POST"])(sleeper)
    async with serving(routes, uds=str(tmp_path / "socket")) as served, await served.connect() as client:
        await send_what_fits(client, data)
        await within(sleeper.begun)
        client.leave("FIN")
        await within(sleeper.ended, 1)
        await eventually(lambda: access_lines(caplog))
    (line,) = access_lines(caplog)
    assert ' HTTP/1.1" 499 ' in line
    assert sleeper.cancellations == 1
    assert loud_lines(caplog) == []


async def test_a_slow_reader_of_the_body_is_still_told(over: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Reading that pauses and goes on many times loses neither a byte nor, at the end, the departure."""
    body = bytes(range(256)) * 8192
    sleeper, routes, received = Sleeper(), Router(), bytearray()

    @routes.post("/")
    async def upload(request: Request) -> None:
        async for chunk in request.stream():
            received.extend(chunk)
            await checkpoint()
        await sleeper.sleep()

    async with serving(routes, **over) as served, await served.connect() as client:
        await client.send(post(len(body)) + body)
        await within(sleeper.begun)
        client.leave("FIN")
        await within(sleeper.ended)
    assert received == body
    assert sleeper.cancellations == 1
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("over", ["TLS"], indirect=True)
async def test_a_goodbye_that_nobody_reads(over: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """The limit over TLS: behind more than the look-ahead a close_notify is data, and without a FIN isn't seen until the body is read."""
    routes, begun, read, ended = Router(), anyio.Event(), anyio.Event(), anyio.Event()

    @routes.post("/")
    async def upload(request: Request) -> None:
        begun.set()
        try:
            await read.wait()
            await request.body()
            await anyio.sleep_forever()
        finally:
            ended.set()

    @routes.get("/")
    async def other(request: Request) -> str:
        return "still here"

    async with serving(routes, **over) as served, await served.connect() as client, await served.connect() as another:
        await client.send(post(200_000) + bytes(200_000))
        await within(begun)
        client.leave("close_notify")
        for _ in range(3):
            await another.send(GET)
            assert (await another.response()).status == 200
        assert not [line for line in access_lines(caplog) if '" 499 ' in line]
        read.set()
        await within(ended)
        await eventually(lambda: [line for line in access_lines(caplog) if '" 499 ' in line and "(close_notify)" in line])
    assert loud_lines(caplog) == []


async def test_a_departure_leaves_nothing_to_the_collector(over: dict[str, Any]) -> None:
    """When a client has left, all that its request and its connection were made of is freed at once, without a collection."""
    begun = anyio.Event()
    made: list[weakref.ref[object]] = []
    routes = Router()

    @routes.get("/")
    async def handler(request: Request) -> None:
        receive: Any = request._receive
        made.extend([weakref.ref(request.scope[VISIT]), weakref.ref(receive.__self__.exchange)])
        begun.set()
        await anyio.sleep_forever()

    async with serving(routes, **over) as served, await served.connect() as client:
        gc.collect()
        gc.disable()
        try:
            await client.send(GET)
            await within(begun)
            client.leave("FIN")
            await eventually(lambda: [one() for one in made] == [None, None])
        finally:
            gc.enable()
