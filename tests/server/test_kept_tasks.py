"""On trio: what a connection costs that waits, and which tasks run its requests."""

from contextlib import AsyncExitStack

import anyio
import pytest
import trio
from microasgi_server import Limits

from microasgi import Request, Router
from tests.conftest import LOOPS
from tests.harness import GET, eventually, loud_lines, serving

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [LOOPS["trio"]], ids=["trio"])]


def tasks() -> int:
    """How many there are in all."""
    return trio.lowlevel.current_statistics().tasks_living


async def test_a_connection_that_waits_has_no_task(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a connection that has asked nothing nor one that was answered keeps a task of its own."""
    routes = Router()

    @routes.get("/")
    async def handler(request: Request) -> str:
        return "served"

    async with serving(routes) as served, AsyncExitStack() as stack:
        before = tasks()
        for number in range(20):
            client = await stack.enter_async_context(await served.connect())
            if number % 2:
                await client.send(GET)
                assert (await client.response()).body == b"served"
        assert tasks() <= before + 1  # the one that has run all requests, and waits for the next
    assert loud_lines(caplog) == []


async def test_tasks_beyond_some_end_with_their_requests(caplog: pytest.LogCaptureFixture) -> None:
    """A crowd has a task for each request, and what stays behind it is bounded."""
    count, arrived, release, routes = 30, 0, anyio.Event(), Router()

    @routes.get("/")
    async def handler(request: Request) -> str:
        nonlocal arrived
        arrived += 1
        await release.wait()
        return "served"

    async with serving(routes, limits=Limits(kept_tasks=10)) as served, AsyncExitStack() as stack:
        before = tasks()
        clients = [await stack.enter_async_context(await served.connect()) for _ in range(count)]
        for client in clients:
            await client.send(GET)
        await eventually(lambda: arrived == count)
        assert tasks() >= before + count
        release.set()
        for client in clients:
            assert (await client.response()).body == b"served"
        await eventually(lambda: tasks() <= before + 10)
        await clients[0].send(GET)
        assert (await clients[0].response()).body == b"served"
    assert loud_lines(caplog) == []


async def test_a_task_that_was_cancelled_takes_no_other_request(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that was stopped leaves no task behind that would stop the next one."""
    begun, routes = anyio.Event(), Router()

    @routes.get("/")
    async def handler(request: Request) -> str:
        return "served"

    @routes.get("/wait")
    async def wait(request: Request) -> None:
        begun.set()
        await anyio.sleep_forever()

    async with serving(routes) as served:
        async with await served.connect() as leaver:
            await leaver.send(GET.replace(b" / ", b" /wait "))
            await begun.wait()
            leaver.leave("FIN")
        for _ in range(3):
            async with await served.connect() as client:
                await client.send(GET)
                assert (await client.response()).body == b"served"
    assert loud_lines(caplog) == []
