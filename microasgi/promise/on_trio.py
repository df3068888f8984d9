"""What is otherwise on Trio: there is but one scope, opened when the client leaves, and no edge.

Trio's libraries are written for levels, and shield the cleanup that awaits.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from microasgi.promise import trio_scope
from microasgi.promise.telling import REASON


class OnTrio:
    """In place of a `Telling`, from the call's beginning on. `block` (delivery.py) is told with all that is in its scope."""

    __slots__ = ("_around", "_block")

    def __init__(self, block: Any) -> None:
        self._block = block
        if block.enclosing is not None:
            block.enclosing.way.open()  # or it would open between this block and what is around it
        self._around = trio_scope.scope_of(block.task)
        if self._around is trio_scope.UNKNOWN:
            self.open()

    def open(self) -> None:
        """Put a scope around the call, if there is none yet. Another task may run."""
        if self._block.scope is None and self._block.task is not None:
            self._block.scope = trio_scope.enter(self._block.task, self._around)

    def ask(self) -> None:
        """Tell the call."""
        self.open()
        self._block.scope.cancel(REASON)

    def waits_again(self) -> None:
        """The call is about to wait: Trio sees that by itself."""

    def holds(self, task: Any) -> bool:
        """Whether a task will be told with the call. There are no others."""
        return True

    def lost(self) -> None:
        """The call goes on: so will Trio."""

    def end(self) -> None:
        """The call has ended, and leaves its scope."""


class TrioTask:
    """One that can be cancelled alone, as asyncio's can."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        # Not by its nursery: a call that is shielded from that goes on, too.
        self._scope = anyio.CancelScope(shield=True)
        self._ended = anyio.Event()

    async def run(self) -> None:
        try:
            with self._scope:
                await self._work()
        finally:
            self._ended.set()

    def cancel(self) -> None:
        self._scope.cancel()

    def done(self) -> bool:
        return self._ended.is_set()

    async def wait(self) -> None:
        await self._ended.wait()


def call_later(task: Any, seconds: float, function: Callable[[], object]) -> Callable[[], object]:
    """Call the function in so many seconds, unless what this returns is called before: on the loop of this task, Trio's or asyncio's."""
    get_loop: Any = getattr(task, "get_loop", None)
    if get_loop is not None:  # a task of asyncio's
        handle = get_loop().call_later(seconds, function)
        return handle.cancel  # type: ignore[no-any-return]
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope:
            await anyio.sleep(seconds)
            function()

    sys.modules["trio"].lowlevel.spawn_system_task(wait)  # beside everything: nobody waits for it
    return scope.cancel
