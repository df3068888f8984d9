"""What is read of asyncio's tasks and isn't public: what a task waits for, and who waits with it.

asyncio keeps no tree. A task that waits for others holds them in one of two ways, and both are followed here:

    await task, gather(…)     what it waits for is a task, or has tasks as its children: `task.cancel()` reaches them by itself
    async with TaskGroup()    the group stands in the frame of a suspended coroutine, or in a context manager that does
"""

import asyncio
import gc
import inspect
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, _AsyncGeneratorContextManager, contextmanager
from functools import cache
from opcode import opmap
from types import AsyncGeneratorType, CodeType, CoroutineType, GeneratorType, MethodType, UnionType
from typing import Any, NamedTuple

Task = asyncio.Task[Any]

running_loop = asyncio._get_running_loop

_SUSPENDABLE = (CoroutineType, GeneratorType, AsyncGeneratorType)

_ENTERS = opmap.get("BEFORE_ASYNC_WITH") or opmap["LOAD_SPECIAL"]
"""The instruction by which a block is entered: up to Python 3.13, and since."""

_WAIT_FOR: CodeType | None = asyncio.wait_for.__code__ if sys.version_info < (3, 12) else None
"""Of the versions in which it runs what it waits for in a task."""

_plain: dict[int, CodeType] = {}
"""Code that enters no blocks, by its id: comparing codes costs more than reading them. The code stays, so its id does."""


@cache
def missing() -> tuple[str, ...]:
    """The names that this Python doesn't have, of those that are used here."""
    names: list[tuple[Any, str]] = [(asyncio.tasks, "_enter_task"), (asyncio.tasks, "_leave_task")]
    names += [(asyncio.TaskGroup(), name) for name in ("_tasks", "_abort", "_aborting", "_exiting", "_parent_task")]
    # Tasks in C have it in their class; those in Python, which debuggers and nested loops use, set it as they begin.
    if "_fut_waiter" not in getattr(getattr(asyncio.Task.__init__, "__code__", None), "co_names", ()):
        names.append((asyncio.Task, "_fut_waiter"))
    return tuple(f"asyncio's {name}" for owner, name in names if not hasattr(owner, name))


def is_ready(task: Task) -> bool:
    """Whether the task has begun, and what it waits for hasn't ended: then a cancellation ends that wait, and nothing is lost."""
    waiter = task._fut_waiter  # type: ignore[attr-defined]
    if waiter is not None:
        return not waiter.done()
    call = task.get_coro()
    return not isinstance(call, CoroutineType) or inspect.getcoroutinestate(call) != inspect.CORO_CREATED


class Company(NamedTuple):
    """Who waits with a task, as far as it can be seen."""

    tasks: list[Task]
    """Those that are cancelled with it, since it awaits them."""
    groups: list[asyncio.TaskGroup]
    """Those whose blocks it is in."""
    forgetful: list[asyncio.Future[Any]]
    """What it waits for by `asyncio.wait_for`, where that forgets a cancellation if this ends first."""


def company(task: Task, *calls: Any) -> Company:
    """Who waits with a task that is suspended in these coroutines."""
    found = Company([], [], [])
    for thing, code in [frame for call in calls for frame in frames(call)]:
        if code is _WAIT_FOR:  # it waits for something else, and cancels this in the next turn
            found.forgetful.append(thing.cr_frame.f_locals["fut"])
        elif id(code) in _plain:
            continue
        elif _enters_blocks(code):
            for held in gc.get_referents(thing):
                _look_into(held, task, found.groups)
        else:
            _plain[id(code)] = code
    waiters = [task._fut_waiter, *found.forgetful]  # type: ignore[attr-defined]
    for waiter in waiters:
        if isinstance(waiter, asyncio.Task):
            found.tasks.append(waiter)
        elif type(waiter) is not asyncio.Future:
            waiters += getattr(waiter, "_children", ())
    return found


def has_a_result(future: asyncio.Future[Any]) -> bool:
    """Whether it has ended, and well."""
    return future.done() and not future.cancelled() and future.exception() is None


def frames(call: Any) -> list[tuple[Any, CodeType]]:
    """A suspended coroutine, what it awaits, and so on, as far as that has frames; each with its code."""
    found: list[tuple[Any, CodeType]] = []
    while call is not None:
        kind = type(call)
        if kind is CoroutineType:
            found.append((call, call.cr_code))
            call = call.cr_await
        elif kind is GeneratorType:
            found.append((call, call.gi_code))
            call = call.gi_yieldfrom
        elif kind is AsyncGeneratorType:
            found.append((call, call.ag_code))
            call = call.ag_await
        else:  # an asynchronous generator's step, say, which holds the generator
            call = next((thing for thing in gc.get_referents(call) if isinstance(thing, _SUSPENDABLE)), None)
    return found


def handles(call: Any, errors: type[BaseException] | UnionType = BaseException) -> bool:
    """Whether a suspended call is in an `except` or a `finally` that such an error led into: in its cleanup, then."""
    return any(isinstance(held, errors) for thing, _ in frames(call) for held in gc.get_referents(thing))


def is_being_cancelled(task: Task, call: Any) -> bool:
    """Whether a task that was cancelled has still to do with that: cleans up, or waits for others that were cancelled with it."""
    return handles(call, asyncio.CancelledError | BaseExceptionGroup) or any(child.cancelling() for child in company(task, call).tasks)


def _enters_blocks(code: CodeType) -> bool:
    enters = _ENTERS in code.co_code[::2] or not {"__aenter__", "enter_async_context"}.isdisjoint(code.co_names)
    return enters or code is asyncio.TaskGroup.__aexit__.__code__


def _look_into(thing: Any, task: Task, found: list[asyncio.TaskGroup]) -> None:
    if isinstance(thing, MethodType):  # the block's `__aexit__`, on the frame's stack
        thing = thing.__self__
        for attribute in getattr(thing, "__dict__", {}).values():
            if isinstance(attribute, asyncio.TaskGroup | AsyncExitStack):
                _look_into(attribute, task, found)
    if isinstance(thing, asyncio.TaskGroup):
        if thing._parent_task is task and thing not in found:  # type: ignore[attr-defined]
            found.append(thing)
    elif isinstance(thing, _AsyncGeneratorContextManager):
        found += [group for group in company(task, thing.gen).groups if group not in found]
    elif isinstance(thing, AsyncExitStack):
        for _, callback in thing._exit_callbacks:  # type: ignore[attr-defined]
            _look_into(callback, task, found)


def take_over(group: asyncio.TaskGroup) -> set[Task]:
    """The group's tasks. From now on the group doesn't cancel them itself: who asks tells them."""
    tasks: set[Task] = group._tasks

    def abort() -> None:
        group._aborting = True  # type: ignore[attr-defined]
        del group._abort  # type: ignore[attr-defined]

    if group._exiting:  # type: ignore[attr-defined]
        group._abort = abort  # type: ignore[attr-defined]
    else:  # its owner is still in the block, and a failure of a member must not cancel the owner's cleanup
        group._aborting = True  # type: ignore[attr-defined]
    return tasks


@contextmanager
def in_the_name_of(task: Task) -> Iterator[None]:
    """Be that task, for who asks `current_task()`."""
    loop = asyncio.get_running_loop()
    current = asyncio.current_task(loop)
    if current is not task:
        if current is not None:
            asyncio.tasks._leave_task(loop, current)
        asyncio.tasks._enter_task(loop, task)
    try:
        yield
    finally:
        if current is not task:
            asyncio.tasks._leave_task(loop, task)
            if current is not None:
                asyncio.tasks._enter_task(loop, current)
