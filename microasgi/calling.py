"""Any function, awaited: an async one runs in this task, a plain one in a worker thread, so that it can't block the loop.

Handlers, exception handlers and background tasks may be either, and all are called here.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from anyio import to_thread


async def call_any(func: Callable[..., Any], *args: Any) -> Any:
    """Call `func`, in this task if it is async, else in a worker thread, which is waited for even when cancelled."""
    if is_async(func):
        return await func(*args)
    (result,) = await to_thread.run_sync(lambda: (func(*args),))  # trio refuses a thread whose result is a coroutine, bare
    return await result if inspect.isawaitable(result) else result


def is_async(func: Any) -> bool:
    """Whether calling `func` gives an awaitable: a coroutine function, also inside `partial` or as `__call__`."""
    while isinstance(func, partial):
        func = func.func
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004
