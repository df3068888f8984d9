"""What middleware functions and exception handlers have to do with WebSockets: they see the handshake, and may answer it."""

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse as StarletteText
from starlette.routing import WebSocketRoute as StarletteRoute

from microasgi import (
    ClientDisconnect,
    HTTPException,
    JSONResponse,
    Middleware,
    PlainTextResponse,
    Request,
    Response,
    Router,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from tests.harness import Sleeper, access_lines, eventually, loud_lines, serving, within
from tests.websocket_client import HANDSHAKE, TEXT, goodbye, talk

pytestmark = pytest.mark.anyio

CallNext = Callable[[Request], Awaitable[Any]]

WORD: ContextVar[str] = ContextVar("WORD", default="")


async def echo(ws: WebSocket) -> None:
    await ws.accept(ws.subprotocols[0] if ws.subprotocols else None, {"X-Own": "1"})
    async for message in ws:
        await ws.send_text(WORD.get() + str(message))


async def forbids(ws: WebSocket) -> None:
    await ws.close()


async def denies(ws: WebSocket) -> None:
    raise HTTPException(402, "first the money")


async def fails(ws: WebSocket) -> None:
    raise ValueError("a bug")


async def forgets(ws: WebSocket) -> None: ...


async def fails_later(ws: WebSocket) -> None:
    await ws.accept()
    raise ValueError("a bug")


async def starlettes(ws: Any) -> None:
    await ws.accept("chat", [(b"x-own", b"1")])
    await ws.send_text(WORD.get() + await ws.receive_text())
    await ws.close()


def chat(handler: Any, **options: Any) -> Router:
    """A Router with this handler; Starlette's is within an app of its own."""
    routes = Router(**options)
    if handler is starlettes:
        routes.mount("", Starlette(routes=[StarletteRoute("/chat", starlettes)]))
    else:
        routes.websocket("/chat")(handler)
    return routes


async def refusal(routes: Router, handshake: bytes = HANDSHAKE) -> tuple[int, bytes]:
    """What a handshake that isn't accepted is answered with."""
    async with serving(routes) as served, await served.connect() as client:
        await client.send(handshake)
        response = await client.response()
    return response.status, response.body


# Middleware functions.


@pytest.mark.parametrize("handler", [echo, starlettes])
async def test_it_sees_the_handshake_and_changes_the_answer(handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A request, a response with the status 101; then both may speak, in a task that has what it has set."""
    seen: list[Any] = []
    routes = chat(handler)

    @routes.middleware
    async def inner(request: Request, call_next: CallNext) -> Response:
        WORD.set("said: ")
        response: Response = await call_next(request)
        response.headers["x-inner"] = "yes"
        return response

    @routes.middleware
    async def outer(request: Request, call_next: CallNext) -> Response:
        seen.append([request.method, request.path, request.url.scheme, request.query_params["room"], await request.body(), request.gone])
        response: Response = await call_next(request)
        seen.append([response.status_code, response.headers["x-own"], response.headers["x-inner"]])
        response.set_cookie("seen", "yes")
        return response

    handshake = HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: chat\r\n\r\n"
    async with serving(routes) as served, await talk(served, handshake=handshake) as client:
        assert b"x-inner: yes" in client.head
        assert b"set-cookie: seen=yes" in client.head
        assert b"sec-websocket-protocol: chat" in client.head
        await client.send("hello")
        assert await client.receive() == (TEXT, b"said: hello")
        await client.send(goodbye())
        await eventually(lambda: access_lines(caplog))
    assert seen == [["GET", "/chat", "ws", "1", b"", False], [101, "1", "yes"]]
    assert loud_lines(caplog) == []


ANSWERS = {
    "close": (forbids, 403, b""),
    "HTTPException": (denies, 402, b"first the money"),
    "forgets to accept": (forgets, 500, b"Internal Server Error"),
}


@pytest.mark.parametrize(("handler", "status", "body"), ANSWERS.values(), ids=ANSWERS)
async def test_it_sees_how_the_handler_refuses(handler: Any, status: int, body: bytes) -> None:
    """As a response, which it may read, and change."""
    seen: list[Any] = []
    routes = chat(handler)

    @routes.middleware
    async def function(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        whole = b"".join([piece async for piece in response.body_iterator])
        seen.append([response.status_code, whole])
        return PlainTextResponse("no", 418)

    assert await refusal(routes) == (418, b"no")
    assert seen == [[status, body]]


async def refuses(request: Request, call_next: CallNext) -> Any:
    return JSONResponse({"error": "who are you?"}, 401)


async def refuses_in_starlettes_words(request: Request, call_next: CallNext) -> Any:
    return StarletteText('{"error":"who are you?"}', 401)


async def raises(request: Request, call_next: CallNext) -> Any:
    raise HTTPException(401, {"unknown": 1})


async def closes(request: Request, call_next: CallNext) -> Any:
    raise WebSocketException(3000, "who are you?")


async def refuses_late(request: Request, call_next: CallNext) -> Any:
    assert (await call_next(request)).status_code == 101
    return await refuses(request, call_next)


async def raises_late(request: Request, call_next: CallNext) -> Any:
    await call_next(request)
    await raises(request, call_next)


REFUSALS = {
    "returns a response": (refuses, 401, b'{"error":"who are you?"}'),
    "returns Starlette's": (refuses_in_starlettes_words, 401, b'{"error":"who are you?"}'),
    "raises HTTPException": (raises, 401, b'{"detail":{"unknown":1}}'),
    "raises WebSocketException": (closes, 403, b"Forbidden"),
    "answers something else than the handler's 101": (refuses_late, 401, b'{"error":"who are you?"}'),
    "raises behind the handler's 101": (raises_late, 401, b'{"detail":{"unknown":1}}'),
}


@pytest.mark.parametrize(("function", "status", "body"), REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("policy", ["cancel", "finish"])
async def test_it_may_refuse(function: Any, status: int, body: bytes, policy: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever isn't let in gets a response; a handler that had accepted already learns that nobody is there, and ends."""
    ends: list[str] = []

    async def handler(ws: WebSocket) -> None:
        try:
            await ws.accept()
            await ws.receive_text()
        except WebSocketDisconnect:
            ends.append("disconnected")
            raise

    routes = chat(handler, on_disconnect=policy)
    routes.middleware(function)
    assert await refusal(routes) == (status, body)
    assert ends == (["disconnected"] if function in (refuses_late, raises_late) else [])
    assert loud_lines(caplog) == []


async def test_it_sees_what_nobody_answers(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of the handler's before it accepts comes out of `call_next`; one behind that does not, and closes with 1011."""
    seen: list[str] = []

    async def function(request: Request, call_next: CallNext) -> Any:
        try:
            return await call_next(request)
        except ValueError as error:
            seen.append(str(error))
            return "I have seen it"

    routes = chat(fails)
    routes.middleware(function)
    assert await refusal(routes) == (200, b"I have seen it")
    assert seen == ["a bug"]
    routes = chat(fails_later)
    routes.middleware(function)
    async with serving(routes) as served, await talk(served) as client:
        assert await client.closed_with() == 1011
    assert seen == ["a bug"]
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["ERROR"]


async def denies_first(ws: WebSocket) -> None:
    if not getattr(ws.state, "tried", False):
        ws.state.tried = True
        raise HTTPException(503)
    await echo(ws)


@pytest.mark.parametrize("handler", [denies_first, echo, starlettes])
async def test_it_may_try_again(handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Who is called after another was, is told of the WebSocket as that was: whether it has refused, or accepted for nothing."""
    routes = chat(handler)

    @routes.middleware
    async def function(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        return await call_next(request)

    handshake = HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: chat\r\n\r\n"
    async with serving(routes) as served, await talk(served, handshake=handshake) as client:
        await client.send("hello")
        assert await client.receive() == (TEXT, b"hello")
    assert loud_lines(caplog) == []


async def changes_the_status(request: Request, call_next: CallNext) -> Any:
    response = await call_next(request)
    response.status_code = 403
    return response


async def accepts(request: Request, call_next: CallNext) -> Any:
    return Response(status_code=101)


async def reads(request: Request, call_next: CallNext) -> Any:
    return [piece async for piece in (await call_next(request)).body_iterator]


@pytest.mark.parametrize(
    ("function", "message"),
    [(changes_the_status, "return another response"), (accepts, "accepted by its handler"), (reads, "no body to be read")],
)
async def test_what_it_cant_do_is_said(function: Any, message: str, caplog: pytest.LogCaptureFixture) -> None:
    """Only the handler accepts, and what it accepts with is no body; the client gets a 500."""
    routes = chat(echo)
    routes.middleware(function)
    assert (await refusal(routes))[0] == 500
    assert message in str(caplog.records[-1].exc_info or [record.exc_info for record in caplog.records])


@pytest.mark.parametrize("where", ["before", "behind"])
async def test_the_promise_holds_in_it(where: str, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves while the function waits stops it, and the handler that has accepted behind it; quietly."""
    log: list[str] = []
    begun = anyio.Event()

    async def handler(ws: WebSocket) -> None:
        try:
            await ws.accept()
        except anyio.get_cancelled_exc_class():
            log.append("handler cancelled")
            raise

    async def function(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request) if where == "behind" else None
        begun.set()
        try:
            await anyio.sleep(20)
        except anyio.get_cancelled_exc_class():
            log.append("function cancelled")
            raise
        return response

    routes = chat(handler)
    routes.middleware(function)
    async with serving(routes) as served:
        async with await served.connect() as client:
            await client.send(HANDSHAKE)
            await within(begun)
        await eventually(lambda: access_lines(caplog))
    assert log == ["function cancelled", *(["handler cancelled"] if where == "behind" else [])]
    assert " 499 " in access_lines(caplog)[0]
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("how", ["close", "RST"])
async def test_the_promise_holds_behind_it(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that sleeps behind a function is cancelled as without one."""
    sleeper = Sleeper()

    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await sleeper.sleep()

    async def function(request: Request, call_next: CallNext) -> Any:
        return await call_next(request)

    routes = chat(handler)
    routes.middleware(function)
    async with serving(routes) as served, await talk(served) as client:
        await within(sleeper.begun)
        if how == "close":
            await client.send(goodbye())
        else:
            client.leave("RST")
        await within(sleeper.ended)
        await eventually(lambda: access_lines(caplog))
    assert sleeper.cancellations == 1
    assert " cancelled: the c" in access_lines(caplog)[0]
    assert loud_lines(caplog) == []


# Exception handlers.


@pytest.mark.parametrize(
    ("handler", "path", "status", "body"),
    [
        (fails, b"/chat", 409, b'{"why":"a bug","at":"/chat"}'),
        (denies, b"/chat", 402, b"first the money"),
        (echo, b"/elsewhere", 404, b'{"why":"404: Not Found","at":"/elsewhere"}'),
    ],
    ids=["its class", "no handler", "its status"],
)
@pytest.mark.parametrize("mounted", [False, True])
async def test_an_exception_handler_answers_the_handshake(
    handler: Any, path: bytes, status: int, body: bytes, mounted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the handler has accepted, an exception is answered as a request's is: also by a Router further out."""
    routes = outer = chat(handler)
    if mounted:
        outer = Router()
        outer.mount("", routes)

    @outer.exception_handler(404)
    @outer.exception_handler(ValueError)
    async def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"why": str(error), "at": request.path}, getattr(error, "status_code", 409))

    assert await refusal(outer, HANDSHAKE.replace(b"/chat", path)) == (status, body)
    assert ["has no route for it" in line for line in loud_lines(caplog)] == [True] * (status == 404)


@pytest.mark.parametrize("handshake", [HANDSHAKE, HANDSHAKE.replace(b"websocket", b"none")], ids=["handshake", "request"])
async def test_an_exception_handler_around_another_frameworks_mount_sees_its_own_paths(handshake: bytes) -> None:
    """What answers the exception of a mounted app has the scope of its own Router, of a WebSocket as of a request: its links hold."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("a bug")

    routes = Router()
    routes.mount("/in", mounted)

    @routes.exception_handler(ValueError)
    async def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"path": request.path, "root": request.scope["root_path"]}, 409)

    assert await refusal(routes, handshake.replace(b"/chat", b"/in/chat")) == (409, b'{"path":"/in/chat","root":""}')


async def test_what_nobody_expected_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """By the handler for 500; once the WebSocket is accepted, nobody is asked, and it is 1011."""
    for handler in (fails, fails_later):
        routes = chat(handler, exception_handlers={500: lambda request, error: PlainTextResponse("sorry", 500)})
        if handler is fails:
            assert await refusal(routes) == (500, b"sorry")
        else:
            async with serving(routes) as served, await talk(served) as client:
                assert await client.closed_with() == 1011
        assert len(loud_lines(caplog)) == 1
        caplog.clear()


async def test_what_asgi_middleware_raises_answers_the_handshake(caplog: pytest.LogCaptureFixture) -> None:
    """An HTTPException, or a WebSocketException, which before the accept is a 403."""

    def raising(error: Exception) -> Any:
        def wrap(app: Any) -> Any:
            async def middleware(scope: Any, receive: Any, send: Any) -> None:
                if scope["type"] != "lifespan":
                    raise error
                await app(scope, receive, send)

            return middleware

        return wrap

    for error, status in ((HTTPException(401), 401), (WebSocketException(3000), 403)):
        assert (await refusal(chat(echo, middleware=[Middleware(raising(error))])))[0] == status
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("cls", [WebSocketException, WebSocketDisconnect, ClientDisconnect])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_exception_handler_that_would_never_be_asked_is_refused(cls: Any, anyio_backend: str) -> None:
    """What ends a WebSocket, or a client's presence, has no response, and so no exception handler: it is said where one is declared."""
    with pytest.raises(TypeError, match=f"an exception handler for {cls.__name__} would never be asked: .*except {cls.__name__}:"):
        Router(exception_handlers={cls: lambda request, error: None})


async def test_what_a_denial_leaves_for_the_background_is_done() -> None:
    """As behind a response to a request."""
    done = anyio.Event()

    async def afterwards() -> None:
        done.set()

    async def handler(ws: WebSocket) -> None:
        await ws.deny(PlainTextResponse("no", 403, background=afterwards))

    assert await refusal(chat(handler)) == (403, b"no")
    await within(done)
