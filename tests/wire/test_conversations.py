"""Whole conversations: real bytes on a real socket, on every loop, with a bare ASGI app at the other end."""

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from microasgi_server import AppError

from tests.conftest import LOOPS
from tests.harness import GET, Client, access_lines, eventually, loud_lines, serving, within

pytestmark = pytest.mark.anyio


Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MEGABYTE = 1024 * 1024
CHUNKED = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"

on_asyncio = pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])


def get(path: str, *fields: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "Host: test", *fields, "", ""]).encode()


def post(length: int, *fields: str) -> bytes:
    return "\r\n".join(["POST / HTTP/1.1", "Host: test", f"Content-Length: {length}", *fields, "", ""]).encode()


def start(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers, **more}


def body(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def answer(send: Send, data: bytes, status: int = 200) -> None:
    await send(start(status, (b"content-length", b"%d" % len(data))))
    await send(body(data))


async def body_of(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


def http_only(app: App) -> App:
    """The app without a lifespan, in the way that the spec suggests."""

    async def http_app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        await app(scope, receive, send)

    return http_app


@http_only
async def echo_path(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, scope["path"].encode())


@http_only
async def echo_body(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, await body_of(receive))


async def closed(client: Client) -> bool:
    """Whether the server closes in order: nothing more comes, and no reset."""
    with anyio.fail_after(5):
        return await client.receive() == b""


# One connection, many requests.


async def test_keep_alive() -> None:
    """One connection serves request after request, and no response of it speaks of closing."""
    async with serving(echo_path) as served, await served.connect() as client:
        for path in ("/one", "/two", "/three"):
            await client.send(get(path))
            response = await client.response()
            assert (response.status, response.body) == (200, path.encode())
            assert response.header(b"connection") is None


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Requests that come in one write are handled one after the other and answered in order."""
    running = 0

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await checkpoint()
        data = await body_of(receive)
        running -= 1
        await answer(send, scope["path"].encode() + data)

    async with serving(app) as served, await served.connect() as client:
        await client.send(get("/a") + post(2) + b"xy" + get("/b") + CHUNKED + b"1\r\nz\r\n0\r\n\r\n" + get("/c"))
        assert [(await client.response()).body for _ in range(5)] == [b"/a", b"/xy", b"/b", b"/z", b"/c"]


async def test_a_pipelined_request_in_two_halves() -> None:
    """A request of which only a part came with the one before is served when the rest is here."""
    async with serving(echo_path) as served, await served.connect() as client:
        second = get("/b")
        await client.send(get("/a") + second[:9])
        assert (await client.response()).body == b"/a"
        await client.send(second[9:])
        assert (await client.response()).body == b"/b"


@pytest.mark.parametrize("request_bytes", [get("/", "Connection: close"), get("/", version="1.0")], ids=["close", "1.0"])
async def test_the_connection_ends_when_the_client_says_so(request_bytes: bytes) -> None:
    """`Connection: close`, and HTTP/1.0, get their answer, are told `close`, and are closed."""
    async with serving(echo_path) as served, await served.connect() as client:
        await client.send(request_bytes)
        response = await client.response()
        assert (response.status, response.body, response.header(b"connection")) == (200, b"/", b"close")
        assert await closed(client)


async def test_http_1_0_gets_a_stream_up_to_the_end_of_the_connection() -> None:
    """A body of unknown length goes to HTTP/1.0 without chunks, and ends with the connection."""

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"ab", more=True))
        await send(body(b"cd"))

    async with serving(app) as served, await served.connect() as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        head, _, data = (await client.receive_until_closed()).partition(b"\r\n\r\n")
    assert data == b"abcd"
    assert b"transfer-encoding" not in head.lower()


async def test_a_request_behind_the_last_one_is_not_read() -> None:
    """What is pipelined behind `Connection: close` never reaches the app, and doesn't keep the answer from the client."""
    paths: list[str] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await answer(send, b"last")

    async with serving(app) as served, await served.connect() as client:
        await client.send(get("/first", "Connection: close") + get("/second") * 10)
        data = await client.receive_until_closed()
    assert data.count(b"HTTP/1.1") == 1
    assert data.endswith(b"last")
    assert paths == ["/first"]


async def test_every_request_has_a_fresh_context() -> None:
    """A context variable set in one request is unset in the next of the same connection, pipelined or not."""
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen: list[str] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(variable.get())
        variable.set(scope["path"])
        await answer(send, b"")
        assert variable.get() == scope["path"]

    async with serving(app) as served, await served.connect() as client:
        await client.send(get("/a") + get("/b"))
        assert [(await client.response()).status for _ in range(2)] == [200, 200]
        await client.send(get("/c"))
        assert (await client.response()).status == 200
    assert seen == ["unset"] * 3


async def test_an_upgrade_is_ignored() -> None:
    """A request to switch to h2c is answered in HTTP/1.1, never with a 101, and the connection goes on."""
    async with serving(echo_path) as served, await served.connect() as client:
        await client.send(get("/a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__") + get("/b"))
        for path in (b"/a", b"/b"):
            response = await client.response()
            assert (response.status, response.body, response.informational) == (200, path, [])


# Bodies.


async def test_a_chunked_request() -> None:
    """Chunks are put together again, however they and the wire cut the body, and the next request follows."""
    async with serving(echo_body) as served, await served.connect() as client:
        data = CHUNKED + b"3\r\nabc\r\n0004;ext=1\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n" + post(2) + b"hi"
        for position in range(0, len(data), 7):
            await client.send(data[position : position + 7])
            await checkpoint()
        assert (await client.response()).body == b"abcdefg"
        assert (await client.response()).body == b"hi"


async def test_a_chunked_response() -> None:
    """A body of unknown length goes out in chunks as the app sends it, each without waiting for the next."""
    turns = [anyio.Event() for _ in range(3)]

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for number, turn in enumerate(turns):
            await send(body(b"%d" % number, more=True))
            await turn.wait()
        await send(body())

    async with serving(app) as served, await served.connect() as client:
        await client.send(GET)
        data = b""
        for number, turn in enumerate(turns):
            with anyio.fail_after(5):
                while not data.endswith(b"1\r\n%d\r\n" % number):
                    data += await client.receive()
            turn.set()
        with anyio.fail_after(5):
            while not data.endswith(b"0\r\n\r\n"):
                data += await client.receive()
    assert b"\r\nTransfer-Encoding: chunked\r\n" in data


async def test_a_large_body_there_and_back() -> None:
    """Two megabytes come back as they went, though the client sends all of them before it reads."""
    data = bytes(range(256)) * (2 * MEGABYTE // 256)
    async with serving(echo_body) as served, await served.connect() as client:
        await client.send(post(len(data)) + data)
        response = await client.response()
    assert response.complete
    assert response.body == data


async def test_a_client_that_reads_slowly_holds_the_app_back() -> None:
    """Of 50 MB for a client that doesn't read, `send()` takes what the sockets hold and then blocks, until the client reads."""
    total, chunk = 50 * MEGABYTE, bytes(64 * 1024)
    taken = 0
    blocked, go_on = anyio.Event(), anyio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        await send(start(200, (b"content-length", b"%d" % total)))
        while taken < total:
            with anyio.move_on_after(0.5 if not blocked.is_set() else 30) as patience:
                await send(body(chunk, more=True))
            taken += len(chunk)
            if patience.cancelled_caught:
                assert not blocked.is_set()
                blocked.set()
                await go_on.wait()
        await send(body())

    async with serving(app) as served, await served.connect(receive_buffer=64 * 1024) as client:
        await client.send(GET)
        await within(blocked, 20)
        assert taken < 12 * MEGABYTE, "more than the kernel's buffers can hold: the server keeps the rest"
        go_on.set()
        received = 0
        with anyio.fail_after(20):
            while received < total:
                data = await client.receive(1 << 20)
                assert data
                received += len(data)
        await eventually(lambda: taken == total)


async def test_an_app_that_reads_slowly_holds_the_client_back() -> None:
    """Of 50 MB for an app that doesn't read, the sockets hold what they can, and the server a look-ahead: the client's sends block."""
    total = 50 * MEGABYTE
    go_on = anyio.Event()
    largest = 0

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal largest
        await go_on.wait()
        received, more = 0, True
        while more:
            message = await receive()
            received, more = received + len(message["body"]), message["more_body"]
            largest = max(largest, len(message["body"]))
        await answer(send, b"%d" % received)

    async with serving(app) as served, await served.connect() as client:
        await client.send(post(total))
        sent, chunk = 0, bytes(MEGABYTE)
        with anyio.move_on_after(0.5) as patience:
            while sent < total:
                await anyio.wait_writable(client.sock)
                patience.deadline = anyio.current_time() + 0.5  # something moved
                sent += client.sock.send(chunk[: total - sent])
        assert patience.cancelled_caught, "the client could send everything"
        assert sent < 30 * MEGABYTE
        go_on.set()
        await client.send(bytes(total - sent))
        response = await client.response()
        assert response.body == b"%d" % total
    assert largest <= 2 * 64 * 1024 + 262_144  # the look-ahead, and the one read that filled it


async def test_an_app_that_only_sends_lets_others_run() -> None:
    """Each `send()` of a stream is a checkpoint, so an app that does nothing else doesn't keep the loop for itself."""
    ticks = 0
    seen: list[int] = []

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await checkpoint()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for _ in range(10):
            await send(body(b"x", more=True))
            seen.append(ticks)
        await send(body())

    async with serving(app) as served, await served.connect() as client, anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await client.send(GET)
        assert (await client.response()).body == b"x" * 10
        tasks.cancel_scope.cancel()
    # Two at a time, because trio runs the tasks of one round in any order.
    assert all(later > earlier for earlier, later in zip(seen, seen[2:], strict=False))


# 100-continue.


async def test_the_100_comes_when_the_app_reads() -> None:
    """A client that waits for `100 Continue` gets it when the app asks for the body, and no earlier; then the 200."""
    reads = anyio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await reads.wait()
        await answer(send, await body_of(receive))

    async with serving(app) as served, await served.connect() as client:
        await client.send(post(5, "Expect: 100-continue"))
        with anyio.move_on_after(0.1):
            await client.receive()
            raise AssertionError("the 100 came before the app had asked for anything")
        reads.set()
        assert await client.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello" + get("/"))
        response = await client.response()
        assert (response.status, response.body, response.header(b"connection")) == (200, b"hello", None)
        assert (await client.response()).status == 200


async def test_the_100_comes_for_an_app_that_has_started_its_response() -> None:
    """An app may say its status first and read the body then: the client isn't left waiting for its 100."""

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(await body_of(receive)))

    async with serving(app) as served, await served.connect() as client:
        await client.send(post(5, "Expect: 100-continue"))
        with anyio.fail_after(5):
            assert await client.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        assert (await client.response()).body == b"hello"


async def test_no_100_for_an_app_that_does_not_read() -> None:
    """An app that answers without reading gets no 100 sent for it: the client reads the answer, and the connection ends."""
    async with serving(echo_path) as served, await served.connect() as client:
        await client.send(post(5, "Expect: 100-continue"))
        response = await client.response(b"POST")
        assert (response.status, response.informational, response.header(b"connection")) == (200, [], b"close")
        assert await closed(client)


async def test_http_1_0_gets_no_100() -> None:
    """`Expect` in an HTTP/1.0 request is ignored (RFC 9110 §10.1.1)."""
    async with serving(echo_body) as served, await served.connect() as client:
        await client.send(post(5, "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"))
        with anyio.move_on_after(0.1):
            await client.receive()
            raise AssertionError("HTTP/1.0 knows no 100")
        await client.send(b"hello")
        response = await client.response()
        assert (response.body, response.informational) == (b"hello", [])


# Responses.


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)], ids=["HEAD", "204", "304"])
async def test_a_response_without_a_body_leaves_the_connection_in_step(method: str, status: int) -> None:
    """HEAD, 204 and 304 send no byte of the app's body, so the next response on the connection is read right."""

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"not for you", status if scope["path"] == "/" else 200)

    async with serving(app) as served, await served.connect() as client:
        await client.send(GET.replace(b"GET", method.encode()) + get("/next"))
        data = b""
        with anyio.fail_after(5):
            while not data.endswith(b"not for you"):
                data += await client.receive()
    first, second = data.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"%d " % status)
    assert first.endswith(b"\r\n\r\n")
    assert second.startswith(b"200 ")
    assert data.count(b"not for you") == 1


