"""The lifespan of a Router: what runs around everything it serves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from microasgi_server import StartupError
from starlette.applications import Starlette
from starlette.routing import Mount as StarletteMount

from microasgi import Mount, Request, Route, Router
from tests.conftest import LOOPS
from tests.harness import GET, Served, eventually, fails_in_the_end, loud_lines, serving, within

pytestmark = pytest.mark.anyio

Worker = Callable[[], Coroutine[Any, Any, None]]


def noting(notes: list[str], name: str, state: Any = None) -> Callable[[Router], AbstractAsyncContextManager[Any]]:
    """A lifespan that notes when it begins and ends."""

    @asynccontextmanager
    async def lifespan(router: Router) -> AsyncIterator[Any]:
        notes.append(f"{name} up")
        try:
            await checkpoint()
            yield state
        finally:
            await checkpoint()
            notes.append(f"{name} down")

    return lifespan


async def get(served: Served, path: bytes = b"/") -> bytes:
    async with await served.connect() as client:
        await client.send(GET.replace(b"/", path, 1))
        answer = await client.response()
        assert answer.status == 200
        return answer.body


async def test_the_lifespan_is_around_the_requests() -> None:
    """It begins before the first request and ends after the last, also when the server is cancelled instead of stopped."""
    notes: list[str] = []
    routes = Router([Route("/", lambda request: notes.append("request") or "")], lifespan=noting(notes, "app"))  # type: ignore[func-returns-value]
    for graceful in (True, False):
        async with serving(routes, lifespan="on") as served:
            await get(served)
            if graceful:
                served.stop.set()
                await within(served.ended)
        assert notes == ["app up", "request", "app down"]
        notes.clear()


async def test_the_lifespan_knows_its_router() -> None:
    """It is called with the router that it belongs to."""
    seen: list[Router] = []

    @asynccontextmanager
    async def lifespan(router: Router) -> AsyncIterator[None]:
        seen.append(router)
        yield

    routes = Router(lifespan=lifespan)
    async with serving(routes, lifespan="on"):
        assert seen == [routes]


async def test_the_state_reaches_every_request() -> None:
    """What the lifespan yields is `request.state`; what a request adds is gone with it, what it changes inside stays."""
    shared: list[int] = []

    async def handler(request: Request) -> list[Any]:
        request.state.shared.append(1)
        fresh = not hasattr(request.state, "own")
        request.state.own = "mine"
        return [request.state.name, len(request.state.shared), fresh]

    routes = Router([Route("/", handler)], lifespan=noting([], "app", {"name": "pool", "shared": shared}))
    async with serving(routes, lifespan="on") as served:
        assert await get(served) == b'["pool",1,true]'
        assert await get(served) == b'["pool",2,true]'
    assert shared == [1, 1]


async def test_nested_routers_have_lifespans() -> None:
    """The lifespans of mounted routers run inside the outer one, in order, and all their state comes together."""
    notes: list[str] = []

    async def tell(request: Request) -> list[str]:
        return [request.state.a, request.state.b, request.state.c]

    deep = Router([Route("/", tell)], lifespan=noting(notes, "c", {"c": "C"}))
    first = Router([Mount("/deep", deep)], lifespan=noting(notes, "b", {"b": "B"}))
    second = Router(lifespan=noting(notes, "d"))
    routes = Router([Mount("/first", first), Mount("/second", second)], lifespan=noting(notes, "a", {"a": "A"}))
    async with serving(routes, lifespan="on") as served:
        assert await get(served, b"/first/deep/") == b'["A","B","C"]'
    assert notes == ["a up", "b up", "c up", "d up", "d down", "c down", "b down", "a down"]


async def test_a_router_without_a_lifespan_has_one() -> None:
    """A server that insists on a lifespan is content with a router that was given none."""
    async with serving(Router([Route("/", lambda request: "up")]), lifespan="on") as served:
        assert await get(served) == b"up"


async def test_a_failing_startup_stops_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """An exception before the yield is a StartupError, and the lifespans that had begun are left."""
    notes: list[str] = []

    @asynccontextmanager
    async def failing(router: Router) -> AsyncIterator[None]:
        raise ConnectionRefusedError("no database")
        yield

    routes = Router([Mount("/a", Router(lifespan=failing))], lifespan=noting(notes, "outer"))
    with pytest.raises((StartupError, BaseExceptionGroup)) as raised:
        async with serving(routes):
            raise AssertionError("it serves")
    error: BaseException = raised.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, StartupError)
    assert "no database" in str(error)
    assert notes == ["outer up", "outer down"]
    assert len([record for record in caplog.records if "no database" in caplog.handler.format(record)]) <= 1  # said once


async def test_a_failing_shutdown_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """An exception after the yield is logged as an error, once, and the server ends in order; the outer lifespans too."""
    notes: list[str] = []

    @asynccontextmanager
    async def failing(router: Router) -> AsyncIterator[None]:
        yield
        raise ZeroDivisionError("while closing")

    routes = Router([Route("/", lambda request: ""), Mount("/a", Router(lifespan=failing))], lifespan=noting(notes, "outer"))
    with fails_in_the_end("the app's shutdown failed: ZeroDivisionError: while closing"):
        async with serving(routes) as served:
            await get(served)
            served.stop.set()
            await within(served.ended)
    assert notes == ["outer up", "outer down"]
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "while closing" in errors[0].getMessage()


def with_a_worker(routes: Router, work: Worker) -> Any:
    """Our Router with a lifespan in which a task group's worker runs."""

    @asynccontextmanager
    async def lifespan(router: Router) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            yield
            tasks.cancel_scope.cancel()

    return Router([Mount("/", routes)], lifespan=lifespan)


