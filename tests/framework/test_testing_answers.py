"""The test client is as strict as the server: what no client would get passes no test, and what swallows a cancellation neither."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import example, given
from hypothesis import strategies as st
from microasgi_server import AppError

from microasgi import CancelOnDisconnect, Request, Response, Router
from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.calling import call_any
from microasgi.testing import Client, SwallowedCancellation
from microasgi.testing.answer import TRANSITIONS, Answer, MessageError, Phase
from tests.wire.test_protocol import GET, HEAD, begin, body, hint, sized, start, trailers

# What an app may send.

STATUSES: list[Any] = [199, 200, 204, 304, 404, 999, 1000, "200", None, True]
FIELDS: list[Any] = [
    (b"content-length", b"2"),
    (b"Content-Length", b"0"),
    (b"content-length", b"two"),
    (b"transfer-encoding", b"Chunked"),
    (b"transfer-encoding", b"gzip"),
    (b"x-good", b"a \t\xff"),
    [b"X-List", b""],
    (b"x bad", b""),
    (b"", b""),
    (b"x-bad", b"a\r\nb"),
    (b"x-bad", b" a"),
    (b"x-bad", b"a\x00"),
    (b"x-odd", b"a\x01"),
    ("x-text", b""),
    (b"x-text", "text"),
    (b"x-alone",),
    b"ab",
    None,
]
BODIES: list[Any] = [b"", b"x", b"xy", b"xyz", bytearray(b"x"), memoryview(b"xy"), "x", None]

headers = st.lists(st.sampled_from(FIELDS[:7]) | st.sampled_from(FIELDS), max_size=3)
starts = st.builds(start, st.sampled_from(STATUSES[1:6]) | st.sampled_from(STATUSES), headers, trailers=st.booleans())
bodies = st.builds(body, st.sampled_from(BODIES[:6]) | st.sampled_from(BODIES), more=st.booleans())
others = st.builds(trailers, headers, more=st.booleans()) | st.builds(hint, st.sampled_from([b"</a>", b"a\nb", "text"]))
messages = st.lists(starts | bodies | bodies | others | st.sampled_from([{}, {"type": "http.respond"}]), max_size=5)


@given(st.sampled_from([GET, HEAD]), st.builds(lambda first, rest: [first, *rest], starts, messages) | messages)
@example(GET, [start(200, sized(2)), body(b"x", more=True), body(b"yz")])
@example(HEAD, [start(200, sized(2)), body(b"")])
@example(GET, [start(204, [*sized(2), *sized(3)]), body(b"x")])
@example(GET, [start(304, [(b"transfer-encoding", b"chunked")] * 2), body(b"x")])
@example(GET, [start(200, [(b"transfer-encoding", b"chunked"), *sized(2)]), body(b"x")])
def test_the_client_refuses_what_the_server_refuses(request: bytes, sent: list[Message]) -> None:
    """Message by message, both take or refuse the same, and are complete at the same one."""
    _, exchange = begin(request)
    answer = Answer(request.split()[0].decode())
    for message in sent:
        refused = []
        for take in (exchange.send, answer.take):
            try:
                take(message)
            except (AppError, MessageError) as error:
                refused.append(str(error))
        assert len(refused) in (0, 2), (message, refused)
        assert answer.complete == (exchange.phase.name == "DONE")
        assert (answer.status or 0) == (exchange.status or 0)


def test_a_response_goes_through_its_phases() -> None:
    """Every phase has its row, and a complete response is the end."""
    assert set(TRANSITIONS) == set(Phase)
    assert TRANSITIONS[Phase.DONE] == {}


async def sends(send: Send, sent: list[Message]) -> None:
    for message in sent:
        await send(message)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ([body(b"x")], r"'http\.response\.body' can't be sent now: the response is WAITING"),
        ([start(99)], "a response's status is a whole number from 200 to 999, not 99"),
        ([start(200, [(b"x-a", b"b\r\nc: d")])], "HTTP allows no such header field: b'x-a'"),
        ([start(200, sized(3)), body(b"xy")], "the body is shorter than the response's content-length says"),
        ([start(200, sized(1)), body(b"xy")], "the body is longer than the response's content-length says"),
        ([start(), body(b"x"), body(b"y")], r"'http\.response\.body' can't be sent now: the response is DONE"),
        ([], "the app returned without completing its response, which is WAITING"),
        ([start(), body(b"x", more=True)], "the app returned without completing its response, which is STREAMING"),
    ],
)
async def test_what_no_client_would_get_fails_the_test(sent: list[Message], words: str) -> None:
    """An app whose messages are wrong, too many or too few is an error with the server's words."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sends(send, sent)

    with pytest.raises(RuntimeError, match=words):
        await Client(app).get("/")


