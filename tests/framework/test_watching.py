"""Following a request from outside: where it waits, what wakes it, its children, and how its cancellation arrives."""

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
from microasgi_server.connection import Connection
from microasgi_server.taps import Event, Redaction, tapped, tapped_app
from microasgi_server.taps.redaction import plain

from microasgi import CancelOnDisconnect, Request, Response, Router, StreamingResponse, demo
from microasgi.watching import watch
from tests.conftest import LOOPS
from tests.harness import GET, eventually, serving
from tests.harness import call as call_bare

pytestmark = pytest.mark.anyio


class Told(list[Event]):
    """A tap that remembers."""

    __call__ = list.append

    def of(self, lane: str) -> list[str]:
        """What was told in this lane, a line each."""
        return [brief(event) for event in self if event.lane == lane]


def brief(event: Any) -> str:
    """An event as one reads it; of a place, the function."""
    facts = event.facts
    match event.what:
        case "wait":
            return f"{facts['task']} waits in {facts['at'].rpartition(' ')[2]}: {facts['line']}"
        case "stage":
            return f"{facts['old']} {facts['new']}"
        case "child":
            return f"{facts['of']} starts {facts['task']} {facts['name'].rpartition('.')[2]}"
        case "detached":
            return f"{facts['task']} is left behind"
        case "call":
            return f"call {facts['scope']['type']}"
        case "receive" | "send":
            return f"{event.what} {facts['message']['type']}"
    return " ".join(str(word) for word in (facts.get("task"), event.what, facts.get("error")) if word is not None)


async def leave(app: Any, told: Told, path: bytes, until: str) -> None:
    """Ask for that on our own server, tapped, and leave when this is the handler's last."""
    async with serving(watch(app), tapped(Connection, told), lifespan="off") as served:
        async with await served.connect() as client:
            await client.send(GET.replace(b" / ", b" %b " % path))
            await eventually(lambda: told and until in told.of("handler"))
        await eventually(lambda: [event.what for event in told].count("end") == 1)


routes = Router()


@routes.get("/sleep")
async def sleeps(request: Request) -> None:
    try:
        await query()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)


async def query() -> None:
    await anyio.sleep(10)


@routes.get("/group")
async def group(request: Request) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(parent)
        await query()


async def parent() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(query)


@routes.get("/stream")
async def stream(request: Request) -> Response:
    return StreamingResponse(ticks())


async def ticks() -> AsyncIterator[str]:
    yield "tick"
    await query()


@routes.get("/finish", on_disconnect="finish")
async def finishes(request: Request) -> str:
    await anyio.lowlevel.checkpoint()
    return "finished"


SLEEP = "await anyio.sleep(10)"


async def test_a_departure_is_told_from_the_wait_to_the_end() -> None:
    """Where it waited, that it was cancelled there, where its cleanup waited, and how long that took."""
    told = Told()
    await leave(routes, told, b"/sleep", f"0 waits in query: {SLEEP}")
    lines = told.of("handler")
    on_trio = "OPEN CALLED" in lines and "CALLED SENT" not in lines
    assert lines[: lines.index("0 go on") + 2] == [
        f"0 waits in query: {SLEEP}",
        "OPEN CALLED",
        *([] if on_trio else ["CALLED SENT"]),
        f"0 thrown {'Cancelled' if on_trio else 'CancelledError'}",
        *([] if on_trio else ["SENT HEARD"]),
        "0 waits in sleeps: await anyio.sleep(0.01)",
        "0 go on",
        f"{'CALLED' if on_trio else 'HEARD'} OVER",
    ]
    assert lines[-1] == "0 returned"
    over = next(event for event in told if event.facts.get("new") == "OVER")
    assert 0.005 < over.facts["cleanup"] < 2
    wait = next(event for event in told if event.what == "wait")
    assert [place.rpartition(" ")[2] for place in wait.facts["chain"]] == ["sleeps", "query"]
    assert wait.source is not None
    assert wait.source[0] is query.__code__
    order = [event.what for event in told]
    assert order.index("hang_up") < order.index("told") < order.index("stage") < order.index("thrown")


async def test_the_demos_own_lines_are_named() -> None:
    """It is an app, though it lies among the framework's files."""
    told = Told()
    await leave(demo.routes, told, b"/sleep", "0 waits in sleep: await anyio.sleep(10)")


