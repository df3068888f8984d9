"""Cut the client off at every byte: of what it sends, and of what it gets. Whatever the offset, the same holds.

* A handler that has begun has ended.
* A request whose response was not complete was stopped, once; one whose response was complete, never.
* No call and no connection is left on the server, and nothing is logged above info.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.lowlevel import checkpoint
from microasgi_server.running import RunningServer

from microasgi import ClientDisconnect, Request, Response, Router, StreamingResponse
from tests.harness import Client, Departure, Served, access_lines, eventually, loud_lines, serving, shared_of

pytestmark = pytest.mark.anyio

departures = pytest.mark.parametrize("how", ["FIN", "RST"])

PLAIN = b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789"
CHUNKED = b"POST /wait HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n"
EXPECTING = b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n0123456789"
FAST = b"GET /fast HTTP/1.1\r\nHost: a\r\n\r\n"

REQUESTS: dict[str, bytes] = {
    "with a body": PLAIN,
    "chunked": CHUNKED,
    "expecting 100": EXPECTING,
    "pipelined": PLAIN + CHUNKED,
    "pipelined behind an answered one": FAST + PLAIN + FAST,
}


@dataclass
class Tally:
    """What the handlers of one app lived through."""

    begun: int = 0
    ended: int = 0
    stopped: int = 0  # cancelled, or told by `receive()` in the moment before
    bodies: set[bytes] = field(default_factory=set)
    backgrounds: int = 0
    shared: list[RunningServer] = field(default_factory=list)

    @asynccontextmanager
    async def handling(self) -> AsyncIterator[None]:
        self.begun += 1
        try:
            yield
        except (anyio.get_cancelled_exc_class(), ClientDisconnect):
            self.stopped += 1
            raise
        finally:
            self.ended += 1

    @property
    def at_rest(self) -> bool:
        """Whether the server holds nothing of anybody."""
        (shared,) = self.shared
        return not shared.connections and not shared.calls


def make_app(tally: Tally) -> Router:
    routes = Router()

    @routes.get("/shared")
    async def shared(request: Request) -> None:
        tally.shared.append(shared_of(request._receive))

    @routes.get("/fast")
    async def fast(request: Request) -> str:
        return "fast"

    @routes.post("/wait")
    async def wait(request: Request) -> None:
        async with tally.handling():
            tally.bodies.add(await request.body())
            await anyio.sleep_forever()

    async def background() -> None:
        await checkpoint()
        tally.backgrounds += 1

    @routes.get("/whole")
    async def whole(request: Request) -> Response:
        async with tally.handling():
            return Response("0123456789" * 3, background=background)

    @routes.get("/stream")
    async def stream(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            async with tally.handling():
                yield b"one"
                yield b"two" * 10
                await anyio.sleep_forever()

        return StreamingResponse(chunks(), background=background)

    return routes


@asynccontextmanager
async def observed(caplog: pytest.LogCaptureFixture) -> AsyncIterator[tuple[Served, Tally]]:
    """Serve the app; at the end, nothing may be left of what the block did."""
    tally = Tally()
    async with serving(make_app(tally)) as served:
        async with await served.connect() as client:
            await client.send(b"GET /shared HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.response()).status == 204
        await eventually(lambda: tally.at_rest)
        caplog.clear()
        yield served, tally
        await eventually(lambda: tally.at_rest)
    assert tally.begun == tally.ended
    assert loud_lines(caplog) == []


@asynccontextmanager
async def visiting(served: Served, tally: Tally) -> AsyncIterator[Client]:
    """A connection that the server has accepted, and of which it keeps nothing afterwards."""
    async with await served.connect() as client:
        await eventually(lambda: tally.shared[0].connections)
        yield client
    await eventually(lambda: tally.at_rest)


def statuses(caplog: pytest.LogCaptureFixture) -> list[int]:
    found = [re.search(r'" (\d+) ', line) for line in access_lines(caplog)]
    return [int(match[1]) for match in found if match]


@departures
@pytest.mark.parametrize("kind", list(REQUESTS))
async def test_every_byte_of_a_request(kind: str, how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves behind any byte of its requests, whether or not the server had time to read it, leaves nothing behind."""
    request = REQUESTS[kind]
    async with observed(caplog) as (served, tally):
        for offset in range(len(request) + 1):
            for patient in (False, True):
                caplog.clear()
                before = tally.begun, tally.stopped
                async with visiting(served, tally) as client:
                    await client.send(request[:offset])
                    if patient:
                        for _ in range(5):
                            await checkpoint()
                    client.leave(how)
                begun, stopped = tally.begun - before[0], tally.stopped - before[1]
                assert begun == stopped <= 1  # none of them is ever answered, and none begins behind one that waits
                assert statuses(caplog).count(499) - begun in (0, 1)  # one more, if a client was faster than its request's first turn
                assert statuses(caplog).count(499) + statuses(caplog).count(200) == len(access_lines(caplog))
                assert len(access_lines(caplog)) <= request[:offset].count(b"\r\n\r\n")
                if patient and how == "FIN" and offset == len(PLAIN) and kind == "with a body":
                    assert begun == 1
    assert tally.bodies <= {b"0123456789"}  # a body that was cut off never looks like a whole one
    assert tally.begun > 0


