"""`timeout=` on a route or a router: a handler that takes too long is stopped as by a departure, and answered for."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import pytest

from microasgi import BackgroundTask, CallNext, Mount, Request, Response, Route, Router, StreamingResponse
from microasgi.asgi import ASGIApp
from tests.harness import GET, Sleeper, call, eventually, loud_lines, serving, within
from tests.harness import Response as Answer

pytestmark = pytest.mark.anyio

SOON = 0.05


async def quick(request: Request) -> str:
    """A handler that never waits, not for a thread either: on a busy machine that may take longer to begin than it has time."""
    return "quick"


def streaming(parts: Callable[[], AsyncIterator[bytes]]) -> Callable[[Request], Awaitable[Response]]:
    """A handler that streams, and doesn't wait before."""

    async def stream(request: Request) -> Response:
        return StreamingResponse(parts())

    return stream


async def get(routes: Any, path: str = "/") -> Answer:
    """Ask our own server, with a client that stays."""
    async with serving(routes, lifespan="off") as served, await served.connect() as client:
        await client.send(GET.replace(b" / ", f" {path} ".encode()))
        with anyio.fail_after(5):
            return await client.response()


def late(caplog: Any) -> list[str]:
    return [line for line in loud_lines(caplog) if "took more than its timeout" in line]