async def test_children_are_followed_each_by_its_number() -> None:
    """What a handler starts, and what that starts, waits, is cancelled and ends as itself."""
    told = Told()
    await leave(routes, told, b"/group", f"2 waits in query: {SLEEP}")
    lines = told.of("handler")
    assert [line for line in lines if "starts" in line] == ["0 starts 1 parent", "1 starts 2 query"]
    for task, place in enumerate(("query", "parent", "query")):
        assert any(line.startswith(f"{task} waits in {place}: ") for line in lines)
        assert task == 1 or any(line.startswith(f"{task} thrown Cancel") for line in lines)  # trio doesn't throw into who waits for others
    for task in (1, 2):
        (end,) = [event for event in told if event.facts.get("task") == task and event.what in ("raised", "returned")]
        assert end.facts.get("cleanup", 0.0) < 2
    assert lines.count("0 returned") == 1


async def test_an_async_generator_is_seen_through() -> None:
    """A handler that streams waits in its generator, and not in the response."""
    told = Told()
    await leave(routes, told, b"/stream", f"0 waits in query: {SLEEP}")
    wait = next(event for event in told if event.what == "wait" and event.facts["line"] == SLEEP)
    assert [place.rpartition(" ")[2] for place in wait.facts["chain"]] == ["ticks", "query"]


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
async def test_asyncios_own_tasks_are_followed_and_what_is_left_behind_is_named() -> None:
    """`gather`, `TaskGroup` and `create_task` start tasks as anyio does; one that outlives the app is told of once more, and no longer."""
    left: list[asyncio.Task[None]] = []
    released = asyncio.Event()

    async def detached() -> None:
        await released.wait()

    async def short() -> None:
        await asyncio.sleep(0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        left.append(asyncio.create_task(detached(), name="keeper"))
        await asyncio.gather(short(), short())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(short())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    told = Told()
    await call_bare(tapped_app(watch(app), told))
    count = len(told)
    released.set()
    await left[0]
    assert len(told) == count
    lines = told.of("handler")
    assert [line for line in lines if "starts" in line][1:] == ["0 starts 2 short", "0 starts 3 short", "0 starts 4 short"]
    assert [line for line in lines if line.endswith("returned")] == ["2 returned", "3 returned", "4 returned", "0 returned"]
    assert lines[-1] == "1 is left behind"


async def test_a_thread_that_comes_back_is_a_child() -> None:
    """What a thread has the loop run belongs to the request, too."""

    async def inner() -> None:
        await anyio.lowlevel.checkpoint()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.to_thread.run_sync(anyio.from_thread.run, inner)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    told = Told()
    await call_bare(tapped_app(watch(app), told))
    assert "0 returned" in told.of("handler")
    if any("starts" in line for line in told.of("handler")):  # on trio it runs in the thread's own system task, in its context
        assert "1 returned" in told.of("handler")


async def test_on_other_servers_messages_are_told_too() -> None:
    """With a tap around it, it is told what the app and the server say to each other, without secrets."""
    told = Told()
    app = tapped_app(watch(CancelOnDisconnect(routes)), told, Redaction(["x-mine"]))
    headers = [(b"cookie", b"QZ"), (b"x-mine", b"QZ")]
    response = await call_bare(app, path="/finish?a", headers=headers, extensions={})
    assert response.body == b"finished"
    said = [line for line in told.of("asgi") if not line.startswith("receive")]  # by a pump, if there is one
    assert said == ["call http", "send http.response.start", "send http.response.body", "end"]
    assert "QZ" not in json.dumps([event.facts for event in told])
    assert {(event.connection, event.request) for event in told} == {(1, 1)}
    await call_bare(app, path="/finish")
    assert told[-1].connection == 2


async def test_what_an_app_raises_passes_and_is_told() -> None:
    """An exception goes through as it is; neither it nor anything else of the request lives on in what was told."""
    alive: list[weakref.ref[BaseException]] = []

    class Gone(Exception):
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.lowlevel.checkpoint()
        error = Gone("mine")
        alive.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    told = Told()
    with pytest.raises(Gone):
        await call_bare(tapped_app(watch(app), told))
    assert told.of("handler")[-1] == "0 raised Gone: mine"
    assert told.of("asgi")[-1] == "end Gone: mine"
    gc.collect()
    assert alive[0]() is None
    for event in told:
        assert plain(event.facts, 9) == event.facts
        json.dumps(event.facts)


async def test_who_isnt_watched_isnt_followed() -> None:
    """Without a tap, and for a lifespan, the app is called as it is; so is what runs beside a watched request."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    told = Told()
    lifespan: Any = {"type": "lifespan"}
    await tapped_app(watch(app), told)(lifespan, None, None)  # type: ignore[arg-type]
    await watch(app)({"type": "http"}, None, None)  # type: ignore[arg-type]
    assert [scope["type"] for scope in scopes] == ["lifespan", "http"]
    assert scopes[0] is lifespan
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(query)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert told == []
