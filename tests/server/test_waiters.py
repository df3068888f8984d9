"""What a call waits for on asyncio and uvloop: as much of an event as that takes."""

import asyncio

import pytest
from microasgi_server.transports.waiters import Waiter

from tests.conftest import LOOPS

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"]),
]


async def test_who_waits_is_woken_once_and_may_be_cancelled() -> None:
    """What was set before needs no wait; to set it again, or for one who was cancelled meanwhile, means nothing."""
    loop = asyncio.get_running_loop()
    early, late, vain = Waiter(loop), Waiter(loop), Waiter(loop)

    async def wait(waiter: Waiter) -> None:
        await waiter.wait()

    early.set()
    await wait(early)
    tasks = [asyncio.create_task(wait(waiter)) for waiter in (late, vain)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    for waiter in (late, late, vain):
        waiter.set()
    assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [type(None), asyncio.CancelledError]
    vain.set()
