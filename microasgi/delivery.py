"""How a cancellation reaches a handler: once, then a grace, then for good.

anyio cancels by *level*: every await inside a cancelled scope raises, again and again, until the block is left. Libraries written
for asyncio expect an *edge*: one CancelledError, after which their cleanup may await: a ROLLBACK, a cancel request to the database,
giving a connection back. Under a level that cleanup fails at its first await, and the query burns on. (60 requests cancelled in
the middle of a PostgreSQL query: by level, 60 queries go on with SQLAlchemy and with psycopg_pool; delivered once, none does.)

And `task.cancel()`, the edge that asyncio offers, goes through every `anyio.CancelScope(shield=True)`. So anyio delivers, because it
knows about shields, and this file makes an edge of it:

    with outer:                 cancelled when the client leaves
        with inner:             shielded from `outer` as soon as the first delivery has come through, until the grace ends
            call                gets that first delivery; what follows, if it is still there after the grace, is level

The exception that comes through is exchanged for a fresh one. anyio's scopes know their own CancelledErrors by message and by
`__context__`; a task group inside the handler, which no longer sees a cancelled parent past the shield, would take anyio's for its own
and swallow it. When the fresh one has come all the way out, `outer` gets its original back.

On trio nothing of this applies: its libraries are written for levels, and shield the cleanup that awaits.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol

import anyio

logger = logging.getLogger("microasgi")

REASON = "microasgi: the client left"
"""The reason to give when cancelling the scope: a cancellation for any other is not this file's business."""


class Block(Protocol):
    """What a call is delivered in.

    cancel_scope: entered and left here; to be cancelled for `REASON`.
    cleanup_grace: seconds that cleanup may take, looked up when the cancellation comes; 0 means level from the start.
    """

    cancel_scope: anyio.CancelScope
    cleanup_grace: float

    def describe(self) -> str:
        """What runs here, for the log."""
        ...


class Delivery:
    """Await it to run `call` inside `block`, so that a cancellation of the block reaches it once, and after the grace by level."""

    __slots__ = ("_block", "_inner", "call")

    def __init__(self, call: Coroutine[Any, Any, None], block: Block) -> None:
        self.call = call
        self._block = block

    def __await__(self) -> Generator[Any, Any, None]:
        outer = self._block.cancel_scope
        if asyncio._get_running_loop() is None:  # trio
            with outer:
                yield from self.call.__await__()
        else:
            self._inner = type(outer)()
            with outer, self._inner:
                yield from self._once()

    def _once(self) -> Generator[Any, Any, None]:
        """Drive the call by hand, standing between it and the first cancellation for `REASON`."""
        send, throw = self.call.send, self.call.throw
        step: Callable[[Any], Any] = send
        value: Any = None
        first: asyncio.CancelledError | None = None
        timer: asyncio.TimerHandle | None = None
        try:
            while True:
                try:
                    trap = step(value)
                except StopIteration:
                    return
                try:
                    value = yield trap
                except BaseException as error:
                    step, value = throw, error
                else:
                    step = send
                    continue
                # Outside the `except`, or the fresh error would have anyio's as its context.
                if first is None and _is_ours(value) and self._block.cleanup_grace:
                    first, value = value, asyncio.CancelledError(REASON)
                    self._inner.shield = True
                    timer = asyncio.get_running_loop().call_later(self._block.cleanup_grace, self._end_grace)
        except asyncio.CancelledError:
            if first is None:
                raise
            raise first from None
        finally:
            if timer is not None:
                timer.cancel()

    def _end_grace(self) -> None:
        text = "%s: the client left, and cleanup took more than its grace of %g s; cancelling for good"
        logger.warning(text, self._block.describe(), self._block.cleanup_grace)
        self._inner.shield = False


def _is_ours(error: BaseException) -> bool:
    """Whether anyio delivers the cancellation of a scope that was cancelled for `REASON`: it tells so in the message."""
    return isinstance(error, asyncio.CancelledError) and bool(error.args) and REASON in str(error.args[0])