async def test_date_and_server() -> None:
    """A response says when and by whom it was made, unless the app says it."""

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        own = [(b"Server", b"mine"), (b"date", b"then")] if scope["path"] == "/own" else []
        await send(start(200, *own))
        await send(body())

    async with serving(app) as served, await served.connect() as client:
        await client.send(GET + get("/own"))
        response, own = await client.response(), await client.response()
    assert response.header(b"server") == b"microasgi"
    date = response.header(b"date")
    assert date is not None
    assert parsedate_to_datetime(date.decode()).tzinfo is not None
    assert [field for field in own.headers if field[0] in (b"server", b"date")] == [(b"server", b"mine"), (b"date", b"then")]


async def test_early_hints_and_trailers() -> None:
    """Early hints come before the response is there, trailers behind its body, and the connection goes on."""
    hinted = anyio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert {"http.response.early_hint", "http.response.trailers"} <= scope["extensions"].keys()
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await hinted.wait()
        await send(start(trailers=True))
        await send(body(b"data"))
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-end", b"2")]})

    async with serving(app) as served, await served.connect() as client:
        await client.send(GET)
        with anyio.fail_after(5):
            assert await client.receive() == b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
        hinted.set()
        response = await client.response()
        assert (response.body, response.trailers, response.complete) == (b"data", [(b"x-sum", b"1"), (b"x-end", b"2")], True)
        await client.send(GET)
        response = await client.response()
        assert ([hint.status_code for hint in response.informational], response.status) == ([103], 200)


