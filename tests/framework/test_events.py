"""Server-sent events: what is sent, when, and that the generator is closed at every end."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from microasgi import Event, EventStream, Request, Router
from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.promise.delivery import current_task
from microasgi.testing import Client
from tests.harness import PATIENCE, Departure, access_lines, call, eventually, loud_lines, serving, within
from tests.naming import named

pytestmark = pytest.mark.anyio

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
BEGINNING = b":\nretry: 3000\n\n"


# One event.


@pytest.mark.parametrize(
    ("event", "sent"),
    [
        (Event("hello"), "data: hello\n\n"),
        (Event("é", id="7", event="news"), "id: 7\nevent: news\ndata: é\n\n"),
        (Event({"price": 7, "é": None}), 'data: {"price":7,"é":null}\n\n'),
        (Event(None, id=""), "id: \ndata: null\n\n"),
        (Event(""), "data: \n\n"),
        (Event("a\nb\rc\r\nd\n"), "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        (Event("a\x0bb\x0cc\x1cd\x85e\u2028f"), "data: a\x0bb\x0cc\x1cd\x85e\u2028f\n\n"),
        (Event(" indented"), "data:  indented\n\n"),
    ],
    ids=named,
)
def test_an_event(event: Event, sent: str) -> None:
    """Data is text as it is, a line for each of its own, split at CR, LF and CRLF alone; anything else is JSON."""
    assert event.encode() == sent.encode()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"id": "a\nb"}, "an event's id can't have a line end or NUL in it: 'a\\\\nb'"),
        ({"id": "a\rb"}, "an event's id can't"),
        ({"id": "a\0b"}, "an event's id can't"),
        ({"event": "a\nb"}, "an event's event can't have a line end in it"),
        ({"event": "a\rb"}, "an event's event can't"),
        ({"id": 7}, r"an event's id is text, not int: write id=str\(7\)"),
    ],
    ids=named,
)
def test_what_would_break_the_stream_is_refused(fields: Any, says: str) -> None:
    """A line end in a field would end it, and what follows would be another field: it is refused where the event is made."""
    with pytest.raises((ValueError, TypeError), match=says):
        Event("data", **fields)


async def nothing() -> AsyncIterator[Event]:
    return
    yield


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ([nothing], {}, r"an EventStream is made of an async generator, not of a function: call it, as in EventStream\(events\(\)\)"),
        ([["a"]], {}, "an EventStream is made of an async generator, not of a list$"),
        ([nothing()], {"ping": 0}, "ping is a number of seconds, more than 0, or None, not 0"),
        ([nothing()], {"retry": float("inf")}, "retry is a number of seconds"),
    ],
    ids=named,
)
def test_a_stream_that_makes_no_sense(arguments: Any, options: Any, says: str) -> None:
    """What isn't an async generator, and intervals that are none, are refused with what to write."""
    with pytest.raises((ValueError, TypeError), match=says):
        EventStream(*arguments, **options)


# The stream.


async def sent_by(stream: EventStream, method: str = "GET", **scope: Any) -> list[Any]:
    """The messages that it sends."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("a stream of events has nothing to receive")

    await stream({"type": "http", "method": method, **scope}, receive, send)
    return messages


async def three() -> AsyncIterator[Event]:
    for number in range(3):
        yield Event(number)


async def test_an_event_is_one_message() -> None:
    """The head, the beginning, each event in a message of its own, and an empty one at the end."""
    start, *bodies = await sent_by(EventStream(three(), headers={"Cache-Control": "private", "x-own": "1"}))
    assert start["status"] == 200
    fields = {
        b"cache-control": b"private",
        b"x-accel-buffering": b"no",
        b"x-own": b"1",
        b"content-type": b"text/event-stream; charset=utf-8",
    }
    assert dict(start["headers"]) == fields
    assert [message["body"] for message in bodies] == [BEGINNING, b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n", b""]
    assert [message.get("more_body", False) for message in bodies] == [True] * 4 + [False]


async def test_a_stream_without_retry() -> None:
    """Without a retry the client is told nothing of it; without headers, the stream isn't stored."""
    start, *bodies = await sent_by(EventStream(nothing(), retry=None, ping=None))
    assert (b"cache-control", b"no-store") in start["headers"]
    assert [message["body"] for message in bodies] == [b":\n\n", b""]


