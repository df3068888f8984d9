"""A departure reaches every task of a request, on asyncio and uvloop: all in one turn, each once, and nobody else.

Each test runs a call in a block of its own; the client leaves when the call is where it should be.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from microasgi.promise import anyio_scopes, telling
from microasgi.promise.delivery import Block
from microasgi.promise.telling import blocks
from tests.conftest import LOOPS
from tests.harness import eventually, within

pytestmark = pytest.mark.anyio

LONG = 60.0
BRIEF = 0.05


@pytest.fixture(params=[LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The loops on which tasks are told."""
    return request.param


class Visit:
    """One call in a block, and what its tasks say.

    here: set when the call is where its client should leave it.
    """

    def __init__(self, grace: float = LONG) -> None:
        self.marks: list[str] = []
        self.here = anyio.Event()
        self.block = Block(grace)

    async def work(self, name: str, awaits: int = 3) -> None:
        """Wait; when cancelled, say so, and clean up behind a few awaits."""
        try:
            await asyncio.sleep(LONG)
        finally:
            self.marks.append(f"{name} told")
            try:
                for _ in range(awaits):
                    await asyncio.sleep(0.001)
                self.marks.append(f"{name} cleaned")
            except asyncio.CancelledError:
                self.marks.append(f"{name} torn")
                raise

    async def ready(self, turns: int = 3) -> None:
        """Let the others get where they wait, then be where the client leaves."""
        for _ in range(turns):
            await asyncio.sleep(0)
        self.here.set()

    async def run(self, call: Callable[["Visit"], Awaitable[None]], leave: Callable[["Visit"], object] | None = None) -> list[str]:
        """Begin the call, leave it where it is, and wait for its end; nothing of it is left then."""

        async def request() -> None:
            await self.block.run(call(self))  # type: ignore[arg-type]
            task = asyncio.current_task()
            assert task is not None
            assert (task.cancelling(), anyio_scopes.scope_of(task)) == (0, None)

        task = asyncio.create_task(request())
        await within(self.here)
        if leave is not None:
            leave(self)
        else:
            self.block.cancel(lambda: "GET /")
        await asyncio.wait_for(task, 10)
        await eventually(lambda: (blocks, telling._told) == ({}, {}))  # what `wait_for` leaves behind may end a moment later
        return self.marks


def all_cleaned(*names: str) -> list[str]:
    """Everybody was told before anybody had cleaned up, and has cleaned up."""
    return sorted(f"{name} {what}" for name in names for what in ("told", "cleaned"))


def assert_at_once(marks: list[str], *names: str) -> None:
    """Everybody was told before anybody had cleaned up, and all have."""
    assert sorted(marks) == all_cleaned(*names)
    assert {mark.rpartition(" ")[2] for mark in marks[: len(names)]} == {"told"}


# Where tasks may stand.


async def in_anyios(visit: Visit) -> None:
    """A child, in whose group is a grandchild."""
    async with anyio.create_task_group() as more:
        more.start_soon(visit.work, "grandchild")
        await visit.work("child")


async def in_asyncios(visit: Visit) -> None:
    """The same with asyncio's group."""
    async with asyncio.TaskGroup() as more:
        more.create_task(visit.work("grandchild"))
        await visit.work("child")


async def anyios_group(visit: Visit) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_anyios, visit)
        await visit.ready()
        await visit.work("host")


async def asyncios_group(visit: Visit) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(in_asyncios(visit))
        await visit.ready()
        await visit.work("host")


async def both_groups(visit: Visit) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_asyncios, visit)
        await visit.ready()
        await visit.work("host")


async def a_gathered_group(visit: Visit) -> None:
    await asyncio.gather(in_anyios(visit), visit.work("host"), visit.ready(), return_exceptions=True)  # which waits for all


async def a_group_in_wait_for(visit: Visit) -> None:
    async def deeper() -> None:
        async with anyio.create_task_group() as more:
            more.start_soon(visit.work, "grandchild")
            more.start_soon(visit.work, "child")
            await visit.ready()
            await visit.work("host")

    await asyncio.wait_for(deeper(), LONG)


