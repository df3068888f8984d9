"""An app by itself: it is called in process, through `Lint`, as a good server would call it."""

import inspect
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import quote

import anyio

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.lint.middleware import Lint
from microasgi.lint.rule import RULES, Finding, Level, Moment, Side, Spec, rule, shown
from microasgi.testing.lifespan import Lifespan

PATIENCE = 5.0
"""Seconds after which a client leaves."""

LIFESPAN = 60.0
"""Seconds that the app's startup may take, and its shutdown."""

ASGI = {"version": "3.0", "spec_version": "2.5"}


@rule("A-13", Spec.MAIN, "Applications", Level.WARN, Side.APP, Moment.EXAMINED)
def an_app_takes_three(app: Any, _: object) -> Iterator[str]:
    """An app is called with a scope, `receive` and `send`. (One that takes only a scope is of ASGI 2, which few servers know.)"""
    try:
        inspect.signature(app).bind({}, None, None)
    except TypeError:
        yield f"{shown(app)} can't be called with three arguments"
    except ValueError:
        return  # it doesn't say what it takes


@rule("A-14", Spec.MAIN, "Protocol Specifications", Level.WARN, Side.APP, Moment.EXAMINED)
def a_stranger_is_refused(_: object, raised: Exception | None) -> Iterator[str]:
    """An app that is called with a scope of a type that it doesn't know raises an exception."""
    if raised is None:
        yield "a scope of type 'microasgi.lint' was not refused"


class Request(NamedTuple):
    """What an app is asked.

    path: decoded, and with a query, if it has one.
    body: a message for each piece.
    stays: whether the client does, after it has said that.
    """

    method: str
    path: str
    body: Sequence[bytes] = (b"",)
    stays: bool = True

    def __str__(self) -> str:
        return f"{self.method} {self.path}" + ("" if self.stays else ", left")


class Examined(NamedTuple):
    """What came of it.

    findings: rules that the app has broken.
    answers: by what was asked, the status, or what the app has raised: no breach of ASGI, but probably not meant so.
    """

    findings: list[Finding]
    answers: dict[str, int | Exception]


class AppError(Exception):
    """The app can't be asked: it hasn't started."""


def _routes(app: Any) -> Iterable[Any]:
    """An app's routes, also those of one in middleware, which keeps it as `app`, mostly."""
    within, seen = app, set[int]()
    while not hasattr(within, "routes") and hasattr(within, "app") and id(within) not in seen:
        seen.add(id(within))
        within = within.app
    return getattr(within, "routes", None) or ()


def usual(app: Any, paths: Iterable[str] = ()) -> list[Request]:
    """A sensible set of requests: to these paths, else to those that the app's `routes` tell of, and to some that are probably none."""
    told = [*paths] or [path for route in _routes(app) if isinstance(path := getattr(route, "path", None), str)]
    known = [*dict.fromkeys(["/", *map(_filled, told)])]
    return [
        *(Request(method, path) for path in known for method in ("GET", "HEAD", "POST")),
        *(Request("POST", path, (b'{"a"', b": 1}")) for path in known),
        *(Request("POST", path, (b"half",), stays=False) for path in known),
        *(Request("GET", path, stays=False) for path in known),
        Request("OPTIONS", known[-1]),
        Request("BREW", "/"),
        Request("GET", "/no such/caf\xe9"),
    ]


def _filled(path: str) -> str:
    """A route's path with a 1 for each of its parameters."""
    while "{" in path and "}" in path:
        before, _, rest = path.partition("{")
        path = f"{before}1{rest.partition('}')[2]}"
    return path


async def examine(app: ASGIApp, requests: Iterable[Request], level: Level = Level.WARN) -> Examined:
    """Run the app's lifespan, and in it the requests, one after the other; then a WebSocket, and a scope that nobody knows.

    :raises AppError: its startup has failed
    """
    lint = Lint(app, level=level)
    examined = Examined(lint.findings, {})
    _judge(examined, "A-13", app, None, level)
    if examined.findings:
        return examined
    async with _living(lint) as state:
        for request in requests:
            examined.answers[str(request)] = await _ask(lint, request, state)
        examined.answers["websocket /"] = await _connect(lint, state)
        _judge(examined, "A-14", app, await _called(app, {"type": "microasgi.lint", "asgi": ASGI}, _nothing, _dropped), level)
    return examined