@departures
async def test_every_byte_of_a_request_byte_by_byte(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """The same when every byte comes in a packet of its own, so that the server meets each cut with all before it read."""
    async with observed(caplog) as (served, tally):
        for request in (PLAIN, CHUNKED):
            head = request.index(b"\r\n\r\n") + 4
            for offset in range(0, len(request) + 1, 3):
                caplog.clear()
                before = tally.begun, tally.stopped
                async with visiting(served, tally) as client:
                    for position in range(offset):
                        await client.send(request[position : position + 1])
                        await checkpoint()
                    await eventually(lambda: tally.begun - before[0] == (offset >= head))  # noqa: B023
                    client.leave(how)
                assert tally.begun - before[0] == tally.stopped - before[1] == (offset >= head)
                assert statuses(caplog) == [499] * (offset >= head)


@pytest.mark.parametrize("how", ["FIN", "RST", "half-close"])
async def test_every_byte_of_a_whole_response(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """However little a client reads of a response that was handed over: its request was answered, and its background ran."""
    async with observed(caplog) as (served, tally):
        request = b"GET /whole HTTP/1.1\r\nHost: a\r\n\r\n"
        size = await length(served, request, b"0123456789" * 3)
        await eventually(lambda: tally.at_rest)
        for offset in range(size + 1):
            caplog.clear()
            tally.backgrounds = tally.stopped = 0
            async with visiting(served, tally) as client:
                await client.send(request)
                await read_exactly(client, offset)
                await eventually(lambda: access_lines(caplog))
                client.leave(how)
            assert statuses(caplog) == [200]
            assert (tally.backgrounds, tally.stopped) == (1, 0)


@pytest.mark.parametrize("how", ["FIN", "RST", "half-close"])
async def test_every_byte_of_a_stream(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """A stream that isn't complete is stopped once, at whichever of its bytes the client leaves, and its background doesn't run."""
    request = b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"
    async with observed(caplog) as (served, tally):
        size = await length(served, request, b"two" * 10 + b"\r\n")
        await eventually(lambda: tally.at_rest)
        for offset in range(size + 1):
            caplog.clear()
            tally.begun = tally.ended = tally.stopped = 0
            async with visiting(served, tally) as client:
                await client.send(request)
                await read_exactly(client, offset)
                client.leave(how)
            assert tally.begun == tally.ended <= 1
            # A generator that is left between two of its chunks is closed, not cancelled.
            assert tally.stopped <= tally.begun
            assert statuses(caplog) == [499] or (offset == 0 and statuses(caplog) == [])
            assert tally.backgrounds == 0


async def read_exactly(client: Client, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = await client.receive(size - len(data))
        assert chunk
        data += chunk
    return data


async def length(served: Served, request: bytes, end: bytes) -> int:
    """The bytes of the response to `request`, up to its `end`."""
    data = b""
    async with await served.connect() as client:
        await client.send(request)
        while not data.endswith(end):
            data += await client.receive()
    return len(data)


@departures
async def test_every_step_of_a_stream(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves with exactly so much of a stream as was sent stops it there, once; with all of it, not at all."""
    steps = 12
    release = anyio.Semaphore(0)
    given, stopped, closed, backgrounds = 0, 0, 0, 0
    routes = Router()

    async def background() -> None:
        nonlocal backgrounds
        await checkpoint()
        backgrounds += 1

    @routes.get("/")
    async def handler(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            nonlocal given, stopped, closed
            try:
                for number in range(steps):
                    given = number + 1
                    yield b"%02d" % number
                    await release.acquire()
            except anyio.get_cancelled_exc_class():
                stopped += 1
                raise
            finally:
                closed += 1

        return StreamingResponse(chunks(), background=background)

    async with serving(routes) as served:
        for cut in range(1, steps + 2):
            caplog.clear()
            release, given, stopped, closed, backgrounds = anyio.Semaphore(0), 0, 0, 0, 0
            async with await served.connect() as client:
                await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                data = b""
                for number in range(min(cut, steps)):
                    while b"%02d\r\n" % number not in data:
                        data += await client.receive()
                    if number + 1 < cut:
                        release.release()
                if cut > steps:
                    release.release()
                while cut > steps and not data.endswith(b"0\r\n\r\n"):
                    data += await client.receive()
                client.leave(how)
            await eventually(lambda: access_lines(caplog) and closed == 1)  # noqa: B023
            whole = cut > steps
            await eventually(lambda: backgrounds == whole)  # noqa: B023
            assert (given, stopped, statuses(caplog)) == (min(cut, steps), not whole, [200 if whole else 499])
    assert loud_lines(caplog) == []
