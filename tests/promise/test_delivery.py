"""How the departure reaches a handler: once, past every shield's end, then a grace in which cleanup may await, then for good.

The client is made by hand, the server's side of one request: with the extension, as on our server, or without, so that the
`receive()` pump finds out. A few conversations over real sockets show the same.
"""

import asyncio
import contextlib
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import FrameType
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from microasgi import CancelOnDisconnect, Request, Router
from microasgi.asgi import ASGIApp, Message, Scope
from microasgi.promise import anyio_scopes, delivery, trio_scope
from microasgi.promise.delivery import Block
from microasgi.promise.telling import blocks
from tests.conftest import LOOPS
from tests.harness import GET, access_lines, eventually, loud_lines, serving, within
from tests.promise.extension import Extension

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The loops that have an edge. Trio, which has none, is at the end."""
    return request.param


@pytest.fixture(params=[True, False], ids=["", "unknown tree"], autouse=True)
def tree_is_known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the anyio, asyncio and trio that we know, and with others: then the block opens before the handler begins."""
    if not request.param:
        monkeypatch.setattr(delivery, "missing", lambda: ("all",))
        monkeypatch.setattr(trio_scope, "_run_context", lambda: None)
    return bool(request.param)


on_trio = pytest.mark.parametrize("anyio_backend", [LOOPS["trio"]], ids=["trio"])

LONG = 60.0
"""Seconds that never pass in a test that works."""

BRIEF = 0.05
"""Seconds of a grace that a test waits for."""

Way = str


@pytest.fixture(params=["extension", "pump"])
def way(request: pytest.FixtureRequest) -> Way:
    """How the framework learns that the client has left."""
    param: Way = request.param
    return param


class Story:
    """What happened in a handler, in order.

    here: set when the handler is where its client should leave it.
    left: set when the client has left.
    request: what the handler was called with.
    """

    def __init__(self) -> None:
        self.marks: list[str] = []
        self.here = anyio.Event()
        self.left = anyio.Event()
        self.request: Request

    def mark(self, text: str) -> None:
        self.marks.append(text)

    async def wait(self) -> None:
        """Be where the client leaves."""
        self.here.set()
        await anyio.sleep_forever()

    async def clean_up(self, name: str = "cleaned up") -> None:
        """What a driver does when it is cancelled: two awaits, one of which takes its time."""
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            self.mark(f"not {name}")
            raise
        self.mark(name)

    async def work(self, name: str = "cleaned up") -> None:
        """A query, say: waits, and cleans up behind itself."""
        try:
            await self.wait()
        finally:
            await self.clean_up(name)


Handler = Callable[[Story], Awaitable[Any]]


def routed(handler: Handler, story: Story, **options: Any) -> Router:
    """A Router with this handler at `/`."""
    routes = Router(**options)

    @routes.get("/")
    async def endpoint(request: Request) -> Any:
        story.request = request
        return await handler(story)

    return routes


class Gone(OSError):
    """What a server's `send()` raises when the client has left."""


class Visitor:
    """One request by hand, in an asyncio task of its own.

    task: runs the app.
    cancelling: the task's cancellations when the app had ended.
    """

    def __init__(self, app: ASGIApp, story: Story, way: Way, path: str = "/") -> None:
        self.story = story
        self.sent: list[Message] = []
        self.cancelling = -1
        self.extension = Extension()
        self._gone = anyio.Event()
        self._began = False
        self.scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [],
            "extensions": self.extension.offered if way == "extension" else {},
        }
        self.task = asyncio.create_task(self._call(app))

    async def _call(self, app: ASGIApp) -> None:
        try:
            with contextlib.suppress(Gone):  # as servers do
                await app(self.scope, self._receive, self._send)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self.cancelling = task.cancelling()

    async def _receive(self) -> Message:
        if not self._began:
            self._began = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set():
            raise Gone
        self.sent.append(message)

    def leave(self) -> None:
        """Go away, now."""
        self._gone.set()
        self.story.left.set()
        self.extension.leave()

    async def end(self) -> None:
        """The app's end, and its error."""
        try:
            await asyncio.wait_for(asyncio.shield(self.task), 5)
        except TimeoutError:
            self.task.cancel()
            raise AssertionError(f"the app hasn't ended; so far: {self.story.marks}") from None
        assert self.cancelling == 0


async def visit(handler: Handler, way: Way, **options: Any) -> list[str]:
    """Call the handler, leave when it is there, and wait for its end. Returns its marks."""
    story = Story()
    visitor = Visitor(routed(handler, story, **{"cleanup_grace": LONG, **options}), story, way)
    await within(story.here)
    visitor.leave()
    await visitor.end()
    return story.marks


# What a handler may wait in. Each comes with the marks that it has to leave.


async def plain(story: Story) -> None:
    await story.work()
    story.mark("after")


async def anyio_group_in_its_body(story: Story) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        await story.work()
    story.mark("after")


async def anyio_group_at_its_end(story: Story) -> None:
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(story.wait)
        story.mark("after")
    finally:
        await story.clean_up()


async def anyio_groups_in_each_other(story: Story) -> None:
    async def inner() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(story.wait)
        story.mark("after the inner")

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inner)
            async with anyio.create_task_group() as more:
                more.start_soon(anyio.sleep_forever)
            story.mark("after the second")
        story.mark("after")
    finally:
        await story.clean_up()


async def anyio_group_with_a_shield_in_a_child(story: Story) -> None:
    async def child() -> None:
        try:
            await story.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await story.clean_up()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child)
        await anyio.sleep_forever()
    story.mark("after")


async def anyio_group_in_the_cleanup(story: Story) -> None:
    try:
        await story.wait()
    finally:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(story.clean_up, "a")
            await story.clean_up("b")
        story.mark("c")


async def asyncio_group_in_its_body(story: Story) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(story.work("child"))
        await asyncio.sleep(0)
        try:
            await asyncio.sleep(LONG)
        finally:
            await story.clean_up("host")
    story.mark("after")


async def asyncio_group_at_its_end(story: Story) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(story.work())
    story.mark("after")


