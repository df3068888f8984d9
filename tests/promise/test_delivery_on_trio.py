"""Trio's scope is opened when the client leaves, from another task, and nobody can tell that it wasn't there from the start.

Each test runs with Trio's tree known, which is the late scope, and unknown, which is the early one. Time is `MockClock`'s.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
from outcome import Outcome
from trio.testing import MockClock

from microasgi import CancelOnDisconnect
from microasgi.asgi import Message, Scope
from microasgi.promise import delivery, telling, trio_scope
from tests.promise.extension import Extension

pytestmark = pytest.mark.anyio

LONG = 60.0
"""Seconds that never pass."""


@pytest.fixture(params=["trio"])
def anyio_backend() -> Any:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture(params=[True, False], ids=["", "unknown tree"], autouse=True)
def tree_is_known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the Trio that we know, and with others: then the block opens before the handler begins."""
    if not request.param:
        monkeypatch.setattr(trio_scope, "_run_context", lambda: None)


@pytest.fixture(params=["extension", "pump"])
def way(request: pytest.FixtureRequest) -> str:
    """How the framework learns that the client has left."""
    return str(request.param)


class Client:
    """One request by hand. Its handler says where it is, and what happened to it.

    here: set when the handler is where its client should leave it.
    left: set when the client has left.
    """

    def __init__(self, handler: Callable[["Client"], Awaitable[None]], way: str) -> None:
        self.marks: list[Any] = []
        self.here = trio.Event()
        self.left = trio.Event()
        self._handler = handler
        self._extension = Extension()
        self._extensions = self._extension.offered if way == "extension" else {}

    async def _receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        raise AssertionError("nothing is sent here")

    async def call(self) -> None:
        """Call the handler, in this task, which is afterwards in the scope that it was in before: here or in the block around."""
        task = trio.lowlevel.current_task()
        before = task._cancel_status
        scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "extensions": self._extensions}
        try:
            await CancelOnDisconnect(self._app)(scope, self._receive, self._send)
        finally:
            assert task in telling.blocks or task._cancel_status is before

    async def _app(self, scope: Scope, receive: Any, send: Any) -> None:
        await self._handler(self)

    async def visit(self, around: Callable[[], Awaitable[None]] | None = None) -> list[Any]:
        """Leave when the handler is there, and wait for its end. Returns its marks.

        :param around: calls `call`, in its stead
        """
        with trio.fail_after(LONG):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(around or self.call)
                await self.here.wait()
                self.leave()
        assert not telling.blocks
        return self.marks

    def leave(self) -> None:
        """Go away, now."""
        self.left.set()
        self._extension.leave()

    async def wait(self, mark: str = "cancelled") -> None:
        """Be where the client leaves."""
        self.here.set()
        await self.sleep(mark)

    async def sleep(self, mark: str) -> None:
        """Be cancelled, or say that nobody did it: a shield around would keep the test's own limit away."""
        try:
            await trio.sleep(2 * LONG)
        except trio.Cancelled:
            self.marks.append(mark)
            raise
        self.marks.append(f"not {mark}")


async def test_scopes_of_before_and_after_the_first_wait_are_within_the_block(way: str) -> None:
    """The departure ends the scopes that the handler opened, before its first wait and behind it, and none of them catches it."""

    async def handler(client: Client) -> None:
        with trio.CancelScope() as early, anyio.CancelScope() as second:
            await trio.lowlevel.checkpoint()
            with trio.CancelScope() as late:
                try:
                    await client.wait()
                finally:
                    client.marks += [early.cancel_called, second.cancel_called, late.cancel_called]
            client.marks.append("late caught it")
        client.marks.append("early caught it")

    assert await Client(handler, way).visit() == ["cancelled", False, False, False]


async def test_a_deadline_goes_on_below_a_late_scope(way: str) -> None:
    """A deadline in the handler's shield passes when it would have passed without a departure, and the shield's scope catches it."""

    async def handler(client: Client) -> None:
        began = trio.current_time()
        with trio.move_on_after(3) as early:
            early.shield = True
            await trio.sleep(1)
            with trio.move_on_after(LONG) as late:
                client.here.set()
                await client.left.wait()
                client.marks.append(trio.current_effective_deadline() - began)
                await client.sleep("the deadline")
        client.marks += [trio.current_time() - began, early.cancelled_caught, late.cancelled_caught]
        client.marks.append(trio.current_effective_deadline())
        await client.sleep("the departure")

    expected = [3, "the deadline", 3, True, False, -float("inf"), "the departure"]
    assert await Client(handler, way).visit() == expected


