"""`Lint` around an app: what shows between conversations, and that it changes nothing."""

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microasgi import Request, Router, StreamingResponse
from microasgi.lint import Finding, Level, Lint, LintError
from microasgi.lint.reports import LogOnce
from microasgi.testing import Client
from tests.harness import GET, eventually, serving
from tests.lint.talks import (
    ACCEPT,
    BODY,
    CHAT,
    CLOSE,
    CONNECT,
    GOODBYE,
    HEARD,
    HTTP,
    LEFT,
    LIFE,
    LIFESPAN,
    PART,
    PIECE,
    PLAIN,
    REQUEST,
    SAID,
    SHUTDOWN,
    SOCKET,
    START,
    STARTED,
    STARTUP,
    Script,
    Step,
    findings,
    out,
    played,
)

pytestmark = pytest.mark.anyio


def ids(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.rule.id, finding.side.value) for finding in found]


class Living:
    """An app with a lifespan behind one `Lint`, and the server of it, whom the test tells when to go on."""

    def __init__(self) -> None:
        self.lint = Lint(self, level=Level.NOTE)
        self.scope: dict[str, Any] = {**LIFESPAN, "state": {}}
        self.answer, self.answered, self.finish, self.stop = anyio.Event(), anyio.Event(), anyio.Event(), anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["key"] = self
            await self.answer.wait()
            await send(STARTED[1])
            self.answered.set()
            await receive()
        else:
            await self.finish.wait()
            await send(START[1])
            await send(BODY[1])

    async def live(self) -> None:
        messages = [STARTUP[1]]

        async def receive() -> Any:
            if not messages:
                await self.stop.wait()
                return SHUTDOWN[1]
            return messages.pop()

        await self.lint(self.scope, receive, _sent)

    async def ask(self, **scope: Any) -> None:
        await self.lint({**HTTP, **scope}, _left, _sent)

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        """Around what happens when it has started."""
        self.answer.set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.live)
            await self.answered.wait()
            yield
            tasks.cancel_scope.cancel()


async def _sent(_: Any) -> None:
    pass


async def _left() -> Any:
    return LEFT[1]


async def test_a_request_before_the_startup() -> None:
    """L-2: a server that doesn't wait for the app's startup."""
    app = Living()
    app.finish.set()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.live)
        await anyio.wait_all_tasks_blocked()
        await app.ask()
        tasks.cancel_scope.cancel()
    assert ids(app.lint.findings) == [("L-2", "server")]


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (lambda state: dict(state), []),
        (lambda state: {**state, "more": 1}, []),
        (lambda state: state, [("L-10", "server")]),
        (lambda state: None, [("H-1", "server"), ("L-10", "server")]),
        (lambda state: {}, [("L-10", "server")]),
        (lambda state: {"key": object()}, [("L-10", "server")]),
    ],
    ids=["copy", "more", "same", "none", "empty", "another"],
)
async def test_the_state_of_a_request(state: Any, found: list[tuple[str, str]]) -> None:
    """L-10: a request's state is a shallow copy of the lifespan's."""
    app = Living()
    app.finish.set()
    async with app.living():
        await app.ask(state=state(app.scope["state"]))
    assert sorted(ids(app.lint.findings)) == found


@pytest.mark.parametrize(("done", "found"), [(True, []), (False, [("L-12", "server")])], ids=["done", "running"])
async def test_a_shutdown_while_something_runs(done: bool, found: list[tuple[str, str]]) -> None:
    """L-12: the lifespan's end comes when every app has answered, or knows that its client has left."""
    app = Living()
    async with app.living(), anyio.create_task_group() as requests:
        requests.start_soon(partial(app.ask, state={**app.scope["state"]}))
        await anyio.wait_all_tasks_blocked()
        if done:
            app.finish.set()
            await anyio.wait_all_tasks_blocked()
        app.stop.set()
        await anyio.wait_all_tasks_blocked()
        requests.cancel_scope.cancel()
    assert ids(app.lint.findings) == found


def test_a_request_in_another_loop() -> None:
    """L-11: requests run where their lifespan runs."""
    app = Living()
    app.finish.set()

    async def begin() -> None:
        async with app.living():
            await anyio.to_thread.run_sync(anyio.run, partial(app.ask, state={**app.scope["state"]}))

    anyio.run(begin)
    assert ids(app.lint.findings) == [("L-11", "server")]