async def move_on_after(story: Story) -> None:
    with anyio.move_on_after(LONG):
        await story.work()
    story.mark("after")


async def fail_after(story: Story) -> None:
    with anyio.fail_after(LONG):
        await story.work()
    story.mark("after")


async def asyncio_timeout(story: Story) -> None:
    async with asyncio.timeout(LONG):
        await story.work()
    story.mark("after")


async def wait_for(story: Story) -> None:
    await asyncio.wait_for(story.work(), LONG)
    story.mark("after")


async def gather(story: Story) -> None:
    await asyncio.gather(story.work("a"), story.work("b"))
    story.mark("after")


async def gather_of_gathers(story: Story) -> None:
    await asyncio.gather(asyncio.gather(story.work("a")), asyncio.gather(story.work("b"), return_exceptions=True))
    story.mark("after")


async def a_task(story: Story) -> None:
    await asyncio.create_task(story.work())
    story.mark("after")


async def a_task_that_cancels_itself(story: Story) -> None:
    async def task() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await story.wait()
        raise asyncio.CancelledError("another")

    try:
        async with anyio.create_task_group():
            await asyncio.create_task(task())
        story.mark("after")
    finally:
        await story.clean_up()


async def a_gathered_task_that_swallows(story: Story) -> None:
    async def swallow() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await story.wait()

    await asyncio.gather(swallow())
    story.mark("after")


async def asyncio_wait(story: Story) -> None:
    task = asyncio.create_task(story.wait())
    try:
        await asyncio.wait([task])
        story.mark("after")
    finally:
        task.cancel()
        await story.clean_up()


async def asyncio_shield(story: Story) -> None:
    kept = asyncio.create_task(story.wait())
    try:
        await asyncio.shield(kept)
        story.mark("after")
    finally:
        story.mark("kept" if not kept.cancelling() else "not kept")
        kept.cancel()
        await story.clean_up()


async def an_exit_stack(story: Story) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(story.clean_up, "a")
        stack.push_async_callback(story.clean_up, "b")
        await story.wait()
    story.mark("after")


async def a_generator_that_waits(story: Story) -> None:
    async def generator() -> AsyncIterator[int]:
        await story.work("generator")
        yield 1

    try:
        async for _ in generator():
            story.mark("after")
    finally:
        await story.clean_up()


async def a_generator_that_is_closed(story: Story) -> None:
    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await story.clean_up("generator")

    async with contextlib.aclosing(generator()) as items:  # type: ignore[type-var]
        async for _ in items:
            await story.work()
    story.mark("after")


async def a_lock(story: Story) -> None:
    lock = anyio.Lock()

    async def hold() -> None:
        async with lock:
            story.here.set()
            await anyio.sleep_forever()

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0)
    try:
        async with lock:
            story.mark("after")
    finally:
        holder.cancel()
        await story.clean_up()


async def cleanup_with_timeouts(story: Story) -> None:
    try:
        await story.wait()
    finally:
        with anyio.fail_after(LONG):
            await story.clean_up("a")
        async with asyncio.timeout(LONG):
            await story.clean_up("b")
        await asyncio.wait_for(story.clean_up("c"), LONG)
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(LONG)
        except TimeoutError:
            story.mark("d")
        with anyio.move_on_after(0.001):
            await asyncio.sleep(LONG)
        story.mark("e")


async def cleanup_in_a_thread(story: Story) -> None:
    try:
        await story.wait()
    finally:
        await anyio.to_thread.run_sync(story.mark, "cleaned up")


async def a_shield_before_the_wait(story: Story) -> None:
    with anyio.CancelScope(shield=True):
        story.here.set()
        await story.left.wait()
        await story.clean_up("shielded")
    try:
        await asyncio.sleep(LONG)
        story.mark("after")
    finally:
        await story.clean_up()


async def a_shield_around_gather(story: Story) -> None:
    async def part(name: str) -> None:
        story.here.set()
        await story.left.wait()
        await story.clean_up(name)

    with anyio.CancelScope(shield=True):
        await asyncio.gather(part("a"), part("b"))
    try:
        await asyncio.gather(asyncio.sleep(LONG))
        story.mark("after")
    finally:
        await story.clean_up("c")


async def a_shield_in_a_child(story: Story) -> None:
    async def child() -> None:
        with anyio.CancelScope(shield=True):
            story.here.set()
            await story.left.wait()
            await story.clean_up("shielded")
        await anyio.sleep_forever()
        story.mark("after the shield")

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
        story.mark("after")
    finally:
        await story.clean_up()


async def a_shield_in_the_host_of_a_group(story: Story) -> None:
    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            story.mark("child")

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            with anyio.CancelScope(shield=True):
                story.here.set()
                await story.left.wait()
                await story.clean_up("shielded")
            await anyio.sleep_forever()
        story.mark("after")
    finally:
        await story.clean_up()


async def a_caught_cancellation(story: Story) -> str:
    try:
        await story.wait()
    except asyncio.CancelledError:
        await story.clean_up()
    return "never mind"


async def a_cancellation_of_its_own(story: Story) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await story.work()
    raise asyncio.CancelledError("another")


async def a_group_of_cancellations(story: Story) -> None:
    try:
        await story.work()
    except asyncio.CancelledError as error:
        raise BaseExceptionGroup("two", [error, BaseExceptionGroup("one", [asyncio.CancelledError()])]) from None


