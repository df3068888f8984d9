"""The test client that can leave: what it promises to those who test with it, on every loop."""

import asyncio
import linecache
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse as StarletteJSON
from starlette.routing import Route as StarletteRoute

from microasgi import BackgroundTask, CancelOnDisconnect, JSONResponse, Request, Response, Router, StreamingResponse
from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.testing import Client, Departure
from tests.conftest import LOOPS
from tests.harness import Sleeper

pytestmark = pytest.mark.anyio


async def echo(request: Request) -> JSONResponse:
    """Tells what it was asked."""
    seen = {
        "method": request.method,
        "path": request.path,
        "query": request.query_params.multi_items(),
        "type": request.headers.get("content-type"),
        "token": request.headers.get("x-token"),
        "body": (await request.body()).decode(),
    }
    return JSONResponse(seen, 201, {"X-Seen": "yes"})


# Requests.


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
async def test_a_request_and_its_response(method: str) -> None:
    """A request reaches its handler with method, path, query and header fields, and the response comes back whole."""
    routes = Router()
    routes.route("/säle/{id}", [method])(echo)
    client = Client(routes, headers={"X-Token": "general"})
    response = await getattr(client, method)("/s%C3%A4le/7?a=1&b=2", headers={"X-Token": "special"})
    assert (response.status_code, response.complete) == (201, True)
    assert response.headers["x-seen"] == "yes"
    assert response.json() == {
        "method": method.upper(),
        "path": "/säle/7",
        "query": [["a", "1"], ["b", "2"]],
        "type": None,
        "token": "special",
        "body": "",
    }


@pytest.mark.parametrize(
    ("options", "kind", "body"),
    [
        ({"json": {"amount": 5}}, "application/json", '{"amount": 5}'),
        ({"json": []}, "application/json", "[]"),
        ({"content": b"plain"}, None, "plain"),
        ({"content": b"<a/>", "headers": {"Content-Type": "text/xml"}}, "text/xml", "<a/>"),
    ],
)
async def test_a_request_with_a_body(options: dict[str, Any], kind: str | None, body: str) -> None:
    """A body is sent as it is, or as JSON."""
    routes = Router()
    routes.post("/")(echo)
    response = await Client(routes).post("/", **options)
    assert (response.json()["type"], response.json()["body"]) == (kind, body)


async def test_the_url_is_a_path() -> None:
    """A URL with a host is refused, with a word on what is wanted."""
    with pytest.raises(ValueError, match=r"a path and a query, as in /items\?page=2, not 'http://example.org/'"):
        await Client(Router()).get("http://example.org/")


async def test_a_missing_route_is_a_404() -> None:
    """An error response is a response."""
    response = await Client(Router()).get("/")
    assert (response.status_code, response.text) == (404, "Not Found")


async def test_the_lifespan_and_its_state() -> None:
    """As a context manager the client runs the lifespan around the block, and each request has a copy of its state."""
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Router) -> AsyncIterator[dict[str, Any]]:
        events.append("startup")
        yield {"pool": "a pool"}
        events.append("shutdown")

    routes = Router(lifespan=lifespan)

    @routes.get("/")
    async def home(request: Request) -> str:
        pool: str = request.state.pool
        request.state.pool = "another"
        return pool

    async with Client(routes) as client:
        assert events == ["startup"]
        assert [(await client.get("/")).text for _ in range(2)] == ["a pool", "a pool"]
    assert events == ["startup", "shutdown"]


@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_a_failing_lifespan(phase: str) -> None:
    """A lifespan that fails is the block's error, and says so."""

    @asynccontextmanager
    async def lifespan(app: Router) -> AsyncIterator[None]:
        if phase == "startup":
            raise ValueError("no database")
        yield
        raise ValueError("no database")

    with pytest.raises(RuntimeError, match=rf"(?s)the app's {phase} failed:.*no database"):
        async with Client(Router(lifespan=lifespan)):
            pass


async def test_an_error_of_the_block_is_not_wrapped() -> None:
    """A failed assertion inside the blocks of the client comes out as it is."""
    sleeper = Sleeper()
    routes = Router()
    routes.get("/")(sleeper)
    with pytest.raises(AssertionError, match="mine"):
        async with Client(routes) as client, client.open("GET", "/"):
            raise AssertionError("mine")
    assert sleeper.cancellations == 1