class Pool:
    """Keeps its group in an attribute, and is a context manager itself."""

    def __init__(self) -> None:
        self.group = asyncio.TaskGroup()

    async def __aenter__(self) -> asyncio.TaskGroup:
        return await self.group.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self.group.__aexit__(*error)


@contextlib.asynccontextmanager
async def pool() -> AsyncIterator[asyncio.TaskGroup]:
    """A context manager that holds a group."""
    async with asyncio.TaskGroup() as tasks:
        yield tasks


async def fill(visit: Visit, tasks: asyncio.TaskGroup) -> None:
    tasks.create_task(visit.work("child"))
    tasks.create_task(visit.work("grandchild"))
    await visit.ready()
    await visit.work("host")


async def a_group_in_a_manager(visit: Visit) -> None:
    async with Pool() as tasks:
        await fill(visit, tasks)


async def a_group_in_a_generator(visit: Visit) -> None:
    async with pool() as tasks:
        await fill(visit, tasks)


async def a_group_in_an_exit_stack(visit: Visit) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await fill(visit, await stack.enter_async_context(asyncio.TaskGroup()))


PLACES = [
    anyios_group,
    asyncios_group,
    both_groups,
    a_gathered_group,
    a_group_in_wait_for,
    a_group_in_a_manager,
    a_group_in_a_generator,
    a_group_in_an_exit_stack,
]


@pytest.mark.parametrize("place", PLACES)
async def test_everybody_is_told_at_once_and_cleans_up(place: Any) -> None:
    """Wherever the tasks of a request stand, all are told before anybody has ended, each once, and the cleanup of each may await."""
    assert_at_once(await Visit().run(place), "host", "child", "grandchild")


