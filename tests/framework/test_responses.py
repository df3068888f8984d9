"""Responses: what handlers return, and what of it goes over the wire."""

import json
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from microasgi import (
    BackgroundTask,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Request,
    Response,
    Route,
    Router,
    StreamingResponse,
)
from tests.harness import GET, PATIENCE, call, eventually, serving, within
from tests.harness import Response as Answer

pytestmark = pytest.mark.anyio


async def answered(result: Any, method: str = "GET") -> Answer:
    """The answer of a handler that returns `result`."""

    async def handler(request: Request) -> Any:
        return result

    return await call(Router([Route("/", handler)]), method)


def field(answer: Answer, name: bytes) -> str | None:
    value = answer.header(name)
    return None if value is None else value.decode("latin-1")


# What a handler returns.


@pytest.mark.parametrize(
    ("result", "status", "media_type", "body"),
    [
        ("caf\u00e9", 200, "text/plain; charset=utf-8", "caf\u00e9".encode()),
        (b"\x00\xff", 200, "application/octet-stream", b"\x00\xff"),
        ({"a": [1, None, "\u00e9"]}, 200, "application/json", '{"a":[1,null,"\u00e9"]}'.encode()),
        ([1, 2], 200, "application/json", b"[1,2]"),
        (["\ud800"], 200, "application/json", b'["\\ud800"]'),  # as JSON may have it, and UTF-8 may not
        ([], 200, "application/json", b"[]"),
        ("", 200, "text/plain; charset=utf-8", b""),
        (None, 204, None, b""),
        (HTMLResponse("<p>"), 200, "text/html; charset=utf-8", b"<p>"),
    ],
)
async def test_a_result_becomes_a_response(result: Any, status: int, media_type: str | None, body: bytes) -> None:
    """Text, bytes, dicts, lists and None are responses without saying so."""
    answer = await answered(result)
    assert (answer.status, field(answer, b"content-type"), answer.body) == (status, media_type, body)
    assert field(answer, b"content-length") == (None if status == 204 else str(len(body)))


@pytest.mark.parametrize("result", [5, 1.5, True, object(), {1}, ("a",), iter(()), Response, len])
async def test_what_is_no_response_is_told(result: Any) -> None:
    """Anything else is a mistake of the handler's, which is named, and what it returned with it."""
    told = r"<Route GET / to handler> returned .*; a handler returns a response, str, bytes, dict, list or None: "
    with pytest.raises(TypeError, match=told):
        await answered(result)


async def test_another_frameworks_response() -> None:
    """An ASGI app may be returned as a response, as other frameworks' responses are."""
    from starlette.responses import PlainTextResponse as StarletteText

    answer = await answered(StarletteText("from Starlette", 201))
    assert (answer.status, answer.body) == (201, b"from Starlette")


async def test_another_frameworks_background_is_run_once() -> None:
    """What such a response has for the background is run by itself, and not by us again."""
    from starlette.background import BackgroundTask as StarletteTask
    from starlette.responses import PlainTextResponse as StarletteText

    ran: list[int] = []
    await answered(StarletteText("", background=StarletteTask(ran.append, 1)))
    assert ran == [1]


# The classes.


@pytest.mark.parametrize(
    ("response", "media_type", "body"),
    [
        (Response("x"), None, b"x"),
        (Response(), None, b""),
        (Response(bytearray(b"x"), media_type="image/png"), "image/png", b"x"),
        (Response(memoryview(b"x"), media_type="text/csv"), "text/csv; charset=utf-8", b"x"),
        (PlainTextResponse("\u00e9"), "text/plain; charset=utf-8", b"\xc3\xa9"),
        (PlainTextResponse(b"\xe9", media_type="text/plain; charset=latin-1"), "text/plain; charset=latin-1", b"\xe9"),
        (HTMLResponse("x", headers={"Content-Type": "text/html"}), "text/html", b"x"),
        (JSONResponse("x"), "application/json", b'"x"'),
        (JSONResponse(None), "application/json", b"null"),
        (JSONResponse({"a": 1}, media_type="application/problem+json"), "application/problem+json", b'{"a":1}'),
    ],
)
async def test_a_response_has_its_type_and_length(response: Response, media_type: str | None, body: bytes) -> None:
    """Each class has its content-type, which a media_type or a header overrides, and the length of its body."""
    answer = await answered(response)
    assert (field(answer, b"content-type"), answer.body, field(answer, b"content-length")) == (media_type, body, str(len(body)))


@pytest.mark.parametrize("content", [5, {"a": 1}, ["a"]])
def test_content_is_text_or_bytes(content: Any) -> None:
    """A response whose content isn't text or bytes is refused where it is made."""
    with pytest.raises(TypeError, match="content is str or bytes, not "):
        Response(content)


