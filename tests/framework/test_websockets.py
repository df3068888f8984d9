"""WebSocket routes on microasgi's server: who may connect, what a handler hears, and what stops it."""

import gc
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread
from microasgi_server import Limits

from microasgi import (
    CancelOnDisconnect,
    HTTPException,
    Middleware,
    Request,
    Router,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketRoute,
)
from microasgi.promise.visit import VISIT
from tests.conftest import LOOPS
from tests.harness import Served, Sleeper, access_lines, eventually, loud_lines, serving, within
from tests.websocket_client import BINARY, HANDSHAKE, TEXT, Talker, frame, goodbye, talk, with_fields

pytestmark = pytest.mark.anyio

Handler = Callable[[WebSocket], Awaitable[None]]


@asynccontextmanager
async def talking(handler: Handler, **options: Any) -> AsyncIterator[Talker]:
    """A client that talks to this handler."""
    routes = Router()
    routes.websocket("/chat", **options)(handler)
    async with serving(routes) as served, await talk(served) as client:
        yield client


def shout(path: str) -> bytes:
    return HANDSHAKE.replace(b"/chat?room=1", path.encode())


# What a handler gets and gives.


async def test_a_handler_accepts_hears_and_answers(caplog: pytest.LogCaptureFixture) -> None:
    """Text and bytes come out of the iteration, which ends with the client's goodbye; what is behind it runs."""
    ended: list[Any] = []

    async def handler(ws: WebSocket) -> None:
        await ws.accept(headers={"X-Own": "1"})
        async for message in ws:
            await (ws.send_text(message.upper()) if isinstance(message, str) else ws.send_bytes(message * 2))
        ended.append((ws.close_code, ws.close_reason, ws.gone, repr(ws)))

    async with talking(handler) as client:
        await client.send("hello")
        assert await client.receive() == (TEXT, b"HELLO")
        await client.send(frame(BINARY, b"\xff"))
        assert await client.receive() == (BINARY, b"\xff\xff")
        await client.send(goodbye(3000, "enough"))
        await eventually(lambda: ended)
        await eventually(lambda: access_lines(caplog))
    assert ended == [(3000, "enough", True, "<WebSocket '/chat' CLOSED, client gone>")]
    assert access_lines(caplog)[0].endswith("s 3000 client left: the client closed (3000)")
    assert loud_lines(caplog) == []


async def test_what_the_handshake_says_can_be_asked() -> None:
    """Parameters, query, fields, cookies, subprotocols and state are there, as on a request; mounts and routers stand in each other."""
    seen: list[Any] = []
    inner = Router()

    @inner.websocket("/rooms/{room:int}")
    async def handler(ws: WebSocket) -> None:
        seen.append([ws.path, ws.path_params, ws.query_params["a"], ws.headers["host"], ws.cookies["c"], ws.url.path, ws.subprotocols])
        seen.append([ws.state.shared, str(ws.client).partition(":")[0] != ""])
        await ws.accept(ws.subprotocols[1])

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, int]]:
        yield {"shared": 1}

    routes = Router(lifespan=lifespan)
    routes.mount("/api", inner)
    handshake = with_fields(b"Cookie: c=2", b"Sec-WebSocket-Protocol: one, two", handshake=shout("/api/rooms/7?a=b"))
    async with serving(routes) as served, await talk(served, handshake=handshake) as client:
        assert await client.closed_with() == 1000
    assert seen == [["/api/rooms/7", {"room": 7}, "b", "test", "2", "/api/rooms/7", ["one", "two"]], [1, True]]


async def ends_early(ws: WebSocket) -> None:
    await ws.accept()


async def fails(ws: WebSocket) -> None:
    await ws.accept()
    raise ValueError("a bug")


async def excepts(ws: WebSocket) -> None:
    await ws.accept()
    raise WebSocketException(3001, "not here")


async def wants_text(ws: WebSocket) -> None:
    await ws.accept()
    await ws.receive_text()


async def wants_bytes(ws: WebSocket) -> None:
    await ws.accept()
    await ws.receive_bytes()