@pytest.mark.parametrize("place", PLACES)
async def test_when_the_grace_ends_nobody_may_await(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Who hasn't cleaned up when the grace ends is cancelled by level, wherever it stands, and one warning says so."""
    visit = Visit(BRIEF)
    work = visit.work
    visit.work = lambda name, awaits=10_000: work(name, awaits)  # type: ignore[method-assign]
    marks = await visit.run(place)
    everything = sorted(f"{name} {what}" for name in ("host", "child", "grandchild") for what in ("told", "torn"))
    await eventually(lambda: sorted(marks) == everything)  # up to 3.11, `wait_for` doesn't wait for what it has cancelled, then
    assert len(caplog.records) == 1


async def test_what_a_call_leaves_behind_has_its_grace_and_no_more() -> None:
    """`gather` ends with the first of its tasks. The others clean up without the call, each as long as the grace, and then by level."""
    visit = Visit(0.5)

    async def call(visit: Visit) -> None:
        endless = asyncio.gather(visit.work("grandchild", 10_000), visit.ready())
        await asyncio.gather(visit.work("host", 0), visit.work("child", 3), endless)

    task = asyncio.create_task(visit.block.run(call(visit)))
    await within(visit.here)
    visit.block.cancel(lambda: "GET /")
    await asyncio.wait_for(task, 10)
    assert "grandchild torn" not in visit.marks  # the call is over before that
    await eventually(lambda: "grandchild torn" in visit.marks)
    assert sorted(visit.marks) == sorted([*all_cleaned("host", "child"), "grandchild told", "grandchild torn"])
    assert telling._told == {}


async def test_a_departure_that_a_child_reports_reaches_all() -> None:
    """It makes no difference which of the tasks finds out that the client has left."""

    async def call(visit: Visit) -> None:
        async def finds_out() -> None:
            await visit.ready()
            visit.block.cancel()
            await visit.work("child")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(visit.work, "other")
            tasks.start_soon(finds_out)
            await visit.work("host")

    assert_at_once(await Visit().run(call, lambda visit: None), "host", "child", "other")


# Who isn't the request's.


async def test_anothers_group_is_not_touched() -> None:
    """A task group of the app's lifespan that a handler holds goes on, and takes new tasks afterwards."""
    others: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            others.append("ended")

    async with contextlib.AsyncExitStack() as stack:
        life = await stack.enter_async_context(asyncio.TaskGroup())
        task = life.create_task(background())

        async def call(visit: Visit) -> None:
            _held, _stack = life, stack
            async with asyncio.Lock():
                await visit.ready()
                await visit.work("host")

        assert await Visit().run(call) == ["host told", "host cleaned"]
        assert (others, task.cancelling()) == ([], 0)
        await life.create_task(asyncio.sleep(0))
        task.cancel()


async def test_a_task_that_nobody_awaits_is_not_touched() -> None:
    """A detached task goes on."""
    detached: list[asyncio.Task[None]] = []

    async def call(visit: Visit) -> None:
        detached.append(asyncio.create_task(visit.work("detached")))
        await visit.ready()
        await visit.work("host")

    visit = Visit()
    assert await visit.run(call) == ["host told", "host cleaned"]
    detached[0].cancel()
    await eventually(lambda: "detached cleaned" in visit.marks)


# When it is told.


async def test_a_shielded_child_is_told_when_its_shield_ends_and_has_a_grace_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """A child behind a shield is told at its first await behind it, also when everybody else's grace is long over."""

    async def call(visit: Visit) -> None:
        async def child() -> None:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(4 * BRIEF)
                visit.marks.append("shielded")
            await visit.work("child", 10_000)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            await visit.ready()
            await asyncio.sleep(LONG)

    began = time.monotonic()
    assert await Visit(BRIEF).run(call) == ["shielded", "child told", "child torn"]
    assert time.monotonic() - began >= 5 * BRIEF - 0.01
    assert len(caplog.records) == 1


async def test_a_child_that_is_born_behind_the_departure_is_told() -> None:
    """A child that a shielded one starts outside its shield is told like the others."""

    async def call(visit: Visit) -> None:
        async with anyio.create_task_group() as tasks:

            async def mother() -> None:
                with anyio.CancelScope(shield=True):
                    await asyncio.sleep(BRIEF)
                    tasks.start_soon(visit.work, "late")

            tasks.start_soon(mother)
            await visit.ready()
            await asyncio.sleep(LONG)

    assert await Visit().run(call) == ["late told", "late cleaned"]


async def test_a_scope_that_is_cancelled_in_the_same_turn_is_the_news() -> None:
    """A scope of the handler's own that is cancelled as its client leaves ends the handler, whose cleanup is whole."""

    async def call(visit: Visit) -> None:
        try:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await visit.ready()
                await asyncio.sleep(LONG)
        finally:
            for _ in range(3):
                await asyncio.sleep(0.001)
            visit.marks.append("cleaned")
        visit.marks.append("after")

    def leave(visit: Visit) -> None:
        scopes[0].cancel()
        visit.block.cancel()

    scopes: list[anyio.CancelScope] = []
    assert await Visit().run(call, leave) == ["cleaned"]


async def test_a_deadline_that_passes_in_the_cleanup_does_not_end_it() -> None:
    """A timeout around the handler's work that passes while it cleans up behind its client leaves the cleanup its grace."""

    async def call(visit: Visit) -> None:
        with anyio.move_on_after(2 * BRIEF):
            await visit.ready()
            try:
                await asyncio.sleep(LONG)
            finally:
                await asyncio.sleep(4 * BRIEF)
                visit.marks.append("cleaned")

    assert await Visit().run(call) == ["cleaned"]


async def test_who_goes_on_behind_a_groups_errors_is_told_again() -> None:
    """A child's own error may take the place of the news; whoever has dealt with it is told at the next await, and cleans up."""

    async def fails() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            raise ValueError("no answer")

    async def call(visit: Visit) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fails)
                await visit.ready()
        except* ValueError:
            visit.marks.append("went on")
        await visit.work("host")

    assert await Visit().run(call) == ["went on", "host told", "host cleaned"]


