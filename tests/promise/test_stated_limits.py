"""What the promise can't do on asyncio, as the README says: each limit is shown, so that it is noticed when one falls."""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from microasgi.promise.delivery import Block
from tests.conftest import LOOPS
from tests.harness import eventually, within

pytestmark = pytest.mark.anyio

LONG = 60.0
BRIEF = 0.05


@pytest.fixture(params=[LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The loops on which tasks are told."""
    return request.param


class Story:
    """What happened in a call, in order.

    here: set when the call is where its client should leave it.
    """

    def __init__(self, grace: float = LONG) -> None:
        self.marks: list[str] = []
        self.here = anyio.Event()
        self.block = Block(grace)

    async def leave(self, call: Callable[["Story"], Awaitable[None]]) -> list[str]:
        """Begin the call, leave it where it is, and wait for its end."""
        task = asyncio.create_task(self.block.run(call(self)))  # type: ignore[arg-type]
        await within(self.here)
        self.block.cancel(lambda: "GET /")
        await asyncio.wait_for(task, 10)
        return self.marks


async def shielded(story: Story) -> None:
    """Two awaits that belong together."""
    with anyio.CancelScope(shield=True):
        story.here.set()
        await asyncio.sleep(BRIEF)
        story.marks.append("both")


async def in_gather(story: Story) -> None:
    await asyncio.gather(shielded(story))


async def in_a_task(story: Story) -> None:
    await asyncio.create_task(shielded(story))


async def in_asyncios_group(story: Story) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(shielded(story))


async def in_anyios_group(story: Story) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shielded, story)


@pytest.mark.parametrize(("call", "marks"), [(in_gather, []), (in_a_task, []), (in_asyncios_group, ["both"]), (in_anyios_group, ["both"])])
async def test_asyncio_tears_a_shield_in_a_task_that_is_awaited(call: Any, marks: list[str]) -> None:
    """`task.cancel()` goes on to what the task awaits, and asyncio knows no shields there; in the groups of both libraries they hold."""
    assert await Story().leave(call) == marks


async def test_a_thread_of_a_gathered_task_is_told_but_not_waited_for() -> None:
    """The shield that anyio puts around the wait for a thread is torn in a gathered task, too: the handler ends before its thread."""
    released, asked = threading.Event(), threading.Event()

    def work(story: Story) -> None:
        anyio.from_thread.run_sync(story.here.set)
        released.wait(10)
        try:
            anyio.from_thread.check_cancelled()
        except asyncio.CancelledError:
            asked.set()

    async def call(story: Story) -> None:
        await asyncio.gather(anyio.to_thread.run_sync(work, story))
        story.marks.append("after")

    assert await Story().leave(call) == []
    assert not asked.is_set()
    released.set()
    await eventually(asked.is_set)


async def test_asyncios_group_may_hide_the_departure_behind_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """A member that fails when its client leaves, and an `except*` for it: up to Python 3.12 the handler goes on until its grace ends."""

    async def fails() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            raise ValueError("no answer")

    async def call(story: Story) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fails())
                await asyncio.sleep(0)
                story.here.set()
        except* ValueError:
            story.marks.append("went on")
        await asyncio.sleep(LONG)

    assert await Story(BRIEF).leave(call) == ["went on"]
    assert bool(caplog.records) == (sys.version_info < (3, 13))


async def test_a_cancellation_that_the_handler_suppresses_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that suppresses `CancelledError` around another task's end suppresses its own: it goes on until its grace ends."""

    async def cleans_up() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)
        await asyncio.sleep(LONG)

    async def call(story: Story) -> None:
        other = asyncio.create_task(cleans_up())
        await asyncio.sleep(0)
        other.cancel()
        story.here.set()
        with suppress(asyncio.CancelledError):
            await other
        story.marks.append("went on")
        await asyncio.sleep(LONG)

    assert await Story(BRIEF).leave(call) == ["went on"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_asyncios_group_takes_no_new_members_behind_the_departure() -> None:
    """While a handler cleans up inside an `asyncio.TaskGroup`, the group is shutting down: a new member is an error."""

    async def call(story: Story) -> None:
        async with asyncio.TaskGroup() as tasks:
            story.here.set()
            try:
                await asyncio.sleep(LONG)
            finally:
                late = asyncio.sleep(0)
                try:
                    tasks.create_task(late)
                except RuntimeError:
                    story.marks.append("refused")
                finally:
                    late.close()

    assert await Story().leave(call) == ["refused"]


async def test_members_of_asyncios_group_learn_with_their_shielded_owner() -> None:
    """A handler in a shield inside an `asyncio.TaskGroup`: nobody can tell that the members are outside it, and they learn when it ends."""
    told: list[bool] = []

    async def member(story: Story) -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            told.append("both" in story.marks)

    async def call(story: Story) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(member(story))
            await asyncio.sleep(0)
            await shielded(story)
            await asyncio.sleep(LONG)

    assert (await Story().leave(call), told) == (["both"], [True])