class Watched:
    """A generator that yields one event and waits, and what became of it.

    task: in which it ran.
    requests: whose answer it is.
    cleaned: whether its cleanup could await.
    """

    def __init__(self) -> None:
        self.waits = anyio.Event()
        self.go = anyio.Event()
        self.ended = anyio.Event()
        self.begun = False
        self.cleaned = False
        self.task: Any = None
        self.requests: list[Request] = []

    async def events(self) -> AsyncIterator[Event]:
        self.begun = True
        self.task = current_task()
        try:
            yield Event("first")
            self.waits.set()
            await self.go.wait()
            yield Event("second")
        finally:
            try:
                await anyio.sleep(0.001)
                self.cleaned = True
            finally:
                self.ended.set()


def app_of(watched: Watched, **options: Any) -> Router:
    """A Router that answers with these events."""
    routes = Router(**{name: value for name, value in options.items() if name == "on_disconnect"})

    @routes.get("/")
    async def handler(request: Request) -> EventStream:
        watched.requests.append(request)
        return EventStream(watched.events(), ping=options.get("ping", 15.0))

    return routes


async def test_head_has_no_events() -> None:
    """HEAD is answered with the head alone; the generator never begins."""
    watched = Watched()
    answer = await call(app_of(watched), "HEAD")
    assert (answer.status, answer.body, answer.complete) == (200, b"", True)
    assert not watched.begun


async def test_pings_do_not_disturb_the_generator() -> None:
    """Where nothing is sent, comments are; the generator, in its handler's own task, goes on where it waits."""
    watched, comments = Watched(), 0

    async def send(message: Any) -> None:
        nonlocal comments
        comments += message.get("body") == b":\n\n"
        if comments >= 3:
            watched.go.set()

    stream = EventStream(watched.events(), ping=0.001)
    with anyio.fail_after(PATIENCE):
        await stream({"type": "http", "method": "GET"}, None, send)  # type: ignore[arg-type]
    assert comments >= 3
    assert watched.task is current_task()
    assert watched.cleaned


async def test_a_ping_that_fails_says_nothing() -> None:
    """A client that is gone is the business of whoever sends an event: the generator isn't disturbed by a ping's failure."""
    watched = Watched()

    async def send(message: Any) -> None:
        if message.get("body") == b":\n\n":
            watched.go.set()
            raise OSError("the client is gone")

    with anyio.fail_after(PATIENCE):
        await EventStream(watched.events(), ping=0.001)({"type": "http", "method": "GET"}, None, send)  # type: ignore[arg-type]
    assert watched.cleaned


async def test_no_ping_while_something_is_being_sent() -> None:
    """One message at a time: while the client doesn't take an event, no ping is put behind it."""
    sending = False
    count = 0

    async def send(message: Any) -> None:
        nonlocal sending, count
        assert not sending
        sending = True
        count += 1
        await anyio.sleep(0.003)
        sending = False

    with anyio.fail_after(PATIENCE):
        await EventStream(three(), ping=0.001)({"type": "http", "method": "GET"}, None, send)  # type: ignore[arg-type]
    assert count >= 6


async def test_the_head_comes_before_the_first_event() -> None:
    """A client knows that it is connected, though nothing has happened yet."""
    routes, go = Router(), anyio.Event()

    @routes.get("/")
    async def handler(request: Request) -> EventStream:
        async def events() -> AsyncIterator[Event]:
            await go.wait()
            yield Event(request.headers.get("last-event-id"))

        return EventStream(events())

    async with serving(routes) as served, await served.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\nLast-Event-ID: 7\r\n\r\n")
        data = b""
        while BEGINNING not in data:
            data += await client.receive()
        assert data.startswith(b"HTTP/1.1 200 ")
        go.set()
        while b"data: 7\n\n" not in data:
            data += await client.receive()