async def test_a_scope_that_is_changed() -> None:
    """A-9: what an app writes into its scope is seen around it; in a copy, it isn't."""

    async def changes(scope: Any, receive: Any, send: Any) -> None:
        scope["path_params"] = {}
        await copies(scope, receive, send)

    async def copies(scope: Any, receive: Any, send: Any) -> None:
        {**scope}["path_params"] = {}
        for message in (START, BODY):
            await send(message[1])

    for app, found in ((changes, [("A-9", "app")]), (copies, [])):
        lint = Lint(app, level=Level.NOTE)
        await lint(dict(HTTP), _left, _sent)
        assert ids(lint.findings) == found


async def test_messages_and_exceptions_pass_as_they_are() -> None:
    """Who has a `Lint` around him gets the same objects, and so does who is around it, whatever is wrong with them."""
    given, taken = {"type": "http.request", "body": 3}, {"type": "nonsense"}
    got: list[Any] = []
    error = LookupError()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append(scope)
        got.append(await receive())
        with pytest.raises(KeyError):
            await send(taken)
        raise error

    async def receive() -> Any:
        return given

    async def send(message: Any) -> None:
        got.append(message)
        raise KeyError

    scope = {"type": "http"}
    with pytest.raises(LookupError) as raised:
        await Lint(app)(scope, receive, send)
    assert raised.value is error
    assert [one is other for one, other in zip(got, [scope, given, taken], strict=True)] == [True] * 3


async def test_an_iterator_of_headers_is_not_used_up() -> None:
    """Header fields that can be walked once are still there for the server."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": iter([(b"A", b"b")])})

    async def send(message: Any) -> None:
        sent.extend(message["headers"])

    lint = Lint(app)
    await lint(dict(HTTP), _left, send)
    assert sent == [(b"A", b"b")]
    assert ("H-19", "app") in ids(lint.findings)


async def test_a_check_says_what_was_found() -> None:
    """`check()` raises an AssertionError with a line for each finding: the rule, the side, the section and the conversation."""
    script = Script()
    lint = Lint(script)
    lint.check()
    await played(lint, script, dict(HTTP), (REQUEST, BODY, START, BODY))
    with pytest.raises(LintError, match=r"ERROR H-23, by the app: a body, but .* \(ASGI HTTP & WebSocket, Response Body; GET /caf\xe9\)"):
        lint.check()


async def test_the_log_has_each_kind_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each kind of finding, at its level, and a count at the end."""
    log, script = LogOnce(), Script()
    lint = Lint(script, log, Level.NOTE)
    for _ in range(3):
        await played(lint, script, dict(HTTP), (REQUEST, START, START, BODY, BODY))
    log.count()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "INFO"]
    assert caplog.messages[-1] == "Broken rules of ASGI: H-22 by the app 3 times, H-25 by the app 3 times"


# No false alarms, and no harm done.