@pytest.mark.anyio
@pytest.mark.parametrize(("method", "status", "content"), [("GET", 200, b"hello"), ("HEAD", 200, b""), ("GET", 304, b"")])
async def test_a_body_that_has_no_place_does_not_come(method: str, status: int, content: bytes) -> None:
    """The answer to a HEAD and a 304 have no body, whatever the app sends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sends(send, [start(status, sized(5)), body(b"hello")])

    response = await Client(app).request(method, "/")
    assert (response.status_code, response.content, response.headers["content-length"]) == (status, content, "5")


# Who swallows the cancellation.

Handler = Callable[[Request], Any]


async def bare_except(request: Request) -> str:
    try:
        await checkpoint()
    except BaseException:
        return "in spite of it"
    return "done"


async def with_suppress(request: Request) -> str:
    with suppress(anyio.get_cancelled_exc_class()):
        await checkpoint()
    return "as if nothing had been"


async def raises_again(request: Request) -> str:
    try:
        await checkpoint()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await checkpoint()
        raise
    return "done"


async def in_a_shield(request: Request) -> str:
    with anyio.CancelScope(shield=True):
        await checkpoint()
    return "done"


async def ends_a_group(request: Request) -> str:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        await checkpoint()
        tasks.cancel_scope.cancel()
    return "done"


async def with_a_time_limit(request: Request) -> str:
    with anyio.move_on_after(0.001):
        await anyio.sleep_forever()
    return "done"


async def sleeps_in_a_shield(request: Request) -> str:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.001)  # trio ends it with a cancellation of its own
        await with_a_time_limit(request)
    return "done"


async def ends_in_a_shield(request: Request) -> str:
    with anyio.CancelScope(shield=True):
        await ends_a_group(request)
    return "done"


def in_a_thread(request: Request) -> str:
    return "done"


async def ends_a_task(request: Request) -> str:
    task = asyncio.ensure_future(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return "done"


def routed(handler: Handler) -> ASGIApp:
    routes = Router()
    routes.get("/")(handler)
    return routes


def wrapped(handler: Handler) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        text = await call_any(handler, Request(scope, receive))
        await Response(text)(scope, receive, send)

    return CancelOnDisconnect(app)


@pytest.mark.anyio
@pytest.mark.parametrize("handler", [bare_except, with_suppress])
@pytest.mark.parametrize("make", [routed, wrapped])
async def test_a_handler_that_swallows_its_cancellation_is_found(make: Callable[[Handler], ASGIApp], handler: Handler) -> None:
    """A handler that catches its cancellation and answers is an error that says so, and where the client left."""
    with pytest.raises(SwallowedCancellation, match="doesn't raise it again") as raised:
        async for _ in Client(make(handler)).hang_up_everywhere("/"):
            pass
    (note,) = raised.value.__notes__
    assert note.startswith("the client left at await 1, test_testing_answers.py:")


@pytest.mark.anyio
@pytest.mark.parametrize("make", [routed, wrapped])
@pytest.mark.parametrize(
    "handler", [raises_again, in_a_shield, ends_a_group, with_a_time_limit, in_a_thread, sleeps_in_a_shield, ends_in_a_shield]
)
async def test_a_handler_that_passes_its_cancellation_on_is_not_accused(make: Callable[[Handler], ASGIApp], handler: Handler) -> None:
    """Cleanup, shields, task groups and time limits are no swallowing."""
    departures = [departure async for departure in Client(make(handler)).hang_up_everywhere("/")]
    assert departures


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_another_tasks_end_is_no_swallowing() -> None:
    """Another task's end is none of the handler's."""
    departures = [departure async for departure in Client(routed(ends_a_task)).hang_up_everywhere("/")]
    assert departures


@pytest.mark.anyio
async def test_a_handler_that_finishes_may_do_as_it_likes() -> None:
    """Under `on_disconnect="finish"` nothing is cancelled, and so nothing swallowed."""
    routes = Router(on_disconnect="finish")
    routes.get("/")(bare_except)
    assert not [departure async for departure in Client(routes).hang_up_everywhere("/") if departure.cancelled]
