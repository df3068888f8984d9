"""Any function, awaited: which kind it is, where it runs, and what cancelling the call does to it."""

import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import pytest

from microasgi.calling import call_any, is_async
from tests.harness import within
from tests.naming import named

pytestmark = pytest.mark.anyio


async def coroutine(word: str) -> tuple[str, int]:
    return word, threading.get_ident()


def plain(word: str) -> tuple[str, int]:
    return word, threading.get_ident()


class Called:
    async def __call__(self, word: str) -> tuple[str, int]:
        return await coroutine(word)

    async def method(self, word: str) -> tuple[str, int]:
        return await coroutine(word)


def handed_on(word: str) -> Awaitable[tuple[str, int]]:
    """A plain function that gives an awaitable, as a decorator's may: nothing tells it beforehand."""
    return coroutine(word)


ASYNC: list[Callable[..., Any]] = [coroutine, functools.partial(coroutine), functools.partial(Called()), Called(), Called().method]


@pytest.mark.parametrize("function", ASYNC, ids=named)
async def test_what_is_async_runs_in_the_task(function: Callable[..., Any]) -> None:
    """A coroutine function, also in a partial, as a method or as `__call__`, is awaited where it is called."""
    assert is_async(function)
    assert await call_any(function, "a") == ("a", threading.get_ident())


@pytest.mark.parametrize("function", [plain, functools.partial(plain)], ids=named)
async def test_what_is_plain_runs_in_a_thread(function: Callable[..., Any]) -> None:
    """A plain function doesn't run in the loop's thread."""
    assert not is_async(function)
    word, thread = await call_any(function, "a")
    assert word == "a"
    assert thread != threading.get_ident()


async def test_what_turns_out_to_be_awaitable_is_awaited() -> None:
    """A plain function whose result is awaitable gives what that gives."""
    assert not is_async(handed_on)
    assert (await call_any(handed_on, "a"))[0] == "a"


async def test_a_thread_is_waited_for_even_when_cancelled() -> None:
    """Cancelling the call doesn't leave its thread behind: the call ends when the function has."""
    began, may_end = anyio.Event(), threading.Event()
    ended: list[bool] = []

    def slow() -> None:
        anyio.from_thread.run_sync(began.set)
        ended.append(may_end.wait(10))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call_any, slow)
        await within(began)
        tasks.cancel_scope.cancel()
        may_end.set()
    assert ended == [True]