async def test_behind_the_grace_who_goes_on_is_stopped_at_every_await() -> None:
    """Level stays level, whatever the handler makes of its groups' errors."""

    async def stubborn(visit: Visit) -> None:
        for number in range(3):
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                visit.marks.append(f"cancelled {number}")

    async def call(visit: Visit) -> None:
        async def fails() -> None:
            try:
                await visit.work("child", 10_000)
            except asyncio.CancelledError:
                raise ValueError("late") from None

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fails)
                await visit.ready()
        except* ValueError:
            visit.marks.append("went on")
        await stubborn(visit)

    assert await Visit(BRIEF).run(call) == ["child told", "child torn", "went on", "cancelled 0", "cancelled 1", "cancelled 2"]


# What a call may leave behind, and calls in each other.


async def test_a_generator_that_is_left_open_with_its_scope_is_no_error() -> None:
    """A handler that leaves an asynchronous generator open leaves that one's scope open, too, and ends quietly all the same."""
    kept: list[Any] = []

    async def call(visit: Visit) -> None:
        async def numbers() -> AsyncIterator[int]:
            with anyio.move_on_after(LONG):
                yield 1

        generator = numbers()
        kept.append(generator)
        async for _ in generator:
            await visit.ready()
            await visit.work("host")

    visit = Visit()
    task = asyncio.create_task(visit.block.run(call(visit)))
    await within(visit.here)
    visit.block.cancel()
    await asyncio.wait_for(task, 10)
    assert visit.marks == ["host told", "host cleaned"]
    with pytest.raises(RuntimeError, match="different task"):  # which is anyio's, and would be so without us
        await kept[0].aclose()


@pytest.mark.parametrize("order", ["outer", "inner", "outer inner", "inner outer"])
async def test_of_two_requests_in_each_other_each_ends_its_own_call_once(order: str) -> None:
    """A handler that calls another app in process: whoever leaves, and in which order, nobody is cancelled twice for it."""
    inner = Block(LONG)

    async def within_it(visit: Visit) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(visit.work, "grandchild")
            await visit.ready()
            await visit.work("inner")

    async def call(visit: Visit) -> None:
        await inner.run(within_it(visit))
        if "outer" not in order:
            visit.block.cancel()
        await visit.work("outer", 0)

    def leave(visit: Visit) -> None:
        blocks = {"outer": visit.block, "inner": inner}
        for name in order.split():
            blocks[name].cancel()

    marks = await Visit().run(call, leave)
    assert_at_once([mark for mark in marks if "outer" not in mark], "inner", "grandchild")


async def test_a_thousand_children_cost_no_more_than_a_thousand_times_one() -> None:
    """What a departure costs grows with the number of its tasks, and not faster."""

    async def spent(children: int) -> float:
        async def call(visit: Visit) -> None:
            async with anyio.create_task_group() as tasks:
                for number in range(children):
                    tasks.start_soon(visit.work, str(number), 1)
                await visit.ready()
                await asyncio.sleep(LONG)

        visit = Visit()
        task = asyncio.create_task(visit.block.run(call(visit)))
        await within(visit.here)
        gc.collect()
        gc.disable()  # how much there is to look through is the suite's, not the departure's
        try:
            began = time.process_time()
            visit.block.cancel()
            await asyncio.wait_for(task, 30)
            return time.process_time() - began
        finally:
            gc.enable()

    few, many = min([await spent(100) for _ in range(3)]), min([await spent(2_000) for _ in range(2)])
    assert many < 150 * few  # twenty times as many; the square would be 400


async def test_what_wait_for_has_forgotten_comes_again() -> None:
    """Up to 3.11 `asyncio.wait_for` swallows a cancellation if what it waits for ends first: the handler is told at its next await."""
    loop = asyncio.get_running_loop()

    async def call(visit: Visit) -> None:
        arrived = loop.create_future()

        async def leave_and_arrive() -> None:
            visit.block.cancel()
            if not arrived.cancelled():  # as it is from 3.12 on, where it is the handler itself that waits for it
                arrived.set_result(None)

        async def receive() -> None:
            await arrived

        arriving = asyncio.create_task(leave_and_arrive())
        visit.here.set()
        await asyncio.wait_for(receive(), LONG)
        await arriving
        visit.marks.append("went on")
        await visit.work("host")

    marks = await Visit().run(call, lambda visit: None)
    assert marks in (["went on", "host told", "host cleaned"], [])