CONSTRUCTS: list[tuple[Handler, list[str]]] = [
    (plain, ["cleaned up"]),
    (anyio_group_in_its_body, ["cleaned up"]),
    (anyio_group_at_its_end, ["cleaned up"]),
    (anyio_groups_in_each_other, ["cleaned up"]),
    (anyio_group_with_a_shield_in_a_child, ["cleaned up"]),
    (anyio_group_in_the_cleanup, ["not a", "not b"]),
    (asyncio_group_in_its_body, ["child", "host"]),
    (asyncio_group_at_its_end, ["cleaned up"]),
    (move_on_after, ["cleaned up"]),
    (fail_after, ["cleaned up"]),
    (asyncio_timeout, ["cleaned up"]),
    (wait_for, ["cleaned up"]),
    (gather, ["a", "b"]),
    (gather_of_gathers, ["a", "b"]),
    (a_task, ["cleaned up"]),
    (a_task_that_cancels_itself, ["cleaned up"]),
    (a_gathered_task_that_swallows, []),
    (asyncio_wait, ["cleaned up"]),
    (asyncio_shield, ["cleaned up", "kept"]),
    (an_exit_stack, ["a", "b"]),
    (a_generator_that_waits, ["cleaned up", "generator"]),
    (a_generator_that_is_closed, ["cleaned up", "generator"]),
    (a_lock, ["cleaned up"]),
    (cleanup_with_timeouts, ["not a"]),
    (cleanup_in_a_thread, ["cleaned up"]),
    (a_shield_before_the_wait, ["cleaned up", "shielded"]),
    (a_shield_around_gather, ["a", "b", "c"]),
    (a_shield_in_a_child, ["cleaned up", "shielded"]),
    (a_shield_in_the_host_of_a_group, ["child", "cleaned up", "shielded"]),
    (a_caught_cancellation, ["cleaned up"]),
    (a_cancellation_of_its_own, ["cleaned up"]),
    (a_group_of_cancellations, ["cleaned up"]),
]

WITHOUT_THE_TREE: dict[Handler, list[str]] = {
    anyio_group_in_the_cleanup: ["a", "b", "c"],
    cleanup_with_timeouts: ["a", "b", "c", "d", "e"],
}
"""What is otherwise where anyio's tree isn't known: nobody sees that cleanup has opened a scope."""

constructs = pytest.mark.parametrize(("handler", "marks"), CONSTRUCTS, ids=[handler.__name__ for handler, _ in CONSTRUCTS])


@constructs
async def test_the_handler_ends_and_its_cleanup_awaits(
    handler: Handler, marks: list[str], way: Way, tree_is_known: bool, caplog: Any
) -> None:
    """Whatever the handler waits in: its cleanup may await, shielded code is finished, the code after it does not run."""
    marks = marks if tree_is_known else WITHOUT_THE_TREE.get(handler, marks)
    seen = await visit(handler, way)
    await eventually(lambda: sorted(seen) == marks)  # `gather` doesn't wait for its other tasks once one has ended
    assert loud_lines(caplog) == []


@constructs
async def test_the_same_over_a_socket(handler: Handler, marks: list[str], tree_is_known: bool, caplog: Any) -> None:
    """On our server it is the same, with one line of status 499 in the access log and nothing louder."""
    marks = marks if tree_is_known else WITHOUT_THE_TREE.get(handler, marks)
    story = Story()
    async with serving(routed(handler, story, cleanup_grace=LONG)) as served, await served.connect() as client:
        await client.send(GET)
        await within(story.here)
        client.leave()
        with anyio.fail_after(5):
            await story.request.wait_disconnected()
        story.left.set()
        await eventually(lambda: access_lines(caplog))
        await eventually(lambda: sorted(story.marks) == marks)
    assert ' HTTP/1.1" 499 ' in access_lines(caplog)[0]
    assert sorted(story.marks) == marks
    assert loud_lines(caplog) == []


@constructs
async def test_a_request_afterwards_is_untouched(handler: Handler, marks: list[str], way: Way) -> None:
    """The task that ran a cancelled request runs the next one as if nothing had been."""
    first, second = Story(), Story()
    both: list[Visitor] = []

    async def after(scope: Scope, receive: Any, send: Any) -> None:
        with contextlib.suppress(Gone):
            await routed(handler, first, cleanup_grace=LONG)(scope, receive, send)
        other = Visitor(routed(plain_answer, second), second, way)
        both.append(other)
        await other.end()
        await plain_answer(second)

    visitor = Visitor(after, first, way)
    await within(first.here)
    visitor.leave()
    await visitor.end()
    assert both[0].sent[0]["status"] == 200
    assert second.marks == ["answered", "answered"]


async def plain_answer(story: Story) -> str:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.sleep(0))
    await anyio.sleep(0.001)
    story.mark("answered")
    return "fine"


async def test_the_children_of_an_anyio_group_are_told_once_too(way: Way, tree_is_known: bool) -> None:
    """A child of an anyio task group may await in its cleanup. Where anyio's tree isn't known its group cancels it as it always does."""

    async def handler(story: Story) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(story.work)
        story.mark("after")

    assert await visit(handler, way) == ["cleaned up" if tree_is_known else "not cleaned up"]


# When it arrives.


async def test_at_the_very_first_await(way: Way) -> None:
    """A client that has left before the app is called cancels it at its first await, and once only."""
    story = Story()
    visitor = Visitor(routed(plain, story, cleanup_grace=LONG), story, way)
    visitor.leave()
    await visitor.end()
    assert story.marks == ["cleaned up"]


@pytest.mark.parametrize("wait", [lambda: asyncio.sleep(LONG), lambda: asyncio.sleep(0), lambda: asyncio.gather(asyncio.sleep(LONG))])
async def test_between_two_awaits(wait: Callable[[], Awaitable[Any]]) -> None:
    """When the handler's own task reports the departure, the handler goes on to its next await, and is cancelled there."""
    story = Story()
    visitors: list[Visitor] = []

    async def handler(story: Story) -> None:
        visitors[0].leave()
        story.mark("goes on")
        try:
            await wait()
            story.mark("after")
        finally:
            await story.clean_up()

    visitors.append(Visitor(routed(handler, story, cleanup_grace=LONG), story, "extension"))
    await visitors[0].end()
    assert story.marks == ["goes on", "cleaned up"]


async def test_when_the_await_is_over_already() -> None:
    """A departure in the same turn as the end of what the handler waited for is delivered at the next await."""
    story = Story()
    done = asyncio.Event()

    async def handler(story: Story) -> None:
        story.here.set()
        await done.wait()
        story.mark("goes on")
        await story.work()

    visitor = Visitor(routed(handler, story, cleanup_grace=LONG), story, "extension")
    await within(story.here)
    done.set()
    visitor.leave()
    await visitor.end()
    assert story.marks == ["goes on", "cleaned up"]