@pytest.mark.parametrize("content", [math.nan, math.inf, {b""}, object()])
def test_json_is_json(content: Any) -> None:
    """What JSON doesn't have is refused where the response is made: no NaN goes over the wire."""
    with pytest.raises((ValueError, TypeError)):
        JSONResponse(content)


@pytest.mark.parametrize("status", [204, 304])
async def test_some_statuses_have_no_length(status: int) -> None:
    """A 204 and a 304 have no content-length of their own (RFC 9110 §8.6)."""
    assert field(await answered(Response(status_code=status)), b"content-length") is None


async def test_headers_are_sent() -> None:
    """Headers are sent in lower case and in order; a content-length that is given is not added again."""
    answer = await answered(Response("abc", headers={"X-One": "1", "Content-Length": "3", "X-Two": "caf\xe9"}))
    assert answer.headers == [(b"x-one", b"1"), (b"content-length", b"3"), (b"x-two", b"caf\xe9")]


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("/a?b=c#d", "/a?b=c#d"),
        ("https://example.org/\u00e9 x", "https://example.org/%C3%A9%20x"),
        ("/a%20b", "/a%20b"),
        ("/a\r\nSet-Cookie: x=1", "/a%0D%0ASet-Cookie:%20x=1"),
    ],
)
async def test_a_redirect(url: str, location: str) -> None:
    """A redirect has its location, in which nothing that a URL doesn't allow is left."""
    answer = await answered(RedirectResponse(url))
    assert (answer.status, field(answer, b"location"), answer.body) == (307, location, b"")
    assert (await answered(RedirectResponse(url, 303))).status == 303


# Cookies.


def cookie(**options: Any) -> str:
    response = Response()
    response.set_cookie("name", "value", **options)
    return response.raw_headers[-1][1].decode()


def test_a_cookie_is_set() -> None:
    """A cookie is for the whole site and lax, unless its attributes say otherwise."""
    assert cookie() == "name=value; Path=/; SameSite=lax"
    assert cookie(path=None, samesite=None) == "name=value"
    assert set(cookie(max_age=60, domain="example.org", secure=True, httponly=True, samesite="none").split("; ")[1:]) == {
        "Domain=example.org",
        "HttpOnly",
        "Max-Age=60",
        "Path=/",
        "SameSite=none",
        "Secure",
    }


@pytest.mark.parametrize(
    "expires",
    [
        datetime(2030, 1, 2, 3, 4, 5),
        datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2030, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2))),
        "Wed, 02 Jan 2030 03:04:05 GMT",
    ],
)
def test_a_cookie_expires(expires: Any) -> None:
    """The time when a cookie goes is written in GMT, from whatever zone; without one, UTC is meant."""
    assert "expires=Wed, 02 Jan 2030 03:04:05 GMT" in cookie(expires=expires)


async def test_cookies_are_sent() -> None:
    """Each cookie is a field of its own; a deleted one expires at once; odd values are quoted, and come back as they were."""
    response = Response()
    response.set_cookie("a", "1")
    response.set_cookie("b", "semi;colon, and space")
    response.delete_cookie("c")
    answer = await answered(response)
    values = [value.decode() for name, value in answer.headers if name == b"set-cookie"]
    assert len(values) == 3
    assert "\r" not in "".join(values)
    assert values[1].partition(";")[0] == 'b="semi\\073colon\\054 and space"'
    assert "Max-Age=0" in values[2]
    assert "expires=Thu, 01 Jan 1970 00:00:00 GMT" in values[2]


def test_a_cookie_needs_a_name() -> None:
    """What can't be the name of a cookie is refused."""
    for key in ("a b", "a;b", "", "a=b", "\u00e9"):
        with pytest.raises(ValueError, match="can't be the name of a cookie"):
            Response().set_cookie(key, "x")


@pytest.mark.parametrize("attribute", ["path", "domain", "expires", "samesite"])
@pytest.mark.parametrize("text", ["/\r\nX-Evil: 1", "/; Domain=evil.example", "/\x00"])
def test_a_cookies_attributes_stay_apart(attribute: str, text: str) -> None:
    """An attribute that would end the field, or begin another attribute, is refused (RFC 6265 §4.1.1)."""
    with pytest.raises(ValueError, match=f"can't be a cookie's {attribute}"):
        cookie(**{attribute: text})


# Streams.


class Source:
    """An async iterator that knows whether it was closed."""

    def __init__(self, *chunks: bytes | str) -> None:
        self.chunks = list(chunks)
        self.closed = 0

    def __aiter__(self) -> "Source":
        return self

    async def __anext__(self) -> bytes | str:
        await checkpoint()
        if not self.chunks:
            raise StopAsyncIteration
        return self.chunks.pop(0)

    async def aclose(self) -> None:
        await checkpoint()
        self.closed += 1


