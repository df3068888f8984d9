"""Once every byte that the head told of is on its way the client may leave, though the app has yet to say that this was all.

Starlette's `BaseHTTPMiddleware` sends every response so, and clients close as soon as they have that many bytes.
"""

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from microasgi import BackgroundTask as OurTask
from microasgi import CancelOnDisconnect, Middleware, Router
from microasgi import StreamingResponse as OurStream
from tests.harness import Departure, access_lines, eventually, loud_lines, serving, within
from tests.server.test_after_departure import Watched

pytestmark = pytest.mark.anyio

departures = pytest.mark.parametrize("how", ["FIN", "RST"])
END = {"type": "http.response.body", "body": b"", "more_body": False}


def start(*headers: tuple[bytes, bytes], status: int = 200, trailers: bool = False) -> Any:
    return {"type": "http.response.start", "status": status, "headers": headers, "trailers": trailers}


def more(body: bytes = b"") -> Any:
    return {"type": "http.response.body", "body": body, "more_body": True}


WHOLE = {
    "length": (b"GET", [start((b"content-length", b"5")), more(b"he"), more(b"llo")], [END]),
    "no length": (b"GET", [start((b"content-length", b"0")), more()], [more(), END]),
    "HEAD": (b"HEAD", [start((b"content-length", b"5")), more(b"hello")], [END]),
    "no content": (b"GET", [start(status=204), more()], [END]),
    "trailers": (
        b"GET",
        [start((b"content-length", b"5"), trailers=True), more(b"hello")],
        [END, {"type": "http.response.trailers", "headers": [(b"x", b"y")]}],
    ),
}
"""The method, the messages that are all that the client needs, and those that only say so."""


@departures
@pytest.mark.parametrize(("method", "needed", "rest"), WHOLE.values(), ids=WHOLE.keys())
@pytest.mark.parametrize("around", [lambda app: app, CancelOnDisconnect], ids=["bare", "wrapped"])
async def test_who_has_all_that_was_told_may_leave(
    around: Callable[[Any], Any], method: bytes, needed: list[Any], rest: list[Any], how: Departure, caplog: pytest.LogCaptureFixture
) -> None:
    """The call goes on to its end, nobody is told, and the log says 200; `receive()` says that the client is gone."""
    left, heard = anyio.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in needed:
            await send(message)
        await within(left)
        heard.append(await receive())
        for message in rest:
            await send(message)
        await anyio.lowlevel.checkpoint()

    watched = Watched(around(app))
    async with serving(watched, lifespan="off") as served, await served.connect() as client:
        await client.send(method + b" / HTTP/1.1\r\nHost: test\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n" if method == b"HEAD" or needed[-1]["body"] == b"" else b"hello"):
            answer += await client.receive()
        client.leave(how)
        await eventually(lambda: not watched.shared.connections)
        left.set()
        await within(watched.ended)
        await eventually(lambda: access_lines(caplog))
    assert (watched.end, watched.fault) == (None, None)
    assert heard == [{"type": "http.disconnect"}]
    (line,) = access_lines(caplog)
    assert f" {needed[0]['status']} " in line
    assert loud_lines(caplog) == []


async def test_nobody_is_told_before_he_leaves() -> None:
    """Who waits in `receive()` goes on waiting: told that the response is complete, some frameworks would stop what the app still does."""
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            await receive()
            heard.append((await receive())["type"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await send(start((b"content-length", b"5")))
            await send(more(b"hello"))
            await anyio.wait_all_tasks_blocked()
            heard.append("the end")
            await send(END)

    async with serving(app, lifespan="off") as served, await served.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert (await client.response()).body == b"hello"
        await eventually(lambda: len(heard) == 2)
    assert heard == ["the end", "http.disconnect"]


@pytest.mark.parametrize("fails", [True, False], ids=["raises", "returns"])
async def test_an_app_that_never_says_so_keeps_its_connection(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It is told in the log, as ever; but the client has a whole response, and asks again on the same connection."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start((b"content-length", b"5")))
        await send(more(b"hello"))
        if fails:
            raise LookupError("behind it")

    async with serving(app, lifespan="off") as served, await served.connect() as client:
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            assert (await client.response()).body == b"hello"
    assert len(loud_lines(caplog)) == 2


async def test_nothing_but_the_end_may_follow() -> None:
    """One byte more is still an error of the app."""
    errors: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start((b"content-length", b"5")))
        await send(more(b"hello"))
        with pytest.raises(Exception, match="longer") as error:
            await send(more(b"!"))
        errors.append(str(error.value))
        await send(END)

    async with serving(app, lifespan="off") as served, await served.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert (await client.response()).body == b"hello"
    assert len(errors) == 1


async def do_nothing(request: Any, call_next: Any) -> Any:
    return await call_next(request)


@pytest.mark.parametrize("kind", ["ours", "mounted", "wrapped", "plain"])
async def test_behind_a_middleware_that_streams_all_is_done(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Fifty clients that close as soon as they have their answer: what is done behind it is done fifty times."""
    done: list[int] = []

    async def note() -> None:
        await anyio.lowlevel.checkpoint()
        done.append(1)

    async def theirs(request: Any) -> Any:
        return PlainTextResponse("hello", background=BackgroundTask(note))

    foreign = Starlette(routes=[Route("/", theirs)])
    foreign.add_middleware(BaseHTTPMiddleware, dispatch=do_nothing)
    router = Router(middleware=[Middleware(BaseHTTPMiddleware, dispatch=do_nothing)])
    app: Any = router

    @router.get("/")
    async def ours(request: Any) -> Any:
        async def made() -> Any:
            yield b"hello"
            await anyio.lowlevel.checkpoint()
            done.append(0)

        return OurStream(made(), headers={"content-length": "5"}, background=OurTask(note))

    if kind == "mounted":
        app = Router()
        app.mount("/", foreign)
    elif kind != "ours":
        app = CancelOnDisconnect(foreign) if kind == "wrapped" else foreign
    async with serving(app, lifespan="off") as served:
        for _ in range(50):
            async with await served.connect() as client:
                await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                assert (await client.response()).complete
        await eventually(lambda: done.count(1) == 50)
    assert all(" 200 " in line for line in access_lines(caplog))
    assert done.count(0) == (50 if kind == "ours" else 0)
    assert loud_lines(caplog) == []


async def test_what_ends_by_itself_may_end_behind_it_too(caplog: pytest.LogCaptureFixture) -> None:
    """An app that nobody wrapped, and that such a middleware is around, works to its end when its client left before it began to answer."""
    done: list[int] = []
    begun, go_on = anyio.Event(), anyio.Event()

    async def work(request: Any) -> Any:
        begun.set()
        await go_on.wait()
        return PlainTextResponse("hello", background=BackgroundTask(done.append, 1))

    foreign = Starlette(routes=[Route("/", work)])
    foreign.add_middleware(BaseHTTPMiddleware, dispatch=do_nothing)
    watched = Watched(foreign)
    async with serving(watched, lifespan="off") as served, await served.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await within(begun)
        client.leave()
        await eventually(lambda: not watched.shared.connections)
        go_on.set()
        await within(watched.ended)
    assert (watched.end, watched.fault, done) == (None, None, [1])
    assert loud_lines(caplog) == []
