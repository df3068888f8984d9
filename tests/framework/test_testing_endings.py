"""How a test client's block ends: with the app's error, if nobody has heard of it yet, and never in silence."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import StreamingResponse as StarletteStream
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket as StarletteWebSocket

from microasgi import CancelOnDisconnect, Request, Router, WebSocket
from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.testing import Call, Client, Conversation, SwallowedCancellation, SyncClient

pytestmark = pytest.mark.anyio

routes = Router()


@routes.get("/bug")
async def bug(request: Request) -> None:
    raise LookupError("the app's")


@routes.get("/cleanup")
async def failing_cleanup(request: Request) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise LookupError("the app's")


@routes.get("/swallows")
async def swallows(request: Request) -> str:
    with suppress(BaseException):
        await anyio.sleep_forever()
    return "for nobody"


@routes.websocket("/bug")
async def bug_in_a_websocket(ws: WebSocket) -> None:
    raise LookupError("the app's")


@routes.websocket("/cleanup")
async def failing_cleanup_of_a_websocket(ws: WebSocket) -> None:
    try:
        await ws.accept()
        await anyio.sleep_forever()
    finally:
        raise LookupError("the app's")


def opened(app: ASGIApp, what: str) -> AbstractAsyncContextManager[Call | Conversation]:
    """A request or a WebSocket, by its method and path."""
    method, url = what.split()
    return Client(app).websocket(url) if method == "WEBSOCKET" else Client(app).open(method, url)


FAILURES = pytest.mark.parametrize("what", ["GET /bug", "GET /cleanup", "WEBSOCKET /bug", "WEBSOCKET /cleanup"])


@FAILURES
async def test_the_block_ends_with_the_apps_error(what: str) -> None:
    """What the app raises comes out of the block, as it is, though nobody waited for the app's end."""
    with pytest.raises(LookupError, match="the app's"):
        async with opened(routes, what):
            await checkpoint()


@FAILURES
async def test_an_error_that_was_heard_of_is_not_raised_again(what: str) -> None:
    """Where the test has waited for the app's end, the block's end raises nothing."""
    async with opened(routes, what) as call:
        for _ in range(2):
            with pytest.raises(LookupError, match="the app's"):
                await (call.finish() if what.endswith("/bug") else call.hang_up())


@FAILURES
async def test_the_blocks_own_error_goes_before_the_apps(what: str) -> None:
    """It comes out as it is, with a note on the other."""
    with pytest.raises(AssertionError, match="mine") as raised:
        async with opened(routes, what):
            raise AssertionError("mine")
    assert raised.value.__notes__ == ['the app raised LookupError("the app\'s")']


async def test_the_block_ends_with_a_swallowed_cancellation() -> None:
    """A handler that goes on to answer for nobody is found at the block's end, too."""
    with pytest.raises(SwallowedCancellation):
        async with opened(routes, "GET /swallows"):
            pass


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_block_of_a_plain_function_ends_as_the_others_do(backend: str) -> None:
    """With the app's error."""
    with SyncClient(routes, backend=backend) as client:
        with pytest.raises(LookupError, match="the app's"), client.open("GET", "/cleanup"):
            pass
        with pytest.raises(LookupError, match="the app's"), client.websocket("/cleanup"):
            pass


class Ticks:
    """Chunks without an end. No generator: Starlette would leave it unclosed, and trio warns of those."""

    def __aiter__(self) -> "Ticks":
        return self

    async def __anext__(self) -> bytes:
        await checkpoint()
        return b"tick"


async def stream(request: StarletteRequest) -> StarletteStream:
    return StarletteStream(Ticks())


async def stream_in_a_group(scope: Scope, receive: Receive, send: Send) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(StarletteStream(Ticks()), scope, receive, send)


async def echo(ws: StarletteWebSocket) -> None:
    await ws.accept()
    while True:
        await ws.send_text(await ws.receive_text())


async def meets_a_departure_and_a_bug(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await stream_in_a_group(scope, receive, send)
    except Exception:
        raise LookupError("the app's") from None


foreign = Starlette(
    routes=[
        Route("/stream", stream),
        Mount("/group", stream_in_a_group),
        WebSocketRoute("/echo", echo),
    ]
)


@pytest.mark.parametrize("wrap", [CancelOnDisconnect, lambda app: app], ids=["wrapped", "bare"])
@pytest.mark.parametrize("what", ["GET /stream", "GET /group", "WEBSOCKET /echo"])
async def test_another_frameworks_word_for_a_departure_is_no_error(what: str, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    """As on a server: after the client has left, an exception that only says so comes out neither of the block nor of `hang_up()`."""
    async with opened(wrap(foreign), what):
        await checkpoint()
    async with opened(wrap(foreign), what) as call:
        await call.hang_up()


async def test_an_error_that_a_departure_led_to_is_one() -> None:
    """Only the word for a departure is excused, not what an app makes of it."""
    with pytest.raises(LookupError, match="the app's"):
        async with opened(meets_a_departure_and_a_bug, "GET /"):
            pass