async def test_our_server_and_our_router_are_clean() -> None:
    """A Router on our server: an answer, a stream, a body unread, clients that leave: nothing is found on either side."""
    routes = Router()
    begun = anyio.Event()

    @routes.route("/", ["GET", "POST"])
    async def home(request: Request) -> bytes:
        return await request.body()

    @routes.get("/stream")
    async def stream(request: Request) -> StreamingResponse:
        async def pieces() -> Any:
            while True:
                yield b"piece"
                await anyio.sleep(0.001)

        return StreamingResponse(pieces())

    @routes.post("/sleep")
    async def sleep(request: Request) -> None:
        begun.set()
        await anyio.sleep_forever()

    lint = Lint(routes)
    async with serving(lint) as served:
        async with await served.connect() as client:
            await client.send(GET + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            assert [(await client.response()).status, (await client.response()).body] == [200, b"hello"]
        async with await served.connect() as client:
            await client.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.receive()
        async with await served.connect() as client:
            await client.send(b"POST /sleep HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n" + bytes(100_000))
            await begun.wait()
        await eventually(lambda: not lint._talks)
        served.stop.set()
        await served.ended.wait()
    lint.check()


async def test_the_test_client_is_clean() -> None:
    """What the framework's own test client says to an app is ASGI, too."""
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> str:
        return "hello"

    @routes.websocket("/chat")
    async def chat(ws: Any) -> None:
        await ws.accept()
        await ws.send_text(await ws.receive_text())

    lint = Lint(routes)
    async with Client(lint) as client:
        assert (await client.get("/")).text == "hello"
        assert (await client.get("/none")).status_code == 404
        async with client.open("GET", "/") as call:
            await call.hang_up()
        async with client.websocket("/chat") as ws:
            await ws.send_text("hello")
            assert await ws.receive_text() == "hello"
    lint.check()


TOSSED: Any = st.booleans()
PIECES = st.lists(st.just(PIECE), max_size=3)
PARTS = st.lists(st.just(PART), max_size=3)
GONE = ("out", PART[1], ConnectionResetError())


@st.composite
def requests(draw: st.DrawFn) -> list[Step]:
    """A legal conversation of HTTP: messages of both sides in any order that is one."""
    incoming = [*draw(PIECES), REQUEST]
    outgoing = [START, *draw(PARTS), BODY]
    steps: list[Step] = []
    while outgoing:
        steps.append(incoming.pop(0) if incoming and draw(TOSSED) else outgoing.pop(0))
        if outgoing and steps[-1] is not START and draw(st.integers(0, 5)) == 0:
            return [*steps, LEFT, *draw(st.sampled_from([[], [LEFT], [*outgoing[: outgoing.count(START)], GONE]]))]
    return [*steps, *draw(st.lists(st.just(LEFT), max_size=2))]


@st.composite
def sockets(draw: st.DrawFn) -> list[Step]:
    """A legal conversation of a WebSocket."""
    if draw(TOSSED):
        denied = [out("websocket.http.response.start", status=403), out("websocket.http.response.body")]
        return [CONNECT, *draw(st.sampled_from([[CLOSE], denied, [GOODBYE]]))]
    return [CONNECT, ACCEPT, *draw(st.lists(st.sampled_from([HEARD, SAID]), max_size=6)), draw(st.sampled_from([CLOSE, GOODBYE]))]


@given(steps=requests())
def test_legal_requests_are_silent(steps: list[Step]) -> None:
    """Nothing above a note is found in any legal order of messages."""
    assert [str(finding) for finding in anyio.run(findings, dict(HTTP), steps, Level.WARN)] == []


@given(steps=sockets())
def test_legal_sockets_are_silent(steps: list[Step]) -> None:
    """The same for WebSockets."""
    assert [str(finding) for finding in anyio.run(findings, dict(SOCKET), steps, Level.NOTE)] == []


JUNK: Any = st.sampled_from(
    [
        *(None, True, 0, -1, 200, 2**70, math.nan, math.inf, b"", b"/?\xff", "", "x", object(), KeyError),
        *(
            (),
            [],
            [3],
            [b"a"],
            [[b"a"]],
            [(b"A", "b")],
            [(b":a", b"b")],
            ("a", 1),
            ("a", "1"),
            iter([1]),
            {},
            {1: 2},
            {"a": object()},
            {"x": 1},
        ),
    ]
)
KEYS = st.sampled_from([*HTTP, *SOCKET, "status", "body", "more_body", "headers", "trailers", "text", "bytes", "code", "reason", "message"])
TYPES = st.sampled_from([step[1]["type"] for step in (*PLAIN, *CHAT, *LIFE, LEFT, CLOSE)])


@st.composite
def junk(draw: st.DrawFn, /, **kept: Any) -> Any:
    """Something that looks like a scope or a message, or like nothing at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JUNK)
    return {**draw(st.dictionaries(KEYS, JUNK, max_size=5)), **kept}


@settings(max_examples=40)
@given(data=st.data())
def test_nothing_breaks_the_linter(data: st.DataObject) -> None:
    """Whatever a server and an app say to each other, `Lint` finds something or nothing, and doesn't raise."""
    scope = data.draw(st.sampled_from(["http", "websocket", "lifespan", "x"]).flatmap(lambda kind: junk(type=kind)))
    steps: list[Step] = [
        (data.draw(st.sampled_from(["in", "out"])), data.draw(TYPES.flatmap(lambda kind: junk(type=kind)))) for _ in range(5)
    ]
    logging.disable()
    try:
        anyio.run(findings, scope, steps, Level.NOTE)
    finally:
        logging.disable(logging.NOTSET)