@pytest.mark.parametrize("group", [trio.open_nursery, anyio.create_task_group])
async def test_the_children_of_the_calls_own_nursery_are_cancelled(group: Any, way: str) -> None:
    """Tasks of a nursery that the handler opened before it waited at all are cancelled with it, down to the grandchildren."""

    async def handler(client: Client) -> None:
        async def grandchildren() -> None:
            async with group() as inner:
                inner.start_soon(client.sleep, "grandchild")
                await client.sleep("child")

        async with group() as tasks:
            tasks.start_soon(grandchildren)
            await trio.testing.wait_all_tasks_blocked()
            await client.wait("host")

    assert sorted(await Client(handler, way).visit()) == ["child", "grandchild", "host"]


async def test_a_shield_of_before_the_first_wait_holds(way: str) -> None:
    """A shield that the handler opened before it waited holds against the departure until it is left or lowered."""

    async def handler(client: Client) -> None:
        with trio.CancelScope(shield=True) as shield:
            client.here.set()
            await client.left.wait()
            await trio.sleep(1)
            client.marks.append("shielded")
            shield.shield = False
            await client.sleep("cancelled")

    assert await Client(handler, way).visit() == ["shielded", "cancelled"]


@pytest.mark.parametrize("first", ["departure", "scope"])
async def test_a_cancelled_scope_around_the_call_catches_it(first: str, way: str) -> None:
    """If a scope around the whole call is cancelled, before the departure or after it, that scope catches the cancellation."""
    around = trio.CancelScope()

    async def handler(client: Client) -> None:
        with trio.CancelScope():
            try:
                if first == "scope":
                    around.cancel()
                await client.wait()
            finally:
                around.cancel()
                with trio.CancelScope(shield=True):
                    await client.left.wait()
                    await trio.testing.wait_all_tasks_blocked()

    async def call() -> None:
        with around:
            await client.call()
            client.marks.append("the block caught it")
        client.marks.append(around.cancelled_caught)
        await trio.lowlevel.checkpoint()

    client = Client(handler, way)
    assert await client.visit(call) == ["cancelled", True]


async def test_a_shield_around_the_call_does_not_hold_its_departure(way: str) -> None:
    """A shield around the call is no shield against its own client's departure, and is as it was afterwards."""

    async def handler(client: Client) -> None:
        with trio.CancelScope():
            await client.wait()

    async def call() -> None:
        with trio.CancelScope(shield=True) as around:
            await client.call()
            await trio.lowlevel.checkpoint()
            client.marks += [around.shield, around.cancel_called]

    client = Client(handler, way)
    assert await client.visit(call) == ["cancelled", True, False]


@pytest.mark.parametrize("waits", [True, False], ids=["waited", ""])
@pytest.mark.parametrize("first", ["outer", "inner"])
async def test_of_nested_blocks_each_ends_its_own_call(first: str, waits: bool, way: str) -> None:
    """Of two blocks in one task with scopes between them, whichever client leaves first, each cancellation ends in its own block."""

    async def outside(client: Client) -> None:
        with trio.CancelScope() as between:
            if waits:
                await trio.lowlevel.checkpoint()
            await inner.call()
            client.marks += ["after the inner", between.cancelled_caught]
            if first == "inner":
                await client.wait("outer cancelled")

    async def inside(client: Client) -> None:
        with trio.CancelScope():
            outer.marks.append("inside")
            if first == "outer":
                outer.here.set()
                await outer.sleep("outer cancelled")
            client.leave()
            await outer.sleep("inner cancelled")

    outer, inner = Client(outside, way), Client(inside, way)
    expected = {
        "outer": ["inside", "outer cancelled"],
        "inner": ["inside", "inner cancelled", "after the inner", False, "outer cancelled"],
    }
    assert await outer.visit() == expected[first]