@pytest.mark.parametrize("policy", ["cancel", "finish"])
async def test_a_handler_that_takes_too_long_is_answered_for(policy: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is cancelled once, its cleanup may await, its client gets a 503, and one warning names it, also if it needn't have a client."""
    sleeper, cleaned = Sleeper(), anyio.Event()

    async def handle(request: Request) -> None:
        try:
            await sleeper.sleep()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            cleaned.set()

    answer = await get(Router([Route("/slow/{id}", handle, timeout=SOON, on_disconnect=policy)]), "/slow/7")
    assert (answer.status, answer.body, answer.complete) == (503, b"Service Unavailable", True)
    assert cleaned.is_set()
    assert sleeper.cancellations == 1
    assert loud_lines(caplog) == [f"GET /slow/7 (route /slow/{{id}}) took more than its timeout of {SOON} s: cancelled"]


async def test_a_response_that_has_begun_breaks_off(caplog: pytest.LogCaptureFixture) -> None:
    """What has begun can't become a 503: it ends in the middle, its client sees that, and the log has one warning."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"half"
        await anyio.sleep_forever()

    answer = await get(Router([Route("/", streaming(parts), timeout=SOON)]))
    assert (answer.status, answer.body, answer.complete) == (200, b"half", False)
    assert len(loud_lines(caplog)) == len(late(caplog)) == 1


async def test_another_server_gets_the_same_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Where no extension is offered it works as well."""
    sleeper = Sleeper()
    with anyio.fail_after(5):
        answer = await call(Router([Route("/", sleeper, timeout=SOON)]))
    assert (answer.status, answer.complete, sleeper.cancellations) == (503, True, 1)
    assert len(late(caplog)) == 1


@pytest.mark.parametrize(
    ("outer", "mount", "inner", "route", "status"),
    [
        (SOON, None, None, None, 503),
        (60, SOON, None, None, 503),
        (60, 60, SOON, None, 503),
        (60, 60, 60, SOON, 503),
        (SOON, None, None, 0, 200),
        (SOON, None, None, float("inf"), 200),
        (None, None, None, None, 200),
    ],
)
async def test_the_innermost_opinion_holds(
    outer: float | None, mount: float | None, inner: float | None, route: float | None, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A route's timeout, its Router's, its mount's, the Router's around it: the first of these that is given; 0 and inf are none."""

    async def handle(request: Request) -> str:
        await anyio.sleep(60 if status == 503 else 2 * SOON)
        return "ok"

    within_it = Router([Route("/", handle, timeout=route)], timeout=inner)
    assert (await get(Router([Mount("/a", within_it, timeout=mount)], timeout=outer), "/a/")).status == status
    assert len(late(caplog)) == (status == 503)


async def test_what_is_in_time_hears_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that is quick enough isn't touched, and neither is what its response leaves for the background."""
    done = anyio.Event()

    async def work() -> None:
        await anyio.sleep(3 * SOON)
        done.set()

    async def handle(request: Request) -> Response:
        return Response("ok", background=BackgroundTask(work))

    async with serving(Router([Route("/", handle, timeout=SOON)]), lifespan="off") as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).status == 200
        await within(done)
    assert loud_lines(caplog) == []


async def test_a_client_that_leaves_first_is_a_departure(caplog: pytest.LogCaptureFixture) -> None:
    """Who has been cancelled because of its client isn't called late."""
    begun, ended = anyio.Event(), anyio.Event()

    async def handle(request: Request) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3 * SOON)
            ended.set()

    async with serving(Router([Route("/", handle, timeout=2 * SOON)]), lifespan="off") as served:
        async with await served.connect() as client:
            await client.send(GET)
            await within(begun)
        await within(ended)
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("kind", ["function", "ASGI"])
async def test_middleware_has_a_time_of_its_own(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A handler's time is over when its response is sent, and doesn't pass while middleware around it has the turn."""

    async def own_time(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        await anyio.sleep(3 * SOON)
        return response

    def asgi(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            await anyio.sleep(3 * SOON)

        return middleware

    inner = Router([Route("/", quick, timeout=SOON)], middleware=[asgi] if kind == "ASGI" else [])
    if kind == "function":
        inner.middleware(own_time)
    with anyio.fail_after(5):
        answer = await call(Router([Mount("/a", inner)]), path="/a/")
    assert (answer.status, answer.body, answer.complete) == (200, b"quick", True)
    assert loud_lines(caplog) == []


async def test_a_stream_behind_middleware_has_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that goes on after middleware had the turn is stopped at the end of its own seconds."""
    sleeper = Sleeper()

    async def parts() -> AsyncIterator[bytes]:
        yield b"half"
        await sleeper.sleep()

    routes = Router([Route("/", streaming(parts), timeout=SOON)])

    @routes.middleware
    async def own_time(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        await anyio.sleep(2 * SOON)
        return response

    answer = await get(routes)
    assert (answer.status, answer.body, answer.complete) == (200, b"half", False)
    assert (sleeper.cancellations, len(late(caplog))) == (1, 1)


async def passing(request: Request, call_next: CallNext) -> Response:
    """Middleware that does nothing."""
    return await call_next(request)


def late_route(sleeper: Sleeper) -> Route:
    """A response whose first piece never comes."""

    async def parts() -> AsyncIterator[bytes]:
        await sleeper.sleep()
        yield b""

    return Route("/", streaming(parts), timeout=SOON)


def late_mount(sleeper: Sleeper) -> Mount:
    """The same, of another framework's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await sleeper.sleep()

    return Mount("/", app, timeout=SOON)


@pytest.mark.parametrize("make", [late_route, late_mount])
@pytest.mark.parametrize("around", [False, True], ids=["alone", "behind middleware"])
async def test_a_response_of_which_nothing_is_out_is_a_503(make: Any, around: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What has only a status and headers yet has not begun, as far as its client knows."""
    sleeper = Sleeper()
    routes = Router([make(sleeper)])
    if around:
        routes.middleware(passing)

    answer = await get(routes)
    assert (answer.status, answer.complete, sleeper.cancellations) == (503, True, 1)
    assert len(loud_lines(caplog)) == len(late(caplog)) == 1


@pytest.mark.parametrize("around", [False, True], ids=["alone", "behind middleware"])
async def test_what_a_thread_returns_too_late_is_dropped(around: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A thread that doesn't ask is waited for, but its time was over: the answer is the 503 that the log tells of."""
    ended = False

    def handle(request: Request) -> str:
        nonlocal ended
        end = time.monotonic() + 5
        while not late(caplog) and time.monotonic() < end:
            time.sleep(0.001)
        ended = True
        return "late"

    routes = Router([Route("/", handle, timeout=SOON)])
    if around:
        routes.middleware(passing)

    answer = await get(routes)
    assert (answer.status, ended) == (503, True)
    assert len(loud_lines(caplog)) == len(late(caplog)) == 1


async def test_a_thread_can_ask(caplog: pytest.LogCaptureFixture) -> None:
    """A plain function's thread can't be stopped, but told: `check_cancelled()` raises in it when the time is over."""
    asked = 0

    def handle(request: Request) -> None:
        nonlocal asked
        while True:
            asked += 1
            anyio.from_thread.check_cancelled()
            time.sleep(0.001)

    assert (await get(Router([Route("/", handle, timeout=SOON)]))).status == 503
    assert asked


async def test_a_mounted_app_is_stopped_too(caplog: pytest.LogCaptureFixture) -> None:
    """The timeout of a mount holds for any app."""
    sleeper = Sleeper()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await sleeper.sleep()

    assert (await get(Router([Mount("/", app, timeout=SOON)]))).status == 503
    await eventually(sleeper.ended.is_set)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_a_timeout_is_a_number_of_seconds(timeout: Any, anyio_backend: str) -> None:
    """Anything else is refused where it is written."""
    for make in (
        lambda: Router(timeout=timeout),
        lambda: Route("/", Sleeper(), timeout=timeout),
        lambda: Mount("/", Router(), timeout=timeout),
    ):
        with pytest.raises(ValueError, match=r"^timeout is a number of seconds, or 0 for as many as it takes, not "):
            make()
