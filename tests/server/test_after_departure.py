"""What becomes of what an app sends after its client has left: an error for whoever was told, silence behind them, an end for the rest."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from microasgi_server import ClientDisconnected, Limits
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tests.conftest import LOOPS
from tests.harness import GET, Client, Departure, Served, access_lines, eventually, loud_lines, serving, shared_of, within
from tests.websocket_client import HANDSHAKE, goodbye

pytestmark = pytest.mark.anyio


Send = Callable[[Any], Awaitable[None]]

departures = pytest.mark.parametrize("how", ["FIN", "RST", "half-close"])
on_asyncio = pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
START = {"type": "http.response.start", "status": 200, "headers": []}
LAST = {"type": "http.response.body", "body": b"the end"}


def part(data: bytes = b"part") -> Any:
    """A piece of a body that goes on."""
    return {"type": "http.response.body", "body": data, "more_body": True}


async def stream(send: Send, data: bytes = b"part") -> None:
    """Send for ever."""
    await send(START)
    while True:
        await send(part(data))
        await anyio.sleep(0.001)


class Watched:
    """An app that remembers what ended each of its calls, and which of them it thought was a fault."""

    def __init__(self, handle: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self.ended = anyio.Event()
        self.end: BaseException | None = None
        self.fault: Exception | None = None
        self.shared: Any = None
        self._handle = handle

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.shared = shared_of(receive)
        try:
            await self._handle(scope, receive, send)
        except Exception as error:
            self.fault = error
            raise
        except BaseException as error:
            self.end = error
            raise
        finally:
            self.ended.set()

    def assert_cancelled(self) -> None:
        """It was stopped, and nothing that cares for errors has seen one."""
        assert isinstance(self.end, anyio.get_cancelled_exc_class())
        assert self.fault is None


@asynccontextmanager
async def asking(app: Any) -> AsyncIterator[tuple[Served, Client]]:
    """Serve the app to one client, which has just asked; and when it's over see that nothing is left and the server stops at once."""
    async with serving(app, lifespan="off") as served, await served.connect(receive_buffer=4096) as client:
        await client.send(GET)
        yield served, client
        served.stop.set()
        await within(served.ended, 2)


async def leave_in_the_middle(client: Client, how: Departure = "FIN") -> None:
    """Read the beginning, and go."""
    assert b" 200 " in await client.receive()
    client.leave(how)


def assert_quiet(caplog: pytest.LogCaptureFixture, outcome: str) -> None:
    """One line in the access log, with 499 and what became of the call, and no complaint."""
    gc.collect()  # asyncio complains of a task's exception when the task is freed
    (line,) = access_lines(caplog)
    assert " 499 " in line
    assert outcome in line
    assert loud_lines(caplog) == []


# Somebody was told, and is still there.


