"""What is left of the delivery on asyncio, where anyio or Python lack a private name that it needs.

The block opens a scope before the call begins, asks anyio in public whether a shield is in between, tells the call alone, and has the
scope cancelled when the grace ends: the call's children get no grace, and its threads learn late.
"""

import asyncio
import logging
import math
from functools import cache
from typing import Any

import anyio

from microasgi.promise import anyio_scopes, asyncio_tasks
from microasgi.promise.stages import CALLED
from microasgi.promise.telling import REASON

logger = logging.getLogger("microasgi")


@cache
def missing() -> tuple[str, ...]:
    """The private names that a delivery on asyncio needs, and that aren't there. Warns of them, once."""
    names = anyio_scopes.missing() + asyncio_tasks.missing()
    if names:
        logger.warning("%s; these versions lack %s", way(names), ", ".join(names))
    return names


def way(names: tuple[str, ...]) -> str:
    """How a departure is delivered on asyncio, where these names are missing."""
    if not names:
        return "on asyncio every task of a request is cancelled once, and has a grace to clean up"
    return "on asyncio only a handler's own task has a grace to clean up, not its task groups' children, and its threads learn late"


class Asking:
    """In place of a `Telling`, from the call's beginning on. `block` (delivery.py) is told, and says when it is over."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self._loop = asyncio.get_running_loop()
        self._scope = block.scope = anyio.CancelScope().__enter__()
        self._reached = False  # whether a cancellation of that scope would reach the call where it waits
        self._timer: asyncio.TimerHandle | None = None

    def waits_again(self) -> None:
        """The call is about to wait."""
        self._reached = self._reaches()
        if self._block.stage is CALLED:
            self._loop.call_soon(self.ask)

    def ask(self) -> None:
        """Tell the call if it can be told now. Else it is asked again when it waits again."""
        if self._block.stage is not CALLED or not self._block.waits or not self._reached:
            return
        if isinstance(self._block.trap, asyncio.Future) and self._block.trap.done():
            self._loop.call_soon(self.ask)
            return
        self._block.tell()
        self.end()
        self._timer = self._loop.call_later(self._block.cleanup_grace, self._end_grace)

    def holds(self, task: Any) -> bool:
        """Whether a task will be told with the call: only its own."""
        return task is self._block.task

    def lost(self) -> None:
        """The call goes on: what it waited for has swallowed the cancellation. It says when it waits again."""

    def end(self) -> None:
        """The call has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _end_grace(self) -> None:
        if self._block.cleanup_grace:
            self._block.warn()
        self._scope.cancel(REASON)

    def _reaches(self) -> bool:
        """Whether the running task would feel the scope's cancellation: whether it would feel its deadline.

        No, if another deadline is so near that one before it might pass while it is looked at. Then there will be another wait soon.
        """
        now, own = anyio.current_time(), anyio.current_effective_deadline()
        if own < now + 2.0:
            return False
        self._scope.deadline = now + 1.0
        reached = anyio.current_effective_deadline() < own
        self._scope.deadline = math.inf
        return reached


def is_below_a_level() -> bool:
    """Whether a scope that cancels by level would reach the running task."""
    return anyio.current_effective_deadline() == -math.inf