async def test_an_error_of_the_handler_is_not_wrapped() -> None:
    """What the handler raises comes out of the call as it is."""
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> None:
        await checkpoint()
        raise LookupError("mine")

    client = Client(routes)
    with pytest.raises(LookupError, match="mine"):
        await client.get("/")
    async with client.open("GET", "/") as call:
        with pytest.raises(LookupError, match="mine"):
            await call.finish()


async def test_a_streamed_response() -> None:
    """What is streamed is there piece by piece, and a client that leaves in the middle has what came so far."""
    routes = Router()
    sleeper = Sleeper()

    @routes.get("/")
    async def home(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two "
            if "whole" not in request.query_params:
                await sleeper.sleep()
            yield b"three"

        return StreamingResponse(chunks(), media_type="text/plain")

    client = Client(routes)
    whole = await client.get("/?whole=yes")
    assert (whole.text, whole.complete) == ("one two three", True)
    async with client.open("GET", "/") as call:
        await sleeper.begun.wait()
        assert call.response.content == b"one two "
        part = await call.hang_up()
    assert (part.status_code, part.content, part.complete) == (200, b"one two ", False)
    assert sleeper.cancellations == 1


async def test_background_tasks_are_waited_for() -> None:
    """A request ends with what it left for the background, and leaving doesn't reach that any more."""
    routes = Router()
    events: list[str] = []
    begun, go_on = anyio.Event(), anyio.Event()

    async def later() -> None:
        events.append("begins")
        begun.set()
        await go_on.wait()
        events.append("ends")

    @routes.get("/")
    async def home(request: Request) -> Response:
        return Response(b"done", background=BackgroundTask(later))

    async with Client(routes).open("GET", "/") as call:
        await begun.wait()
        assert call.response.complete
        call.leave()
        assert not call.cancelled
        go_on.set()
        assert (await call.finish()).content == b"done"
    assert events == ["begins", "ends"]


# Leaving.


async def test_leaving_at_a_known_point() -> None:
    """The block begins when the handler first waits, and `hang_up` returns when it has ended."""
    routes = Router()
    sleeper = Sleeper()
    routes.get("/")(sleeper)
    async with Client(routes).open("GET", "/") as call:
        assert sleeper.begun.is_set()
        response = await call.hang_up()
        assert sleeper.ended.is_set()
    assert (call.cancelled, sleeper.cancellations) == (True, 1)
    assert (response.status_code, response.content, response.complete) == (0, b"", False)


async def test_leaving_the_block_is_leaving() -> None:
    """A client that is still there at the end of the block leaves then, and the handler's end is waited for."""
    routes = Router()
    sleeper = Sleeper()
    routes.get("/")(sleeper)
    async with Client(routes).open("GET", "/") as call:
        assert not call.cancelled
    assert (call.cancelled, sleeper.cancellations) == (True, 1)


async def test_leaving_after_completion_is_nothing() -> None:
    """A client that leaves with the whole response in its hand has not disconnected."""
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> str:
        await checkpoint()
        return "done"

    async with Client(routes).open("GET", "/") as call:
        await call.finish()
        response = await call.hang_up()
    assert (call.cancelled, response.text, response.complete) == (False, "done", True)


async def test_leaving_with_all_bytes_of_a_known_length_is_nothing() -> None:
    """As on the server: what the head has told is here, and that the app has yet to say so is its own affair."""
    routes, done = Router(), []

    @routes.get("/")
    async def home(request: Request) -> StreamingResponse:
        async def made() -> AsyncIterator[bytes]:
            yield b"hello"
            await checkpoint()
            done.append("made")

        return StreamingResponse(made(), headers={"content-length": "5"}, background=BackgroundTask(done.append, "background"))

    async with Client(routes) as client:
        async with client.open("GET", "/") as call:
            while call.response.content != b"hello":
                await checkpoint()
            response = await call.hang_up()
        assert (response.complete, call.cancelled, done) == (True, False, ["made", "background"])
        assert all([departure.cancelled async for departure in client.hang_up_everywhere("/")])


async def test_leaving_a_handler_that_finishes() -> None:
    """Under `on_disconnect="finish"` the handler goes on to its end, and its client has no response."""
    routes = Router()
    go_on = anyio.Event()
    paid: list[bool] = []

    @routes.post("/", on_disconnect="finish")
    async def pay(request: Request) -> str:
        await go_on.wait()
        paid.append(await request.is_disconnected())
        return "paid"

    async with Client(routes).open("POST", "/") as call:
        call.leave()
        go_on.set()
        response = await call.finish()
    assert paid == [True]
    assert (call.cancelled, response.complete) == (False, False)


async def test_an_error_of_the_cleanup_comes_out() -> None:
    """An error that the cleanup raises comes out of `hang_up`, as it is."""
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError("cleanup")

    async with Client(routes).open("GET", "/") as call:
        with pytest.raises(LookupError, match="cleanup"):
            await call.hang_up()


# Leaving everywhere.


class Books:
    """Two accounts, and ways to move money between them."""

    def __init__(self) -> None:
        self.mine = 10
        self.theirs = 0

    @property
    def balanced(self) -> bool:
        return self.mine + self.theirs == 10

    async def half_at_a_time(self, request: Request) -> str:
        await checkpoint()
        self.mine -= 1
        await checkpoint()  # here money is on its way
        self.theirs += 1
        await checkpoint()
        return "paid"

    async def at_once(self, request: Request) -> str:
        await checkpoint()
        with anyio.CancelScope(shield=True):
            self.mine -= 1
            await checkpoint()
            self.theirs += 1
        await checkpoint()
        return "paid"

    async def undone(self, request: Request) -> str:
        await checkpoint()
        before = self.mine, self.theirs
        try:
            self.mine -= 1
            await checkpoint()
            self.theirs += 1
        except BaseException:
            self.mine, self.theirs = before
            raise
        await checkpoint()
        return "paid"


@asynccontextmanager
async def bank(books: Books, handler: str, **options: Any) -> AsyncIterator[Client]:
    routes = Router()
    routes.post("/pay", **options)(getattr(books, handler))
    async with Client(routes) as client:
        yield client


async def test_a_handler_that_can_be_left_half_done_is_found() -> None:
    """The client finds the one await at which a handler must not be left, and names its line."""
    books = Books()
    violations: list[Departure] = []
    async with bank(books, "half_at_a_time") as client:
        async for departure in client.hang_up_everywhere("/pay", "POST"):
            if not books.balanced:
                violations.append(departure)
                books.mine, books.theirs = 10, 0
    (violation,) = violations
    assert (violation.number, violation.cancelled) == (2, True)
    assert re.fullmatch(r"the client left at await 2, test_testing_client\.py:\d+ in half_at_a_time", str(violation))
    line = int(violation.where.split(":")[1].split()[0])
    assert "here money is on its way" in linecache.getline(__file__, line)


@pytest.mark.parametrize("handler", ["at_once", "undone"])
async def test_a_handler_that_is_safe_to_leave_is_not_accused(handler: str) -> None:
    """Shielded or undone, the money is never on its way, wherever the client leaves."""
    books = Books()
    departures: list[Departure] = []
    async with bank(books, handler) as client:
        async for departure in client.hang_up_everywhere("/pay", "POST"):
            assert books.balanced, departure
            departures.append(departure)
    assert [departure.number for departure in departures] == list(range(1, len(departures) + 1))
    assert len(departures) >= 3
    assert all(departure.where.endswith(f"in {handler}") for departure in departures)
    assert books.theirs >= 1  # the last run came to its end


async def walk(routes: Router, numbers: list[int], **options: Any) -> None:
    """Leave everywhere, and note the numbers of the departures."""
    async for departure in Client(routes).hang_up_everywhere("/", **options):
        numbers.append(departure.number)  # noqa: PERF401 (what raises must not take the numbers with it)


async def test_leaving_everywhere_a_handler_that_finishes() -> None:
    """A handler that finishes is never cancelled, and every run pays."""
    books = Books()
    async with bank(books, "half_at_a_time", on_disconnect="finish") as client:
        cancelled = [departure.cancelled async for departure in client.hang_up_everywhere("/pay", "POST")]
    assert cancelled == [False] * 3
    assert (books.mine, books.theirs) == (6, 4)


async def test_leaving_everywhere_a_handler_that_never_waits() -> None:
    """A handler that never waits can't be left in the middle."""
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> str:
        return "at once"

    assert [departure async for departure in Client(routes).hang_up_everywhere("/")] == []


async def test_leaving_everywhere_an_endless_handler() -> None:
    """A handler without an end is given up after `limit` runs, and the error says what to do."""
    routes = Router()

    @routes.get("/")
    async def ticks(request: Request) -> None:
        while True:
            await checkpoint()

    numbers: list[int] = []
    with pytest.raises(RuntimeError, match=r"GET / still wasn't at its end after 5 awaits; is it endless\?"):
        await walk(routes, numbers, limit=5)
    assert numbers == [1, 2, 3, 4, 5]


async def test_an_error_while_leaving_everywhere_says_where() -> None:
    """An error of the cleanup comes out with a note on where the client had left."""
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> None:
        await checkpoint()
        try:
            await checkpoint()
        except BaseException:
            raise LookupError("cleanup") from None

    numbers: list[int] = []
    with pytest.raises(LookupError, match="cleanup") as raised:
        await walk(routes, numbers)
    assert numbers == [1]
    (note,) = raised.value.__notes__
    assert re.fullmatch(r"the client left at await 2, test_testing_client\.py:\d+ in home", note)


async def test_an_error_without_leaving_says_so() -> None:
    """An error of the handler, with its client still there, comes out with a note that says that too."""
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as raised:
        await walk(routes, [])
    assert raised.value.__notes__ == ["the client had not left"]


async def test_leaving_in_the_middle_of_a_library() -> None:
    """An await inside a library counts for the user's line that called it."""
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> str:
        send, receive = anyio.create_memory_object_stream[int](1)
        with send, receive:
            await send.send(1)
            return str(await receive.receive())

    places = [departure.where async for departure in Client(routes).hang_up_everywhere("/")]
    assert len(places) >= 2
    assert {re.sub(r":\d+", "", place) for place in places} == {"test_testing_client.py in home"}
    assert len(set(places)) == 2


async def test_leaving_in_the_middle_of_microasgi() -> None:
    """An await inside microasgi itself counts for the user's line, too."""
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> str:
        return str(await request.is_disconnected())

    places = [departure.where async for departure in Client(routes).hang_up_everywhere("/")]
    assert {re.sub(r":\d+", "", place) for place in places} == {"test_testing_client.py in home"}


async def test_leaving_everywhere_through_routers_and_middleware() -> None:
    """What lies between the client and the handler doesn't hide the handler's line."""
    books = Books()
    inner, routes = Router(), Router()
    inner.post("/pay")(books.half_at_a_time)
    routes.mount("/bank", CancelOnDisconnect(inner))
    departures = [departure async for departure in Client(CancelOnDisconnect(routes)).hang_up_everywhere("/bank/pay", "POST")]
    assert [departure.cancelled for departure in departures] == [True] * 3
    assert all(departure.where.endswith("in half_at_a_time") for departure in departures)


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
async def test_cleanup_of_what_is_gathered_is_as_on_a_server() -> None:
    """Leaving at an await of other asyncio tasks leaves them time for their cleanup, as on a server."""
    routes = Router()
    cleaned: list[int] = []

    async def query(number: int) -> None:
        try:
            await asyncio.sleep(0.001)
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            cleaned.append(number)

    @routes.get("/")
    async def home(request: Request) -> str:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(checkpoint)
            await asyncio.gather(query(1), query(2))
        return "done"

    runs = 1
    async for _ in Client(routes).hang_up_everywhere("/"):
        runs += 1
    assert runs >= 3
    assert len(cleaned) >= 2 * (runs - 1)  # in the run that is left before they begin there is nothing to clean up


# Other frameworks' apps.


def starlette(sleeper: Sleeper) -> Starlette:
    async def home(request: StarletteRequest) -> StarletteJSON:
        await sleeper.sleep()
        return StarletteJSON({})

    async def hello(request: StarletteRequest) -> StarletteJSON:
        return StarletteJSON({"hello": request.query_params["name"]})

    return Starlette(routes=[StarletteRoute("/", home), StarletteRoute("/hello", hello)])


def fastapi(sleeper: Sleeper) -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def home() -> None:
        await sleeper.sleep()

    @app.get("/hello")
    async def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    return app


@pytest.mark.parametrize("make", [starlette, fastapi])
async def test_a_foreign_app_in_the_wrapper(make: Any) -> None:
    """In `CancelOnDisconnect` another framework's handler is answered and stopped like ours."""
    sleeper = Sleeper()
    async with Client(CancelOnDisconnect(make(sleeper))) as client:
        assert (await client.get("/hello?name=Ada")).json() == {"hello": "Ada"}
        async with client.open("GET", "/") as call:
            await sleeper.begun.wait()
            await call.hang_up()
    assert (call.cancelled, sleeper.cancellations) == (True, 1)


@pytest.mark.parametrize("make", [starlette, fastapi])
async def test_a_foreign_app_on_its_own(make: Any) -> None:
    """Without the wrapper another framework's handler isn't told, and goes on: the client shows it as it is."""
    sleeper = Sleeper()
    async with Client(make(sleeper)) as client:
        with anyio.move_on_after(0.1) as patience:
            async with client.open("GET", "/") as call:
                await sleeper.begun.wait()
                call.leave()
                with anyio.move_on_after(0.02) as soon:
                    await call.finish()
                assert soon.cancelled_caught
    assert not call.cancelled
    assert patience.cancelled_caught  # nothing but the test's own scope has ended it


async def test_leaving_a_foreign_app_everywhere() -> None:
    """The walk through every await works for another framework's app too, and names its handler's lines."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def home() -> str:
        await checkpoint()
        await checkpoint()
        return "done"

    departures = [departure async for departure in Client(CancelOnDisconnect(app)).hang_up_everywhere("/")]
    places = [departure.where for departure in departures if departure.where.endswith("in home")]
    assert len(set(places)) == 2
    assert all(departure.cancelled for departure in departures if departure.where in places)


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
async def test_an_await_that_is_about_to_return_is_left_all_the_same() -> None:
    """A client that leaves at an await is ahead of everything that would end the await, be it due in the loop's very next turn."""
    routes = Router()
    returned: list[int] = []

    @routes.get("/")
    async def home(request: Request) -> None:
        for number in (1, 2):
            soon = asyncio.Event()
            asyncio.get_running_loop().call_soon(soon.set)
            await soon.wait()
            returned.append(number)

    async with Client(routes) as client:
        seen = []
        async for departure in client.hang_up_everywhere("/"):
            seen.append((departure.number, list(returned)))
            returned.clear()
    assert seen == [(1, []), (2, [1])]


async def test_middleware_around_a_router_sees_an_answer_that_nobody_gets() -> None:
    """As on a server: behind a departure middleware around the Router gets a 499, which goes nowhere, and makes no error of it."""
    seen: list[int] = []
    routes = Router()

    @routes.get("/")
    async def slow(request: Request) -> None:
        await anyio.sleep_forever()

    def noticing(app: ASGIApp) -> ASGIApp:
        async def around(scope: Scope, receive: Receive, send: Send) -> None:
            async def noticing_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    seen.append(message["status"])
                await send(message)

            await app(scope, receive, noticing_send)

        return around

    client = Client(noticing(routes))
    async with client.open("GET", "/") as call:
        response = await call.hang_up()
    assert (seen, response.status_code, call.cancelled) == ([499], 0, True)


async def test_who_was_told_may_return_before_it_hears() -> None:
    """`cancelled` is whether the handler was told: one in a thread or a shield ends that first, and all its work if no await follows."""
    done: list[str] = []
    routes = Router()

    @routes.get("/{how}")
    async def works(request: Request) -> str:
        if request.path_params["how"] == "shielded":
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.001)
        else:
            await anyio.to_thread.run_sync(lambda: None)
        done.append(request.path)
        return "done"

    for path in ("/shielded", "/in-a-thread"):
        async with Client(routes) as client:
            (*_, last) = [departure async for departure in client.hang_up_everywhere(path)]
        assert last.cancelled
        assert done[-2:] == [path, path]  # in that run, and in the one in which nobody left