@departures
async def test_a_subscriber_that_stays_gets_an_error_every_time(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """As long as a subscription isn't taken back every `send()` raises an OSError, for whatever message, and nothing is on the wire."""
    told = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        undo = scope["extensions"]["microasgi.disconnect"]["subscribe"](told.set)
        asked.set()
        await told.wait()
        for message in (START, LAST, {"type": "nonsense"}):
            with pytest.raises(OSError, match=r"closed|reset") as error:
                await send(message)
            errors.append(error.value)
        undo()

    errors: list[BaseException] = []
    asked, watched = anyio.Event(), Watched(app)
    async with asking(watched) as (_, client):
        await within(asked)
        client.leave(how)
        await within(watched.ended)
        if how == "half-close":
            assert await client.receive_until_closed() == b""
    assert len(errors) == 3
    assert_quiet(caplog, "client left: ")


async def test_a_subscriber_in_a_blocked_send_gets_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """A `send()` that waits for a slow client raises when the client leaves."""
    raised = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"]["microasgi.disconnect"]["subscribe"](lambda: None)
        await send(START)
        with pytest.raises(ClientDisconnected):
            await send(part(bytes(50_000_000)))
        raised.set()

    async with asking(app) as (_, client):
        await leave_in_the_middle(client)
        await within(raised)
    assert_quiet(caplog, "client left: ")


# Those who were told have stopped.


@departures
async def test_behind_the_subscribers_all_is_dropped(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """When all who were told have taken their subscriptions back, `send()` does nothing: no error, no byte, and no end."""
    told = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        undo = scope["extensions"]["microasgi.disconnect"]["subscribe"](told.set)
        asked.set()
        await told.wait()
        undo()
        await send(START)
        for _ in range(10):
            await send(part())
        await send({"type": "nonsense"})
        await send(LAST)

    asked, watched = anyio.Event(), Watched(app)
    async with asking(watched) as (_, client):
        await within(asked)
        client.leave(how)
        await within(watched.ended)
        if how == "half-close":
            assert await client.receive_until_closed() == b""
    assert (watched.end, watched.fault) == (None, None)
    assert_quiet(caplog, "client left: ")


async def test_what_is_dropped_lets_others_run(caplog: pytest.LogCaptureFixture) -> None:
    """A call that sends without end behind its subscribers gives the loop its turns, and ends with the server."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/other":
            await send(START)
            await send(LAST)
            return
        told = anyio.Event()
        undo = scope["extensions"]["microasgi.disconnect"]["subscribe"](told.set)
        asked.set()
        await told.wait()
        undo()
        sending.set()
        while True:
            await send(part())

    asked, sending = anyio.Event(), anyio.Event()
    async with serving(app, lifespan="off", limits=Limits(cleanup=0.1)) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await within(asked)
        await within(sending)
        async with await served.connect() as other:
            await other.send(GET.replace(b" / ", b" /other "))
            assert (await other.response()).body == b"the end"
    assert loud_lines(caplog) == []


async def test_middleware_around_a_subscriber_is_not_disturbed(caplog: pytest.LogCaptureFixture) -> None:
    """What Starlette's BaseHTTPMiddleware sends when the app in it was told, and has ended, makes no noise."""
    asked = anyio.Event()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        told = anyio.Event()
        undo = scope["extensions"]["microasgi.disconnect"]["subscribe"](told.set)
        asked.set()
        await told.wait()
        undo()
        await send(START)
        await send(LAST)

    async def passing(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    watched = Watched(BaseHTTPMiddleware(inner, passing))
    async with asking(watched) as (_, client):
        await within(asked)
        client.leave()
        await within(watched.ended)
    assert (watched.end, watched.fault) == (None, None)
    assert_quiet(caplog, "client left: ")


# Nobody was told.


async def streams(scope: Any, receive: Any, send: Any) -> None:
    await stream(send)


async def blocks(scope: Any, receive: Any, send: Any) -> None:
    await stream(send, bytes(1_000_000))


async def streams_in_a_child(scope: Any, receive: Any, send: Any) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream, send)
        await anyio.sleep_forever()


def fastapi() -> Any:
    """An endless stream, as FastAPI's users write it."""
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    @app.get("/")
    async def endless() -> Any:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                yield b"part"
                await anyio.sleep(0.001)

        return StreamingResponse(parts())

    return app


APPS = [lambda: streams, lambda: blocks, lambda: streams_in_a_child, fastapi]


@departures
@pytest.mark.parametrize("make", APPS, ids=["streams", "blocks", "child", "fastapi"])
async def test_who_never_subscribed_is_cancelled_where_it_sends(make: Any, how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """A call that knows nothing of us ends where it sends after the departure, by a cancellation that no `except Exception` sees."""
    watched = Watched(make())
    async with asking(watched) as (_, client):
        await leave_in_the_middle(client, how)
        await within(watched.ended)
        await eventually(lambda: not watched.shared.calls)
    watched.assert_cancelled()
    assert_quiet(caplog, "cancelled: ")


@departures
async def test_a_response_to_nobody_may_end(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """An app that answers late, or ends what it has begun, comes to its end, with all that is behind its answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part())
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        await send(LAST)

    watched = Watched(app)
    async with asking(watched) as (_, client):
        await leave_in_the_middle(client, how)
        await within(watched.ended)
        await eventually(lambda: access_lines(caplog))
    assert (watched.end, watched.fault) == (None, None)
    assert_quiet(caplog, "client left: ")


async def test_nothing_of_a_response_to_nobody_is_on_the_wire(caplog: pytest.LogCaptureFixture) -> None:
    """The messages of a response that begins behind the departure are dropped."""
    asked, left = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        await left.wait()
        await send(START)
        await send(LAST)

    watched = Watched(app)
    async with asking(watched) as (_, client):
        await within(asked)
        client.leave("half-close")
        assert await client.receive_until_closed() == b""
        left.set()
        await within(watched.ended)
        await eventually(lambda: access_lines(caplog))
    assert (watched.end, watched.fault) == (None, None)
    assert_quiet(caplog, "client left: ")


@on_asyncio
async def test_who_goes_on_is_cancelled_again(caplog: pytest.LogCaptureFixture) -> None:
    """A call that swallows its cancellation is cancelled at its next `send()`, too."""
    swallowed = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal swallowed
        while True:
            try:
                await stream(send)
            except anyio.get_cancelled_exc_class():
                swallowed += 1
                if swallowed == 3:
                    raise

    watched = Watched(app)
    async with asking(watched) as (_, client):
        await leave_in_the_middle(client)
        await within(watched.ended)
    watched.assert_cancelled()
    assert_quiet(caplog, "cancelled: ")


@pytest.mark.parametrize("anyio_backend", [LOOPS["trio"]], ids=["trio"])
async def test_a_shielded_block_is_finished_on_trio(caplog: pytest.LogCaptureFixture) -> None:
    """On trio a shielded block may send to its end, and the call ends behind it."""
    finished = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part())
        with anyio.CancelScope(shield=True):
            while (await receive())["type"] != "http.disconnect":
                pass
            for _ in range(3):
                await send(part())
            finished.set()
        await checkpoint()
        raise AssertionError("it goes on")

    watched = Watched(app)
    async with asking(watched) as (_, client):
        await leave_in_the_middle(client)
        await within(watched.ended)
    assert finished.is_set()
    watched.assert_cancelled()
    assert_quiet(caplog, "cancelled: ")


async def test_cleanup_may_wait(anyio_backend: tuple[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """The cancelled call's cleanup is not cut off by another cancellation; on trio it needs a shield, as everywhere there."""
    cleaned = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await stream(send)
        finally:
            with anyio.CancelScope(shield=anyio_backend[0] == "trio"):
                await anyio.sleep(0.01)
            cleaned.set()

    async with asking(app) as (_, client):
        await leave_in_the_middle(client)
        await within(cleaned)
    assert_quiet(caplog, "cancelled: ")


async def test_who_outlives_the_call_gets_an_error_and_stops_nobody_else() -> None:
    """What sends when its call has ended is told by an error, and the request that runs by now isn't cancelled in the call's place."""
    sends: list[Any] = []
    release = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sends.append(send)
        if len(sends) == 1:
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            await release.wait()
            await send(START)
            await send(LAST)

    watched = Watched(app)
    async with asking(watched) as (served, client):
        await eventually(lambda: sends)
        client.leave()
        await within(watched.ended)
        async with await served.connect() as other:
            await other.send(GET)
            await eventually(lambda: len(sends) == 2)
            for _ in range(2):
                with pytest.raises(ClientDisconnected):
                    await sends[0](part())
            release.set()
            assert (await other.response()).body == b"the end"


@on_asyncio
async def test_an_app_that_stops_its_own_task_is_left_to_do_so(caplog: pytest.LogCaptureFixture) -> None:
    """An app that waits in `receive()`, and sends in a task that it cancels then, isn't cancelled in the middle of that."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async def busy() -> None:
            await send(START)
            while True:
                await send(part())

        sender, listener = asyncio.create_task(busy()), asyncio.create_task(listen())
        await asyncio.wait([sender, listener], return_when=asyncio.FIRST_COMPLETED)
        await checkpoint()
        sender.cancel()
        with suppress(asyncio.CancelledError):
            await sender

    for _ in range(10):
        caplog.clear()
        watched = Watched(app)
        async with asking(watched) as (_, client):
            await leave_in_the_middle(client)
            await within(watched.ended)
        assert (watched.end, watched.fault) == (None, None)
        assert_quiet(caplog, "client left: ")


async def test_an_upload_that_breaks_off_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What Starlette raises in a handler whose body doesn't come, and the error page that it sends then, make no noise."""
    begun, app = anyio.Event(), Starlette()

    async def upload(request: Request) -> Response:
        begun.set()
        return PlainTextResponse(await request.body())

    app.add_route("/", upload, ["POST"])
    watched = Watched(app)
    async with serving(watched, lifespan="off") as served, await served.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf")
        await within(begun)
        client.leave()
        await within(watched.ended)
        await eventually(lambda: not watched.shared.calls)
        await eventually(lambda: access_lines(caplog))
    assert_quiet(caplog, "client left: ")


# Error trackers.


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """What Sentry would be sent."""
    import sentry_sdk as sentry

    sent: list[Any] = []

    class Collecting(sentry.Transport):
        def capture_envelope(self, envelope: Any) -> None:
            sent.extend(event for event in [envelope.get_event()] if event is not None)

    client = sentry.Client(dsn="http://key@127.0.0.1/1", transport=Collecting, default_integrations=False)
    scope = sentry.get_global_scope()
    before = scope.client
    scope.set_client(client)
    yield sent
    client.close()
    scope.set_client(before)


async def test_sentry_hears_of_no_departure(events: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """An unwrapped FastAPI app that streams, with Sentry's ASGI middleware in it, makes no event when its client leaves; a bug does."""
    from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

    app = fastapi()

    @app.get("/bug")  # type: ignore[untyped-decorator]
    async def bug() -> None:
        raise ZeroDivisionError

    app.add_middleware(SentryAsgiMiddleware)
    watched = Watched(app)
    async with asking(watched) as (served, client):
        await leave_in_the_middle(client)
        await within(watched.ended)
        assert events == []
        assert_quiet(caplog, "cancelled: ")
        async with await served.connect() as other:
            await other.send(GET.replace(b" / ", b" /bug "))
            assert (await other.response()).status == 500
    assert len(events) == 1


@pytest.mark.parametrize("request_", [GET, HANDSHAKE], ids=["HTTP", "WebSocket"])
async def test_who_asks_on_and_on_behind_the_end_does_not_hold_the_loop(request_: bytes) -> None:
    """`receive()` says every time that the client has left, and others have their turns meanwhile."""
    turns, passed, began, ended = 0, list[int](), anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        message = await receive()
        began.set()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        while not message["type"].endswith(".disconnect"):
            message = await receive()
        before = turns
        for _ in range(1000):
            assert await receive() == message
        passed.append(turns - before)
        ended.set()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with serving(app) as served, anyio.create_task_group() as tasks:
        tasks.start_soon(others)
        client = await served.connect()
        await client.send(request_)
        if request_ is HANDSHAKE:
            await client.receive()
            await client.send(goodbye(1000))
        else:
            await within(began)
            client.leave("FIN")
        await within(ended)
        tasks.cancel_scope.cancel()
    client.sock.close()
    assert passed[0] > 500
