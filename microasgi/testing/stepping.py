"""Following a coroutine from outside, await by await: for the test client, which leaves at a chosen one."""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from microasgi.promise.delivery import current_task
from microasgi.promise.stages import HEARD
from microasgi.promise.telling import REASON, blocks
from microasgi.testing.recording import Record
from microasgi.watching.following import Followed
from microasgi.watching.places import raised_at


class Stepper:
    """Awaits a coroutine, says each time it is about to wait, and when a wait ends with a cancellation."""

    def __init__(
        self,
        suspended: Callable[[Coroutine[Any, Any, None]], None],
        cancelled: Callable[[BaseException], None],
        record: Record,
    ) -> None:
        self._suspended = suspended
        self._cancelled = cancelled
        self._record = record

    async def run(self, call: Coroutine[Any, Any, None], kind: str) -> None:
        """Await it, the call for a scope of this type."""
        self._record.tell("asgi", "call", scope={"type": kind})
        try:
            await Followed(call, self)
        finally:
            self._record.tell("asgi", "end")

    def begins(self) -> None:
        pass

    def waits(self, call: Coroutine[Any, Any, None]) -> None:
        self._record.waits(call)
        self._suspended(call)

    def goes_on(self) -> None:
        self._record.tell("handler", "go on")

    def returns(self) -> None:
        self._record.tell("handler", "returned")

    def is_thrown(self, error: BaseException) -> None:
        self._record.tell("handler", "thrown", error=type(error).__name__)
        if isinstance(error, anyio.get_cancelled_exc_class()):
            self._cancelled(error)

    def raises(self, error: BaseException) -> None:
        self._record.tell("handler", "raised", error=type(error).__name__, at=raised_at(error))


def is_departure(error: BaseException) -> bool:
    """Whether a cancellation of trio's is the departure's. On asyncio one that has gone through other tasks doesn't tell."""
    return getattr(error, "reason", None) == REASON


def goes_on(*, heard: bool) -> bool:
    """Whether the running task's call knows of the departure, and is still at work.

    :param heard: whether its cancellation has come, by what trio says: there the call's block doesn't see who has heard
    """
    block = blocks.get(current_task())
    return block is not None and (heard or block.stage is HEARD)
