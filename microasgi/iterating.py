"""Iterators of any kind, as a response has them: stepped without blocking the event loop, and closed at every end."""

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from anyio import CancelScope, to_thread

Item = TypeVar("Item")


@asynccontextmanager
async def iterated(content: AsyncIterable[Item] | Iterable[Item]) -> AsyncIterator[AsyncIterator[Item]]:
    """The items of anything that has some, as long as the block lasts; then it is closed, by `aclose()` or `close()` if it has one."""
    iterator = content.__aiter__() if isinstance(content, AsyncIterable) else _in_thread(iter(content))
    try:
        yield iterator
    finally:
        try:
            await _close(iterator)
        finally:
            await _close(content)


async def _in_thread(iterator: Iterator[Item]) -> AsyncIterator[Item]:
    """The items of a plain iterator. Each step runs in a worker thread."""
    end: Any = object()
    while (item := await to_thread.run_sync(next, iterator, end)) is not end:
        yield item


async def _close(iterator: Any) -> None:
    if (aclose := getattr(iterator, "aclose", None)) is not None:
        await aclose()
    elif (close := getattr(iterator, "close", None)) is not None:
        if isinstance(iterator, Generator) and inspect.getgeneratorstate(iterator) != inspect.GEN_SUSPENDED:
            close()  # nothing of it runs
            return
        with CancelScope(shield=True):  # it may block, as its steps may
            await to_thread.run_sync(close)
