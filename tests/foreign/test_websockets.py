"""WebSockets between worlds: Starlette's and FastAPI's on our server, a Router on uvicorn and hypercorn, and other people's clients."""

import logging
import os
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from microasgi_server import Limits
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from microasgi import CancelOnDisconnect, HTTPException, JSONResponse, Request, Response, Router
from microasgi import WebSocket as OurWebSocket
from tests.certificates import Files
from tests.conftest import LOOPS
from tests.foreign.servers import SERVERS
from tests.harness import access_lines, eventually, loud_lines, serving, within
from tests.needs import needs_package, path_of
from tests.websocket_client import HANDSHAKE, TEXT, frame, goodbye, talk

pytestmark = pytest.mark.anyio

OTHERS = [
    pytest.param(LOOPS["asyncio"], "uvicorn", marks=needs_package("uvicorn"), id="uvicorn"),
    pytest.param(LOOPS["trio"], "hypercorn", marks=needs_package("hypercorn"), id="hypercorn"),
]
EVERYWHERE = [*(pytest.param(loop, "ours", id=f"ours, {name}") for name, loop in LOOPS.items()), *OTHERS]

everywhere = pytest.mark.parametrize(("anyio_backend", "server"), EVERYWHERE, indirect=["anyio_backend"])


def starlette(endpoint: Callable[[WebSocket], Awaitable[None]]) -> Any:
    return CancelOnDisconnect(Starlette(routes=[WebSocketRoute("/chat", endpoint)]), cleanup_grace=0.5)


# Another framework's apps.


@everywhere
async def test_starlettes_websocket_speaks(server: str) -> None:
    """Text, JSON, bytes and the close, in Starlette's words, within the promise's block."""
    ended: list[int] = []

    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_json({"got": await ws.receive_text()})
        try:
            await ws.receive_bytes()
        except WebSocketDisconnect as error:
            ended.append(error.code)

    async with SERVERS[server](starlette(endpoint)) as served, await talk(served) as client:
        await client.send("hello")
        assert await client.receive() == (TEXT, b'{"got":"hello"}')
        await client.send(goodbye(3000))
        await eventually(lambda: ended)
    assert ended == [1006 if server == "hypercorn" else 3000]