async def test_a_cancellation_that_another_task_swallowed_comes_again(way: Way) -> None:
    """If the task that the handler waits for swallows the cancellation, the handler is cancelled at its next await."""

    async def handler(story: Story) -> None:
        async def swallow() -> str:
            with contextlib.suppress(asyncio.CancelledError):
                await story.wait()
            return "swallowed"

        story.mark(await asyncio.create_task(swallow()))
        try:
            await asyncio.gather(asyncio.sleep(LONG))
            story.mark("after")
        finally:
            await story.clean_up()

    assert await visit(handler, way) == ["swallowed", "cleaned up"]


async def test_every_shield_delays_it(way: Way) -> None:
    """Between two shielded blocks there is an await that isn't shielded: there the handler stops."""

    async def handler(story: Story) -> None:
        for name in ("first", "second"):
            with anyio.CancelScope(shield=True):
                story.here.set()
                await story.left.wait()
                await story.clean_up(name)
            await asyncio.sleep(0)

    assert await visit(handler, way) == ["first"]


# Errors.


async def test_an_error_of_the_cleanup_surfaces(way: Way) -> None:
    """An error that cleanup raises is the request's error, as it is and not in a group."""

    async def handler(story: Story) -> None:
        try:
            await story.wait()
        finally:
            await story.clean_up()
            raise ValueError("cleanup")

    with pytest.raises(ValueError, match=r"^cleanup$"):
        await visit(handler, way)


async def test_an_error_of_a_gathered_cleanup_surfaces(way: Way) -> None:
    """An error in the cleanup of a task that the handler waits for is the handler's, and its own cleanup may await."""
    story = Story()

    async def handler(story: Story) -> None:
        async def query() -> None:
            try:
                await story.wait()
            finally:
                raise ValueError("cleanup")

        try:
            await asyncio.gather(query())
        finally:
            await story.clean_up()

    visitor = Visitor(routed(handler, story, cleanup_grace=LONG), story, way)
    await within(story.here)
    visitor.leave()
    with pytest.raises(ValueError, match=r"^cleanup$"):
        await visitor.end()
    assert story.marks == ["cleaned up"]


async def test_an_error_among_cancellations_surfaces_alone(way: Way) -> None:
    """What a handler raises in a group with cancellations comes out without them."""

    async def handler(story: Story) -> None:
        try:
            await story.wait()
        except asyncio.CancelledError as error:
            raise BaseExceptionGroup("both", [error, ValueError("cleanup")]) from None

    with pytest.raises(ExceptionGroup) as raised:
        await visit(handler, way)
    assert [str(error) for error in raised.value.exceptions] == ["cleanup"]


@pytest.mark.parametrize("group", [anyio.create_task_group, asyncio.TaskGroup])
async def test_an_error_of_a_childs_cleanup_surfaces(group: Callable[[], Any], way: Way) -> None:
    """A task group puts its children's errors into a group, and that is all that comes out."""

    async def handler(story: Story) -> None:
        async def child() -> None:
            try:
                await story.wait()
            finally:
                raise ValueError("cleanup")

        async with group() as tasks:
            started: Any = tasks.start_soon(child) if hasattr(tasks, "start_soon") else tasks.create_task(child())
            await anyio.sleep_forever()
        story.mark(f"after {started}")

    with pytest.raises(ExceptionGroup) as raised:
        await visit(handler, way)
    assert [str(error) for error in raised.value.exceptions] == ["cleanup"]


async def test_a_cancellation_without_a_departure_is_not_swallowed() -> None:
    """A handler that raises CancelledError while its client is there has the server told so."""

    async def handler(story: Story) -> None:
        raise asyncio.CancelledError("mine")

    story = Story()
    visitor = Visitor(routed(handler, story), story, "extension")
    with pytest.raises(asyncio.CancelledError):
        await visitor.end()


# The grace, and its end.


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def stubborn(story: Story) -> None:
    """Swallows the cancellation and goes on."""
    with contextlib.suppress(asyncio.CancelledError):
        await story.wait()
    story.mark("goes on")
    try:
        await asyncio.sleep(LONG)
        story.mark("after")
    finally:
        await story.clean_up()


async def slow(story: Story) -> None:
    """Has cleanup that doesn't end."""
    try:
        await story.wait()
    finally:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            story.mark("for good")
            await story.clean_up()


async def slow_in_a_gathered_task(story: Story) -> None:
    await asyncio.gather(slow(story))
    story.mark("after")


async def slow_in_a_task_that_swallows(story: Story) -> None:
    async def swallow() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await slow(story)

    await asyncio.create_task(swallow())
    await asyncio.sleep(LONG)
    story.mark("after")


async def slow_and_shielded(story: Story) -> None:
    try:
        await story.wait()
    finally:
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(3 * BRIEF)
            await story.clean_up("shielded")
        await story.clean_up()