def starlette_with_a_worker(routes: Router, work: Worker) -> Any:
    """The same of Starlette, which tells it in another way."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            yield
            tasks.cancel_scope.cancel()

    return Starlette(routes=[StarletteMount("/", routes)], lifespan=lifespan)


def bare_with_a_worker(routes: Router, work: Worker) -> Any:
    """The same without a framework: it says nothing, and raises."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await routes(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            await receive()

    return app


def terse_with_a_worker(routes: Router, work: Worker) -> Any:
    """The same, of an app that says what failed without a traceback, and then raises."""
    bare = bare_with_a_worker(routes, work)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await bare(scope, receive, send)
        except BaseExceptionGroup:
            await send({"type": "lifespan.shutdown.failed", "message": "the worker has died"})
            raise

    return app


@pytest.mark.parametrize("make", [with_a_worker, starlette_with_a_worker, bare_with_a_worker, terse_with_a_worker])
@pytest.mark.parametrize("graceful", [True, False], ids=["stopped", "cancelled"])
async def test_a_worker_that_dies_while_serving_is_told_at_once(make: Any, graceful: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A lifespan that fails while the server serves is one error in the log, at once, and no failed shutdown; serving goes on."""
    die = anyio.Event()

    async def work() -> None:
        await die.wait()
        raise ConnectionRefusedError("the worker has died")

    with fails_in_the_end("the app's lifespan failed while serving: .*"):
        async with serving(make(Router([Route("/", lambda request: "up")]), work), lifespan="on") as served:
            assert await get(served) == b"up"
            assert loud_lines(caplog) == []
            die.set()
            await eventually(lambda: loud_lines(caplog))
            assert await get(served) == b"up"
            if graceful:
                served.stop.set()
                await within(served.ended, 1)
    (error,) = [record for record in caplog.records if record.levelname != "INFO"]
    assert error.levelname == "ERROR"
    assert "the worker has died" in caplog.handler.format(error)
    assert "while serving" in error.getMessage()
    assert "shutdown" not in error.getMessage().splitlines()[0]


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
async def test_a_lifespan_that_was_cancelled_from_inside_does_not_end_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """A lifespan that passes on the cancellation of a task of its own is one error in the log, and serving goes on."""
    cancel = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await Router([Route("/", lambda request: "up")])(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        worker = asyncio.create_task(anyio.sleep_forever())
        await cancel.wait()
        worker.cancel()
        await worker

    with fails_in_the_end("the app's lifespan failed while serving: CancelledError"):
        async with serving(app, lifespan="on") as served:
            cancel.set()
            await eventually(lambda: loud_lines(caplog))
            assert await get(served) == b"up"
            served.stop.set()
            await within(served.ended, 1)
    (line,) = loud_lines(caplog)
    assert "while serving" in line


async def test_state_needs_a_server_with_state() -> None:
    """On a server without lifespan state a lifespan that yields some fails, with the reason, instead of losing it."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(RuntimeError, match="this server doesn't support lifespan state"):
        await Router(lifespan=noting([], "app", {"a": 1}))({"type": "lifespan"}, receive, send)
    (message,) = sent
    assert message["type"] == "lifespan.startup.failed"
    assert "doesn't support lifespan state" in message["message"]


async def test_the_disconnect_does_not_reach_the_lifespan() -> None:
    """A handler that is cancelled takes nothing of the lifespan with it."""
    notes: list[str] = []
    began, ended = anyio.Event(), anyio.Event()

    async def sleep(request: Request) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    routes = Router([Route("/", sleep), Route("/up", lambda request: "up")], lifespan=noting(notes, "app"))
    async with serving(routes, lifespan="on") as served:
        async with await served.connect() as client:
            await client.send(GET)
            await within(began)
        await within(ended)
        assert await get(served, b"/up") == b"up"
        assert notes == ["app up"]