async def wants_json(ws: WebSocket) -> None:
    await ws.accept()
    assert await ws.receive_json() == {"a": [1]}
    await ws.receive_json()


ENDS = {
    "returns": (ends_early, b"", 1000),
    "raises": (fails, b"", 1011),
    "raises a WebSocketException": (excepts, b"", 3001),
    "text for bytes": (wants_bytes, frame(TEXT, b"a"), 1003),
    "bytes for text": (wants_text, frame(BINARY, b"a"), 1003),
    "no JSON": (wants_json, frame(TEXT, b'{"a":[1]}') + frame(TEXT, b"{"), 1007),
}


@pytest.mark.parametrize(("handler", "data", "code"), ENDS.values(), ids=ENDS)
async def test_how_a_handler_ends_is_the_clients_to_see(handler: Handler, data: bytes, code: int, caplog: pytest.LogCaptureFixture) -> None:
    """Its return and its exceptions have a code each; only an unexpected exception is logged."""
    async with talking(handler) as client:
        await client.send(data)
        assert await client.closed_with() == code
        await eventually(lambda: access_lines(caplog))
    assert (loud_lines(caplog) == []) is (handler is not fails)
    assert access_lines(caplog)[0].endswith(f"s {code}")


async def denies(ws: WebSocket) -> None:
    raise HTTPException(402, "first the money", {"X-Price": "1"})


async def denies_in_a_group(ws: WebSocket) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(denies, ws)


async def closes(ws: WebSocket) -> None:
    await ws.close()
    await ws.close()


async def forgets(ws: WebSocket) -> None: ...


REFUSALS = {
    "HTTPException": (denies, 402, b"first the money"),
    "HTTPException in a group": (denies_in_a_group, 402, b"first the money"),
    "close": (closes, 403, b"Forbidden\n"),
    "forgets to accept": (forgets, 500, b"Internal Server Error"),
}


@pytest.mark.parametrize(("handler", "status", "body"), REFUSALS.values(), ids=REFUSALS)
async def test_a_handler_can_refuse(handler: Handler, status: int, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Before it has accepted, the client gets a response; who forgets to accept is told in the log."""
    routes = Router()
    routes.websocket("/chat")(handler)
    async with serving(routes) as served, await served.connect() as client:
        await client.send(HANDSHAKE)
        response = await client.response()
    assert (response.status, response.body) == (status, body)
    assert len(loud_lines(caplog)) == (handler is forgets)
    assert "await ws.accept()" in "".join(loud_lines(caplog)) or handler is not forgets


async def test_an_unknown_path_is_a_404_and_other_routes_are_not_asked() -> None:
    """A GET route isn't one for WebSockets, nor the other way round."""
    routes = Router()
    routes.get("/page")(lambda request: "page")
    routes.websocket("/chat")(ends_early)
    async with serving(routes) as served:
        for data in (shout("/page"), HANDSHAKE.replace(b"Upgrade: websocket\r\n", b"")):
            async with await served.connect() as client:
                await client.send(data)
                assert (await client.response()).status == 404


async def test_mistakes_say_what_to_write() -> None:
    """What is called too early, or too often, or is declared wrongly."""
    errors: list[str] = []

    async def handler(ws: WebSocket) -> None:
        for call in (ws.receive, ws.receive_text, ws.accept, ws.accept, ws.close, lambda: ws.send_text("late")):
            try:
                await call()
            except RuntimeError as error:
                errors.append(str(error))

    async with talking(handler) as client:
        assert await client.closed_with() == 1000
    assert [error.partition(":")[0] for error in errors] == [
        "nothing comes before the handshake is answered",
        "a WebSocket is accepted once, before anything else; this one is OPEN",
        "the WebSocket is CLOSED",
    ]
    routes = Router()
    for options in ({"origins": "https://a.example"}, {"close_grace": -1}, {"on_disconnect": "stop"}):
        with pytest.raises(ValueError, match=r"origins|close_grace|on_disconnect"):
            routes.websocket("/", **options)(ends_early)
    with pytest.raises(TypeError, match="async def"):
        routes.websocket("/")(lambda ws: None)  # type: ignore[type-var]
    assert repr(WebSocketRoute("/a", ends_early, on_disconnect="finish")) == "<WebSocketRoute /a to ends_early, on_disconnect='finish'>"


async def test_included_routes_keep_their_routers_policy() -> None:
    """As a request's do: below the prefix, with the grace and the opinion of the Router that they come from."""
    inner = Router(on_disconnect="finish", cleanup_grace=1)
    inner.websocket("/chat")(ends_early)
    routes = Router()
    routes.include(inner, prefix="/api")
    assert [repr(route) for route in routes.websocket_routes] == [
        "<WebSocketRoute /api/chat to ends_early, on_disconnect='finish', cleanup_grace=1>"
    ]
    async with serving(routes) as served, await talk(served, handshake=shout("/api/chat")) as client:
        assert await client.closed_with() == 1000


async def test_middleware_sees_websockets_too() -> None:
    """ASGI middleware goes around the handlers of WebSockets as around all others."""
    seen: list[str] = []

    class Seeing:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])
            await self.app(scope, receive, send)

    routes = Router([WebSocketRoute("/chat", ends_early)], middleware=[Middleware(Seeing)])
    async with serving(routes, lifespan="off") as served, await talk(served) as client:
        assert await client.closed_with() == 1000
    assert seen == ["websocket"]


