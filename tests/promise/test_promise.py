"""The promise, item by item: what leaving stops, what it must never touch, and what it looks like."""

import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread
from anyio.lowlevel import checkpoint
from microasgi_server import Limits

from microasgi import ClientDisconnect, Mount, Request, Response, Route, Router, StreamingResponse
from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from tests.harness import GET, Departure, Served, Sleeper, access_lines, eventually, loud_lines, serving, shared_of, within

pytestmark = pytest.mark.anyio

DEPARTURES: list[Departure] = ["FIN", "RST"]

departures = pytest.mark.parametrize("how", DEPARTURES)

POST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n"


def get(path: str) -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n" % path.encode()


def statuses(caplog: pytest.LogCaptureFixture) -> list[int]:
    """The statuses in the access log."""
    return [int(re.search(r'" (\d+) ', line)[1]) for line in access_lines(caplog)]  # type: ignore[index]


class OnlyHTTP:
    """A raw ASGI app without a lifespan."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.app(scope, receive, send)
        else:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})


async def complete(send: Send, body: bytes = b"hello") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


# 3. It respects shields, and stays within its own request.


async def test_shielded_lines_finish_first() -> None:
    """What stands in `CancelScope(shield=True)` runs to its end although the client is gone; then the handler stops."""
    begun, ended, steps = anyio.Event(), anyio.Event(), []
    routes = Router()

    @routes.get("/")
    async def handler(request: Request) -> None:
        try:
            with anyio.CancelScope(shield=True):
                begun.set()
                await request.wait_disconnected()
                for _ in range(10):
                    await checkpoint()
                await anyio.sleep(0.01)
                steps.append("shielded")
            await checkpoint()
            steps.append("never")
        finally:
            ended.set()

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave()
        await within(ended)
    assert steps == ["shielded"]


@departures
async def test_other_connections_are_not_touched(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """Leaving stops the own request, and none of those that run beside it."""
    left, stayed, release = Sleeper(), Sleeper(), anyio.Event()
    routes = Router()
    routes.get("/left")(left)

    @routes.get("/stayed")
    async def handler(request: Request) -> str:
        stayed.begun.set()
        await release.wait()
        return "still here"

    async with serving(routes) as served, await served.connect() as one, await served.connect() as other:
        await one.send(get("/left"))
        await other.send(get("/stayed"))
        await within(left.begun)
        await within(stayed.begun)
        one.leave(how)
        await within(left.ended)
        await eventually(lambda: statuses(caplog))
        release.set()
        assert (await other.response()).body == b"still here"
    assert statuses(caplog) == [499, 200]


@departures
async def test_the_connections_other_requests_are_not_touched(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """What an answered request still does goes on when its client leaves during the next request on the same connection."""
    release, background_ended, sleeper = anyio.Event(), anyio.Event(), Sleeper()
    routes = Router()

    async def background() -> None:
        await release.wait()
        await checkpoint()
        background_ended.set()

    @routes.get("/first")
    async def first(request: Request) -> Response:
        return Response("first", background=background)

    routes.get("/second")(sleeper)
    async with serving(routes) as served, await served.connect() as client:
        await client.send(get("/first"))
        assert (await client.response()).body == b"first"
        await client.send(get("/second"))
        await within(sleeper.begun)
        client.leave(how)
        await within(sleeper.ended)
        release.set()
        await within(background_ended)
        await eventually(lambda: len(access_lines(caplog)) == 2)
    assert statuses(caplog) == [200, 499]
    assert loud_lines(caplog) == []


async def test_the_connections_next_request_is_cancelled_on_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """Each request on a connection has its own presence: after ten answered ones, leaving cancels the eleventh, once."""
    sleeper, routes = Sleeper(), Router()
    routes.get("/sleep")(sleeper)

    @routes.get("/")
    async def handler(request: Request) -> str:
        return str(await request.is_disconnected())

    async with serving(routes) as served, await served.connect() as client:
        for _ in range(10):
            await client.send(GET)
            assert (await client.response()).body == b"False"
        await client.send(get("/sleep"))
        await within(sleeper.begun)
        client.leave()
        await within(sleeper.ended)
    assert (sleeper.count, sleeper.cancellations) == (1, 1)
    assert statuses(caplog) == [200] * 10 + [499]


@departures
async def test_the_lifespan_is_not_touched(how: Departure) -> None:
    """Clients come and go; the lifespan, and what runs in its task groups, goes on until the server stops."""
    events: list[str] = []
    worker, sleeper = Sleeper(), Sleeper()

    @asynccontextmanager
    async def lifespan(app: Router) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.sleep)
            events.append("up")
            yield
            events.append("down" if not worker.ended.is_set() else "worker died")
            tasks.cancel_scope.cancel()

    routes = Router(lifespan=lifespan)
    routes.get("/")(sleeper)
    async with serving(routes) as served:
        for number in range(1, 4):
            async with await served.connect() as client:
                await client.send(GET)
                await eventually(lambda: sleeper.count == number)  # noqa: B023
                client.leave(how)
                await eventually(lambda: sleeper.cancellations == number)  # noqa: B023
        served.stop.set()
        await within(served.ended)
    assert events == ["up", "down"]


@departures
async def test_a_background_task_runs_to_its_end(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """`background=` is outside the disconnect's reach: the client leaves right after the response, and it goes on."""
    begun, release, ended = anyio.Event(), anyio.Event(), anyio.Event()
    routes = Router()

    async def background() -> None:
        begun.set()
        await release.wait()
        for _ in range(10):
            await checkpoint()
        ended.set()

    @routes.get("/")
    async def handler(request: Request) -> Response:
        return Response("done", background=background)

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).complete
        await within(begun)
        client.leave(how)
        await everything_seen(served)
        release.set()
        await within(ended)
    assert statuses(caplog)[0] == 200
    assert loud_lines(caplog) == []


