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
from types import AsyncGeneratorType, CodeType, CoroutineType, GeneratorType, MethodType
from typing import Any

Task = asyncio.Task[Any]

running_loop = asyncio._get_running_loop

_AWAITS: dict[type, str] = {CoroutineType: "cr_await", GeneratorType: "gi_yieldfrom", AsyncGeneratorType: "ag_await"}
_CODE: dict[type, str] = {CoroutineType: "cr_code", GeneratorType: "gi_code", AsyncGeneratorType: "ag_code"}
_SUSPENDABLE = tuple(_AWAITS)
_ENTERS = opmap.get("BEFORE_ASYNC_WITH") or opmap["LOAD_SPECIAL"]
"""The instruction by which a block is entered: up to Python 3.13, and since."""

_WAIT_FOR: CodeType | None = asyncio.wait_for.__code__ if sys.version_info < (3, 12) else None
"""Of the versions in which it runs what it waits for in a task."""

_codes: dict[int, tuple[CodeType, bool]] = {}
"""Whether a function enters blocks, by its code's id: comparing codes costs more than reading them. The code stays, so its id does."""


@cache
def missing() -> tuple[str, ...]:
    """The names that this Python doesn't have, of those that are used here."""
    group = asyncio.TaskGroup()
    names = [
        (asyncio.Task, "_fut_waiter"),
        (group, "_tasks"),
        (group, "_abort"),
        (group, "_aborting"),
        (group, "_exiting"),
        (group, "_parent_task"),
    ]
    names += [(asyncio.tasks, "_enter_task"), (asyncio.tasks, "_leave_task")]
    return tuple(f"asyncio's {name}" for owner, name in names if not hasattr(owner, name))


def is_ready(task: Task) -> bool:
    """Whether the task has begun, and what it waits for hasn't ended: then a cancellation ends that wait, and nothing is lost."""
    waiter = task._fut_waiter  # type: ignore[attr-defined]
    if waiter is not None:
        return not waiter.done()
    call = task.get_coro()
    return not isinstance(call, CoroutineType) or inspect.getcoroutinestate(call) != inspect.CORO_CREATED


def awaited(task: Task, call: Any) -> Iterator[Task]:
    """The tasks that are cancelled with this one, since it awaits them."""
    waiters = [task._fut_waiter]  # type: ignore[attr-defined]
    if _WAIT_FOR is not None:  # there the wait is for something else, and the task is cancelled in the next turn
        waiters += [frame.cr_frame.f_locals["fut"] for frame in frames(call) if getattr(frame, "cr_code", None) is _WAIT_FOR]
    for waiter in waiters:
        if isinstance(waiter, asyncio.Task):
            yield waiter
        else:
            waiters += getattr(waiter, "_children", ())


def groups(task: Task, call: Any) -> list[asyncio.TaskGroup]:
    """The task groups whose blocks the task's suspended call is in, as far as it can be seen."""
    found: list[asyncio.TaskGroup] = []
    for frame in frames(call):
        if _enters_blocks(getattr(frame, _CODE[type(frame)])):
            for thing in gc.get_referents(frame):
                _look_into(thing, task, found)
    return found


def frames(call: Any) -> Iterator[Any]:
    """A suspended coroutine, what it awaits, and so on, as far as that has frames."""
    while call is not None:
        if isinstance(call, _SUSPENDABLE):
            yield call
            call = getattr(call, _AWAITS[type(call)])
        else:  # an asynchronous generator's step, say, which holds the generator
            call = next((thing for thing in gc.get_referents(call) if isinstance(thing, _SUSPENDABLE)), None)


def handles_an_error(call: Any) -> bool:
    """Whether a suspended call is in an `except` or a `finally` that an exception led into: in its cleanup, then."""
    return any(isinstance(thing, BaseException) for frame in frames(call) for thing in gc.get_referents(frame))


def _enters_blocks(code: CodeType) -> bool:
    known = _codes.get(id(code))
    if known is None:
        enters = _ENTERS in code.co_code[::2] or not {"__aenter__", "enter_async_context"}.isdisjoint(code.co_names)
        known = _codes[id(code)] = (code, enters or code is asyncio.TaskGroup.__aexit__.__code__)
    return known[1]


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
        found += [group for group in groups(task, thing.gen) if group not in found]
    elif isinstance(thing, AsyncExitStack):
        for _, callback in thing._exit_callbacks:  # type: ignore[attr-defined]
            _look_into(callback, task, found)


def members(group: asyncio.TaskGroup) -> set[Task]:
    """The group's tasks that have not ended. From now on the group doesn't cancel them itself: who asks tells them."""
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