# Apps that fail.


class Odd(BaseException):
    """An exception that `except Exception` doesn't catch."""


async def leaks_a_cancellation() -> None:
    """Await something that somebody else has cancelled."""
    task = asyncio.get_running_loop().create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def raises(error: BaseException) -> None:
    raise error


def failing(fail: Callable[[], Awaitable[None]], before: list[dict[str, Any]]) -> App:
    """An app that fails for `/`, after it has sent some messages, and answers anything else."""

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/":
            await answer(send, b"alive")
            return
        for message in before:
            await send(message)
        await fail()

    return app


async def assert_alive(served: Any) -> None:
    async with await served.connect() as client:
        await client.send(get("/alive"))
        assert (await client.response()).body == b"alive"


ERRORS = [ValueError("boom"), ExceptionGroup("several", [ValueError("boom")]), SystemExit(3), Odd("boom")]
errors = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


@errors
@pytest.mark.parametrize("before", [[], [start(204, (b"x-secret", b"1"))]], ids=["before start", "before body"])
async def test_an_app_that_fails_before_its_response(
    error: BaseException, before: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """An app that raises with nothing on the wire: a clean 500, the traceback in the log, and both connection and server go on."""
    async with serving(failing(lambda: raises(error), before)) as served, await served.connect() as client:
        await client.send(GET + get("/next"))
        response = await client.response()
        assert (response.status, response.body, response.complete) == (500, b"Internal Server Error\n", True)
        assert response.header(b"x-secret") is None
        assert (await client.response()).body == b"alive"
        await assert_alive(served)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert " 500 " in access_lines(caplog)[0]


@errors
async def test_an_app_that_fails_in_the_middle_of_its_response(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """An app that raises behind the head: the connection is closed without the last chunk, and the server goes on."""
    before = [start(), body(b"half", more=True)]
    async with serving(failing(lambda: raises(error), before)) as served, await served.connect() as client:
        await client.send(GET + get("/next"))
        response = await client.response()
        assert (response.status, response.body, response.complete) == (200, b"half", False)
        await assert_alive(served)
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_an_app_that_fails_after_its_response(caplog: pytest.LogCaptureFixture) -> None:
    """An app that raises when its response is complete: the client has it and goes on; the log has the error."""
    before = [start(), body(b"all")]
    async with serving(failing(lambda: raises(ValueError("boom")), before)) as served, await served.connect() as client:
        await client.send(GET + get("/next"))
        response = await client.response()
        assert (response.status, response.body, response.complete) == (200, b"all", True)
        assert (await client.response()).body == b"alive"
    assert len(loud_lines(caplog)) == 1


@pytest.mark.parametrize(
    ("before", "status"), [([], 500), ([start()], 500), ([start(), body(b"half", more=True)], 200)], ids=["nothing", "head", "half"]
)
async def test_an_app_that_returns_too_early(before: list[dict[str, Any]], status: int, caplog: pytest.LogCaptureFixture) -> None:
    """An app that returns without a complete response: a 500, or a connection closed in its middle; a line in the log."""

    async def give_up() -> None:
        return

    async with serving(failing(give_up, before)) as served, await served.connect() as client:
        await client.send(GET)
        response = await client.response()
        assert (response.status, response.complete) == (status, status == 500)
        await assert_alive(served)
    assert len(loud_lines(caplog)) == 1


@on_asyncio
@pytest.mark.parametrize(
    ("before", "status"), [([], 500), ([start(), body(b"half", more=True)], 200)], ids=["before start", "in the middle"]
)
async def test_a_cancellation_that_leaks(before: list[dict[str, Any]], status: int, caplog: pytest.LogCaptureFixture) -> None:
    """An app that awaits a task which somebody cancelled fails as with any other error, and the server goes on."""
    async with serving(failing(leaks_a_cancellation, before)) as served, await served.connect() as client:
        await client.send(GET)
        response = await client.response()
        assert (response.status, response.complete) == (status, status == 500)
        await assert_alive(served)
    assert len(loud_lines(caplog)) == 1


@pytest.mark.parametrize("message", [start(99), start(200, (b"x", b"1\r\nevil: 1")), body(b"no start")], ids=["status", "CR LF", "order"])
async def test_an_app_that_sends_nonsense(message: dict[str, Any]) -> None:
    """A message that can't be sent raises in the app; one that doesn't catch it ends in a 500, with nothing injected."""
    async with serving(failing(lambda: checkpoint(), [message])) as served, await served.connect() as client:
        await client.send(get("/", "Connection: close"))
        data = await client.receive_until_closed()
        assert data.startswith(b"HTTP/1.1 500 ")
        assert b"evil" not in data
        await assert_alive(served)


async def test_after_the_response() -> None:
    """When the response is complete `send()` raises, every time, and `receive()` says `http.disconnect`, at once and every time."""
    outcomes: list[object] = []
    ended = anyio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"done")
        for message in (body(b"more"), start(), body(b"more")):
            with pytest.raises(AppError):
                await send(message)
        outcomes.extend([await receive(), await receive()])
        ended.set()

    async with serving(app) as served, await served.connect() as client:
        await client.send(post(5) + b"hello" + GET)
        assert (await client.response()).body == b"done"
        await within(ended)
        assert (await client.response()).body == b"done"
    assert outcomes[:2] == [{"type": "http.disconnect"}] * 2


async def test_a_ready_message_needs_no_checkpoint() -> None:
    """A message that is here is received even in a scope that is cancelled, as Starlette's `is_disconnected()` needs it; none is lost."""
    results: list[Any] = []

    async def peek(receive: Receive) -> Any:
        with anyio.CancelScope() as scope:
            scope.cancel()
            return await receive()
        return None

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        results.append(await peek(receive))
        results.append(await peek(receive))
        await answer(send, b"")
        results.append(await peek(receive))

    async with serving(app) as served, await served.connect() as client:
        await client.send(post(5) + b"hello")
        assert (await client.response()).status == 200
    assert results == [{"type": "http.request", "body": b"hello", "more_body": False}, None, {"type": "http.disconnect"}]


async def test_two_tasks_may_wait_for_the_body() -> None:
    """Two tasks of an app may both await `receive()`: each message goes to one of them, and none of them waits for ever."""

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Any] = []

        async def wait() -> None:
            messages.append(await receive())
            if not messages[-1].get("more_body", False):
                tasks.cancel_scope.cancel()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                tasks.start_soon(wait)
        await answer(send, b"".join(message["body"] for message in messages))

    async with serving(app) as served, await served.connect() as client:
        await client.send(post(2))
        await client.send(b"ab")
        assert (await client.response()).body == b"ab"


