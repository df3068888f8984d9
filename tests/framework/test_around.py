"""Middleware that is a function: in the handler's own task, around whatever a Router has."""

import asyncio
import gc
import re
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.middleware import Middleware as StarletteMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse as StarletteStreaming
from starlette.routing import Route as StarletteRoute

from microasgi import (
    BackgroundTask,
    CallNext,
    ClientDisconnect,
    Event,
    EventStream,
    HTTPException,
    JSONResponse,
    Mount,
    NextResponse,
    PlainTextResponse,
    Request,
    Response,
    Route,
    Router,
    StreamingResponse,
)
from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.promise.delivery import current_task
from microasgi.testing import Client
from tests.conftest import LOOPS
from tests.harness import GET, Sleeper, call, eventually, loud_lines, serving, within

pytestmark = pytest.mark.anyio

WORD: ContextVar[str] = ContextVar("WORD", default="")


async def passing(request: Request, call_next: CallNext) -> Response:
    return await call_next(request)


def around(*routes: Route | Mount, **options: Any) -> Router:
    """A Router with one function around it that does nothing."""
    made = Router(routes, **options)
    made.middleware(passing)
    return made


async def test_the_last_is_the_outermost() -> None:
    """Each goes around all that is there: functions added before, and the ASGI middleware that the Router was made with."""
    notes: list[str] = []

    def asgi(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            notes.append("asgi")
            await app(scope, receive, send)

        return middleware

    routes = Router([Route("/", lambda request: notes.append("handler") or "")], middleware=[asgi])  # type: ignore[func-returns-value]

    @routes.middleware
    async def first(request: Request, call_next: CallNext) -> Response:
        notes.append("first")
        return await call_next(request)

    @routes.middleware
    async def second(request: Request, call_next: CallNext) -> Response:
        notes.append("second")
        response = await call_next(request)
        notes.append("second again")
        return response

    assert (await call(routes)).status == 200
    assert notes == ["second", "first", "asgi", "handler", "second again"]


async def test_it_runs_in_the_handlers_task_and_context() -> None:
    """There is but one task, and what either sets in a context variable, the other sees."""
    tasks: list[Any] = []

    async def handler(request: Request) -> str:
        tasks.append(current_task())
        heard = WORD.get()
        await checkpoint()
        WORD.set("of the handler")
        return heard

    routes = Router([Route("/", handler)])

    @routes.middleware
    async def middleware(request: Request, call_next: CallNext) -> Response:
        WORD.set("of the middleware")
        response = await call_next(request)
        tasks.append(current_task())
        response.headers["x-word"] = WORD.get()
        return response

    answer = await call(routes)
    assert (answer.body, answer.header(b"x-word")) == (b"of the middleware", b"of the handler")
    assert tasks[0] is tasks[1]


async def stream(request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        for piece in "abc":
            await checkpoint()
            yield piece

    return StreamingResponse(pieces())


async def teapot(request: Request) -> None:
    raise HTTPException(418, "short")


async def starlettes(request: Any) -> StarletteStreaming:
    async def pieces() -> AsyncIterator[str]:
        for piece in "abc":
            await checkpoint()
            yield piece

    return StarletteStreaming(pieces())


async def nothing(request: Any, call_next: Any) -> Any:
    return await call_next(request)


STARLETTE = Starlette(routes=[StarletteRoute("/", starlettes)])
STARLETTE_AROUND = Starlette(
    routes=[StarletteRoute("/", starlettes)], middleware=[StarletteMiddleware(BaseHTTPMiddleware, dispatch=nothing)]
)

EVERYTHING: list[Route | Mount] = [
    Route("/text", lambda request: "abc"),
    Route("/stream", stream),
    Route("/error", teapot),
    Mount("/router", Router([Route("/", stream)])),
    Mount("/starlette", STARLETTE),
    Mount("/around", STARLETTE_AROUND),
]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/text", 200, b"abc"),
        ("/stream", 200, b"abc"),
        ("/error", 418, b"short"),
        ("/nowhere", 404, b"Not Found"),
        ("/router/", 200, b"abc"),
        ("/starlette/", 200, b"abc"),
        ("/around/", 200, b"abc"),
    ],
)
async def test_it_sees_and_changes_every_response(path: str, status: int, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Its status and its headers, whoever makes it; its body arrives as it was."""
    seen: list[int] = []
    routes = Router(EVERYTHING)

    @routes.middleware
    async def middleware(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        seen.append(response.status_code)
        response.headers["x-seen"] = "yes"
        response.set_cookie("a", "b")
        return response

    async with serving(routes) as served, await served.connect() as client:
        for _ in range(2):
            await client.send(GET.replace(b" / ", f" {path} ".encode()))
            answer = await client.response()
            assert (answer.status, answer.body, answer.complete, answer.header(b"x-seen")) == (status, body, True, b"yes")
            assert answer.header(b"set-cookie") == b"a=b; Path=/; SameSite=lax"
    assert seen == [status, status]
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("path", ["/starlette/", "/around/"])
async def test_it_changes_responses_on_older_servers(path: str) -> None:
    """Where a server speaks an older ASGI, as uvicorn does, Starlette's streams can be changed all the same."""
    routes = Router(EVERYTHING)

    @routes.middleware
    async def middleware(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        response.headers["x-seen"] = "yes"
        return response

    answer = await call(routes, path=path, asgi={"version": "3.0", "spec_version": "2.3"})
    assert (answer.body, answer.header(b"x-seen")) == (b"abc", b"yes")


async def test_it_may_answer_itself() -> None:
    """As a handler does: it returns, or raises, and isn't asked for more."""
    routes = Router([Route("/", lambda request: "handler")])

    @routes.middleware
    async def guard(request: Request, call_next: CallNext) -> Response | dict[str, str]:
        match request.query_params.get("as"):
            case "dict":
                return {"by": "the guard"}
            case "error":
                raise HTTPException(401, {"by": "the guard"})
        return await call_next(request)

    @routes.middleware
    async def outer(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        response.headers["x-status"] = str(response.status_code)
        return response

    assert (await call(routes, path="/?as=dict")).body == b'{"by":"the guard"}'
    answer = await call(routes, path="/?as=error")
    assert (answer.status, answer.body, answer.header(b"x-status")) == (401, b'{"detail":{"by":"the guard"}}', b"401")
    assert (await call(routes)).body == b"handler"


async def test_it_sees_the_exceptions_that_nobody_answers() -> None:
    """A bug comes out of `call_next`; middleware may answer it, or call again."""
    errors = iter([ConnectionError(), ConnectionError(), HTTPException(409)])

    async def failing(request: Request) -> None:
        raise next(errors)

    routes = Router([Route("/", failing)])

    @routes.middleware
    async def again(request: Request, call_next: CallNext) -> Response:
        while True:
            try:
                return await call_next(request)
            except ConnectionError:
                pass

    assert (await call(routes)).status == 409


@pytest.mark.parametrize("path", ["/stream", "/starlette/"])
async def test_it_may_change_the_body(path: str) -> None:
    """Who reads the body, piece by piece, returns another response with it."""
    routes = Router(EVERYTHING)

    @routes.middleware
    async def shout(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        return PlainTextResponse(b"".join([piece async for piece in response.body_iterator]).upper(), response.status_code)

    assert (await call(routes, path=path)).body == b"ABC"


async def test_a_body_that_was_read_cant_be_sent() -> None:
    """To return the response itself afterwards is a mistake, and told."""
    routes = Router(EVERYTHING)

    @routes.middleware
    async def reading(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        with pytest.raises(AttributeError, match=r"async for piece in response\.body_iterator"):
            assert response.body
        assert [piece async for piece in response.body_iterator] == [b"abc"]
        return response

    with pytest.raises(RuntimeError, match="middleware has read this response's body: return another response with it"):
        await call(routes, path="/text")


async def test_the_body_of_the_request_is_there_for_all() -> None:
    """What middleware has read, handlers and mounted apps read again."""

    async def foreign(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse([(await receive())["body"].decode()])(scope, receive, send)

    async def handler(request: Request) -> list[str]:
        return [(await request.body()).decode()]

    routes = Router([Route("/", handler, methods=["POST"]), Mount("/a", foreign)])

    @routes.middleware
    async def reading(request: Request, call_next: CallNext) -> Response:
        assert await request.body() == b"xy"
        return await call_next(request)

    for path in ("/", "/a"):
        assert (await call(routes, "POST", path, body=[b"x", b"y"])).body == b'["xy"]'


async def test_what_is_replaced_is_closed() -> None:
    """A response that middleware puts another in the place of ends at once: its stream is closed, and nothing of it is sent."""
    ends: list[str] = []

    class Endless:
        def __aiter__(self) -> "Endless":
            return self

        async def __anext__(self) -> str:
            return "x"

        async def aclose(self) -> None:
            ends.append("closed")

    async def endless(request: Request) -> StreamingResponse:
        return StreamingResponse(Endless(), background=lambda: ends.append("never"))

    routes = Router([Route("/", endless)], exception_handlers={Exception: lambda request, error: PlainTextResponse("no", 500)})
    routes.middleware(passing)

    @routes.middleware
    async def replace(request: Request, call_next: CallNext) -> Response:
        assert [(await call_next(request)).status_code for _ in range(2)] == [200, 200]
        return PlainTextResponse("instead")

    answer = await call(routes)
    assert answer.body == b"instead"
    assert ends == ["closed"] * 4  # both of them, as an iterator and as what it iterates over


async def test_what_is_replaced_leaves_nothing_behind() -> None:
    """A response that is replaced, or an exception that passes, leaves no cycle of objects for the garbage collector."""
    routes = Router(EVERYTHING)

    @routes.middleware
    async def replace(request: Request, call_next: CallNext) -> str:
        await call_next(request)
        return "instead"

    routes.middleware(passing)
    gc.collect()
    gc.disable()
    try:
        for path in ("/text", "/error"):
            await call(routes, path=path)
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_what_it_raises_after_the_response_answers() -> None:
    """An HTTPException behind `call_next` takes the place of the response, which hasn't begun for anybody."""
    routes = Router(EVERYTHING)

    @routes.middleware
    async def middleware(request: Request, call_next: CallNext) -> Response:
        await call_next(request)
        raise HTTPException(502, "not that one")

    for path in ("/text", "/starlette/"):
        assert (await call(routes, path=path)).body == b"not that one"


async def test_everybodys_background_is_run() -> None:
    """What a handler's response leaves for the background runs, and then what middleware has added."""
    notes: list[str] = []
    routes = Router([Route("/", lambda request: PlainTextResponse("", background=BackgroundTask(notes.append, "handler's")))])

    @routes.middleware
    async def middleware(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        response.background = BackgroundTask(notes.append, "middleware's")
        return response

    await call(routes)
    assert notes == ["handler's", "middleware's"]


# The promise.


async def test_the_promise_holds_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves cancels handler and middleware, once, and both clean up within the grace."""
    sleeper, cleaned = Sleeper(), anyio.Event()

    async def handler(request: Request) -> None:
        await sleeper.sleep()

    routes = around(Route("/", handler))

    @routes.middleware
    async def middleware(request: Request, call_next: CallNext) -> Response:
        try:
            return await call_next(request)
        finally:
            with anyio.CancelScope(shield=True):  # which trio wants
                await anyio.sleep(0.001)
            cleaned.set()

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(sleeper.begun)
        client.leave()
        await within(cleaned, 1)
    assert sleeper.cancellations == 1
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"]], ids=["asyncio"])
async def test_it_holds_on_another_server() -> None:
    """It does so where the departure has to be asked for."""
    from tests.foreign.servers import on_uvicorn

    sleeper = Sleeper()

    async def handler(request: Request) -> None:
        await sleeper.sleep()

    async with on_uvicorn(around(Route("/", handler), Mount("/starlette", STARLETTE))) as served:
        async with await served.connect() as client:
            await client.send(GET.replace(b" / ", b" /starlette/ "))
            assert (await client.response()).body == b"abc"
            await client.send(GET)
            await within(sleeper.begun)
        await within(sleeper.ended, 1)
    assert sleeper.cancellations == 1


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
async def test_tasks_of_asyncios_groups_are_told_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    """The tasks of an `asyncio.TaskGroup` in a handler are found through middleware: they are told while the handler still cleans up."""
    begun, ended = asyncio.Event(), asyncio.Event()
    ends: list[str] = []

    async def child() -> None:
        try:
            begun.set()
            await asyncio.sleep(30)
        finally:
            ends.append("child")
            ended.set()

    async def handler(request: Request) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(child())
            try:
                await asyncio.sleep(30)
            finally:
                await ended.wait()
                ends.append("handler")

    async with serving(around(Route("/", handler))) as served, await served.connect() as client:
        await client.send(GET)
        await begun.wait()
        client.leave()
        await eventually(lambda: len(ends) == 2)
    assert ends == ["child", "handler"]
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("path", ["/ours", "/theirs"])
async def test_a_stream_behind_it_stops(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves in the middle of a body ends the stream, ours or a mounted app's."""
    begun, ended = anyio.Event(), anyio.Event()

    async def pieces() -> AsyncIterator[str]:
        try:
            yield "a"
            begun.set()
            await anyio.sleep(30)
        finally:
            ended.set()

    async def theirs(request: Any) -> StarletteStreaming:
        return StarletteStreaming(pieces())

    mounted = Starlette(routes=[StarletteRoute("/", theirs)], middleware=[StarletteMiddleware(BaseHTTPMiddleware, dispatch=nothing)])
    routes = around(Route("/ours", lambda request: StreamingResponse(pieces())), Mount("/theirs", mounted))
    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET.replace(b" / ", f" {path}{'/' if path == '/theirs' else ''} ".encode()))
        await within(begun)
        client.leave()
        await within(ended, 1)
    assert loud_lines(caplog) == []


async def test_it_may_leave_anywhere() -> None:
    """At every await of handler and middleware a client may leave: the app's call never outlives the middleware."""
    running: list[str] = []

    async def handler(request: Request) -> StreamingResponse:
        await checkpoint()
        return await stream(request)

    routes = Router([Route("/", handler)])

    @routes.middleware
    async def middleware(request: Request, call_next: CallNext) -> Response:
        running.append("x")
        try:
            await checkpoint()
            response = await call_next(request)
            await checkpoint()
            return response
        finally:
            running.pop()

    async with Client(routes) as client:
        departures = [str(departure) async for departure in client.hang_up_everywhere("/")]
    assert [sum(f" in {name}" in departure for departure in departures) for name in ("middleware", "handler", "pieces")] == [2, 1, 3]
    assert running == []


async def test_a_departure_while_the_app_has_paused_closes_it() -> None:
    """Where the client leaves while middleware waits behind `call_next`, the app's stream is closed."""
    ended = anyio.Event()
    begun = anyio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "never read"

    class Noting(StreamingResponse):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await super().__call__(scope, receive, send)
            finally:
                ended.set()

    routes = Router([Route("/", lambda request: Noting(pieces()))])

    @routes.middleware
    async def middleware(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        begun.set()
        await anyio.sleep(30)
        return response

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        assert not ended.is_set()
        client.leave()
        await within(ended, 1)


async def test_what_comes_before_a_response_passes() -> None:
    """An app may send other messages before its response begins, as an early hint."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await PlainTextResponse("the end")(scope, receive, send)

    async with serving(around(Mount("/", app))) as served, await served.connect() as client:
        await client.send(GET)
        received = b""
        with anyio.fail_after(5):
            while not received.endswith(b"the end"):
                received += await client.receive()
    assert re.findall(rb"^HTTP/1.1 (\d+)", received, re.MULTILINE) == [b"103", b"200"]


async def test_it_may_give_the_handler_a_time() -> None:
    """A cancel scope around `call_next` ends the handler as it would in the handler itself; a stream is none of it."""
    ended: list[str] = []

    async def slow(request: Request) -> None:
        try:
            await anyio.sleep(30)
        finally:
            ended.append("slow")

    routes = Router([Route("/slow", slow), *EVERYTHING])

    @routes.middleware
    async def timely(request: Request, call_next: CallNext) -> Response:
        with anyio.move_on_after(0 if request.path == "/slow" else 30):
            return await call_next(request)
        raise HTTPException(504)

    assert (await call(routes, path="/slow")).status == 504
    assert ended == ["slow"]
    for path in ("/text", "/stream", "/router/", "/error"):
        assert (await call(routes, path=path)).status in (200, 418)


async def test_an_event_stream_behind_it() -> None:
    """Events come through with their pings, and end when the client leaves."""
    ended = anyio.Event()

    async def events() -> AsyncIterator[Event]:
        try:
            yield Event("a")
            await anyio.sleep(30)
        finally:
            ended.set()

    async with serving(around(Route("/", lambda request: EventStream(events(), ping=0.01)))) as served, await served.connect() as client:
        await client.send(GET)
        received = b""
        while received.count(b"\n:\n") < 2 or b"data: a" not in received:
            received += await client.receive()
        client.leave()
        await within(ended, 1)


async def test_an_event_stream_that_is_read_has_no_pings(caplog: pytest.LogCaptureFixture) -> None:
    """Middleware that reads events has them all, however quiet it is in between; pings, from a task beside, aren't among them."""
    pinged = anyio.Event()

    async def events() -> AsyncIterator[Event]:
        yield Event("a")
        await pinged.wait()
        yield Event("b")

    class Counting(EventStream):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def counting_send(message: Message) -> None:
                if message.get("body") == b":\n\n":
                    pinged.set()
                await send(message)

            await super().__call__(scope, receive, counting_send)

    routes = Router([Route("/", lambda request: Counting(events(), ping=0.001, retry=1))])

    @routes.middleware
    async def loud(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        return StreamingResponse(piece.upper() async for piece in response.body_iterator)

    with anyio.fail_after(5):
        answer = await call(routes)
    assert answer.body == b":\nRETRY: 1000\n\nDATA: A\n\nDATA: B\n\n"
    assert loud_lines(caplog) == []


# Its limits.


async def from_a_child(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that sends from another task, as Quart does."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(PlainTextResponse("abc"), scope, receive, send)


@pytest.mark.parametrize("changes", [False, True])
async def test_an_app_that_answers_from_another_task(changes: bool) -> None:
    """It can't be paused: it is answered through; middleware sees what was sent, and is told that it can't change it any more."""
    routes = Router([Mount("/", from_a_child)])
    seen: list[NextResponse] = []

    @routes.middleware
    async def middleware(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        seen.append(response)
        if changes:
            response.headers["x-late"] = "yes"
        return response

    if changes:
        with pytest.raises(RuntimeError, match="middleware has changed a response that its app had sent already, from another task"):
            await call(routes)
    else:
        assert (await call(routes)).body == b"abc"
    assert seen[0].status_code == 200


async def test_an_app_without_an_answer_is_told() -> None:
    """An app that ends without a response is a fault that comes out of `call_next`."""

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        """Says nothing."""

    with pytest.raises(RuntimeError, match="has ended without a response"):
        await call(around(Mount("/", silent)))


async def test_a_departure_that_leaves_no_answer_ends_middleware() -> None:
    """A handler that makes an HTTPException of its cancellation has no answer; middleware isn't asked for one, and nobody logs it."""
    ended = anyio.Event()

    async def handler(request: Request) -> None:
        try:
            await request.wait_disconnected()
        finally:
            raise HTTPException(503)

    routes = Router([Route("/", handler)])

    @routes.middleware
    async def middleware(request: Request, call_next: CallNext) -> Response:
        try:
            return await call_next(request)
        except ClientDisconnect:
            ended.set()
            raise

    async with Client(routes).open("GET", "/") as opened:
        await opened.wait_suspended()
        await opened.hang_up()
    assert ended.is_set()


class Asgi:
    def __init__(self, app: ASGIApp) -> None:
        """Never called."""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("http", "not 'http': write @routes.middleware, without parentheses"),
        (Asgi, "not Asgi; classes and other ASGI middleware go into Router(middleware=[…])"),
        (lambda request, call_next: None, "middleware is an async function of the request and call_next, not <lambda>"),
        (teapot, "middleware teapot(request) must be callable with two arguments"),
    ],
)
def test_what_is_no_middleware_is_refused(function: Any, message: str) -> None:
    """It is checked where it is written."""
    with pytest.raises(TypeError, match=re.escape(message)):
        Router().middleware(function)


async def test_a_wrong_result_names_the_middleware() -> None:
    """Middleware that returns what no response can be made of is named."""
    routes = Router()

    @routes.middleware
    async def forgetful(request: Request, call_next: CallNext) -> Any:
        return 5

    with pytest.raises(TypeError, match="middleware forgetful returned a value of type int"):
        await call(routes)