async def test_a_generators_error_is_its_own() -> None:
    """What the generator raises comes out as it is, not in a group; and what isn't an event is refused with what to write."""

    async def fails() -> AsyncIterator[Event]:
        yield Event("first")
        raise ZeroDivisionError("a bug in the app")

    async def texts() -> AsyncIterator[Any]:
        yield "data: mine\n\n"

    with pytest.raises(ZeroDivisionError):
        await sent_by(EventStream(fails()))
    with pytest.raises(TypeError, match=r"yields Event objects, not str: write yield Event\(…\)"):
        await sent_by(EventStream(texts()))


# The ends.


class Shutdown:
    """A server that tells of its end, around an app: the extension, as the contract has it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._callbacks: list[Callable[[], object]] = []
        self.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["extensions"]["microasgi.shutdown"] = {"subscribe": self._subscribe}
        await self._app(scope, receive, send)

    @property
    def subscribers(self) -> int:
        return len(self._callbacks)

    def begin(self) -> None:
        self.stopping = True
        for callback in tuple(self._callbacks):
            callback()

    def _subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        self._callbacks.append(callback)
        if self.stopping:
            callback()
        return lambda: self._callbacks.remove(callback)


@pytest.mark.parametrize("told", [False, True], ids=["", "with the shutdown's extension"])
@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_the_generator_ends_with_its_client(how: Departure, told: bool, anyio_backend: Any, caplog: pytest.LogCaptureFixture) -> None:
    """When the client leaves, the generator is stopped once, and its cleanup may await (on trio, where it is shielded)."""
    watched = Watched()
    shutdown = Shutdown(app_of(watched))
    async with serving(shutdown if told else app_of(watched)) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await within(watched.waits)
            client.leave(how)
            await within(watched.ended)
        await eventually(lambda: access_lines(caplog))
    assert '" 499 ' in access_lines(caplog)[0] or '" 200 499 ' in access_lines(caplog)[0]
    assert watched.cleaned is (anyio_backend[0] == "asyncio")
    assert shutdown.subscribers == 0
    assert loud_lines(caplog) == []


async def test_under_finish_it_ends_with_the_next_event(caplog: pytest.LogCaptureFixture) -> None:
    """A stream that isn't cancelled hears of the departure when it next sends, and the generator is closed."""
    watched = Watched()
    async with serving(app_of(watched, on_disconnect="finish", ping=0.001)) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await within(watched.waits)
        await eventually(lambda: watched.requests[0].gone)
        watched.go.set()
        await within(watched.ended)
        await eventually(lambda: access_lines(caplog))
    assert watched.cleaned
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("when", ["it waits", "it begins"])
async def test_it_ends_with_the_server(when: str, anyio_backend: Any, caplog: pytest.LogCaptureFixture) -> None:
    """When the server says that it is shutting down, the stream is complete there and then, and the generator closed."""
    watched = Watched()
    shutdown = Shutdown(app_of(watched))
    shutdown.stopping = when == "it begins"
    async with serving(shutdown) as served, await served.connect() as client:
        await client.send(GET)
        if when == "it waits":
            await within(watched.waits)
            assert shutdown.subscribers == 1
            shutdown.begin()
        with anyio.fail_after(PATIENCE):
            answer = await client.response()
        assert answer.complete
        assert answer.body.startswith(BEGINNING)
        await eventually(lambda: access_lines(caplog))
        assert shutdown.subscribers == 0
    assert watched.begun == watched.ended.is_set()
    if when == "it waits":
        assert watched.cleaned is (anyio_backend[0] == "asyncio")
    assert '" 200 ' in access_lines(caplog)[0]
    assert loud_lines(caplog) == []


async def test_a_background_task_follows_a_stream() -> None:
    """When the stream is out, its background task runs."""
    routes, done = Router(), anyio.Event()

    @routes.get("/")
    async def handler(request: Request) -> EventStream:
        return EventStream(three(), background=done.set)

    async with Client(routes) as client:
        answer = await client.get("/")
    assert json.loads(answer.text.split("data: ")[-1]) == 2
    assert done.is_set()