ORIGINS = {
    "none": (None, b"", True),
    "this host's": (None, b"https://test", True),
    "this host's with its port": (None, b"http://TEST:80", True),
    "another port": (None, b"http://test:8080", False),
    "another host": (None, b"https://evil.example", False),
    "null": (None, b"null", False),
    "nonsense": (None, b"http://[", False),
    "one that is named": (["https://app.example"], b"https://app.example:443", True),
    "one that is not": (["https://app.example"], b"http://app.example", False),
    "any": ("*", b"https://evil.example", True),
}


@pytest.mark.parametrize(("origins", "origin", "welcome"), ORIGINS.values(), ids=ORIGINS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_pages_of_other_origins_can_not_connect(origins: Any, origin: bytes, welcome: bool) -> None:
    """Unless the route says so: a browser sends the visitor's cookies along, whoever's page it is."""
    routes = Router()
    routes.websocket("/chat", origins=origins)(ends_early)
    async with serving(routes) as served, await served.connect() as client:
        await client.send(with_fields(b"Origin: " + origin) if origin else HANDSHAKE)
        data = await client.receive()
    assert data.startswith(b"HTTP/1.1 101 " if welcome else b"HTTP/1.1 403 ")


# Who leaves.


class Room:
    """Handlers that do different things when their client leaves, and what became of them."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.go = anyio.Event()
        self.ended = anyio.Event()
        self.log: list[str] = []

    async def call(self, ws: WebSocket, work: Callable[[WebSocket], Awaitable[None]]) -> None:
        await ws.accept()
        try:
            await work(ws)
            self.log.append("returned")
        except anyio.get_cancelled_exc_class():
            self.log.append("cancelled")
            raise
        except WebSocketDisconnect as error:
            self.log.append(f"told {error.code}")
            raise
        finally:
            self.ended.set()

    async def sleeps(self, ws: WebSocket) -> None:
        self.begun.set()
        await anyio.sleep_forever()

    async def pushes_and_sleeps(self, ws: WebSocket) -> None:
        await ws.receive_text()
        await ws.send_text("subscribed")
        await self.sleeps(ws)

    async def saves(self, ws: WebSocket) -> None:
        async for message in ws:
            self.begun.set()
            await within(self.go)
            self.log.append(str(message))

    async def never_answers(self, ws: WebSocket) -> None:
        await ws.receive_text()
        await self.sleeps(ws)

    async def receives(self, ws: WebSocket) -> None:
        self.begun.set()
        await ws.receive_text()

    async def iterates(self, ws: WebSocket) -> None:
        self.begun.set()
        async for _ in ws:
            pass

    async def streams(self, ws: WebSocket) -> None:
        self.begun.set()
        while True:
            await ws.send_text("x" * 10_000)


WAYS = {
    "close": goodbye(1001),
    "FIN": b"",
    "RST": b"",
}

BECOMES = [  # the handler, what it is sent first, what becomes of it: on a goodbye, and when the client vanishes
    ("sleeps", b"", ["cancelled"], ["cancelled"]),
    ("pushes_and_sleeps", frame(TEXT, b"news"), ["cancelled"], ["cancelled"]),
    ("streams", b"", ["cancelled"], ["cancelled"]),
    ("saves", frame(TEXT, b"one") + frame(TEXT, b"two"), ["one", "two", "returned"], ["cancelled"]),
    ("receives", b"", ["told 1001"], ["cancelled"]),
    ("iterates", b"", ["returned"], ["cancelled"]),
]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(("work", "data", "on_goodbye", "vanished"), BECOMES, ids=[row[0] for row in BECOMES])
async def test_what_becomes_of_a_handler_whose_client_leaves(
    work: str, data: bytes, on_goodbye: list[str], vanished: list[str], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who vanishes stops it at once; so does a goodbye, unless the handler has something of the client's left, or hears of it itself."""
    room = Room()

    async def handler(ws: WebSocket) -> None:
        await room.call(ws, getattr(room, work))

    async with talking(handler) as client:
        await client.send(data)
        await within(room.begun)
        if how == "close":
            await client.send(WAYS[how])
            await eventually(lambda: room.log or work == "saves")
        else:
            client.leave(how)  # type: ignore[arg-type]
            await eventually(lambda: room.log)
        room.go.set()
        await within(room.ended)
        await eventually(lambda: access_lines(caplog))
    assert room.log == (on_goodbye if how == "close" else vanished)
    expected = f"{'1001' if how == 'close' else '1006'} {'cancelled' if room.log == ['cancelled'] else 'client left'}: the c"
    assert f"s {expected}" in access_lines(caplog)[0]
    assert loud_lines(caplog) == []


@pytest.mark.parametrize(("grace", "warnings"), [(0.0, 0), (0.1, 1)])
async def test_what_is_in_hand_has_a_grace(grace: float, warnings: int, caplog: pytest.LogCaptureFixture) -> None:
    """Who goes on with a message after the goodbye is cancelled when `close_grace` is over, and a warning says so; 0 is at once."""
    room = Room()

    async def handler(ws: WebSocket) -> None:
        await room.call(ws, room.never_answers)

    async with talking(handler, close_grace=grace) as client:
        await client.send("save")
        await within(room.begun)
        await client.send(goodbye())
        await within(room.ended)
    assert room.log == ["cancelled"]
    expected = "GET /chat (route /chat): the handler goes on 0.1 s after the client has left; cancelling"
    assert loud_lines(caplog) == [expected] * warnings


@pytest.mark.parametrize("kind", ["bare", "wrapped", "ours"])
async def test_a_goodbye_right_behind_an_answer_is_heard_by_who_sent_it(kind: str) -> None:
    """A client that leaves as soon as it has its answer finds the app in the middle of `send()`: that succeeds, and `receive()` tells."""
    codes: list[int] = []

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        codes.append(message["code"])

    routes = Router()

    @routes.websocket("/chat")
    async def chat(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send_text(str(message))
        codes.append(1000)

    def come_and_go(address: Any) -> None:  # in a thread: a task of this loop would have no turn before `send()` is over
        with socket.create_connection(address) as sock, sock.makefile("rb") as heard:
            sock.sendall(HANDSHAKE)
            while heard.readline() != b"\r\n":
                pass
            sock.sendall(frame(TEXT, b"x"))
            assert heard.read(3) == b"\x81\x01x"
            sock.sendall(goodbye(1000))

    app = {"bare": echo, "wrapped": CancelOnDisconnect(echo), "ours": routes}[kind]
    async with serving(app, lifespan="off") as served:
        for number in range(1, 41):
            await to_thread.run_sync(come_and_go, ("127.0.0.1", served.port))
            await eventually(lambda number=number: len(codes) == number)  # type: ignore[misc]
    assert codes == [1000] * 40


@pytest.mark.parametrize("how", ["close", "RST"])
async def test_a_handler_that_finishes_is_never_cancelled(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Under `on_disconnect="finish"` it goes on, hears all that was said, and then the end; what it sends is dropped."""
    log: list[Any] = []
    begun, gone = anyio.Event(), anyio.Event()

    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        begun.set()
        await ws.wait_closed()
        await ws.send_text("dropped")
        log.extend([message async for message in ws])
        log.append(ws.close_code)
        await ws.close()
        gone.set()

    async with talking(handler, on_disconnect="finish") as client:
        await within(begun)
        await client.send("said before")
        await client.send(frame(9))
        assert await client.receive() == (10, b"")  # so that both have arrived
        if how == "close":
            await client.send(goodbye())
        else:
            client.leave("RST")
        await within(gone)
    assert log == ["said before", 1005 if how == "close" else 1006]
    assert loud_lines(caplog) == []


async def test_every_task_of_the_handler_is_stopped() -> None:
    """The promise reaches all the tasks that the handler has started, each once."""
    sleepers = [Sleeper(), Sleeper()]

    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        async with anyio.create_task_group() as tasks:
            for sleeper in sleepers:
                tasks.start_soon(sleeper.sleep)

    async with talking(handler) as client:
        for sleeper in sleepers:
            await within(sleeper.begun)
        client.leave("RST")
        for sleeper in sleepers:
            await within(sleeper.ended)
    assert [sleeper.cancellations for sleeper in sleepers] == [1, 1]


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"], indirect=True)
@pytest.mark.parametrize("comes_back", [True, False])
@pytest.mark.parametrize("how", ["close", "RST"])
async def test_a_foreign_app_on_its_way_back_to_its_client_is_told(comes_back: bool, how: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One that has just answered when its client leaves isn't cancelled before it can hear of that; one that goes elsewhere is, at once."""
    log: list[str] = []
    client: Talker

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await receive()
            await send({"type": "websocket.send", "text": "answer"})
            if how == "close":
                await client.send(goodbye())
            else:
                client.leave(how)
            while not scope[VISIT].gone:
                await anyio.lowlevel.checkpoint()
            if not comes_back:
                await anyio.sleep(20)
            log.append((await receive())["type"])
            await anyio.sleep(0.01)
            log.append("cleaned up")
        except anyio.get_cancelled_exc_class():
            log.append("cancelled")
            raise

    async with serving(CancelOnDisconnect(app, cleanup_grace=30), lifespan="off") as served, await talk(served) as client:
        await client.send("hello")
        await eventually(lambda: access_lines(caplog))
    assert log == (["websocket.disconnect", "cleaned up"] if comes_back else ["cancelled"])
    assert loud_lines(caplog) == []


async def test_who_leaves_before_it_is_accepted_stops_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    """No matter how: there is nothing yet that could be finished."""
    sleeper = Sleeper()
    routes = Router()
    routes.websocket("/chat")(sleeper)
    async with serving(routes) as served:
        async with await served.connect() as client:
            await client.send(HANDSHAKE)
            await within(sleeper.begun)
        await within(sleeper.ended)
        await eventually(lambda: access_lines(caplog))
    assert sleeper.cancellations == 1
    assert '" 499 ' in access_lines(caplog)[0]


async def test_the_server_stops(caplog: pytest.LogCaptureFixture) -> None:
    """Its goodbye stops who pushes at once, and lets who saves come to its end: as a client's."""
    rooms = {"/sleeps": Room(), "/saves": Room()}
    routes = Router()

    @routes.websocket("/{work}")
    async def handler(ws: WebSocket) -> None:
        room = rooms[ws.path]
        await room.call(ws, getattr(room, ws.path_params["work"]))

    async with (
        serving(routes, limits=Limits(farewell=0.0, linger=0.05)) as served,
        await talk(served, handshake=shout("/sleeps")) as one,
        await talk(served, handshake=shout("/saves")) as other,
    ):
        await other.send("two")
        for room in rooms.values():
            await within(room.begun)
        served.stop.set()
        assert await one.closed_with() == 1012
        assert await other.closed_with() == 1012
        await within(rooms["/sleeps"].ended)
        rooms["/saves"].go.set()
        await within(served.ended)
    assert [room.log for room in rooms.values()] == [["cancelled"], ["two", "returned"]]
    assert [level for level in (record.levelno for record in caplog.records) if level > logging.INFO] == []


SAID = (
    HANDSHAKE + frame(TEXT, b"one", fin=False) + frame(0, b" and two") + frame(9, b"?") + frame(BINARY, bytes(200)) + goodbye(1001, "bye")
)


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_client_can_leave_after_every_byte(how: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever it leaves, the handler ends, cancelled at most once, no task is left, and nobody is alarmed."""
    ends: list[int] = []
    routes = Router()

    @routes.websocket("/chat")
    async def handler(ws: WebSocket) -> None:
        cancellations = 0
        try:
            await ws.accept()
            async for message in ws:
                await ws.send_text(str(len(message)))
                await anyio.sleep(0.0005)
        except anyio.get_cancelled_exc_class():
            cancellations += 1
            raise
        finally:
            ends.append(cancellations)

    async with serving(routes) as served:
        for offset in range(len(HANDSHAKE), len(SAID) + 1, 5):
            ends.clear()
            client = await talk(served)
            await client.send(SAID[len(HANDSHAKE) : offset])
            client.leave(how)
            await eventually(lambda: ends)
            assert ends in ([0], [1])
    assert loud_lines(caplog) == []


async def test_the_demos_chat_reaches_everybody_in_a_room() -> None:
    """What one says, all hear; who has left a room hears nothing, and holds nobody up."""
    from microasgi.demo import rooms, routes

    async with (
        serving(routes) as served,
        await talk(served, handshake=shout("/chat/a")) as one,
        await talk(served, handshake=shout("/chat/b")) as stranger,
    ):
        async with await talk(served, handshake=shout("/chat/a")) as other:
            await eventually(lambda: len(rooms["a"]) == 2)
            await one.send("hello")
            assert await one.receive() == await other.receive() == (TEXT, b"hello")
        await eventually(lambda: len(rooms["a"]) == 1)
        await one.send("again")
        assert await one.receive() == (TEXT, b"again")
        await stranger.send("alone")
        assert await stranger.receive() == (TEXT, b"alone")
    await eventually(lambda: not rooms["a"] and not rooms["b"])


async def passing(request: Request, call_next: Any) -> Any:
    return await call_next(request)


async def refusing(request: Request, call_next: Any) -> Any:
    await call_next(request)
    raise HTTPException(401)


FUNCTIONS = {"deny within a function": passing, "goodbye within a function": passing, "refused by a function": refusing}


@pytest.mark.parametrize("ending", ["deny", "raise", "return", "goodbye", "RST", *FUNCTIONS])
async def test_no_cycle_of_objects_is_left_behind(ending: str, caplog: pytest.LogCaptureFixture) -> None:
    """However a WebSocket ends, what it was made of goes with it: the collector finds nothing of ours."""
    ended: list[str] = []
    routes, function = Router(), FUNCTIONS.get(ending)

    @routes.websocket("/chat")
    async def handler(ws: WebSocket) -> None:
        try:
            if ending.startswith("deny"):
                raise HTTPException(403)
            await ws.accept()
            if ending == "raise":
                raise ValueError("a bug")
            if ending != "return":
                async for _ in ws:
                    pass
        finally:
            ended.append(ending)

    if function is not None:
        routes.middleware(function)

    async def visit(served: Served) -> None:
        ended.clear()
        async with await served.connect() as client:
            await client.send(HANDSHAKE)
            assert await client.receive()
            if ending.startswith("goodbye"):
                await client.send(goodbye())
            elif ending == "RST":
                client.leave("RST")
            await eventually(lambda: ended)
        caplog.clear()  # which holds the error
        await anyio.wait_all_tasks_blocked()
        gc.collect()

    async with serving(routes, access_log=False) as served:
        await visit(served)
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await visit(served)
            found = {type(thing).__name__ for thing in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
    assert not found & {
        "Conversation",
        "WebSocket",
        "Block",
        "Session",
        "Call",
        "Connection",
        "UpgradingProtocol",
        "Frames",
        "Handshake",
        "_Call",
        "Request",
    }
