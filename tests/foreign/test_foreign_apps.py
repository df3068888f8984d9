"""Apps of other frameworks, unchanged, on our server: what they rely on is there, and a client that leaves is not an error."""

import gc
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from microasgi import CancelOnDisconnect, Mount, Router
from microasgi.asgi import Receive, Scope, Send
from tests.conftest import LOOPS
from tests.foreign.frameworks import WITNESSES, Witness, django_app, fastapi_app, quart_app, sleep, starlette_app
from tests.harness import PATIENCE, Client, Departure, Served, eventually, serving, within

pytestmark = pytest.mark.anyio

Make = Callable[[], Any]

FRAMEWORKS: dict[str, Make] = {"starlette": starlette_app, "fastapi": fastapi_app, "quart": quart_app, "django": django_app}
ON_EVERY_LOOP = ("starlette", "fastapi")
"""Quart and Django are written for asyncio."""


def on_their_loops(*frameworks: str) -> pytest.MarkDecorator:
    """Run a test with these frameworks, each on the loops it supports."""
    cases = [
        pytest.param(loop, FRAMEWORKS[framework], id=f"{name}-{framework}")
        for framework in frameworks
        for name, loop in LOOPS.items()
        if name != "trio" or framework in ON_EVERY_LOOP
    ]
    return pytest.mark.parametrize(("anyio_backend", "make"), cases)


every_framework = on_their_loops(*FRAMEWORKS)


@pytest.fixture
def witness(request: pytest.FixtureRequest) -> Iterator[Witness]:
    """What the test's handlers tell it."""
    witness = Witness(str(id(request)))
    yield witness
    del WITNESSES[witness.name]


def head(method: str, target: str, *fields: str) -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *fields, "", ""]).encode()


def post(target: str, body: bytes, content_type: str) -> bytes:
    """A whole POST."""
    return head("POST", target, f"Content-Length: {len(body)}", f"Content-Type: {content_type}") + body


@asynccontextmanager
async def running(app: Any, **options: Any) -> AsyncIterator[Served]:
    """Serve the app, and stop gracefully: what a framework does behind its response, such as closing files, isn't cut off."""
    async with serving(app, **options) as served:
        yield served
        served.stop.set()
        await within(served.ended)


async def ask(served: Served, request: bytes) -> Any:
    """One request on a connection of its own."""
    async with await served.connect() as client:
        await client.send(request)
        with anyio.fail_after(PATIENCE):
            return await client.response()


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What anybody logged above info: ours and theirs."""
    return [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]


@every_framework
async def test_requests_are_routed_and_answered(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Routing, JSON both ways and a missing route work, all on one connection."""
    async with running(make()) as served, await served.connect() as client:
        await client.send(head("GET", "/hello/you"))
        answer = await client.response()
        assert (answer.status, json.loads(answer.body)) == (200, {"hello": "you"})
        await client.send(post("/double", b'{"number": 21}', "application/json"))
        answer = await client.response()
        assert (answer.status, json.loads(answer.body)) == (200, {"twice": 42})
        await client.send(head("GET", "/nowhere"))
        assert (await client.response()).status == 404
        await client.send(head("HEAD", "/hello/you"))
        answer = await client.response(b"HEAD")
        assert answer.body == b""
    assert [fault for fault in faults(caplog) if "nowhere" not in fault] == []  # Django warns of every 404


@on_their_loops("quart", "django")
async def test_forms_are_read(make: Make) -> None:
    """A form's fields arrive."""
    async with running(make()) as served:
        answer = await ask(served, post("/form", b"name=J%C3%BCrgen&x=y", "application/x-www-form-urlencoded"))
    assert (answer.status, answer.body.decode()) == (200, "Jürgen")


