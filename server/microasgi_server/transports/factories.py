"""Tasks, where the app has told the loop how to make them: by a factory of its own, or by asyncio's eager one."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any


def made_by(
    factory: Any, loop: asyncio.AbstractEventLoop, context: Context, run: Callable[[], Coroutine[Any, Any, None]]
) -> "asyncio.Task[None]":
    """The task that a factory makes of `run`, in this context. Raises what the factory raises."""
    # Not every factory takes a context, and uvloop's `create_task` insists on giving one; but each finds it when it is called inside.
    coroutine = _in_its_own_turn(run)
    try:
        task: asyncio.Task[None] = context.run(factory, loop, coroutine)
        return task
    except BaseException:
        coroutine.close()
        raise


async def _in_its_own_turn(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """An eager factory runs what it is given at once: in the middle of the request before, and pipelined ones inside each other."""
    await asyncio.sleep(0)
    await run()
