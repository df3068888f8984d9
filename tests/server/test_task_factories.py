"""Loops whose tasks somebody else makes: a factory is asked as asyncio always could, and one that fails harms one connection."""

import asyncio
import sys
import traceback
import types
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from microasgi import Request, Router
from tests.conftest import LOOPS
from tests.harness import GET, access_lines, loud_lines, serving, within

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"]),
]

WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


class Plain:
    """A factory from before Python 3.11: it takes no context. Counts its tasks, and makes none while it `fails`."""

    def __init__(self) -> None:
        self.made = 0
        self.fails = False

    def __call__(self, loop: asyncio.AbstractEventLoop, coroutine: Any, name: str | None = None) -> Any:
        if self.fails:
            raise RuntimeError("no more tasks")
        self.made += 1
        return asyncio.Task(coroutine, loop=loop, name=name)


@types.coroutine
def _resumed(coroutine: Any, trap: Any) -> Generator[Any, Any, Any]:
    """Await a coroutine that has begun already, and waits for `trap`."""
    while True:
        try:
            value = yield trap
        except BaseException as error:
            step, value = coroutine.throw, error
        else:
            step = coroutine.send
        try:
            trap = step(value)
        except StopIteration as stop:
            return stop.value


def eager(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    """Run it to its first wait at once, as `asyncio.eager_task_factory` does, which Python has from 3.12 on."""
    if sys.version_info >= (3, 12):
        return asyncio.eager_task_factory(loop, coroutine, **options)
    try:
        trap = coroutine.send(None)
    except StopIteration as stop:
        done = loop.create_future()
        done.set_result(stop.value)
        return done
    return asyncio.Task(_resumed(coroutine, trap), loop=loop, **options)


@contextmanager
def tasks_by(factory: Any) -> Iterator[None]:
    """Have the running loop's tasks made by `factory`, as long as the block lasts."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        yield
    finally:
        loop.set_task_factory(None)


async def test_a_factory_without_a_context_is_honoured(caplog: pytest.LogCaptureFixture) -> None:
    """Each request runs in a task of the factory's, and in a context of its own."""
    factory, routes = Plain(), Router()

    @routes.get("/")
    async def who(request: Request) -> str:
        before = WHO.get()
        WHO.set("a request before")
        return before

    async with serving(routes) as served, await served.connect() as client:
        WHO.set("the client")
        with tasks_by(factory):
            for number in range(3):
                await client.send(GET)
                assert (await client.response()).body == b"nobody"
                assert factory.made == number + 1
    assert loud_lines(caplog) == []


async def test_a_factory_that_fails_is_a_503(caplog: pytest.LogCaptureFixture) -> None:
    """Where no task can be made the client gets a 503 and one error is logged; other connections live on, and the server stops at once."""
    factory, release, begun, routes = Plain(), anyio.Event(), anyio.Event(), Router()

    @routes.get("/")
    async def wait(request: Request) -> str:
        begun.set()
        await release.wait()
        return "served"

    async with serving(routes) as served, await served.connect() as client, await served.connect() as other:
        with tasks_by(factory):
            await other.send(GET)
            await within(begun)
            factory.fails = True
            await client.send(GET * 1_000)  # what is pipelined would fail likewise
            answer = await client.response()
            assert (answer.status, answer.complete, answer.header(b"connection")) == (503, True, b"close")
            factory.fails = False
            release.set()
            assert (await other.response()).body == b"served"
            await other.send(GET)
            assert (await other.response()).body == b"served"
        served.stop.set()
        await within(served.ended, 2)
    assert [line.split('"')[2].split()[0] for line in access_lines(caplog)] == ["503", "200", "200"]
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert error.exc_info
    assert "no more tasks" in caplog.text


async def test_an_eager_factory_runs_no_request_inside_another(caplog: pytest.LogCaptureFixture) -> None:
    """A hundred pipelined requests get a hundred answers, though their tasks begin at once."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = scope["path"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    paths = [b"/%d" % number for number in range(100)]
    async with serving(app, lifespan="off") as served, await served.connect() as client:
        with tasks_by(eager), anyio.fail_after(2):
            await client.send(b"".join(GET.replace(b" / ", b" %b " % path) for path in paths))
            assert [(await client.response()).body for _ in paths] == paths
    assert loud_lines(caplog) == []


async def test_an_eager_task_that_is_cancelled_at_once_is_forgotten() -> None:
    """A request whose server stops before it had its turn doesn't hold up the shutdown."""
    async with serving(Router()) as served, await served.connect() as client:
        with tasks_by(eager):
            await client.send(GET)
            served.stop.set()
            await within(served.ended, 2)


async def test_a_request_begins_in_the_turn_in_which_it_came() -> None:
    """From Python 3.12 on, in a task and a context of its own; but pipelined ones, however many, don't begin inside each other."""
    nested: list[int] = []
    tasks: set[asyncio.Task[Any] | None] = set()
    variable = ContextVar("variable", default="fresh")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        names = [frame.name for frame in traceback.extract_stack()]
        nested.append(names.count("received") + names.count("completed"))
        tasks.add(asyncio.current_task())
        assert variable.get() == "fresh"
        variable.set("used")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async with serving(app, lifespan="off", access_log=False) as served, await served.connect() as client:
        await client.send(GET * 300)
        for _ in range(300):
            assert (await client.response()).status == 200
    assert nested == [int(sys.version_info >= (3, 12))] + [0] * 299
    assert len(tasks) == 300