@everywhere
@pytest.mark.parametrize("how", ["close", "RST"])
async def test_starlettes_handler_stops_when_its_client_leaves(server: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """One that sleeps, and never touches its WebSocket again, is cancelled at once, whichever way its client left."""
    begun, ended = anyio.Event(), anyio.Event()

    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        begun.set()
        try:
            await anyio.sleep(20)
        except anyio.get_cancelled_exc_class():
            ended.set()
            raise

    async with SERVERS[server](starlette(endpoint)) as served, await talk(served) as client:
        await within(begun)
        if how == "close":
            await client.send(goodbye())
        else:
            client.leave("RST")
        await within(ended)
        if server == "ours":
            await eventually(lambda: access_lines(caplog))
            assert " cancelled: the c" in access_lines(caplog)[0]
    assert loud_lines(caplog) == []


@everywhere
@pytest.mark.parametrize("how", ["close", "RST"])
async def test_starlettes_handler_cleans_up_where_it_receives(server: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """`except WebSocketDisconnect`, as in every chat example, is told before anything is cancelled, and may await."""
    begun = anyio.Event()
    log: list[str] = []

    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        begun.set()
        try:
            while True:
                await ws.receive_text()
        except WebSocketDisconnect:
            await anyio.sleep(0.01)
            log.append("cleaned up")

    async with SERVERS[server](starlette(endpoint)) as served, await talk(served) as client:
        await within(begun)
        if how == "close":
            await client.send(goodbye())
        else:
            client.leave("RST")
        await eventually(lambda: log)
    assert loud_lines(caplog) == []


async def test_a_disconnect_that_nobody_catches_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    """Starlette's WebSocketDisconnect is no error of the app's, with or without the promise."""
    begun = anyio.Event()

    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        begun.set()
        await ws.receive_text()

    for app in (starlette(endpoint), Starlette(routes=[WebSocketRoute("/chat", endpoint)])):
        async with serving(app) as served, await talk(served) as client:
            await within(begun)
            client.leave("RST")
            await eventually(lambda: access_lines(caplog))
        caplog.clear()
        begun = anyio.Event()
    assert loud_lines(caplog) == []


# Our Router on other servers.


def others(test: Any) -> Any:
    return pytest.mark.parametrize(("anyio_backend", "server"), OTHERS, indirect=["anyio_backend"])(test)


def routes_of(log: list[str], begun: anyio.Event) -> Router:
    """Handlers that note what becomes of them."""
    routes = Router(cleanup_grace=0.5)

    def noting(work: Callable[[OurWebSocket], Awaitable[None]]) -> Callable[[OurWebSocket], Awaitable[None]]:
        async def handler(ws: OurWebSocket) -> None:
            await ws.accept()
            try:
                await work(ws)
                log.append("returned")
            except anyio.get_cancelled_exc_class():
                log.append("cancelled")
                raise

        return handler

    async def sleeps(ws: OurWebSocket) -> None:
        begun.set()
        await anyio.sleep_forever()

    async def saves(ws: OurWebSocket) -> None:
        begun.set()
        async for message in ws:
            await anyio.sleep(0.02)
            log.append(str(message))

    routes.websocket("/sleeps")(noting(sleeps))
    routes.websocket("/saves")(noting(saves))
    return routes


@others
@pytest.mark.parametrize(
    ("work", "how", "expected"),
    [
        ("sleeps", "close", ["cancelled"]),
        ("sleeps", "RST", ["cancelled"]),
        ("saves", "close", ["one", "two", "returned"]),
    ],
)
async def test_the_pump_tells_a_goodbye_from_a_disappearance(
    server: str, work: str, how: str, expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """On servers that say nothing of either: what was said before a goodbye is not lost. (hypercorn calls every end 1006.)"""
    if server == "hypercorn" and work == "saves":
        expected = ["cancelled"]
    log: list[str] = []
    begun = anyio.Event()
    async with SERVERS[server](routes_of(log, begun)) as served:
        async with await talk(served, handshake=HANDSHAKE.replace(b"/chat", f"/{work}".encode())) as client:
            await within(begun)
            if how == "close":
                await client.send(frame(TEXT, b"one") + frame(TEXT, b"two") + goodbye(1001) if work == "saves" else goodbye(1001))
            else:
                client.leave("RST")
            await eventually(lambda: {"returned", "cancelled"} & set(log))
        await eventually(lambda: any("the client left" in record.getMessage() for record in caplog.records))
    assert [entry for entry in log if server == "uvicorn" or entry == "cancelled"] == expected
    assert [record.getMessage() for record in caplog.records if record.name == "microasgi" and record.levelno > logging.INFO] == []


@others
async def test_a_handler_can_refuse_on_other_servers(server: str) -> None:
    """With the response that it wants, where the server has the extension; both have."""
    routes = Router()

    @routes.websocket("/chat")
    async def handler(ws: OurWebSocket) -> None:
        raise HTTPException(402, "first the money")

    async with SERVERS[server](routes) as served, await served.connect() as client:
        await client.send(HANDSHAKE)
        response = await client.response()
    assert (response.status, response.body) == (402, b"first the money")


@others
async def test_the_ends_of_handlers_have_codes_on_other_servers(server: str) -> None:
    """uvicorn says 1006 where a handler returns; a Router says 1000, and 1011 where it raises."""
    routes = Router()

    @routes.websocket("/{how}")
    async def handler(ws: OurWebSocket) -> None:
        await ws.accept()
        if ws.path == "/raises":
            raise ValueError("a bug")

    async with SERVERS[server](routes) as served:
        for how, code in (("returns", 1000), ("raises", 1011)):
            async with await talk(served, handshake=HANDSHAKE.replace(b"/chat", f"/{how}".encode())) as client:
                assert await client.closed_with() == code


@others
async def test_functions_and_exception_handlers_see_handshakes_on_other_servers(server: str) -> None:
    """As on ours: what a function adds to the 101 arrives, and so does what an exception handler answers instead."""
    routes = Router()

    @routes.websocket("/{how}")
    async def handler(ws: OurWebSocket) -> None:
        if ws.path == "/raises":
            raise KeyError("a room")
        await ws.accept()
        await ws.send_text(await ws.receive_text())

    @routes.exception_handler(KeyError)
    async def missing(request: Request, error: KeyError) -> Response:
        return JSONResponse({"there is no": str(error)}, 404)

    @routes.middleware
    async def function(request: Request, call_next: Any) -> Any:
        if request.path == "/private":
            raise HTTPException(401, "who are you?")
        response = await call_next(request)
        response.headers["x-status"] = str(response.status_code)
        return response

    async with SERVERS[server](routes) as served:
        async with await talk(served, handshake=HANDSHAKE.replace(b"/chat", b"/echoes")) as client:
            assert b"x-status: 101" in client.head
            await client.send("hello")
            assert await client.receive() == (TEXT, b"hello")
            assert await client.closed_with() == 1000
        for path, status, body in (("/raises", 404, b'{"there is no":"\'a room\'"}'), ("/private", 401, b"who are you?")):
            async with await served.connect() as bare:
                await bare.send(HANDSHAKE.replace(b"/chat", path.encode()))
                response = await bare.response()
            assert (response.status, response.body) == (status, body)


# Other people's clients.


def echo() -> Router:
    routes = Router()

    @routes.websocket("/chat")
    async def handler(ws: OurWebSocket) -> None:
        await ws.accept(ws.subprotocols[0] if ws.subprotocols else None)
        async for message in ws:
            await (ws.send_text(message) if isinstance(message, str) else ws.send_bytes(message))

    return routes


on_asyncio = pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"], indirect=True)

COMMANDS = {
    "websocat": ["--text"],
    "wscat": ["--no-color", "--connect"],
}
"""What somebody types to try a WebSocket, with its arguments in front of the URL."""


@on_asyncio
@pytest.mark.parametrize("deflate", [0, 12])
async def test_aiohttp_and_websockets_speak_with_us(deflate: int) -> None:
    """Both clients, compressed or not, with long messages, a subprotocol and a clean end."""
    import aiohttp
    from websockets.asyncio.client import connect

    async with serving(echo(), limits=Limits(deflate=deflate)) as served:
        url = f"{served.address}/chat"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=["a", "b"], compress=15 if deflate else 0) as ws:
            assert ws.protocol == "a"
            for size in (0, 5, 70_000, 1_000_000):
                await ws.send_bytes(b"x" * size)
                assert await ws.receive_bytes() == b"x" * size
            await ws.close(code=3001)
            assert ws.close_code == 3001
        async with connect(url.replace("http", "ws"), max_size=None) as client:
            await client.send("x" * 1_000_000)
            assert await client.recv() == "x" * 1_000_000
        assert client.close_code == 1000


@on_asyncio
@pytest.mark.parametrize("name", COMMANDS)
async def test_commands_speak_with_us(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A line is a message, what is answered is printed, and at Ctrl+D the end is clean."""
    accepted: list[bool] = []
    said: list[str] = []
    routes = Router()

    @routes.websocket("/chat")
    async def handler(ws: OurWebSocket) -> None:
        await ws.accept()
        accepted.append(True)
        said.append(await ws.receive_text())
        await ws.send_text(said[0].strip().upper())
        async for _ in ws:
            pass

    command = [path_of(name), *COMMANDS[name]]
    environment = {**os.environ, "NODE_PATH": "/usr/share/nodejs"}  # where Debian has wscat's modules, which another node doesn't know
    keyboard, terminal = os.openpty()  # without one wscat leaves at once
    async with serving(routes) as served:
        command += [f"ws://127.0.0.1:{served.port}/chat"]
        async with await anyio.open_process(command, stdin=terminal, env=environment) as process:
            os.close(terminal)
            await eventually(lambda: accepted, 20)
            os.write(keyboard, b"hello\n")
            heard = b""
            assert process.stdout is not None
            with anyio.fail_after(20):
                while b"HELLO" not in heard:
                    heard += await process.stdout.receive()
                os.write(keyboard, b"\x04")
                await process.wait()
            os.close(keyboard)
        await eventually(lambda: access_lines(caplog))
    assert [text.strip() for text in said] == ["hello"]
    assert access_lines(caplog)[0].endswith("client left: the client closed")
    assert loud_lines(caplog) == []


async def test_a_websocket_goes_over_tls(certificates: Files, caplog: pytest.LogCaptureFixture) -> None:
    """`wss`, on every loop: what both say arrives, the scheme says so, and a goodbye stops the handler."""
    from websockets.sync.client import connect

    schemes: list[str] = []
    answered, ended = threading.Event(), anyio.Event()
    routes = Router()

    @routes.websocket("/chat")
    async def handler(ws: OurWebSocket) -> None:
        schemes.append(ws.scope["scheme"])
        await ws.accept()
        await ws.send_text((await ws.receive_text()).upper())
        answered.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    def ask(url: str) -> None:
        trusting = ssl.create_default_context(cafile=str(certificates.authority))
        with connect(url, ssl=trusting) as client:
            client.send("x" * 200_000)
            assert client.recv() == "X" * 200_000
            assert answered.wait(5)  # else the message is still in hand, and has a grace

    async with serving(routes, **certificates.options) as served:
        await anyio.to_thread.run_sync(ask, f"wss://localhost:{served.port}/chat")
        await within(ended)
    assert schemes == ["wss"]
    assert loud_lines(caplog) == []