async def text_and_bytes() -> AsyncIterator[bytes | str]:
    yield "caf\u00e9 "
    yield b""
    yield b"bytes"


def plain() -> Iterator[bytes | str]:
    yield "caf\u00e9 "
    yield b"bytes"


class Rows:
    """An async iterable that isn't an iterator."""

    def __aiter__(self) -> AsyncIterator[bytes | str]:
        return text_and_bytes()


@pytest.mark.parametrize("make", [text_and_bytes, plain, Rows, lambda: ["caf\u00e9 ", b"bytes"], lambda: Source("caf\u00e9 ", b"bytes")])
async def test_a_body_is_streamed(make: Callable[[], Any]) -> None:
    """Async and plain iterables of text and bytes are bodies, without a length."""
    answer = await answered(StreamingResponse(make(), 201, {"x": "y"}, "text/plain"))
    assert (answer.status, answer.body, answer.complete) == (201, "caf\u00e9 bytes".encode(), True)
    assert answer.headers == [(b"x", b"y"), (b"content-type", b"text/plain; charset=utf-8")]


async def test_chunks_leave_as_they_are_made() -> None:
    """On our server the client has a chunk before the next is made."""
    go = anyio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        await go.wait()
        yield b"second"

    async with serving(Router([Route("/", lambda request: StreamingResponse(parts()))])) as served, await served.connect() as client:
        await client.send(GET)
        received = b""
        with anyio.fail_after(PATIENCE):
            while b"first" not in received:
                received += await client.receive()
            assert b"second" not in received
            go.set()
            while b"second" not in received:
                received += await client.receive()


async def test_a_plain_iterator_runs_in_a_thread() -> None:
    """A plain iterator doesn't block the event loop, and runs one step at a time."""
    main = threading.get_ident()

    def steps() -> Iterator[str]:
        for _ in range(3):
            yield str(threading.get_ident() != main)

    assert (await answered(StreamingResponse(steps()))).body == b"TrueTrueTrue"


@pytest.mark.parametrize("content", ["text", b"bytes", 5, None])
def test_a_stream_needs_an_iterable(content: Any) -> None:
    """Text and bytes, which would be sent letter by letter, and what is no iterable are refused."""
    with pytest.raises(TypeError, match="a StreamingResponse's content is an iterable of bytes or text, not "):
        StreamingResponse(content)


async def test_a_stream_is_closed_at_its_end() -> None:
    """An iterator is closed once, when it is through."""
    source = Source(b"x")
    await answered(StreamingResponse(source))
    assert source.closed >= 1


async def test_a_stream_is_closed_for_head() -> None:
    """A HEAD doesn't start the stream, and closes it."""
    source = Source(b"x")
    answer = await answered(StreamingResponse(source), "HEAD")
    assert (answer.body, answer.complete, source.chunks) == (b"", True, [b"x"])
    assert source.closed >= 1


async def test_a_stream_is_closed_when_sending_fails() -> None:
    """A stream that was never started is closed as well, and the error passes."""
    source = Source(b"x")

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await StreamingResponse(source)({"type": "http", "method": "GET"}, receive, send)
    assert source.closed >= 1


async def test_a_generator_is_closed_when_it_fails() -> None:
    """A stream that raises in the middle leaves a response that the client sees is broken, and is logged."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"first"
        raise ZeroDivisionError("in the stream")

    async with serving(Router([Route("/", lambda request: StreamingResponse(failing()))])) as served, await served.connect() as client:
        await client.send(GET)
        answer = await client.response()
    assert (answer.status, answer.body, answer.complete) == (200, b"first", False)


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_stream_is_closed_when_the_client_leaves(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves in the middle of a stream ends its generator at once, through its `finally`."""
    closed = threading.Event()
    count = 0

    async def async_ticks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick"
                await anyio.sleep(0.001)
        finally:
            closed.set()

    def ticks() -> Iterator[bytes]:
        nonlocal count
        try:
            while True:
                count += 1
                yield b"tick"
        finally:
            closed.set()

    content = async_ticks() if kind == "async" else ticks()
    async with serving(Router([Route("/", lambda request: StreamingResponse(content))])) as served:
        async with await served.connect() as client:
            await client.send(GET)
            received = b""
            with anyio.fail_after(PATIENCE):
                while received.count(b"tick") < 3:
                    received += await client.receive()
        await eventually(closed.is_set, 1)
    assert [record for record in caplog.records if record.levelname not in ("INFO", "DEBUG")] == []


