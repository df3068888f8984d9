"""How a cancellation reaches a handler: once, then a grace, then for good.

anyio cancels by *level*: every await inside a cancelled scope raises, again and again, until the block is left. Libraries written
for asyncio expect an *edge*: one CancelledError, after which their cleanup may await: a ROLLBACK, a cancel request to the database,
giving a connection back. Under a level that cleanup fails at its first await, and the query burns on. (60 requests cancelled in
the middle of a PostgreSQL query: by level, 60 queries go on with SQLAlchemy and with psycopg_pool; delivered once, none does.)

asyncio's own edge is `task.cancel()`, and it goes through every `anyio.CancelScope(shield=True)`. So there are two ways:

1. The handler waits unshielded: `task.cancel()`, once. Nothing else is cancelled: in a task group inside the handler the children go
   on until the host leaves the group, as with any exception.
2. It can't be told now, since it is shielded or isn't waiting. Then anyio, which knows when it can, makes the first delivery, and this
   file makes an edge of it:

    with outer:                 cancelled when the client leaves
        with inner:             shielded from `outer` as soon as anyio has cancelled the task, until the grace ends
            call                gets that one delivery; what follows, if it is still there after the grace, is level

   As soon as: in the same turn of the loop, before the task has even woken up. A handler that waits for other tasks, as in
   `asyncio.gather`, wakes up when they have ended, and by level they would be cancelled again at each await of their cleanup.
   The exception that comes through is exchanged for a fresh one. anyio's scopes know their own CancelledErrors by message and by
   `__context__`; a task group inside the handler, which no longer sees a cancelled parent past the shield, would take anyio's for its
   own and swallow it.

When the grace ends, `outer` is cancelled and not shielded from: from then on anyio cancels every await.

Both scopes are opened when they are needed, not before: when the client has left, and the call isn't simply told and gone. Two scopes
cost more than all else that this framework does for a small request, and hardly any request needs them. The tree is then made to look
as if they had been there from the start: scopes that the call has opened belong inside. One thing can't wait: a worker thread remembers
the scope it was started in, to ask it later whether it is cancelled (`check_cancelled()`). anyio starts one behind a checkpoint, a wait
for nothing but the loop's next turn. So a call that waits like that gets its scopes there. And what is done for a call that waits isn't
done for one that doesn't: its first step is run at once, and nobody can tell it anything before that ends.

What this can't do: the children of an anyio task group are cancelled by their own group, which knows only levels. Cleanup that awaits
needs a shield there, as ever; the children of an `asyncio.TaskGroup` and of `asyncio.gather` don't.

On trio there is but one scope, opened when the client leaves, and no edge: trio's libraries are written for levels, and shield the
cleanup that awaits.
"""

import asyncio
import logging
import math
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from enum import Enum
from typing import Any

import anyio

from microasgi.promise import asyncio_tree, trio_scope

logger = logging.getLogger("microasgi")

REASON = "microasgi: the client left"

_running: dict[Any, "Block"] = {}
"""The innermost block of each task that is in one."""


class Stage(Enum):
    """How far the cancellation has come.

    OPEN ──► CALLED ──► SENT ──► HEARD ──► LEVEL        and from each to OVER
               ▲          │
               └── LOST ──┘
    """

    OPEN = "nobody has cancelled the block"
    CALLED = "it is cancelled, but the task can't be told yet: it is shielded, or it isn't waiting"
    SENT = "the task is cancelled, and what it waits for hasn't ended yet"
    HEARD = "an exception came out of the await: the call knows"
    LEVEL = "from now on anyio cancels every await"
    OVER = "the call has ended"


OPEN, CALLED, SENT, HEARD, LEVEL, OVER = Stage  # in Python 3.11, `Stage.OPEN` costs five times as much