async def test_of_nested_blocks_the_outer_may_be_left_first(way: str) -> None:
    """If nothing is between two blocks, and the outer one's client leaves first, their scopes are nested as the blocks are."""

    async def outside(client: Client) -> None:
        await inner.call()
        client.marks.append("after the inner")

    async def inside(client: Client) -> None:
        with trio.CancelScope(shield=True):
            outer.here.set()
            await outer.left.wait()
        client.leave()
        await outer.sleep("cancelled")

    outer, inner = Client(outside, way), Client(inside, way)
    assert await outer.visit() == ["cancelled"]


@pytest.mark.parametrize("anyio_backend", [("trio", {})], ids=["trio"])  # a clock that jumps would not wait for threads
async def test_a_thread_is_told(way: str) -> None:
    """A worker thread that the handler waits for within its own scopes learns of the departure through `check_cancelled()`."""

    async def handler(client: Client) -> None:
        with trio.CancelScope():
            await anyio.to_thread.run_sync(poll, client)

    def poll(client: Client) -> None:
        anyio.from_thread.run_sync(client.here.set)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            anyio.from_thread.check_cancelled()
            time.sleep(0.001)
        client.marks.append("the thread wasn't told")

    assert await Client(handler, way).visit() == []


async def test_a_client_that_left_before_the_call_began(way: str) -> None:
    """If the client has left before the handler begins, the handler runs up to its first wait behind every shield."""

    async def handler(client: Client) -> None:
        client.marks.append("began")
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        client.marks.append("shielded")
        await client.sleep("cancelled")

    client = Client(handler, way)
    client.here.set()
    client.left.set()
    assert await client.visit() == ["began", "shielded", "cancelled"]


async def test_a_handler_may_report_the_departure_itself() -> None:
    """If the handler's own task reports the departure, from within its own scopes, it is cancelled at its next wait."""

    async def handler(client: Client) -> None:
        with trio.CancelScope(), trio.CancelScope():
            await trio.lowlevel.checkpoint()
            client.here.set()
            client.leave()
            client.marks.append("goes on")
            await client.sleep("cancelled")

    assert await Client(handler, "extension").visit() == ["goes on", "cancelled"]


async def test_nothing_is_left_to_the_collector(way: str) -> None:
    """A departure leaves no scope and no task of the call behind for the garbage collector."""

    async def handler(client: Client) -> None:
        with trio.CancelScope(), anyio.move_on_after(LONG):
            await client.wait()

    kinds = (trio.CancelScope, anyio.CancelScope, trio._core._run.CancelStatus, trio.lowlevel.Task, delivery.Block)
    found: list[object] = []
    for _ in range(2):  # the first fills caches
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await Client(handler, way).visit()
            gc.collect()
            found = [type(thing) for thing in gc.garbage if isinstance(thing, kinds)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert found == []


async def test_a_call_that_ends_by_itself_leaves_nothing(way: str) -> None:
    """A call that ends or fails while its client is there leaves no block behind, and its error passes as it is."""

    async def handler(client: Client) -> None:
        with trio.CancelScope():
            await trio.lowlevel.checkpoint()
        raise ValueError("its own")

    async def call() -> None:
        with pytest.raises(ValueError, match=r"^its own$"):
            await client.call()
        client.here.set()

    client = Client(handler, way)
    assert await client.visit(call) == []


async def test_started_within_the_call_moves_the_block_along(way: str) -> None:
    """A call that says `task_status.started()`, and so moves to another nursery, is cancelled there like any other."""

    async def handler(client: Client) -> None:
        client.marks.append("started")
        statuses[0].started()
        await client.wait()

    async def begin(task_status: trio.TaskStatus[None]) -> None:
        statuses.append(task_status)
        scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "extensions": client._extensions}
        await CancelOnDisconnect(client._app)(scope, client._receive, client._send)

    async def call() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(begin)

    statuses: list[trio.TaskStatus[None]] = []
    client = Client(handler, way)
    assert await client.visit(call) == ["started", "cancelled"]


def test_trio_as_a_guest(way: str) -> None:
    """Where trio is a guest of asyncio's loop, which then runs as well, the call is trio's, and is cancelled."""

    async def host() -> list[Any]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Outcome[list[Any]]] = loop.create_future()
        client = Client(Client.wait, way)
        trio.lowlevel.start_guest_run(client.visit, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result)
        return (await done).unwrap()

    assert asyncio.run(host()) == ["cancelled"]