def _judge(examined: Examined, id: str, app: Any, outcome: Any, level: Level) -> None:
    if RULES[id].level >= level:
        examined.findings.extend(Finding(RULES[id], Side.APP, detail, "the app") for detail in RULES[id].check(app, outcome))


async def _called(app: ASGIApp, scope: Scope, receive: Any, send: Any) -> Exception | None:
    """Call the app, at most so long; what it has raised."""
    try:
        with anyio.move_on_after(PATIENCE):
            await app(scope, receive, send)
    except Exception as error:
        return error
    return None


async def _nothing() -> Message:
    await anyio.sleep_forever()
    raise AssertionError


async def _dropped(_: Message) -> None:
    pass


def _scope(kind: str, target: str, state: dict[str, Any], **more: Any) -> Scope:
    path, _, query = target.partition("?")
    return {
        "type": kind,
        "asgi": ASGI,
        "http_version": "1.1",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"testserver"), (b"accept", b"*/*"), *more.pop("headers", ())],
        "client": ("127.0.0.1", 54321),
        "server": ("127.0.0.1", 80),
        "state": state.copy(),
        "extensions": {},
        **more,
    }


async def _ask(app: ASGIApp, request: Request, state: dict[str, Any]) -> int | Exception:
    """One request: the status of its answer, 0 if there was none."""
    incoming = [{"type": "http.request", "body": piece, "more_body": True} for piece in request.body]
    incoming[-1]["more_body"] = not request.stays and bool(request.body[-1])
    statuses, over, left = [0], anyio.Event(), ConnectionResetError("the client has left")

    async def receive() -> Message:
        if incoming and not over.is_set():
            return incoming.pop(0)
        if request.stays:
            await over.wait()
        over.set()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        if over.is_set() and not request.stays:
            raise left
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            over.set()

    length = [(b"content-length", b"%d" % sum(map(len, request.body)))] if request.body != (b"",) else []
    json = [(b"content-type", b"application/json")] if length else []
    scope = _scope("http", request.path, state, method=request.method, scheme="http", headers=[*length, *json])
    raised = await _called(app, scope, receive, send)
    return statuses[-1] if raised is None or left in (raised, raised.__cause__, raised.__context__) else raised


async def _connect(app: ASGIApp, state: dict[str, Any]) -> int | Exception:
    """A WebSocket that says hello, and goodbye: 101 if the app has accepted it, else 403."""
    incoming = ["websocket.connect", "websocket.receive", "websocket.disconnect"]
    more: dict[str, dict[str, Any]] = {"websocket.receive": {"text": "hello"}, "websocket.disconnect": {"code": 1005}}
    statuses, answered = [403], anyio.Event()

    async def receive() -> Message:
        if len(incoming) < 3:
            await answered.wait()
        if len(incoming) < 3 and statuses[-1] != 101:
            return {"type": "websocket.disconnect", "code": 1006}
        kind = incoming.pop(0) if len(incoming) > 1 else incoming[0]
        return {"type": kind, **more.get(kind, {})}

    async def send(message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        if message["type"] == "websocket.accept":
            statuses.append(101)
        answered.set()

    return await _called(app, _scope("websocket", "/", state, scheme="ws", subprotocols=[]), receive, send) or statuses[-1]


@asynccontextmanager
async def _living(app: ASGIApp) -> AsyncIterator[dict[str, Any]]:
    """The app's lifespan around the block, if it has one; gives the state.

    :raises AppError: its startup has failed, or part of it takes too long
    """
    state: dict[str, Any] = {}
    lifespan = Lifespan()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lifespan.run, _silent(app), state)
        if not await _in_time(lifespan.started):
            lifespan.failures.append(f"the app's startup has taken more than {LIFESPAN:g} s")
        if not lifespan.failures:
            yield state
            lifespan.stop.set()
            if not await _in_time(lifespan.ended):
                lifespan.failures.append(f"the app's shutdown has taken more than {LIFESPAN:g} s")
        tasks.cancel_scope.cancel()
    if lifespan.failures:
        raise AppError(lifespan.failures[0])


def _silent(app: ASGIApp) -> ASGIApp:
    """The same app, but that a lifespan that raises, whenever that is, counts as none."""

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(Exception):
            await app(scope, receive, send)

    return silent


async def _in_time(event: anyio.Event) -> bool:
    """Wait for a part of the lifespan, as long as is sensible. Whether it came to its end."""
    with anyio.move_on_after(LIFESPAN):
        await event.wait()
        return True
    return False