class Block:
    """A call that can be told to stop.

    cleanup_grace: seconds that cleanup may take, looked up when the cancellation comes through; 0 means level from the start.
    """

    _stage = OPEN
    _native = False
    _waits = False  # whether the call is at an await, also while what drives it has not yet told the loop
    _scopes: Any = None  # the library's tree: `asyncio_tree` or `trio_scope`
    _task: Any = None
    _around: Any = None  # the scope that the task was in when the call began
    _enclosing: "Block | None" = None
    _before = 0  # the task's cancellations when the call began
    _entered: tuple[anyio.CancelScope, ...] = ()  # the scopes around the call, from the outermost in, once they are needed
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, cleanup_grace: float) -> None:
        self.cleanup_grace = cleanup_grace

    def describe(self) -> str:
        """What runs here, for the log."""
        raise NotImplementedError

    def attach(self) -> Callable[[], object]:
        """The call waits for the first time: from now on, whoever may `cancel` should know of this block. Returns the undo."""
        return lambda: None

    @property
    def cancel_scope(self) -> anyio.CancelScope:
        """The outermost scope around the call. What cancels it otherwise than by `cancel` cancels by level."""
        return self._entered[0]

    @property
    def cancelled(self) -> bool:
        """Whether the call was told to stop, or will be."""
        return self._stage is not OPEN

    def cancel(self) -> None:
        """Tell the call to stop: now, or as soon as it waits unshielded."""
        if self._stage is OPEN:
            self._stage = CALLED
            self._tell()

    def cancel_after(self, seconds: float) -> None:
        """Cancel the call by level if it is still there when so many seconds have passed; at its next wait, if it isn't waiting now."""
        if self._task is None or (self._scopes is asyncio_tree and not self._waits):
            self.cancel()
        else:
            self._open()
            self.cancel_scope.deadline = anyio.current_time() + seconds

    async def run(self, call: Coroutine[Any, Any, None]) -> None:
        """Await the call. The cancellation ends here; any other exception passes, also one that the cancellation made of cleanup."""
        rest = self.start(call)
        if rest is not None:
            await rest

    def start(self, call: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
        """Run the call until it waits for the first time, and return what is left to be awaited: as `run`, but cheaper.

        Most calls end without a wait; until then nobody can have told them anything.
        """
        loop = asyncio._get_running_loop()
        task = asyncio.current_task(loop) if loop is not None else None
        if task is not None:
            self._before = task.cancelling()
            self._begin(task, asyncio_tree)
        else:  # also where trio is a guest of asyncio's loop
            self._begin(trio_scope.current_task(), trio_scope)
        try:
            trap = call.send(None)
        except StopIteration:
            self._end(None)
            return None
        except BaseException as error:
            self._end(error)
            raise
        return self._run_on_asyncio(call, trap) if task is not None else self._run_on_trio(call, trap)

    async def _run_on_asyncio(self, call: Coroutine[Any, Any, None], trap: Any) -> None:
        task: asyncio.Task[Any] = self._task
        stopped: asyncio.CancelledError | None = None
        try:
            stopped = await self._drive(call, task, trap)
        except BaseException as error:
            if not self._end(error) or task.cancelling() > self._before:
                raise
        else:
            self._end(None)
        # Somebody else has cancelled the task too? An anyio scope does it again at the next await, `task.cancel()` doesn't.
        if stopped is not None and task.cancelling() > self._before and anyio.current_effective_deadline() > -math.inf:
            raise stopped

    async def _run_on_trio(self, call: Coroutine[Any, Any, None], trap: Any) -> None:
        try:
            detach = self.attach()
            try:
                await _resume(call, trap)
            finally:
                detach()
        except BaseException as error:
            if not self._end(error):
                raise
        else:
            self._end(None)

    def _begin(self, task: Any, scopes: Any) -> None:
        """Be the task's block."""
        if task in _running:
            self._enclosing = enclosing = _running[task]
            enclosing._open()  # or it would open between this block and what is around it
        _running[task] = self
        self._task = task
        self._scopes = scopes
        self._around = around = scopes.scope_of(task)
        if around is scopes.UNKNOWN:
            self._open()
        if self._stage is CALLED:  # before it has begun
            self._tell()

    def _end(self, error: BaseException | None) -> bool:
        """Leave the scopes, and let the block around this one be the task's again. True if one of the scopes has swallowed the error."""
        self._stage = OVER
        if self._enclosing is None:
            del _running[self._task]
        else:
            _running[self._task] = self._enclosing
        return bool(self._entered) and self._close(error)

    def _open(self) -> None:
        """Put the scopes around the call, if they aren't there yet. From outside of the task, too."""
        if not self._entered and self._task is not None and self._stage is not OVER:
            self._entered = self._scopes.enter(self._task, self._around)

    def _close(self, error: BaseException | None) -> bool:
        """Leave the scopes. True if one of them has swallowed the error."""
        swallowed = False
        for scope in reversed(self._entered):
            if scope.__exit__(type(error) if error is not None else None, error, None):
                error, swallowed = None, True
        return swallowed

    @types.coroutine
    def _drive(
        self, call: Coroutine[Any, Any, None], task: asyncio.Task[Any], trap: Any
    ) -> Generator[Any, Any, asyncio.CancelledError | None]:
        """Drive the call by hand from its first wait on, standing between it and its cancellation. Return that if it ended the call."""
        send, throw = call.send, call.throw
        step: Callable[[Any], Any]
        value: Any = None
        first: asyncio.CancelledError | None = None
        rest: BaseExceptionGroup[Any] | None
        detach = self.attach()
        try:
            while True:
                if trap is None or self._stage is not OPEN:
                    self._open()
                if self._stage is CALLED:  # in this turn anyio may cancel the task; look right behind it
                    asyncio.get_running_loop().call_soon(self._look, task.cancelling())
                self._waits = True
                try:
                    value = yield trap
                except BaseException as error:
                    step, value = throw, error
                else:
                    step = send
                self._waits = False
                if step is throw:
                    # Outside the `except`, or the fresh error would have anyio's as its context.
                    if self._stage is CALLED and (REASON in str(value) or self._was_told_by_its_thread(value)):
                        self._look(-1)
                    if self._stage is SENT:
                        self._stage = HEARD
                        if isinstance(value, asyncio.CancelledError):
                            first, value = value.with_traceback(None), asyncio.CancelledError(REASON)
                elif self._stage is SENT:
                    self._lost()
                try:
                    trap = step(value)
                except StopIteration:
                    return None
        except asyncio.CancelledError as error:
            if self._stage is OPEN:
                raise
            return first or error
        except BaseExceptionGroup as group:
            if self._stage is OPEN:
                raise
            rest = group.split(asyncio.CancelledError)[1]
        finally:
            self._stage = OVER
            detach()
            value = trap = None  # an exception in this frame, with its traceback, is a cycle that holds all the call's frames
            if self._native:
                task.uncancel()
            if self._timer is not None:
                self._timer.cancel()
        if rest is not None:
            try:
                raise rest
            finally:
                rest = None  # as above
        return first or asyncio.CancelledError(REASON)

    def _tell(self) -> None:
        """Take one of the two ways."""
        task = self._task
        if self._stage is not CALLED:
            return
        if task is None:  # it hasn't begun, and `run` will see it
            return
        if self._scopes is trio_scope:
            self._open()
            self.cancel_scope.cancel(REASON)
            return
        if not self._waits:  # in the next turn it does
            asyncio.get_running_loop().call_soon(self._tell)
            return
        if self._around is not None or asyncio_tree.scope_of(task) is not None:
            self._open()
        if self._is_within_reach(task):
            self._native = task.cancel(REASON)
            self._start_grace()
        else:
            self._open()
            before = task.cancelling()
            self.cancel_scope.cancel(REASON)
            self._look(before)

    def _is_within_reach(self, task: asyncio.Task[Any]) -> bool:
        """Whether `task.cancel()` would do what anyio does, only once."""
        waiter = getattr(task, "_fut_waiter", None)
        if not self.cleanup_grace or (waiter is not None and waiter.done()):
            return False
        if not self._entered:  # no scope at all, then
            return True
        return not asyncio_tree.is_below_a_level(self.cancel_scope) and asyncio_tree.reaches(self._entered[-1], task)

    def _look(self, before: int) -> None:
        """See whether anyio has cancelled the task since it had `before` cancellations."""
        if self._stage is not CALLED or self._task is None or self._task.cancelling() <= before:
            return
        self._open()
        if self.cleanup_grace and not asyncio_tree.is_below_a_level(self.cancel_scope):
            self._entered[-1].shield = True
            self._start_grace()
        else:
            self._stage = LEVEL

    def _was_told_by_its_thread(self, error: object) -> bool:
        """Whether a thread that the call waited for has asked `check_cancelled()`, which raises with the name of our scope."""
        return bool(self._entered) and isinstance(error, asyncio.CancelledError) and f"{id(self.cancel_scope):x}" in str(error)

    def _start_grace(self) -> None:
        """The task is cancelled: that was the edge. Most calls end in the next turn, and need no timer."""
        self._stage = SENT
        asyncio.get_running_loop().call_soon(self._set_timer)

    def _set_timer(self) -> None:
        if self._timer is None and self._stage is not OVER:
            self._timer = asyncio.get_running_loop().call_later(self.cleanup_grace, self._end_grace)

    def _lost(self) -> None:
        """The await returned all the same: the task that it waited for has swallowed the cancellation. Once more, then."""
        self._open()
        self._stage = CALLED
        self._entered[-1].shield = False
        self.cancel_scope.cancel(REASON)

    def _end_grace(self) -> None:
        text = "%s: cleanup after the disconnect took more than its grace of %g s; cancelling for good"
        logger.warning(text, self.describe(), self.cleanup_grace)
        self._open()
        self._stage = LEVEL
        self._entered[-1].shield = False
        self.cancel_scope.cancel(REASON)


@types.coroutine
def _resume(call: Coroutine[Any, Any, None], trap: Any) -> Generator[Any, Any, None]:
    """Await a call that has begun already, and waits for `trap`."""
    step: Callable[[Any], Any]
    value: Any = None
    try:
        while True:
            try:
                value = yield trap
            except BaseException as error:
                step, value = call.throw, error
            else:
                step = call.send
            try:
                trap = step(value)
            except StopIteration:
                return
    finally:
        value = None  # as in `_drive`


DRIVERS = {Block._drive.__code__, _resume.__code__}
"""What drives its `call` by hand."""