async def everything_seen(served: Served) -> None:
    """Return when the server has looked at everything that had happened before: it answers, or refuses, somebody else."""
    async with await served.connect() as client:
        await client.send(b"nonsense\r\n\r\n")
        await client.receive_until_closed()


# 4. Never after completion.


@pytest.mark.parametrize("place", ["response", "middleware", "raw app"])
@departures
async def test_leaving_with_the_answer_in_hand(how: Departure, place: str, caplog: pytest.LogCaptureFixture) -> None:
    """Once the last byte was handed over nothing is cancelled any more, wherever the app still does something."""
    release, begun, ended = anyio.Event(), anyio.Event(), anyio.Event()
    seen: list[bool] = []

    async def afterwards() -> None:
        begun.set()
        await release.wait()
        for _ in range(10):
            await checkpoint()
        ended.set()

    class Late(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await super().__call__(scope, receive, send)
            if place == "response":
                await afterwards()

    def middleware(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)
            if scope["type"] == "http" and place == "middleware":
                await afterwards()
                seen.append(await Request(scope, receive).is_disconnected())

        return wrapped

    routes = Router(middleware=[middleware])

    @routes.get("/")
    async def handler(request: Request) -> Response:
        return Late("done")

    @OnlyHTTP
    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        await complete(send)
        await afterwards()
        assert await receive() == {"type": "http.disconnect"}

    async with serving(raw if place == "raw app" else routes) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).complete
        await within(begun)
        client.leave(how)
        await everything_seen(served)
        release.set()
        await within(ended)
        await eventually(lambda: place != "middleware" or seen == [False])
    assert statuses(caplog)[0] == 200
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("how", ["FIN", "RST", "half-close"])
async def test_leaving_in_the_very_moment(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """When departure and answer meet, each request is either cancelled (499, no background) or answered (200, with its background)."""
    rounds = 60
    outcomes: list[str] = []
    release, begun = anyio.Event(), anyio.Event()
    shared: Any = None
    routes = Router()

    async def background() -> None:
        for _ in range(5):
            await checkpoint()
        outcomes.append("answered")

    @routes.get("/")
    async def handler(request: Request) -> Response:
        nonlocal shared
        shared = shared_of(request._receive)
        try:
            begun.set()
            await release.wait()
        except anyio.get_cancelled_exc_class():
            outcomes.append("cancelled")
            raise
        return Response("done", background=background)

    async with serving(routes) as served:
        for number in range(rounds):
            release, begun = anyio.Event(), anyio.Event()
            async with await served.connect() as client:
                await client.send(GET)
                await within(begun)
                if number % 2:
                    release.set()
                    for _ in range(number // 2 % 5):
                        await checkpoint()
                    client.leave(how)
                else:
                    client.leave(how)
                    for _ in range(number // 2 % 5):
                        await checkpoint()
                    release.set()
                # A handler that was released, but found its client gone when it answered, is neither: it leaves the line only.
                await eventually(lambda: len(access_lines(caplog)) == number + 1)  # noqa: B023
                if statuses(caplog)[-1] == 200:
                    await eventually(lambda: outcomes.count("answered") == statuses(caplog).count(200))
        await eventually(lambda: not shared.calls)
        await eventually(lambda: not shared.connections)
    assert len(statuses(caplog)) == rounds
    assert outcomes.count("answered") == statuses(caplog).count(200)
    assert outcomes.count("cancelled") <= statuses(caplog).count(499)
    assert set(statuses(caplog)) <= {200, 499}
    assert loud_lines(caplog) == []


# 5. Opting out.


class Payment:
    """A handler that must not be cut short, with a background task."""

    def __init__(self) -> None:
        self.begun, self.release, self.ended, self.background_ended = (anyio.Event() for _ in range(4))

    async def __call__(self, request: Request) -> Response:
        self.begun.set()
        await self.release.wait()
        await checkpoint()
        self.ended.set()
        return Response("paid", background=self.background)

    async def background(self) -> None:
        await checkpoint()
        self.background_ended.set()


def finishing_apps(payment: Payment) -> dict[str, Router]:
    """Every place that can say `finish`."""
    plain = Router([Route("/", payment)])
    return {
        "route": Router([Route("/", payment, on_disconnect="finish")]),
        "router": Router([Route("/", payment)], on_disconnect="finish"),
        "nested router": Router([Mount("", Router([Route("/", payment)], on_disconnect="finish"))]),
        "router around": Router([Mount("", plain)], on_disconnect="finish"),
        "mount": Router([Mount("", plain, on_disconnect="finish")]),
        "mount over a router": Router([Mount("", plain, on_disconnect="finish")], on_disconnect="cancel"),
        "route in a mount": Router([Mount("", Router([Route("/", payment, on_disconnect="finish")]), on_disconnect="cancel")]),
    }


@departures
@pytest.mark.parametrize("place", list(finishing_apps(Payment.__new__(Payment))))
async def test_finish(place: str, how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """A handler with `on_disconnect="finish"` ends without its client: its result is dropped, its background runs, one 499 tells."""
    payment = Payment()
    async with serving(finishing_apps(payment)[place]) as served, await served.connect() as client:
        await client.send(GET)
        await within(payment.begun)
        client.leave(how)
        await everything_seen(served)
        assert not payment.ended.is_set()
        payment.release.set()
        await within(payment.background_ended)
        await eventually(lambda: access_lines(caplog))
    (line,) = access_lines(caplog)
    assert " 499 " in line
    assert "client left: " in line
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("place", ["route", "nested router"])
async def test_cancel_within_finish(place: str) -> None:
    """The innermost opinion counts: a route or a router that says `cancel` is cancelled, whatever is around it."""
    sleeper = Sleeper()
    app = {
        "route": Router([Route("/", sleeper, on_disconnect="cancel")], on_disconnect="finish"),
        "nested router": Router([Mount("", Router([Route("/", sleeper)], on_disconnect="cancel"))], on_disconnect="finish"),
    }[place]
    async with serving(app) as served, await served.connect() as client:
        await client.send(GET)
        await within(sleeper.begun)
        client.leave()
        await within(sleeper.ended)
    assert sleeper.cancellations == 1


async def test_shutdown_waits_for_what_finishes() -> None:
    """The server does not stop before a `finish` handler, whose client is long gone, and its background task have ended."""
    payment = Payment()
    async with serving(finishing_apps(payment)["route"]) as served, await served.connect() as client:
        await client.send(GET)
        await within(payment.begun)
        client.leave()
        served.stop.set()
        for _ in range(20):
            await checkpoint()
        assert not served.ended.is_set()
        payment.release.set()
        await within(served.ended)
        assert payment.background_ended.is_set()


async def test_finish_is_all_or_nothing() -> None:
    """A `finish` handler whose client leaves before it has begun is either never begun or runs to its end."""
    begun, ended = 0, 0
    routes = Router()

    @routes.get("/", on_disconnect="finish")
    async def handler(request: Request) -> None:
        nonlocal begun, ended
        begun += 1
        for _ in range(3):
            await checkpoint()
        ended += 1

    async with serving(routes) as served:
        for number in range(60):
            async with await served.connect() as client:
                if number % 3 == 0:
                    await checkpoint()
                await client.send(GET)
                client.leave(DEPARTURES[number % 2])
        await everything_seen(served)
        served.stop.set()
        await within(served.ended)
    assert begun == ended > 0


async def test_finish_behind_a_middleware_that_outlives_the_client() -> None:
    """A `finish` handler isn't begun, only to be cancelled, when the client left while a shielded middleware was at work."""
    checking, checked, begun = anyio.Event(), anyio.Event(), Sleeper()

    def middleware(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                with anyio.CancelScope(shield=True):
                    checking.set()
                    await Request(scope, receive).wait_disconnected()
                checked.set()
            await app(scope, receive, send)

        return wrapped

    async with serving(Router([Route("/", begun, on_disconnect="finish")], middleware=[middleware])) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await within(checking)
            client.leave()
            await within(checked)
        served.stop.set()
        await within(served.ended)
    assert begun.cancellations == 0


# 6. Sync handlers.


@departures
async def test_a_sync_handlers_thread_is_waited_for(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """A thread can't be killed: it is waited for, and until it ends its slot in the limiter is not given away."""
    begun, release, done = anyio.Event(), threading.Event(), threading.Event()
    routes = Router()
    limiter = to_thread.current_default_thread_limiter()

    @routes.get("/")
    def handler(request: Request) -> str:
        from_thread.run_sync(begun.set)
        assert release.wait(10)
        done.set()
        return "done"

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave(how)
        await everything_seen(served)
        assert limiter.borrowed_tokens == 1
        assert access_lines(caplog) == []
        release.set()
        await eventually(lambda: access_lines(caplog))
        assert done.is_set()
        assert limiter.borrowed_tokens == 0
    assert statuses(caplog) == [499]
    assert loud_lines(caplog) == []


async def test_a_sync_handler_can_ask(caplog: pytest.LogCaptureFixture) -> None:
    """`anyio.from_thread.check_cancelled()` ends a sync handler whose client has left."""
    begun, ended = anyio.Event(), anyio.Event()
    routes = Router()

    @routes.get("/")
    def handler(request: Request) -> None:
        from_thread.run_sync(begun.set)
        try:
            while True:
                from_thread.check_cancelled()
                time.sleep(0.001)
        finally:
            from_thread.run_sync(ended.set)

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave()
        await within(ended)
        await eventually(lambda: access_lines(caplog))
    assert statuses(caplog) == [499]
    assert loud_lines(caplog) == []


async def test_a_sync_handler_that_finishes() -> None:
    """`finish` holds for sync handlers: `check_cancelled()` says nothing, and the background runs."""
    begun, background_ended, release = anyio.Event(), anyio.Event(), threading.Event()
    routes = Router()

    async def background() -> None:
        background_ended.set()

    @routes.get("/", on_disconnect="finish")
    def handler(request: Request) -> Response:
        from_thread.run_sync(begun.set)
        assert release.wait(10)
        from_thread.check_cancelled()
        return Response("done", background=background)

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave()
        await everything_seen(served)
        release.set()
        await within(background_ended)


# 7. It is visible.


@departures
@pytest.mark.parametrize("inside", ["plain", "task group", "nested groups", "timeout"])
async def test_one_line_and_nothing_else(how: Departure, inside: str, caplog: pytest.LogCaptureFixture) -> None:
    """A departure is one access-log line: 499, the time spent, what it did and why; no error, no traceback, no exception group."""
    sleeper, routes = Sleeper(), Router()

    @routes.get("/")
    async def handler(request: Request) -> None:
        match inside:
            case "plain":
                await sleeper.sleep()
            case "task group":
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(anyio.sleep_forever)
                    tasks.start_soon(sleeper.sleep)
                raise AssertionError("the code after a cancelled task group ran")
            case "nested groups":
                async with anyio.create_task_group() as outer:
                    outer.start_soon(anyio.sleep_forever)
                    async with anyio.create_task_group() as inner:
                        inner.start_soon(anyio.sleep_forever)
                        await sleeper.sleep()
            case "timeout":
                with anyio.move_on_after(60):
                    await sleeper.sleep()
                raise AssertionError("a timeout swallowed the departure")

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(sleeper.begun)
        client.leave(how)
        await within(sleeper.ended)
        await eventually(lambda: access_lines(caplog))
    reason = re.escape("the connection was reset (RST)" if how == "RST" else "the client closed its side (FIN)")
    (line,) = access_lines(caplog)
    assert re.fullmatch(rf'127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 499 \d+\.\d\d\ds cancelled: {reason}', line)
    assert sleeper.cancellations == 1
    assert loud_lines(caplog) == []
    assert not any(record.exc_info for record in caplog.records)


async def test_the_line_tells_the_time_spent(caplog: pytest.LogCaptureFixture) -> None:
    """The duration in the line is the time from the request's beginning to the handler's end."""
    sleeper, routes = Sleeper(), Router()
    routes.get("/")(sleeper)
    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(sleeper.begun)
        begun_at = time.monotonic()
        await anyio.sleep(0.05)
        client.leave()
        await eventually(lambda: access_lines(caplog))
        spent = time.monotonic() - begun_at
    duration = float(re.search(r" (\d+\.\d+)s ", access_lines(caplog)[0])[1])  # type: ignore[index]
    assert 0.05 <= duration <= spent + 0.02


async def test_a_body_that_breaks_off(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that waits for the body which its client took along is cancelled there, and nothing is logged but the line."""
    begun, ended, cancelled = anyio.Event(), anyio.Event(), []
    routes = Router()

    @routes.post("/")
    async def handler(request: Request) -> None:
        begun.set()
        try:
            await request.body()
        except BaseException as error:
            cancelled.append(isinstance(error, anyio.get_cancelled_exc_class()))
            raise
        finally:
            ended.set()

    async with serving(routes) as served, await served.connect() as client:
        await client.send(POST + b"half")
        await within(begun)
        client.leave()
        await within(ended)
        await eventually(lambda: access_lines(caplog))
    assert cancelled == [True]
    assert statuses(caplog) == [499]
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("grouped", [False, True], ids=["plain", "in a task group"])
async def test_an_error_in_cleanup_is_an_error(grouped: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What the cleanup raises is a bug of the app, and is logged as one, with its traceback."""
    begun = anyio.Event()
    routes = Router()

    async def clean_up_badly() -> None:
        try:
            begun.set()
            await anyio.sleep_forever()
        finally:
            raise ValueError("the cleanup is broken")

    @routes.get("/")
    async def handler(request: Request) -> None:
        if grouped:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(clean_up_badly)
        else:
            await clean_up_badly()

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave()
        await eventually(lambda: access_lines(caplog))
    assert statuses(caplog) == [499]
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert error.exc_info
    assert "the cleanup is broken" in caplog.text


# 8. What send() and receive() say afterwards.


@departures
async def test_send_raises_and_receive_says_so_every_time(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """After the disconnect every `send()` of a subscriber raises an OSError, and every `receive()` answers `http.disconnect`."""
    begun, ended, failures = anyio.Event(), anyio.Event(), 0
    messages: list[Message] = []

    @OnlyHTTP
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal failures
        subscribe_of(scope)(lambda: None)
        begun.set()
        messages.append(await receive())
        for _ in range(3):
            messages.append(await receive())
            try:
                await complete(send)
            except OSError:
                failures += 1
        ended.set()
        await send({"type": "http.response.body"})

    async with serving(app) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave(how)
        await within(ended)
        await eventually(lambda: access_lines(caplog))
    assert [message["type"] for message in messages] == ["http.request"] + ["http.disconnect"] * 3
    assert failures == 3
    assert statuses(caplog) == [499]
    assert loud_lines(caplog) == []  # not even what the app let through


async def test_a_body_that_was_not_taken_is_gone() -> None:
    """After the disconnect `receive()` says so at once, also when there was body left to take."""
    message: Message = {}
    gone, begun = anyio.Event(), anyio.Event()

    @OnlyHTTP
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal message
        scope["extensions"]["microasgi.disconnect"]["subscribe"](gone.set)
        begun.set()
        await gone.wait()
        message = await receive()

    async with serving(app) as served, await served.connect() as client:
        await client.send(POST + b"0123456789")
        await within(begun)
        client.leave()
        await within(gone)
        await eventually(lambda: message)
    assert message == {"type": "http.disconnect"}


# Asking.


async def test_asking_never_eats_body() -> None:
    """`is_disconnected()` and `wait_disconnected()` may be called at any time: the body stays whole."""
    received: list[bytes] = []
    asked = anyio.Event()
    routes = Router()

    @routes.post("/")
    async def handler(request: Request) -> str:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request.wait_disconnected)
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    for _ in range(3):
                        assert not await request.is_disconnected()
                    received.append(chunk)
                    asked.set()
            assert not await request.is_disconnected()
            tasks.cancel_scope.cancel()
        return "whole"

    async with serving(routes) as served, await served.connect() as client:
        await client.send(POST)
        for number in range(10):
            asked = anyio.Event()
            await client.send(b"%d" % number)
            await within(asked)
        assert (await client.response()).body == b"whole"
    assert b"".join(received) == b"0123456789"


@departures
async def test_is_disconnected_looks_first(how: Departure) -> None:
    """`is_disconnected()` knows of a client that has left already, even if the event loop had no time to look."""
    answers: list[bool] = []
    ended = anyio.Event()
    routes = Router()
    async with serving(routes) as served, await served.connect() as client:

        @routes.get("/", on_disconnect="finish")
        async def handler(request: Request) -> None:
            answers.append(await request.is_disconnected())
            client.leave(how)
            answers.append(await request.is_disconnected())
            ended.set()

        await client.send(GET)
        await within(ended)
    assert answers == [False, True]


async def test_wait_disconnected_returns_when_the_client_has_left() -> None:
    """`wait_disconnected()` returns in a `finish` handler, any number of times, also when the client has long left."""
    begun, ended = anyio.Event(), anyio.Event()
    routes = Router()

    @routes.get("/", on_disconnect="finish")
    async def handler(request: Request) -> None:
        begun.set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request.wait_disconnected)
            await request.wait_disconnected()
        await request.wait_disconnected()
        ended.set()

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave()
        await within(ended)


# The other reading of a half-close.


async def test_half_close_is_served_on_request(caplog: pytest.LogCaptureFixture) -> None:
    """With `half_close=True` a client that has shut its sending side gets its answers, and then the connection ends."""
    begun, release = anyio.Event(), anyio.Event()
    routes = Router()

    @routes.route("/", ["GET", "POST"])
    async def handler(request: Request) -> bytes:
        body = await request.body()
        begun.set()
        await release.wait()
        return body

    async with serving(routes, half_close=True) as served, await served.connect() as client:
        await client.send(GET + POST + b"0123456789")
        await within(begun)
        client.leave("half-close")
        await everything_seen(served)
        release.set()
        assert (await client.response()).status == 200
        assert (await client.response()).body == b"0123456789"
        with anyio.fail_after(2):  # less than the five seconds that an idle connection may wait
            assert await client.receive() == b""
    assert statuses(caplog) == [200, 200]
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("size", [10, 200_000], ids=["small", "large"])
async def test_half_close_in_the_middle_of_the_body(size: int, caplog: pytest.LogCaptureFixture) -> None:
    """Even with `half_close=True` a request that can't become whole any more counts as left: its handler doesn't wait for ever."""
    begun, stopped = anyio.Event(), []
    routes = Router()

    @routes.post("/")
    async def handler(request: Request) -> None:
        begun.set()
        try:
            await request.body()
        except (anyio.get_cancelled_exc_class(), ClientDisconnect):  # the second, if it was just about to look
            stopped.append(True)
            raise

    async with serving(routes, half_close=True) as served, await served.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (2 * size) + bytes(size))
        await within(begun)
        client.leave("half-close")
        await eventually(lambda: access_lines(caplog))
    assert stopped == [True]
    assert statuses(caplog) == [499]
    assert loud_lines(caplog) == []


async def test_half_close_beyond_the_look_ahead() -> None:
    """With `half_close=True` a FIN behind a full look-ahead is no departure either."""
    body = bytes(300_000)
    begun, release = anyio.Event(), anyio.Event()
    routes = Router()

    @routes.post("/")
    async def handler(request: Request) -> str:
        begun.set()
        await release.wait()
        return str(len(await request.body()))

    async with serving(routes, half_close=True) as served, await served.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        client.leave("half-close")
        await within(begun)
        await everything_seen(served)
        release.set()
        assert (await client.response()).body == b"300000"


@pytest.mark.parametrize(
    "data", [GET, b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)], ids=["read", "paused"]
)
async def test_half_close_and_then_reset(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """With `half_close=True` a client that has shut its sending side has left when it resets the connection."""
    sleeper, routes = Sleeper(), Router()
    routes.route("/", ["GET", "POST"])(sleeper)
    async with serving(routes, half_close=True) as served, await served.connect() as client:
        await client.send(data)
        await within(sleeper.begun)
        client.leave("half-close")
        await everything_seen(served)
        assert not sleeper.ended.is_set()
        client.leave("RST")
        await within(sleeper.ended)
        await eventually(lambda: access_lines(caplog))
    assert statuses(caplog) == [499]
    assert loud_lines(caplog) == []


async def test_half_close_of_an_idle_connection() -> None:
    """With `half_close=True` a client that shuts its side while nothing runs is done: the connection ends at once."""
    routes = Router()

    @routes.get("/")
    async def handler(request: Request) -> str:
        return "hello"

    async with serving(routes, half_close=True) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).complete
        client.leave("half-close")
        with anyio.fail_after(2):
            assert await client.receive() == b""


# The extension.


def subscribe_of(scope: Scope) -> Callable[[Callable[[], object]], Callable[[], None]]:
    return scope["extensions"]["microasgi.disconnect"]["subscribe"]  # type: ignore[no-any-return]


@departures
async def test_the_extension_calls_back_once_in_the_loops_thread(how: Departure) -> None:
    """Every subscriber is called exactly once, in the event loop's thread; one that comes too late, at once; a withdrawn one never."""
    begun, ended = anyio.Event(), anyio.Event()
    calls: list[tuple[str, bool]] = []
    here = threading.get_ident()

    def note(name: str) -> Callable[[], None]:
        return lambda: calls.append((name, threading.get_ident() == here))

    @OnlyHTTP
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        subscribe = subscribe_of(scope)
        undo = subscribe(note("withdrawn"))
        subscribe(note("first"))
        undo_second = subscribe(note("second"))
        undo()
        undo()
        await receive()
        begun.set()
        assert (await receive())["type"] == "http.disconnect"
        assert [name for name, _ in calls] == ["first", "second"]
        subscribe(note("late"))()
        undo_second()
        assert [name for name, _ in calls] == ["first", "second", "late"]
        ended.set()

    async with serving(app) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave(how)
        await within(ended)
    assert calls == [("first", True), ("second", True), ("late", True)]


@departures
async def test_the_extension_is_silent_after_the_response(how: Departure) -> None:
    """Nobody is called back after the response is complete, whenever they subscribed."""
    begun, release, ended = anyio.Event(), anyio.Event(), anyio.Event()
    calls: list[str] = []

    @OnlyHTTP
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        undo = subscribe_of(scope)(lambda: calls.append("before"))
        await complete(send)
        subscribe_of(scope)(lambda: calls.append("after"))
        begun.set()
        await release.wait()
        undo()
        subscribe_of(scope)(lambda: calls.append("much later"))
        ended.set()

    async with serving(app) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave(how)
        await everything_seen(served)
        release.set()
        await within(ended)
    assert calls == []


@pytest.mark.parametrize(
    "data", [GET, b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)], ids=["read", "paused"]
)
async def test_a_subscriber_that_raises_harms_nobody(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that breaks its contract is logged as the app's fault; the others are still told, and the server goes on."""
    begun, told = anyio.Event(), anyio.Event()

    @OnlyHTTP
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/other":
            await complete(send)
            return
        subscribe_of(scope)(lambda: 1 / 0)
        subscribe_of(scope)(told.set)
        begun.set()
        await told.wait()
        await checkpoint()

    async with serving(app) as served, await served.connect() as client:
        await client.send(data)
        await within(begun)
        client.leave()
        await within(told)
        await eventually(lambda: access_lines(caplog))
        async with await served.connect() as other:
            await other.send(get("/other"))
            assert (await other.response()).body == b"hello"
    assert statuses(caplog) == [499, 200]
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]
    assert "ZeroDivisionError" in caplog.text


# Streams.


class Source:
    """An iterator, async or plain, that remembers whether it was begun and closed; `steps` chunks, then it waits."""

    def __init__(self, steps: int, *, endless: bool = False) -> None:
        self.steps = steps
        self.endless = endless
        self.begun = anyio.Event()
        self.waiting = anyio.Event()
        self.closed = threading.Event()  # a plain iterator is closed in a worker thread
        self.release = threading.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        self.begun.set()
        try:
            number = 0
            while self.endless or number < self.steps:
                yield b"x" * 65536 if self.endless else b"chunk"
                number += 1
            self.waiting.set()
            await anyio.sleep_forever()
        finally:
            self.closed.set()

    def plain(self) -> "PlainSource":
        return PlainSource(self)


class PlainSource:
    """A plain iterator with a `close()`, as files and generators have one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._given = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        source = self._source
        from_thread.run_sync(source.begun.set)
        self._given += 1
        if source.endless:
            return b"x" * 65536
        if self._given > source.steps:
            from_thread.run_sync(source.waiting.set)
            assert source.release.wait(10)
        return b"chunk"

    def close(self) -> None:
        self._source.closed.set()


@departures
@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_stream_is_closed_when_the_client_leaves(how: Departure, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The iterator of a StreamingResponse is closed when its client leaves while it waits for the next chunk."""
    source, routes = Source(3), Router()

    @routes.get("/")
    async def handler(request: Request) -> StreamingResponse:
        return StreamingResponse(source.chunks() if kind == "async" else source.plain())

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(source.waiting)
        client.leave(how)
        if kind == "plain":  # its thread is waited for
            await everything_seen(served)
            source.release.set()
        await eventually(source.closed.is_set)
        await eventually(lambda: access_lines(caplog))
    assert statuses(caplog) == [499]
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("policy", ["cancel", "finish"])
async def test_a_stream_is_closed_that_never_started(kind: str, policy: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The iterator is closed also when the client is gone before the first chunk was asked for."""
    source, routes, begun = Source(3), Router(), anyio.Event()

    class Generous:
        """An async iterable that isn't begun by asking for it, and can be closed."""

        def __aiter__(self) -> AsyncIterator[bytes]:
            return source.chunks()

        async def aclose(self) -> None:
            source.closed.set()

    @routes.get("/", on_disconnect=policy)
    async def handler(request: Request) -> StreamingResponse:
        begun.set()
        with anyio.CancelScope(shield=True):
            await request.wait_disconnected()
        return StreamingResponse(Generous() if kind == "async" else source.plain())

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave()
        await eventually(source.closed.is_set)
        await eventually(lambda: access_lines(caplog))
    assert not source.begun.is_set()
    assert loud_lines(caplog) == []


async def test_a_stream_is_closed_for_head() -> None:
    """The iterator is closed, not begun, when only the head was asked for."""
    source, routes = Source(3), Router()

    @routes.get("/")
    async def handler(request: Request) -> StreamingResponse:
        return StreamingResponse(source.plain())

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET.replace(b"GET", b"HEAD"))
        await eventually(source.closed.is_set)
    assert not source.begun.is_set()


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_stream_is_closed_when_sending_fails(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The iterator is closed when a chunk can't be sent, whatever the reason: here it is text of the wrong kind."""
    closed, routes = threading.Event(), Router()

    async def numbers() -> AsyncIterator[Any]:
        try:
            yield 1
        finally:
            closed.set()

    def plain_numbers() -> Iterator[Any]:
        try:
            yield 1
        finally:
            closed.set()

    @routes.get("/")
    async def handler(request: Request) -> StreamingResponse:
        return StreamingResponse(numbers() if kind == "async" else plain_numbers())

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).status == 500
        await eventually(closed.is_set)
    assert "a response's body is bytes" in caplog.text


@pytest.mark.parametrize("how", ["FIN", "RST", "half-close"])
@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_blocked_write_hides_nothing(how: Departure, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that waits for a client which reads nothing is stopped when that client leaves, and its stream is closed."""
    source, routes = Source(0, endless=True), Router()
    given = 0

    async def counted(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        nonlocal given
        async with aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                given += 1
                yield chunk

    class CountedPlain(PlainSource):
        def __next__(self) -> bytes:
            nonlocal given
            given += 1
            return super().__next__()

    @routes.get("/")
    async def handler(request: Request) -> StreamingResponse:
        return StreamingResponse(counted(source.chunks()) if kind == "async" else CountedPlain(source))

    async with serving(routes) as served, await served.connect(receive_buffer=4096) as client:
        await client.send(GET)
        await within(source.begun)
        await standstill(lambda: given)
        client.leave(how)
        await eventually(source.closed.is_set)
        await eventually(lambda: access_lines(caplog))
    assert given < 200  # megabytes at most, and those in the kernel: the stream waited for its reader
    assert statuses(caplog) == [499]
    assert loud_lines(caplog) == []


@departures
@pytest.mark.parametrize("kind", ["raw app", "finish"])
async def test_nobody_is_left_in_a_blocked_write(how: Departure, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A `send()` that waits for a client which reads nothing returns when that client leaves, also where nothing is cancelled."""
    sent, ended = 0, anyio.Event()
    routes = Router()

    async def send_for_ever(send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                sent += 1
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        finally:
            ended.set()

    @OnlyHTTP
    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        await send_for_ever(send)

    class Endless(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send_for_ever(send)

    @routes.get("/", on_disconnect="finish")
    async def handler(request: Request) -> Response:
        return Endless()

    async with serving(raw if kind == "raw app" else routes) as served, await served.connect(receive_buffer=4096) as client:
        await client.send(GET)
        await eventually(lambda: sent)
        await standstill(lambda: sent)
        client.leave(how)
        await within(ended)
        await eventually(lambda: access_lines(caplog))
    assert statuses(caplog) == [499]
    assert loud_lines(caplog) == []


async def standstill(measure: Callable[[], int]) -> None:
    """Return when `measure` has said the same for a while."""
    last, since = measure(), time.monotonic()
    while time.monotonic() - since < 0.1:
        await anyio.sleep(0.005)
        if measure() != last:
            last, since = measure(), time.monotonic()


# At the end of the server.


@pytest.mark.parametrize("stopped", [False, True], ids=["closing", "stopping"])
async def test_a_last_response_is_not_cut_off_by_the_end(stopped: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A response that is handed over, but that a slow client has not taken yet, still arrives whole when its connection closes."""
    size = 6 * 1024 * 1024
    routes = Router()

    @routes.get("/")
    async def handler(request: Request) -> bytes:
        return bytes(size)

    async with serving(routes) as served, await served.connect(receive_buffer=65536) as client:
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await eventually(lambda: access_lines(caplog))
        if stopped:
            served.stop.set()
        received = 0
        while chunk := await client.receive(1024 * 1024):
            received += len(chunk)
    assert received > size
    assert loud_lines(caplog) == []


async def test_nobody_keeps_a_closing_connection_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """A client that never takes its last response is dropped when the time for it is over."""
    shared: Any = None
    routes = Router()

    @routes.get("/")
    async def handler(request: Request) -> bytes:
        nonlocal shared
        shared = shared_of(request._receive)
        return bytes(12 * 1024 * 1024)

    async with (
        serving(routes, timeout_keep_alive=0.2, limits=Limits(flush=0.1)) as served,
        await served.connect(receive_buffer=4096) as client,
    ):
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await eventually(lambda: access_lines(caplog))
        assert len(shared.connections) == 1
        client.leave("half-close")
        await eventually(lambda: not shared.connections)
        body = bytearray()
        with suppress(ConnectionResetError):
            body += await client.receive_until_closed()
        assert len(body) < 12 * 1024 * 1024


async def test_a_request_in_the_moment_of_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """A request that arrives while the server is being cancelled leaves nothing behind that it would have to wait for."""
    for gap in range(6):
        sleeper, routes = Sleeper(), Router()
        routes.get("/")(sleeper)
        async with anyio.create_task_group() as tasks:
            async with serving(routes) as served, await served.connect() as client:
                await client.send(GET)
                await within(sleeper.begun)
                async with await served.connect() as late:
                    await eventually(lambda: True)
                    for _ in range(5):
                        await checkpoint()
                    late.sock.send(GET)
                    for _ in range(gap):
                        await checkpoint()
                    began_to_stop = time.monotonic()
            tasks.cancel_scope.cancel()
        assert time.monotonic() - began_to_stop < 3
    assert loud_lines(caplog) == []