# The background.


async def test_the_background_runs_after_the_response() -> None:
    """What is left for the background begins when the client has its whole answer, and its client's leaving doesn't stop it."""
    go, ended = anyio.Event(), anyio.Event()

    async def later() -> None:
        await go.wait()
        ended.set()

    async with serving(Router([Route("/", lambda request: PlainTextResponse("done", background=later))])) as served:
        async with await served.connect() as client:
            await client.send(GET)
            assert (await client.response()).body == b"done"
        go.set()
        await within(ended)


async def test_the_connection_does_not_wait_for_the_background() -> None:
    """The next request of the connection is served while the background still runs."""
    go, began = anyio.Event(), anyio.Event()

    async def later() -> None:
        began.set()
        await go.wait()

    routes = Router([Route("/", lambda request: PlainTextResponse("done", background=later)), Route("/next", lambda request: "next")])
    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await client.response()
        await within(began)
        await client.send(GET.replace(b"/", b"/next", 1))
        with anyio.fail_after(PATIENCE):
            assert (await client.response()).body == b"next"
        go.set()


async def test_shutdown_waits_for_the_background() -> None:
    """A server that is stopped gracefully lets the background end."""
    go, began = anyio.Event(), anyio.Event()
    notes: list[str] = []

    async def later() -> None:
        began.set()
        await go.wait()
        notes.append("later")

    async with serving(Router([Route("/", lambda request: PlainTextResponse("done", background=later))])) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await client.response()
        await within(began)
        served.stop.set()
        with anyio.move_on_after(0.05) as limit:
            await served.ended.wait()
        assert limit.cancelled_caught
        go.set()
        await within(served.ended)
    assert notes == ["later"]


async def test_the_background_takes_any_callable() -> None:
    """Functions, async functions, partials and tasks with arguments run in the background, the plain ones in a thread."""
    notes: list[Any] = []
    main = threading.get_ident()

    def function(*args: Any, **options: Any) -> None:
        notes.append((args, options, threading.get_ident() != main))

    async def coroutine(*args: Any, **options: Any) -> None:
        await checkpoint()
        notes.append((args, options, False))

    await answered(Response(background=function))
    await answered(Response(background=coroutine))
    await answered(Response(background=partial(function, 1)))
    await answered(Response(background=BackgroundTask(function, 2, a=3)))
    await answered(Response(background=BackgroundTask(coroutine, 4)))
    await answered(StreamingResponse([b"x"], background=BackgroundTask(coroutine, 5)))
    await answered(RedirectResponse("/", background=BackgroundTask(coroutine, 6)))
    expected = [((), {}, True), ((), {}, False), ((1,), {}, True), ((2,), {"a": 3}, True)]
    assert notes == [*expected, ((4,), {}, False), ((5,), {}, False), ((6,), {}, False)]


async def test_a_failing_background_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in the background is a bug that is logged; the client has its answer, and the server goes on."""

    async def failing() -> None:
        raise ZeroDivisionError("in the background")

    async with serving(Router([Route("/", lambda request: PlainTextResponse("done", background=failing))])) as served:
        async with await served.connect() as client:
            for _ in range(2):
                await client.send(GET)
                assert (await client.response()).body == b"done"
        await eventually(lambda: len([record for record in caplog.records if record.levelname == "ERROR"]) == 2)


async def test_a_left_handlers_background_runs() -> None:
    """Under 'finish' the result is dropped when the client left, but not what it left for the background."""
    began, ended = anyio.Event(), anyio.Event()

    async def handler(request: Request) -> Response:
        began.set()
        await request.wait_disconnected()
        return PlainTextResponse("receipt", background=mail)

    async def mail() -> None:
        await checkpoint()
        ended.set()

    async with serving(Router([Route("/", handler, on_disconnect="finish")])) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await within(began)
        await within(ended)


async def test_a_stopped_handler_leaves_nothing_for_the_background() -> None:
    """A stream that its client left was not delivered: its background doesn't run."""
    notes: list[str] = []
    closed = anyio.Event()

    async def ticks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick"
                await anyio.sleep(0.001)
        finally:
            closed.set()

    async def later() -> None:
        notes.append("ran")

    async with serving(Router([Route("/", lambda request: StreamingResponse(ticks(), background=later))])) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await client.receive()
        await within(closed)
        served.stop.set()
        await within(served.ended)
    assert notes == []


async def test_json_both_ways() -> None:
    """What a handler returns as a dict is what the client reads."""
    value = {"text": "\u2028 \u00e9 \U0001f600", "number": 1e300, "nested": [{"a": None}]}
    assert json.loads((await answered(value)).body) == value