@pytest.mark.parametrize(
    ("handler", "marks"),
    [
        (stubborn, ["goes on", "not cleaned up"]),
        (slow, ["for good", "not cleaned up"]),
        (slow_in_a_gathered_task, ["for good", "not cleaned up"]),
        (slow_in_a_task_that_swallows, ["for good", "not cleaned up"]),
        (slow_and_shielded, ["shielded", "not cleaned up"]),
    ],
)
async def test_the_grace_ends(handler: Handler, marks: list[str], way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """What goes on after the grace is cancelled at every await, shields excepted, and one warning names the request."""
    began = time.monotonic()
    assert await visit(handler, way, cleanup_grace=BRIEF) == marks
    assert time.monotonic() - began >= BRIEF - 0.002  # uvloop counts in milliseconds
    assert warnings(caplog) == ["GET / (route /): cleanup after the disconnect took more than its grace of 0.05 s; cancelling for good"]


async def test_the_grace_begins_with_the_delivery(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """The time in a shielded block before the delivery is not taken from the cleanup's grace."""

    async def handler(story: Story) -> None:
        with anyio.CancelScope(shield=True):
            story.here.set()
            await story.left.wait()
            await asyncio.sleep(3 * BRIEF)
        await story.work()

    assert await visit(handler, way, cleanup_grace=2 * BRIEF) == ["cleaned up"]
    assert warnings(caplog) == []


async def test_without_a_grace_it_is_level_from_the_start(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """`cleanup_grace=0` is anyio's own way: the first await of the cleanup raises, and there is no warning."""
    assert await visit(plain, way, cleanup_grace=0) == ["not cleaned up"]
    assert warnings(caplog) == []


@pytest.mark.parametrize("construct", [gather, a_task, anyio_group_at_its_end, a_task_that_cancels_itself, a_group_of_cancellations])
async def test_without_a_grace_the_handler_ends_too(construct: Handler, way: Way) -> None:
    """By level, too, the request ends quietly, and nothing after the cancelled await runs."""
    marks = await visit(construct, way, cleanup_grace=0)
    assert not {"after", "cleaned up"} & set(marks)


@pytest.mark.parametrize("handler", [plain, a_caught_cancellation, a_gathered_task_that_swallows])
async def test_nothing_is_left_of_a_grace_that_was_not_used_up(handler: Handler, way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """A request that ends in time leaves no timer behind: when the grace would end, its task is not touched."""
    story = Story()
    routes = routed(handler, story, cleanup_grace=BRIEF)
    untouched = False

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        nonlocal untouched
        with contextlib.suppress(Gone):
            await routes(scope, receive, send)
        await anyio.sleep(3 * BRIEF)
        untouched = True

    visitor = Visitor(app, story, way)
    await within(story.here)
    visitor.leave()
    await visitor.end()
    assert untouched
    assert warnings(caplog) == []


Graces = tuple[float | None, float | None, float | None, float | None]


def nested(graces: Graces, story: Story) -> Router:
    """A Router in a Router: the graces of the outer one, of the inner one, of the mount and of the route."""
    outer, inner, mount, route = graces
    within_it = Router(cleanup_grace=inner)

    @within_it.get("/items/{id:int}", cleanup_grace=route)
    async def endpoint(request: Request) -> None:
        await stubborn(story)

    routes = Router(cleanup_grace=outer)
    routes.mount("/api", within_it, cleanup_grace=mount)
    return routes


@pytest.mark.parametrize(
    ("graces", "seconds"),
    [
        ((LONG, LONG, LONG, 0.03), "0.03"),
        ((LONG, 0.04, LONG, None), "0.04"),
        ((LONG, None, 0.05, None), "0.05"),
        ((0.06, None, None, None), "0.06"),
        ((0.01, 0.01, 0.01, 0.07), "0.07"),
    ],
)
async def test_the_innermost_grace_counts(graces: Graces, seconds: str, way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """A route's grace is before its router's, that before the mount's, and that before the outer router's."""
    story = Story()
    visitor = Visitor(nested(graces, story), story, way, "/api/items/7")
    await within(story.here)
    visitor.leave()
    await visitor.end()
    text = f"GET /api/items/7 (route /api/items/{{id:int}}): cleanup after the disconnect took more than its grace of {seconds} s"
    assert warnings(caplog) == [f"{text}; cancelling for good"]


async def test_a_wrapped_apps_grace(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """`CancelOnDisconnect` has a grace for foreign apps; its warning names the request, for it knows no route."""
    story = Story()

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await stubborn(story)

    visitor = Visitor(CancelOnDisconnect(app, cleanup_grace=BRIEF), story, way, "/orders\n7")
    await within(story.here)
    visitor.leave()
    await visitor.end()
    assert story.marks == ["goes on", "not cleaned up"]
    assert warnings(caplog) == [
        "GET /orders\\n7: cleanup after the disconnect took more than its grace of 0.05 s; cancelling for good",
    ]


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_nested_apps_get_one_cancellation(depth: int, way: Way) -> None:
    """Routers in routers, and all of it in `CancelOnDisconnect`: one request, one cancellation, one grace."""
    story = Story()
    errors: list[BaseException] = []

    async def handler(story: Story) -> None:
        try:
            await story.work()
        except BaseException as error:
            errors.append(error)
            raise

    app: ASGIApp = routed(handler, story, cleanup_grace=LONG)
    for _ in range(depth):
        around = Router()
        around.mount("", app)
        app = CancelOnDisconnect(around)
    visitor = Visitor(app, story, way)
    await within(story.here)
    visitor.leave()
    await visitor.end()
    assert story.marks == ["cleaned up"]
    assert [type(error) for error in errors] == [asyncio.CancelledError]


@pytest.mark.parametrize("own_way", ["extension", "pump"])
async def test_a_request_within_a_request(own_way: Way, way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that calls another app in process is cancelled with it, by its own grace, not that of the other app."""
    story, inner_story = Story(), Story()
    inner = routed(stubborn, inner_story, cleanup_grace=LONG)

    async def handler(story: Story) -> None:
        other = Visitor(inner, inner_story, own_way)
        other.task.cancel()  # what matters is its scope, receive and send: the app is called in this task
        await inner(other.scope, other._receive, other._send)

    visitor = Visitor(routed(handler, story, cleanup_grace=BRIEF), story, way)
    await within(inner_story.here)
    visitor.leave()
    await visitor.end()
    assert inner_story.marks == ["goes on", "not cleaned up"]
    assert len(warnings(caplog)) == 1


# What others cancel.


async def persistent(story: Story) -> None:
    """Tells whether it is cancelled once, or by level."""
    try:
        await story.wait()
    except asyncio.CancelledError:
        story.mark("cancelled")
        await story.clean_up()
        raise


async def test_a_scope_around_the_app_cancels_by_level(way: Way) -> None:
    """A scope that isn't ours cancels the app as anyio does, and catches its own cancellation."""
    story = Story()
    routes = routed(persistent, story, cleanup_grace=LONG)
    scopes: list[anyio.CancelScope] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        with anyio.CancelScope() as own:
            scopes.append(own)
            await routes(scope, receive, send)
            story.mark("after")

    visitor = Visitor(app, story, way)
    await within(story.here)
    scopes[0].cancel()
    await visitor.end()
    assert scopes[0].cancelled_caught
    assert story.marks == ["cancelled", "not cleaned up"]


async def test_a_native_cancellation_stays_one(way: Way) -> None:
    """`task.cancel()` is delivered once, as asyncio does it, and comes out of the app."""
    story = Story()
    visitor = Visitor(routed(persistent, story, cleanup_grace=LONG), story, way)
    await within(story.here)
    visitor.task.cancel("shutdown")
    with pytest.raises(asyncio.CancelledError):
        await visitor.task
    assert visitor.cancelling == 1
    assert story.marks == ["cancelled", "cleaned up"]


@pytest.mark.parametrize("handler", [persistent, anyio_group_at_its_end, gather, a_shield_before_the_wait, a_caught_cancellation])
@pytest.mark.parametrize("first", ["client", "task"])
async def test_a_native_cancellation_at_the_same_moment_is_not_swallowed(handler: Handler, first: str) -> None:
    """A task that is cancelled while its client leaves ends as cancelled, unless the handler itself swallows it."""
    story = Story()
    visitor = Visitor(routed(handler, story, cleanup_grace=LONG), story, "extension")
    await within(story.here)
    for who in (first, "task" if first == "client" else "client"):
        if who == "client":
            visitor.leave()
        else:
            visitor.task.cancel("shutdown")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(visitor.task), 5)
    assert visitor.task.cancelled() or handler is a_caught_cancellation
    assert visitor.cancelling == 1
    assert "after" not in story.marks


@pytest.mark.parametrize("handler", [persistent, anyio_group_in_its_body, anyio_group_at_its_end, gather, a_shield_before_the_wait])
@pytest.mark.parametrize("first", ["client", "scope"])
async def test_a_scope_around_the_app_at_the_same_moment(handler: Handler, first: str, caplog: pytest.LogCaptureFixture) -> None:
    """A scope that is cancelled while the client leaves still stops what comes after the app, and catches what it must."""
    story = Story()
    routes = routed(handler, story, cleanup_grace=LONG)
    scopes: list[anyio.CancelScope] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        with anyio.CancelScope() as own:
            scopes.append(own)
            await routes(scope, receive, send)
            await anyio.sleep_forever()
        assert own.cancelled_caught

    visitor = Visitor(app, story, "extension")
    await within(story.here)
    for who in (first, "scope" if first == "client" else "client"):
        if who == "client":
            visitor.leave()
        else:
            scopes[0].cancel()
    await visitor.end()
    assert "after" not in story.marks
    assert warnings(caplog) == []


async def test_a_native_cancellation_in_the_grace(way: Way) -> None:
    """A task that is cancelled during the cleanup is cancelled there, and the cancellation comes out of the app."""
    story = Story()
    cleaning = anyio.Event()

    async def handler(story: Story) -> None:
        try:
            await story.wait()
        finally:
            cleaning.set()
            await asyncio.sleep(LONG)

    visitor = Visitor(routed(handler, story, cleanup_grace=LONG), story, way)
    await within(story.here)
    visitor.leave()
    await within(cleaning)
    visitor.task.cancel("shutdown")
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(visitor.task), 5)
    assert visitor.cancelling == 1


async def test_the_servers_shutdown_lets_cleanup_await(caplog: pytest.LogCaptureFixture) -> None:
    """A server that is stopped at once tells its handlers that their clients are gone: their cleanup may await."""
    story = Story()
    async with serving(routed(persistent, story, cleanup_grace=LONG)) as served, await served.connect() as client:
        await client.send(GET)
        await within(story.here)
    assert story.marks == ["cancelled", "cleaned up"]
    assert warnings(caplog) == []


async def test_the_servers_shutdown_of_an_app_that_is_not_ours() -> None:
    """An app that asked for nothing is cancelled by its task: once."""
    story = Story()

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await persistent(story)

    async with serving(app, lifespan="off") as served, await served.connect() as client:
        await client.send(GET)
        await within(story.here)
    assert story.marks == ["cancelled", "cleaned up"]


# Threads.


async def test_a_sync_handlers_thread_is_waited_for(way: Way, tree_is_known: bool) -> None:
    """A thread can't be stopped: the request ends when it does, and it can ask whether it should, if anyio's tree is known."""
    story = Story()
    release = threading.Event()
    asked: list[BaseException] = []
    routes = Router(cleanup_grace=BRIEF)

    @routes.get("/")
    def endpoint(request: Request) -> str:
        anyio.from_thread.run_sync(story.here.set)
        release.wait(5)
        try:
            anyio.from_thread.check_cancelled()
        except BaseException as error:
            asked.append(error)
        return "unheard"

    visitor = Visitor(routes, story, way)
    await within(story.here)
    visitor.leave()
    await anyio.sleep(2 * BRIEF)
    assert not visitor.task.done()
    release.set()
    await visitor.end()
    assert [type(error) for error in asked] == ([asyncio.CancelledError] if tree_is_known else [])
    assert visitor.sent == []


# Over sockets, what the table above doesn't show.


async def test_the_grace_ends_over_a_socket(caplog: pytest.LogCaptureFixture) -> None:
    """On our server a handler that goes on is stopped for good, and one warning is the loudest line."""
    story = Story()
    async with serving(nested((LONG, None, None, BRIEF), story)) as served, await served.connect() as client:
        await client.send(b"GET /api/items/7 HTTP/1.1\r\nHost: test\r\n\r\n")
        await within(story.here)
        client.leave()
        await eventually(lambda: story.marks == ["goes on", "not cleaned up"])
    text = "GET /api/items/7 (route /api/items/{id:int}): cleanup after the disconnect took more than its grace of 0.05 s"
    assert loud_lines(caplog) == [f"{text}; cancelling for good"]


async def test_an_error_of_the_cleanup_is_logged_as_one(caplog: pytest.LogCaptureFixture) -> None:
    """On our server an error that cleanup raises is logged as the app's, with its own traceback."""

    async def handler(story: Story) -> None:
        try:
            await story.wait()
        finally:
            await story.clean_up()
            raise ValueError("cleanup")

    story = Story()
    async with serving(routed(handler, story)) as served, await served.connect() as client:
        await client.send(GET)
        await within(story.here)
        client.leave()
        await eventually(lambda: loud_lines(caplog))
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


# On trio.


async def visit_on_trio(handler: Handler, way: Way, **options: Any) -> list[str]:
    """`visit` by trio's means. The errors come out as they are."""
    story = Story()
    routes = routed(handler, story, **options)
    extension = Extension()
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
    errors: list[BaseException] = []

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await story.left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise Gone

    async def run() -> None:
        extensions = extension.offered if way == "extension" else {}
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "extensions": extensions}
        try:
            await routes(scope, receive, send)
        except Exception as error:
            errors.append(error)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await story.here.wait()
            story.left.set()
            extension.leave()
    for error in errors:
        raise error
    return story.marks


async def cleanup_in_a_shield(story: Story) -> None:
    try:
        await story.wait()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2 * BRIEF)
            story.mark("cleaned up")
        await anyio.lowlevel.checkpoint()
        story.mark("after")


async def cleanup_without_a_shield(story: Story) -> None:
    try:
        await story.wait()
    finally:
        try:
            await anyio.lowlevel.checkpoint()
            story.mark("cleaned up")
        except anyio.get_cancelled_exc_class():
            story.mark("not cleaned up")
            raise


async def shielded_work(story: Story) -> None:
    with anyio.CancelScope(shield=True):
        story.here.set()
        await story.left.wait()
        await anyio.sleep(0.001)
        story.mark("shielded")
    await anyio.lowlevel.checkpoint()
    story.mark("after")


async def swallowing(story: Story) -> None:
    with contextlib.suppress(anyio.get_cancelled_exc_class()):
        await story.wait()
    story.mark("goes on")
    await anyio.lowlevel.checkpoint()
    story.mark("after")


async def anyio_group(story: Story) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(story.wait)
        await anyio.sleep_forever()
    story.mark("after")


@on_trio
@pytest.mark.parametrize("grace", [0, BRIEF])
@pytest.mark.parametrize(
    ("handler", "marks"),
    [
        (cleanup_in_a_shield, ["cleaned up"]),
        (cleanup_without_a_shield, ["not cleaned up"]),
        (shielded_work, ["shielded"]),
        (swallowing, ["goes on"]),
        (anyio_group, []),
    ],
)
async def test_on_trio_it_is_level(handler: Handler, marks: list[str], grace: float, way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """On trio every await of the handler raises unless it is shielded, whatever the grace, and nobody is warned."""
    assert await visit_on_trio(handler, way, cleanup_grace=grace) == marks
    assert warnings(caplog) == []


@on_trio
async def test_on_trio_an_error_of_the_cleanup_surfaces(way: Way) -> None:
    """On trio, too, an error that cleanup raises is the request's error, as it is and not in a group."""

    async def handler(story: Story) -> None:
        try:
            await story.wait()
        finally:
            raise ValueError("cleanup")

    with pytest.raises(ValueError, match=r"^cleanup$"):
        await visit_on_trio(handler, way)


# The scopes that a handler has opened before its first wait.


@pytest.mark.parametrize("depth", [1, 3])
async def test_a_thread_below_the_handlers_own_scopes_is_told(depth: int, tree_is_known: bool) -> None:
    """A thread learns of the departure through `check_cancelled()`, though the handler opened scopes before it waited at all."""
    if not tree_is_known:
        return  # then a thread learns of it when the grace ends

    async def handler(story: Story) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(depth):
                stack.enter_context(anyio.fail_after(LONG))
            try:
                await anyio.to_thread.run_sync(poll, story)
            finally:
                await story.clean_up()

    def poll(story: Story) -> None:
        anyio.from_thread.run_sync(story.here.set)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            anyio.from_thread.check_cancelled()
            time.sleep(0.001)
        story.mark("the thread wasn't told")

    assert await visit(handler, "extension") == ["cleaned up"]


async def test_scopes_of_before_and_after_the_first_wait_nest(way: Way) -> None:
    """Scopes opened before the handler's first wait and behind it keep their deadlines and their order, and end as they were opened."""

    async def handler(story: Story) -> None:
        with anyio.move_on_after(BRIEF) as early:
            with anyio.CancelScope() as second:
                await anyio.lowlevel.checkpoint()
                with anyio.move_on_after(LONG) as late:
                    await anyio.sleep(LONG)
                story.mark("not here")
        story.mark(f"{early.cancelled_caught} {second.cancelled_caught} {late.cancelled_caught}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 0)
        await story.work()

    assert await visit(handler, way) == ["True False False", "cleaned up"]


async def test_a_scope_around_the_call_reaches_through_early_scopes(way: Way) -> None:
    """A scope around the whole call, as a server's that ends, cancels a handler that opened scopes before its first wait."""
    around: list[anyio.CancelScope] = []

    async def handler(story: Story) -> None:
        with anyio.fail_after(LONG):
            try:
                await story.wait()
            except asyncio.CancelledError:
                story.mark("cancelled")
                raise

    async def enclosed(scope: Scope, receive: Any, send: Any) -> None:
        with anyio.CancelScope() as cancel_scope:
            around.append(cancel_scope)
            await routed(handler, story)(scope, receive, send)

    story = Story()
    visitor = Visitor(enclosed, story, way)
    await within(story.here)
    around[0].cancel()
    await visitor.end()
    assert (story.marks, around[0].cancelled_caught) == (["cancelled"], True)


async def test_nothing_is_left_to_the_collector(way: Way) -> None:
    """A cancelled request leaves no cycle behind, which would hold what its handler had open until the next collection."""

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await story.wait()

    story = Story()
    found: list[object] = []
    for _ in range(2):  # the first fills caches
        story = Story()
        visitor = Visitor(CancelOnDisconnect(app), story, way)
        await within(story.here)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            visitor.leave()
            await visitor.end()
            del visitor
            gc.collect()
            found = [type(thing) for thing in gc.garbage if isinstance(thing, BaseException | FrameType)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert found == []


async def test_a_departure_reported_within_receive_is_heard() -> None:
    """A server may call back from inside `receive()`, before the app has waited at all: the app is told there, and ends."""
    story = Story()
    visitors: list[Visitor] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        story.mark("told")
        await story.work()

    class Early(Visitor):
        async def _receive(self) -> Message:
            if not self._began:
                return await super()._receive()
            self.leave()
            return {"type": "http.disconnect"}

    visitors.append(Early(CancelOnDisconnect(app, cleanup_grace=LONG), story, "extension"))
    await visitors[0].end()
    assert story.marks == ["told", "cleaned up"]


class Plain(Block):
    """A block without a request."""

    def describe(self) -> str:
        return "a call"


@pytest.mark.parametrize("first", ["outer", "inner"])
async def test_blocks_in_one_task_nest(first: str) -> None:
    """Of two blocks in one task, whichever is cancelled first, each ends its own call, and the task is in no scope afterwards."""
    story = Story()
    blocks = {"outer": Plain(LONG), "inner": Plain(LONG)}

    async def inside() -> None:
        await story.work("inner")

    async def around() -> None:
        await blocks["inner"].run(inside())
        story.mark("after the inner")
        await story.work("outer")

    async def task() -> None:
        await blocks["outer"].run(around())
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
        assert anyio_scopes.scope_of(current) is None

    running = asyncio.create_task(task())
    await within(story.here)
    blocks[first].cancel()
    if first == "inner":
        await eventually(lambda: "after the inner" in story.marks)
        blocks["outer"].cancel()
    await asyncio.wait_for(running, 5)
    assert story.marks == (["inner"] if first == "outer" else ["inner", "after the inner", "outer"])


# The first step, which runs before anybody is asked to report the departure.


@pytest.mark.parametrize("waited", [False, True], ids=["", "behind a wait"])
async def test_an_inner_block_that_never_waits_leaves_the_outer_one_in_place(waited: bool) -> None:
    """A block that begins and ends within one step of another's call leaves that one to be told, once and by edge."""
    story = Story()
    outer = Plain(LONG)

    async def inside() -> None:
        story.mark("inner")

    async def around() -> None:
        if waited:
            await asyncio.sleep(0.001)
        await Plain(LONG).run(inside())
        await story.work("outer")
        story.mark("after")

    running = asyncio.create_task(outer.run(around()))
    await within(story.here)
    outer.cancel()
    await asyncio.wait_for(running, 5)
    assert (story.marks, running.cancelling(), blocks) == (["inner", "outer"], 0, {})


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("waits", [False, True], ids=["first step", "later"])
async def test_an_error_passes_through_every_block_as_it_is(depth: int, waits: bool) -> None:
    """An error, raised before the call has waited or behind it, leaves each block as the same object, without a context."""
    error = ValueError("the handler's")

    async def call(depth: int) -> None:
        if depth:
            await Plain(LONG).run(call(depth - 1))
        elif waits:
            await asyncio.sleep(0)
        raise error

    with pytest.raises(ValueError, match="the handler's") as caught:
        await Plain(LONG).run(call(depth - 1))
    assert (caught.value is error, error.__context__, blocks) == (True, None, {})


async def test_a_call_that_cancels_its_own_task_in_its_first_step() -> None:
    """A call that cancels its own task before it has waited is cancelled at its first wait, and the task is left cancelled."""
    story = Story()

    async def call() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel("by itself")
        story.mark("goes on")
        await story.work()

    async def task() -> None:
        try:
            await Plain(LONG).run(call())
        except asyncio.CancelledError as error:
            story.mark(str(error))
            raise
        story.mark("after")

    running = asyncio.create_task(task())
    await asyncio.wait([running], timeout=5)
    assert (running.cancelled(), story.marks, blocks) == (True, ["goes on", "cleaned up", "by itself"], {})


async def test_a_block_cancelled_before_and_in_its_first_step_is_told_once() -> None:
    """A block that is cancelled before its call begins, and again in the call's first step, tells the call once, at its first wait."""
    story = Story()
    block = Plain(LONG)

    async def call() -> None:
        block.cancel()
        story.mark("began")
        await story.work()

    block.cancel()
    running = asyncio.create_task(block.run(call()))
    await asyncio.wait_for(running, 5)
    assert (story.marks, running.cancelling()) == (["began", "cleaned up"], 0)


@pytest.mark.parametrize("waits", [False, True], ids=["never waits", "waits twice"])
async def test_the_server_is_asked_only_for_a_call_that_waits(waits: bool) -> None:
    """The server is asked to report the departure once, if the app waits at all, and never after the app has ended."""

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        for _ in range(2 * waits):
            await asyncio.sleep(0)

    visitor = Visitor(CancelOnDisconnect(app), Story(), "extension")
    await visitor.end()
    assert (visitor.extension.asked, visitor.extension.waiting) == (int(waits), {})


async def test_a_client_that_left_before_the_call_began_is_heard_at_the_first_wait() -> None:
    """If the client had left already, the server says so within `subscribe()`, at the first wait, and that wait is cancelled."""
    story = Story()

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        story.mark(f"asked {visitor.extension.asked}")
        with anyio.CancelScope():
            await story.work()
        story.mark("after")

    visitor = Visitor(CancelOnDisconnect(app, cleanup_grace=LONG), story, "extension")
    visitor.leave()
    await visitor.end()
    assert (story.marks, visitor.extension.asked) == (["asked 0", "cleaned up"], 1)


async def test_an_error_of_the_first_step_behind_a_departure_surfaces() -> None:
    """An error that the app raises before it has waited at all is its error, though its client has left meanwhile."""
    story = Story()

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        visitor.leave()
        raise ValueError("the app's")

    visitor = Visitor(CancelOnDisconnect(app), story, "extension")
    with pytest.raises(ValueError, match=r"^the app's$"):
        await visitor.end()
    assert blocks == {}