# Requests that are none.


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET foo HTTP/1.1\r\nHost: test\r\n\r\n", 400),
        (b"CONNECT test:443 HTTP/1.1\r\nHost: test\r\n\r\n", 501),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (CHUNKED + b"zz\r\n", 400),
    ],
    ids=["nonsense", "no Host", "target", "CONNECT", "HTTP/2", "chunk"],
)
@pytest.mark.parametrize("position", ["first", "later", "pipelined"])
async def test_a_malformed_request_is_refused(request_bytes: bytes, status: int, position: str, caplog: pytest.LogCaptureFixture) -> None:
    """What isn't a request, or isn't for us, is answered once and closed; the client can read the reply though it sent more."""

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, await body_of(receive) or b"fine")

    async with serving(app) as served, await served.connect() as client:
        if position != "first":
            await client.send(GET if position == "later" else GET + request_bytes)
            if position == "later":
                assert (await client.response()).body == b"fine"
        if position != "pipelined":
            await client.send(request_bytes)
        await client.send(b"x" * 100_000 + b"\r\n\r\n" + GET)
        data = await client.receive_until_closed()
        answers = [int(answer) for answer in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]
        assert answers == ([200, status] if position == "pipelined" else [status])
        assert b"connection: close" in data.lower()
    assert [record for record in caplog.messages if f"refused with {status}" in record]
    assert not loud_lines(caplog)


