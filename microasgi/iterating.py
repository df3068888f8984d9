"""Iterators of any kind, as a response has them: stepped without blocking the event loop, and closed at every end."""

import inspect
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, TypeVar

from anyio import CancelScope, to_thread

Item = TypeVar("Item")


async def in_thread(iterator: Iterator[Item]) -> AsyncIterator[Item]:
    """The items of a plain iterator. Each step runs in a worker thread."""
    end: Any = object()
    while (item := await to_thread.run_sync(next, iterator, end)) is not end:
        yield item


async def close(iterator: Any) -> None:
    """Close it by `aclose()`, or by `close()` in a thread; what has neither needs none. Any iterator may be closed twice."""
    if (aclose := getattr(iterator, "aclose", None)) is not None:
        await aclose()
    elif (close := getattr(iterator, "close", None)) is not None:
        if isinstance(iterator, Generator) and inspect.getgeneratorstate(iterator) != inspect.GEN_SUSPENDED:
            close()  # nothing of it runs
            return
        with CancelScope(shield=True):  # it may block, as its steps may
            await to_thread.run_sync(close)