@every_framework
async def test_large_bodies_are_read(make: Make) -> None:
    """A body of a megabyte arrives whole, with a length and in chunks."""
    size = 1_000_000
    async with running(make()) as served:
        answer = await ask(served, post("/count", b"x" * size, "application/octet-stream"))
        assert (answer.status, answer.body) == (200, b"1000000")
        chunks = (b"%x\r\n" % (size // 4) + b"x" * (size // 4) + b"\r\n") * 4 + b"0\r\n\r\n"
        answer = await ask(served, head("POST", "/count", "Transfer-Encoding: chunked") + chunks)
        assert (answer.status, answer.body) == (200, b"1000000")


@every_framework
async def test_responses_are_streamed(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A streamed response arrives whole, and the connection goes on."""
    async with running(make()) as served, await served.connect() as client:
        for _ in range(2):
            await client.send(head("GET", "/stream"))
            answer = await client.response()
            assert (answer.status, answer.body, answer.complete) == (200, b"one two three", True)
    assert faults(caplog) == []


@every_framework
async def test_an_exception_is_a_500(make: Make) -> None:
    """A handler that raises makes a clean 500, and the server goes on."""
    async with running(make()) as served, await served.connect() as client:
        await client.send(head("GET", "/crash"))
        answer = await client.response()
        assert (answer.status, answer.complete) == (500, True)
        await client.send(head("GET", "/hello/you"))
        assert (await client.response()).status == 200


@on_their_loops("starlette", "fastapi", "quart")
async def test_the_lifespan_runs(make: Make) -> None:
    """What the lifespan prepared is there for the requests."""
    async with running(make(), lifespan="on") as served:
        answer = await ask(served, head("GET", "/state"))
    assert (answer.status, answer.body) == (200, b"from the lifespan")


@on_their_loops("django")
async def test_an_app_without_a_lifespan_is_served(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Django, which raises when it is asked for a lifespan, is served without one, and that is no fault."""
    async with running(make()) as served:
        assert (await ask(served, head("GET", "/hello/you"))).status == 200
        assert (await ask(served, head("GET", "/sync"))).body == b"from a thread"
    assert faults(caplog) == []


@on_their_loops("starlette", "fastapi", "quart")
@pytest.mark.parametrize("protected", [False, True], ids=["bare", "protected"])
async def test_background_tasks_outlive_the_client(make: Make, protected: bool, witness: Witness, caplog: pytest.LogCaptureFixture) -> None:
    """A background task runs to its end although its client, which has its answer, leaves at once."""
    app = CancelOnDisconnect(make()) if protected else make()
    async with running(app) as served:
        answer = await ask(served, head("GET", f"/background?witness={witness.name}"))
        assert (answer.status, answer.complete) == (200, True)
        await within(witness.began)
        await ask(served, head("GET", "/hello/you"))  # a round trip: the server has seen the first client go
        witness.go.set()
        await within(witness.ended)
    assert witness.notes == ["began", "ended"]
    assert faults(caplog) == []


async def leave_streaming(client: Client, witness: Witness, how: Departure) -> None:
    """Ask for the endless stream, read a little, and go."""
    await client.send(head("GET", f"/ticks?witness={witness.name}"))
    received = b""
    with anyio.fail_after(PATIENCE):
        while received.count(b"tick") < 3:
            received += await client.receive()
    client.leave(how)


@pytest.fixture
def light_collector() -> Iterator[None]:
    """A whole collection looks at what the test itself has made, and at nothing else: it is quick, however much there is."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@every_framework
@pytest.mark.usefixtures("light_collector")
# Starlette and Django leave the generator of a stream, and Django a file, to the garbage collector if `send()` raises.
@pytest.mark.filterwarnings("ignore:.*(async_generator|SpooledTemporaryFile):pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("protected", [False, True], ids=["bare", "protected"])
async def test_a_left_stream_ends(make: Make, protected: bool, how: Departure, witness: Witness, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves in the middle of a stream ends it, and nobody logs a fault."""

    def has_ended() -> bool:
        if not witness.ended.is_set():
            gc.collect()
        return witness.ended.is_set()

    app = CancelOnDisconnect(make()) if protected else make()
    async with running(app) as served:
        async with await served.connect() as client:
            await leave_streaming(client, witness, how)
        await eventually(has_ended)
        assert (await ask(served, head("GET", "/hello/you"))).status == 200
    if make is django_app:
        gc.collect()  # while the warning is expected
    assert witness.notes[0] == "began"
    assert faults(caplog) == []


@every_framework
@pytest.mark.parametrize("how", ["FIN", "RST", "half-close"])
async def test_a_protected_handler_stops(make: Make, how: Departure, witness: Witness, caplog: pytest.LogCaptureFixture) -> None:
    """`CancelOnDisconnect` stops the handlers of every framework, and nobody logs a fault."""
    async with running(CancelOnDisconnect(make())) as served, await served.connect() as client:
        await client.send(head("GET", f"/sleep?witness={witness.name}"))
        await within(witness.began)
        client.leave(how)
        await within(witness.ended, 1)
        assert witness.notes[:2] == ["began", "stopped"]
        assert (await ask(served, head("GET", "/hello/you"))).status == 200
    assert faults(caplog) == []


@every_framework
async def test_a_mounted_apps_handler_stops(make: Make, witness: Witness, caplog: pytest.LogCaptureFixture) -> None:
    """Under a Router, too, the handlers of every framework stop, and what is mounted works below its prefix."""
    async with running(Router([Mount("/in", make())])) as served:
        async with await served.connect() as client:
            await client.send(head("GET", f"/in/sleep?witness={witness.name}"))
            await within(witness.began)
            client.leave()
            await within(witness.ended, 1)
        assert witness.notes[:2] == ["began", "stopped"]
        assert json.loads((await ask(served, head("GET", "/in/hello/you"))).body) == {"hello": "you"}
    assert faults(caplog) == []


async def test_an_app_that_listens_is_stopped_too(witness: Witness, caplog: pytest.LogCaptureFixture) -> None:
    """An app that waits in `receive()` all the time, and doesn't care what it hears, is stopped at the latest when the grace ends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await sleep(witness.name)

    async with running(CancelOnDisconnect(app, cleanup_grace=0.1), lifespan="off") as served:
        async with await served.connect() as client:
            await client.send(head("GET", "/"))
            await within(witness.began)
        await within(witness.ended, 1)
    assert witness.notes == ["began", "stopped"]
    assert faults(caplog) == []


@on_their_loops("starlette", "fastapi")
async def test_a_protected_handler_stops_with_its_body_unread(make: Make, witness: Witness, caplog: pytest.LogCaptureFixture) -> None:
    """A body that nobody reads doesn't hide that its client left."""
    async with running(CancelOnDisconnect(make())) as served, await served.connect() as client:
        await client.send(head("POST", f"/sleep?witness={witness.name}", "Content-Length: 200000") + b"x" * 200_000)
        await within(witness.began)
        client.leave()
        await within(witness.ended, 1)
    assert witness.notes[:2] == ["began", "stopped"]
    assert faults(caplog) == []


@on_their_loops("fastapi")
async def test_a_dependency_is_released(make: Make, witness: Witness) -> None:
    """A FastAPI dependency cleans up after its handler was stopped."""
    async with running(CancelOnDisconnect(make())) as served, await served.connect() as client:
        await client.send(head("GET", f"/sleep?witness={witness.name}"))
        await within(witness.began)
        client.leave()
        await within(witness.ended, 1)
    assert witness.notes == ["began", "stopped", "released"]


@on_their_loops("starlette")
@pytest.mark.parametrize("protected", [False, True], ids=["bare", "protected"])
async def test_starlettes_own_question_is_answered(make: Make, protected: bool, witness: Witness, caplog: pytest.LogCaptureFixture) -> None:
    """`await request.is_disconnected()` says no while the client is there, and yes when it left, without our protection too."""
    app = CancelOnDisconnect(make()) if protected else make()
    async with running(app) as served, await served.connect() as client:
        await client.send(post(f"/poll?witness={witness.name}", b"hello", "text/plain"))
        await within(witness.began)
        await ask(served, head("GET", "/hello/you"))
        assert witness.notes == ["began"]
        client.leave()
        await within(witness.ended, 1)
    assert protected or witness.notes == ["began", "ended"]  # protected, it may have been stopped before it could ask
    assert faults(caplog) == []