async def test_a_broken_body_behind_the_head_of_the_response_closes() -> None:
    """When a body turns out broken and the response is on its way already, only closing is left, and the app ends at its `send()`."""
    ended = anyio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"half", more=True))
        assert await receive() == {"type": "http.disconnect"}
        try:
            await send(body(b"more", more=True))
        except anyio.get_cancelled_exc_class():
            ended.set()
            raise

    async with serving(app) as served, await served.connect() as client:
        await client.send(CHUNKED)
        data = b""
        while b"half" not in data:
            data += await client.receive()
        await client.send(b"zz\r\n")
        rest = await client.receive_until_closed()
        await within(ended)
    assert b"HTTP/1.1" not in rest


async def test_a_client_that_is_gone_before_it_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    """A connection that was reset before the server accepted it is nobody's fault: nothing is logged, and others are served."""
    async with serving(echo_path) as served:
        for _ in range(5):
            # Without an await between them, the server can't get a word in.
            Client(socket.create_connection(("127.0.0.1", served.port))).leave("RST")
            await checkpoint()
        async with await served.connect() as client:
            await client.send(GET)
            assert (await client.response()).status == 200
    assert not loud_lines(caplog)


# Unread bodies.


async def test_a_small_unread_body_does_not_end_the_connection() -> None:
    """A small body that the app didn't read is skipped, also when it comes after the answer, and the next request is served."""
    async with serving(echo_path) as served, await served.connect() as client:
        await client.send(post(1000) + bytes(10))
        assert (await client.response()).header(b"connection") is None
        await client.send(bytes(990) + get("/next"))
        assert (await client.response()).body == b"/next"


async def test_a_large_unread_body_ends_the_connection() -> None:
    """A large body that the app didn't read isn't read by the server either: the answer says `close`, and can be read."""
    async with serving(echo_path) as served, await served.connect() as client:
        await client.send(post(8 * MEGABYTE) + bytes(1000))
        response = await client.response()
        assert (response.body, response.header(b"connection")) == (b"/", b"close")
        assert await closed(client)
