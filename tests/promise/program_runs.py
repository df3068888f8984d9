"""Run a random program in a block, and write down what can be seen of it: nothing is judged here."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

from microasgi.promise import telling
from microasgi.promise.anyio_scopes import scope_of
from microasgi.promise.delivery import Block
from tests.promise import programs as p
from tests.promise.program_waits import WAITS
from tests.promise.sightings import Boom, Leaf, Moment, Part, Seen, Task, outcome_of

PATIENCE = 5.0
GIVES_UP = 0.5
"""Seconds after which a thread ends that was never told."""


class Run:
    """One run of a program."""

    def __init__(self, program: p.Program, block: Callable[[float], Any] = Block) -> None:
        self.loop = asyncio.get_running_loop()
        self.seen = Seen(program)
        self.block = block(program.cleanup_grace)
        self._number = self._turn = self._errors = 0
        self._leave = program.leave
        self._over = asyncio.Event()
        self._threads: list[threading.Event] = []
        self._detached_tasks: list[Any] = []

    def moment(self) -> Moment:
        self._number += 1
        return Moment(self._number, self._turn, self.loop.time())

    async def __call__(self) -> Seen:
        """Run it to its end."""
        seen, before = self.seen, asyncio.all_tasks()
        logged = Logged(seen)
        logging.getLogger().addHandler(logged)
        self.loop.set_exception_handler(lambda _, context: seen.complaints.append(f"loop: {context}"))
        self._tick()
        host = asyncio.create_task(self._host())
        await asyncio.wait([host], timeout=PATIENCE)
        seen.hung = not host.done()
        await self._end(before)
        logging.getLogger().removeHandler(logged)
        self.loop.set_exception_handler(None)
        return seen

    async def _host(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        own = Task(None, "host", self.moment())
        try:
            await self.block.run(self._task(own, self.seen.program.handler))
        except BaseException as error:
            self.seen.outcome = outcome_of(error)
        self.seen.cancelling, self.seen.scope = task.cancelling(), scope_of(task)

    async def _end(self, before: set[Any]) -> None:
        """Let go what nobody awaits, and see who is left."""
        self._over.set()
        deadline = self.loop.time() + 1
        while (left := asyncio.all_tasks() - before) and self.loop.time() < deadline:
            await asyncio.wait(left, timeout=0.02)
            if self.loop.time() > deadline - 0.9 or self.seen.hung:
                break
        self.seen.tasks_left = [task for task in left if not task.done()]
        for _ in range(50):
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
        self._turn = -1  # the ticker's end
        self.seen.remembered = [*telling.blocks, *telling._told]
        telling.blocks.clear()  # each program is judged by itself
        telling._told.clear()
        for ended in self._threads:
            await asyncio.to_thread(ended.wait)

    def _tick(self) -> None:
        if self._turn < 0:
            return
        self._turn += 1
        kind, number = self._leave
        if self._turn >= (number if kind == "turn" else 300):
            self._depart()
        self.loop.call_soon(self._tick)

    def _depart(self) -> None:
        if self.seen.departure is None and self.block.task is not None:
            self.seen.departure = self.moment()
            self.block.cancel(lambda: "GET /")

    # The nodes.

    async def _task(self, task: Task, steps: p.Steps) -> None:
        self.seen.tasks.append(task)
        try:
            await self._steps(steps, task, task.parent)
        except BaseException as error:
            task.outcome = outcome_of(error)
            raise
        finally:
            task.ended = self.moment()

    async def _steps(self, steps: p.Steps, task: Task, part: Part | None) -> None:
        for step in steps:
            await self._step(step, task, part)

    async def _step(self, node: p.Node, task: Task, part: Part | None) -> None:
        match node:
            case p.Wait() | p.Pause() | p.Thread():
                await self._leaf(node, task, part)
            case p.Fail():
                self._errors += 1
                raise Boom(f"boom {self._errors}")
            case p.Detach():
                self._detached_tasks.append(self.loop.create_task(self._detached()))
            case p.Try():
                await self._try(node, task, part)
            case p.Timeout():
                await self._timeout(node, task, part)
            case p.Iterate():
                async with aclosing(self._items(node.body, task, part)) as items:
                    async for _ in items:
                        pass
            case _:
                await self._in_part(node, task, part)

    async def _in_part(self, node: p.Node, task: Task, outer: Part | None) -> None:
        kinds: dict[type, str] = {p.Gather: "gather", p.Shield: "shield", p.Nested: "nested"}
        if isinstance(node, p.Group):
            kind: str = node.library
        elif isinstance(node, p.Await):
            kind = "wait_for" if node.limit else "await"
        else:
            kind = kinds[type(node)]
        part = self._open(kind, task, outer)
        with Leaving(self, part):
            match node:
                case p.Group():
                    await self._group(node, part)
                case p.Gather():
                    children = [self._child(part, steps) for steps in node.children]
                    part.exits = self.moment()
                    await asyncio.gather(*children)
                case p.Await():
                    child = self._child(part, node.child)
                    part.exits = self.moment()
                    await (asyncio.wait_for(child, p.LONG) if node.limit else self.loop.create_task(child))
                case p.Shield():
                    with anyio.CancelScope(shield=True):
                        await self._steps(node.body, task, part)
                case p.Nested():
                    await Block(p.LONG).run(self._steps(node.body, task, part))

    async def _group(self, node: p.Group, part: Part) -> None:
        group: Any = anyio.create_task_group() if node.library == "anyio" else asyncio.TaskGroup()
        if node.entered == "stack":
            async with AsyncExitStack() as stack:
                await self._body(node, part, await stack.enter_async_context(group))
        elif node.entered == "manager":
            async with held(group):
                await self._body(node, part, group)
        else:
            async with group:
                await self._body(node, part, group)

    async def _body(self, node: p.Group, part: Part, group: Any) -> None:
        try:
            for steps in node.children:
                if node.library == "anyio":
                    group.start_soon(self._begun, self._child(part, steps))
                else:
                    group.create_task(self._child(part, steps))
            await self._steps(node.body, part.task, part)
        except BaseException as error:
            part.body = outcome_of(error)
            raise
        finally:
            part.exits = self.moment()

    @staticmethod
    async def _begun(child: Awaitable[None]) -> None:
        await child

    def _child(self, part: Part, steps: p.Steps) -> Any:
        child = Task(part, part.kind, self.moment())
        part.children.append(child)
        return self._task(child, steps)

    async def _detached(self) -> None:
        task = Task(None, "detach", self.moment())
        leaf = Leaf(p.Detach(), task, None, self.moment())
        self.seen.leaves.append(leaf)
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            leaf.cancelled = True
            raise

    async def _try(self, node: p.Try, task: Task, part: Part | None) -> None:
        if node.clause == "finally":
            try:
                await self._steps(node.body, task, part)
            finally:
                await self._clean_up(node, task, part)
        else:
            try:
                await self._steps(node.body, task, part)
            except asyncio.CancelledError:
                await self._clean_up(node, task, part)
                raise

    async def _clean_up(self, node: p.Try, task: Task, outer: Part | None) -> None:
        part = self._open("cleanup", task, outer)
        with Leaving(self, part):
            await self._steps(node.cleanup, task, part)

    async def _timeout(self, node: p.Timeout, task: Task, outer: Part | None) -> None:
        part = self._open("timeout" if node.what == "asyncio" else "scope", task, outer)
        part.deadline = self.loop.time() + node.seconds
        try:
            with Leaving(self, part):
                if node.what == "asyncio":
                    async with asyncio.timeout(node.seconds):
                        await self._steps(node.body, task, part)
                else:
                    with anyio.move_on_after(node.seconds) if node.what == "move on" else anyio.fail_after(node.seconds):
                        await self._steps(node.body, task, part)
        except TimeoutError:
            pass

    async def _items(self, body: p.Steps, task: Task, part: Part | None) -> AsyncGenerator[None, None]:
        await self._steps(body, task, part)
        yield

    def _open(self, kind: str, task: Task, outer: Part | None) -> Part:
        part = Part(kind, task, outer, self.moment())
        self.seen.parts.append(part)
        return part

    async def _leaf(self, node: p.Node, task: Task, part: Part | None) -> None:
        kind, number = self._leave
        if len(self.seen.leaves) + 1 == number:
            if kind == "running":
                self._depart()
            elif kind == "wait":
                self.loop.call_soon(self._depart)
        leaf = Leaf(node, task, part, self.moment())
        self.seen.leaves.append(leaf)
        try:
            await (WAITS[node.what]() if isinstance(node, p.Wait | p.Pause) else self._thread(leaf))
        except asyncio.CancelledError:
            leaf.cancelled = True
            raise
        finally:
            leaf.ended = self.moment()

    async def _thread(self, leaf: Leaf) -> None:
        ended = threading.Event()

        def ask() -> None:
            self._threads.append(ended)
            leaf.thread, until = "runs", time.monotonic() + GIVES_UP
            try:
                while time.monotonic() < until:
                    anyio.from_thread.check_cancelled()
                    time.sleep(0.0005)
                leaf.thread = "never told"
            except asyncio.CancelledError:
                leaf.thread = "told"
                raise
            finally:
                ended.set()

        assert isinstance(leaf.node, p.Thread)
        await anyio.to_thread.run_sync(ask, abandon_on_cancel=leaf.node.abandon)


class Leaving:
    """Writes down how a part is left."""

    def __init__(self, run: Run, part: Part) -> None:
        self.run, self.part = run, part

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.part.left, self.part.outcome = self.run.moment(), outcome_of(error)


class Logged(logging.Handler):
    """Sorts what is logged."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(logging.WARNING)
        self.seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        (self.seen.warnings if "more than its grace" in text else self.seen.complaints).append(text)


@asynccontextmanager
async def held(group: Any) -> AsyncIterator[None]:
    async with group:
        yield
