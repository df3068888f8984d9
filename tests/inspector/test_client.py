"""The client and each of its ways to leave, on a real socket; and where a response ends."""

from collections.abc import Iterator
from types import CodeType
from typing import Any, NamedTuple

import anyio
import pytest

from microasgi import Request, Router, StreamingResponse, WebSocket
from microasgi.inspector import client as inspector
from microasgi.inspector.answers import KEPT, Answer
from microasgi.inspector.client import Client, bytes_of
from microasgi.inspector.leaving import WAYS
from microasgi.inspector.told import Ends, Recording, shown, where
from microasgi.inspector.websocket import TEXT, frame
from tests.harness import eventually, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """One is enough: the client has no loop."""
    return "asyncio"


class App:
    """What became of its handlers, and how many have begun."""

    def __init__(self) -> None:
        self.routes = Router()
        self.begun = 0
        self.ended: list[str] = []
        for method in ("GET", "POST"):
            self.routes.route("/wait", methods=[method])(self.wait)
        self.routes.get("/stream")(self.stream)
        self.routes.get("/hello")(self.hello)
        self.routes.websocket("/chat")(self.chat)

    async def wait(self, request: Request) -> None:
        await self.until_cancelled()

    async def until_cancelled(self) -> None:
        self.begun += 1
        try:
            await anyio.sleep(10)
        except anyio.get_cancelled_exc_class():
            self.ended.append("cancelled")
            raise

    async def stream(self, request: Request) -> StreamingResponse:
        async def pieces() -> Any:
            self.begun += 1
            try:
                while True:
                    yield b"x" * 65536
            finally:
                self.ended.append("cancelled")

        return StreamingResponse(pieces())

    async def hello(self, request: Request) -> str:
        self.begun += 1
        self.ended.append("answered")
        return "hello"

    async def chat(self, ws: WebSocket) -> None:
        self.begun += 1
        await ws.accept()
        try:
            while True:
                await ws.send_text(await ws.receive_text())
        finally:
            self.ended.append("closed")


@pytest.fixture
def app() -> App:
    return App()


async def run(app: App, way: str, method: str, path: str, **options: Any) -> tuple[Client, Recording]:
    """Have a client of that way, and wait for the app's end."""
    told = Recording()
    seconds = options.pop("seconds", 0.05)
    async with serving(app.routes) as served:
        request = inspector.Request(method, path, **options)
        client = Client(served.port, request, WAYS[way], told, seconds=seconds, patience=5.0)
        await anyio.to_thread.run_sync(client.run)
        await eventually(lambda: len(app.ended) == app.begun)
    return client, told


def acts(told: Recording) -> list[str]:
    """What it did, in order."""
    return [event["what"] for event in told.events]


@pytest.mark.parametrize(
    ("way", "method", "path"),
    [
        ("fin", "GET", "/wait"),
        ("rst", "GET", "/wait"),
        ("half-close", "GET", "/wait"),
        ("behind-body", "POST", "/wait"),
        ("behind-request", "GET", "/wait"),
        ("in-body", "POST", "/wait"),
        ("not-reading", "GET", "/stream"),
    ],
)
async def test_whoever_leaves_in_time_is_noticed(app: App, way: str, method: str, path: str) -> None:
    """The handler has begun, and is cancelled, whichever way it is."""
    client, told = await run(app, way, method, path)
    assert (app.begun, app.ended) == (1, ["cancelled"])
    assert acts(told)[-1] == "close"
    assert not client.answer.complete


async def test_who_leaves_in_the_middle_of_a_head_calls_nobody(app: App) -> None:
    """There is no request yet."""
    client, told = await run(app, "in-head", "GET", "/wait")
    assert (app.begun, client.status, acts(told)) == (0, 0, ["connect", "send", "close"])


async def test_the_last_byte_can_be_left(app: App) -> None:
    """All but it has been read, and the handler has answered."""
    client, _ = await run(app, "before-last-byte", "GET", "/hello")
    assert (client.status, client.answer.kept[-4:], app.ended) == (200, b"hell", ["answered"])


@pytest.mark.parametrize("way", ["after", "stay"])
async def test_who_waits_for_its_response_gets_it(app: App, way: str) -> None:
    """One leaves behind it, one lets the server close."""
    client, told = await run(app, way, "GET", "/hello")
    assert (client.status, client.answer.kept[-5:], client.answer.complete) == (200, b"hello", True)
    assert acts(told) == ["connect", "send", "received", *(["closed by the server"] if way == "stay" else []), "close"]


async def test_who_has_its_response_does_not_wait_for_its_time(app: App) -> None:
    """Nothing more would come."""
    with anyio.fail_after(4):
        client, _ = await run(app, "fin", "GET", "/hello", seconds=5.0)
    assert client.answer.complete


@pytest.mark.parametrize("way", ["fin", "half-close"])
async def test_who_is_sent_more_and_more_leaves_in_time(app: App, way: str) -> None:
    """There is always something to read, and it is read no longer; what is told of it is bounded."""
    async with serving(app.routes) as served:
        told = Recording()
        client = Client(served.port, inspector.Request("GET", "/stream"), WAYS[way], told, seconds=0.1, patience=5.0)
        began = anyio.current_time()
        await anyio.to_thread.run_sync(client.run)
        assert next(event["at"] for event in told.events if event["what"] == "close") - told.events.first[0]["at"] < 3000
        assert anyio.current_time() - began < 5
        await eventually(lambda: app.ended)


def test_of_many_events_the_first_and_the_newest_are_kept() -> None:
    """And it is counted how many are not."""
    kept = Ends(4)
    for moment in range(10):
        kept.append({"at": moment})
    assert [event["at"] for event in kept] == [0, 1, 8, 9]
    assert (len(kept), kept.left_out) == (4, 6)


@pytest.mark.parametrize("way", ["fin", "rst", "goodbye"])
async def test_a_websocket_can_be_left_with_and_without_a_word(app: App, way: str) -> None:
    """What it says is heard, and answered, before."""
    client, _ = await run(app, way, "WEBSOCKET", "/chat", body=b"hello", seconds=0.1)
    assert client.status == 101
    assert client.answer.kept.endswith(b"hello")
    assert len(app.ended) == 1


async def test_it_can_be_told_to_leave_now(app: App) -> None:
    """From another thread, whatever it waits for; once more does no harm."""
    told = Recording()
    async with serving(app.routes) as served, anyio.create_task_group() as tasks:
        client = Client(served.port, inspector.Request("GET", "/wait"), WAYS["fin"], told, seconds=60.0)
        tasks.start_soon(anyio.to_thread.run_sync, client.run)
        await eventually(lambda: app.begun)
        client.leave_now()
        await eventually(lambda: app.ended == ["cancelled"])
        client.leave_now()
    client.leave_now()


RESPONSES = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200),
    "chunks": (b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n", 201),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nDigest: 1\r\n\r\n", 200),
    "hints before it": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204),
    "nothing modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304),
    "switched": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 101),
}


def answered(data: bytes, method: str = "GET", size: int = 0) -> Answer:
    """A response that has come so far, in pieces of this size, or whole."""
    answer, size = Answer(method), size or len(data) or 1
    for start in range(0, len(data), size):
        answer.feed(data[start : start + size])
    return answer


@pytest.mark.parametrize(("data", "status"), RESPONSES.values(), ids=RESPONSES)
def test_a_response_ends_where_it_says(data: bytes, status: int) -> None:
    """At its last byte, and nowhere before, however it is cut; what comes behind it is no part of it (RFC 9112 §6.3)."""
    assert not any(answered(data[:count]).complete for count in range(len(data)))
    for size in (0, 1, 2, 3, 7):
        answer = answered(data, size=size)
        assert (answer.complete, answer.status, answer.kept) == (True, status, data)
    assert answered(data + b"HTTP/1.1 200 OK\r\n").status == status


def test_a_chunk_without_a_size_ends_with_its_connection() -> None:
    """Nobody knows where it ends: that is no error of the client's."""
    answer = answered(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nhello")
    assert not answer.complete
    answer.close()
    assert answer.complete


def test_a_response_without_a_length_ends_with_its_connection() -> None:
    """Only that says so; to HEAD there is no body, whatever its fields say."""
    answer = answered(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert not answer.complete
    answer.close()
    assert answer.complete
    assert answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD").complete


def test_of_an_endless_response_the_beginning_is_kept() -> None:
    """So that a client can read for as long as it likes."""
    answer = answered(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"a\r\n0123456789\r\n" * 10_000, size=65536)
    assert (len(answer.kept), answer.complete) == (KEPT, False)


def test_a_clients_own_fields_take_the_place_of_the_usual() -> None:
    """Its Host, and how long its body is."""
    request = inspector.Request("POST", "/", [("host", "example.com"), ("Content-Length", "9")], b"hello")
    assert bytes_of(request, WAYS["fin"], "test") == b"POST / HTTP/1.1\r\nhost: example.com\r\nContent-Length: 9\r\n\r\nhello"
    assert bytes_of(inspector.Request("POST", "/"), WAYS["stay"], "test").endswith(b"Content-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(("size", "length"), [(5, b"\x85"), (200, b"\xfe\x00\xc8"), (70_000, b"\xff" + (70_000).to_bytes(8, "big"))])
def test_a_frame_is_masked_and_says_its_length(size: int, length: bytes) -> None:
    """In one of three forms (RFC 6455 §5.2)."""
    made = frame(TEXT, b"x" * size)
    assert made[: 1 + len(length)] == b"\x81" + length
    mask, masked = made[1 + len(length) :][:4], made[5 + len(length) :]
    assert bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked)) == b"x" * size


class Told(NamedTuple):
    """An event of the server's, as this package sees one."""

    at: float
    connection: int
    request: int
    lane: str
    what: str
    source: tuple[CodeType, int]
    facts: dict[str, Any]


FIN = Told(2.0, 1, 1, "wire", "FIN", (shown.__code__, 0), {})


def test_an_event_is_shown_with_its_line() -> None:
    """A place in the code is a file and a line, by the instruction."""
    assert shown(FIN, 1.0)["at"] == 1000.0
    assert shown(FIN)["source"].endswith(f"microasgi/inspector/told.py:{shown.__code__.co_firstlineno}")
    lines = [int(where(shown.__code__, at).rpartition(":")[2]) for at in offsets()]
    assert max(lines) > shown.__code__.co_firstlineno


def offsets() -> Iterator[int]:
    return (start for start, _, _ in shown.__code__.co_lines())
