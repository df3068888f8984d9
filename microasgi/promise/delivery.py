"""How a cancellation reaches a call: once, then a grace, then for good.

anyio cancels by *level*: every await inside a cancelled scope raises, again and again, until the block is left. Libraries written for
asyncio expect an *edge*: one CancelledError, after which their cleanup may await: a ROLLBACK, a cancel request to the database, giving
a connection back. Under a level that cleanup fails at its first await, and the query burns on. (60 requests cancelled in the middle of
a PostgreSQL query: by level, 60 queries go on with SQLAlchemy and with psycopg_pool; delivered once, none does.)

So on asyncio every task of the request is told by `task.cancel()`, once (telling.py), and level follows when its grace ends. Nothing is
put around the call before that. No scope costs less than one, and hardly any request needs it; what anyio must know is put into its
tree when the client has left. That needs names which anyio and asyncio keep to themselves (anyio_scopes.py, asyncio_tasks.py). Without
one of them the block opens a scope before the call begins, asks anyio in public whether a shield is in between, tells the call alone,
and has the scope cancelled when the grace ends: the call's children get no grace, and its threads learn late.

On trio there is but one scope, opened when the client leaves, and no edge: trio's libraries are written for levels, and shield the
cleanup that awaits.
"""

import asyncio
import logging
import math
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from enum import Enum
from functools import cache
from typing import Any

import anyio

from microasgi.promise import anyio_scopes, asyncio_tasks, trio_scope
from microasgi.promise.telling import REASON, Telling, blocks

logger = logging.getLogger("microasgi")

Attach = Callable[[], Callable[[], object]]
Call = Coroutine[Any, Any, None]


def _nobody() -> Callable[[], object]:
    return lambda: None


def current_task() -> Any:
    """The task that runs: asyncio's or trio's, also where trio is a guest of asyncio's loop."""
    loop = asyncio_tasks.running_loop()
    task = asyncio.current_task(loop) if loop is not None else None
    return task if task is not None else trio_scope.current_task()


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


class Stage(Enum):
    """How far the cancellation has come."""

    __hash__ = object.__hash__  # Enum's own is written in Python

    OPEN = "nobody has cancelled the block"
    CALLED = "it is cancelled, but the call can't be told yet: it is shielded, or it isn't waiting"
    SENT = "the call's task is cancelled, and what it waits for hasn't ended yet"
    HEARD = "an exception came out of the await: the call knows"
    OVER = "the call has ended"


OPEN, CALLED, SENT, HEARD, OVER = Stage  # in Python 3.11, `Stage.OPEN` costs five times as much

TRANSITIONS: dict[Stage, set[Stage]] = {
    OPEN: {CALLED},  # a call that nobody cancels ends as it is
    CALLED: {SENT, HEARD, OVER},  # HEARD: from its thread, or from a scope that was cancelled at the same time
    SENT: {HEARD, CALLED, OVER},  # CALLED: what it waited for has swallowed the cancellation
    HEARD: {SENT, OVER},  # SENT: a group had other errors in its place
    OVER: set(),
}

RUNNING = object()
"""In place of what a call waits for."""

UNKNOWN = trio_scope.UNKNOWN
"""In place of a scope, where the library's tree isn't known."""


class Block:
    """A call that can be told to stop.

    cleanup_grace: seconds that cleanup may take, looked up when the cancellation comes through; 0 means level from the start.
    task, call: where the call runs, and its coroutine, once it has begun.
    trap: what the call waits for, as it has told the loop or is about to; or `RUNNING`.
    scope: around the call, where there is one: on trio once the client has left; on asyncio where the tree isn't known, or there may be a
        thread below somebody else's scope.
    """

    task: Any = None
    call: Any = None
    trap: Any = RUNNING
    _stage = OPEN
    _on_trio = False
    _at_begin: Any = None  # the scope that the task was in when the call began
    enclosing: "Block | None" = None
    _telling: Telling | None = None  # on asyncio, once the client has left
    scope: Any = None
    _reached = False  # whether a cancellation of that scope would reach the call where it waits
    _before = 0  # the task's cancellations when the call began
    _sent = 0  # how many of those since then are ours
    _timer: asyncio.TimerHandle | None = None
    _describe: Callable[[], str] = str

    def __init__(self, cleanup_grace: float) -> None:
        self.cleanup_grace = cleanup_grace

    def __repr__(self) -> str:
        return f"<Block {self._stage.name}{', running' if self.trap is RUNNING else ''}>"

    @property
    def cancelled(self) -> bool:
        """Whether the call was told to stop, or will be."""
        return self._stage is not OPEN

    def cancel(self, describe: Callable[[], str] = str) -> None:
        """Tell the call to stop: now, or as soon as it waits unshielded.

        :param describe: says what runs here, for a warning
        """
        if self._stage is not OPEN:
            return
        self._move(CALLED)
        self._describe = describe
        if self.task is not None:
            self._depart()

    def cancel_after(self, seconds: float, describe: Callable[[], str] = str) -> None:
        """Cancel the call if it is still there when so many seconds have passed; at its next wait, if it isn't waiting now."""
        if self.trap is RUNNING:
            self.cancel(describe)
        else:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.cancel, describe)

    def holds(self, task: Any) -> bool:
        """Whether a task will be told with the call, as far as the tree of scopes tells. On trio there are no others."""
        return self._on_trio or task is self.task or (self._at_begin is not UNKNOWN and anyio_scopes.is_within(task, self.task))

    async def run(self, call: Call, attach: Attach = _nobody) -> None:
        """Await the call. The cancellation ends here; any other exception passes, also one that the cancellation made of cleanup."""
        rest = self.start(call, attach)
        if rest is not None:
            await rest

    def start(self, call: Call, attach: Attach = _nobody) -> Awaitable[None] | None:
        """Run the call until it waits for the first time, and return what is left to be awaited: as `run`, but cheaper.

        Most calls end without a wait; until then nobody can have told them anything.

        :param attach: called at the first wait: from now on, whoever may `cancel` should know of this block. Returns the undo
        """
        loop = asyncio_tasks.running_loop()
        task = asyncio.current_task(loop) if loop is not None else None
        if task is not None:
            self._before = task.cancelling()
            self._at_begin = anyio_scopes.scope_of(task) if not missing() else UNKNOWN
        else:  # also where trio is a guest of asyncio's loop
            task, self._on_trio = trio_scope.current_task(), True
        self.task, self.call = task, call
        if task in blocks:
            self.enclosing = blocks[task]
            self.enclosing._open()  # or it would open between this block and what is around it
        if self._on_trio:
            self._at_begin = trio_scope.scope_of(task)
        blocks[task] = self
        if self._at_begin is UNKNOWN:
            self._open()
        if self._stage is CALLED:  # before it has begun
            self._depart()
        try:
            trap = call.send(None)
        except StopIteration:
            self._end(None)
            return None
        except BaseException as error:
            self._end(error)
            raise
        return self._run(call, trap, attach)

    async def _run(self, call: Call, trap: Any, attach: Attach) -> None:
        """The rest of the call, and what its end means for others who cancel."""
        task = self.task
        try:
            stopped = await self._drive(call, trap, attach)
        except BaseException as error:
            if not self._end(error):
                raise
            return
        self._end(None)
        # Somebody else has cancelled the task too? An anyio scope does it again at the next await, `task.cancel()` doesn't.
        if stopped is not None and task.cancelling() > self._before and not self._is_below_a_level(task):
            raise stopped

    def _is_below_a_level(self, task: Any) -> bool:
        if self._at_begin is UNKNOWN:
            return anyio.current_effective_deadline() == -math.inf
        return anyio_scopes.is_below_a_level(anyio_scopes.scope_of(task))

    def _end(self, error: BaseException | None) -> bool:
        """Leave the scopes, and let the block around this one be the task's again. True if a scope has swallowed the error."""
        if self.enclosing is None:
            del blocks[self.task]
        else:
            blocks[self.task] = self.enclosing
        if self._timer is not None:
            self._timer.cancel()
        if self._stage is not OPEN:
            self._move(OVER)
            self._describe = str  # who says what runs here may hold this block
            for _ in range(self._sent):
                self.task.uncancel()
            if self._telling is not None:
                self._telling.end()
                self._telling = self.scope = None
        self.task = None  # a cancellation that comes now finds nobody
        return self.scope is not None and bool(self.scope.__exit__(type(error) if error is not None else None, error, None))

    def _move(self, stage: Stage) -> None:
        """The one place that moves the stage."""
        if stage not in TRANSITIONS[self._stage]:
            raise AssertionError(f"a block that is {self._stage.name} can't become {stage.name}")
        self._stage = stage

    @types.coroutine
    def _drive(self, call: Call, trap: Any, attach: Attach) -> Generator[Any, Any, asyncio.CancelledError | None]:
        """Drive the call by hand from its first wait on, standing between it and its cancellation. Return that if it ended the call."""
        send, throw = call.send, call.throw
        error: BaseException | None = None
        value: Any = None
        undo = attach()
        try:
            while True:
                if self._stage is not OPEN or self._at_begin is not None:
                    self._is_about_to_wait(trap)
                self.trap = trap
                try:
                    value = yield trap
                except BaseException as raised:
                    error = raised
                self.trap = RUNNING
                if self._stage is SENT:
                    self._woke(error)
                try:
                    trap = send(value) if error is None else throw(error)
                except StopIteration:
                    return None
                finally:
                    error = None
        except asyncio.CancelledError as cancellation:
            if self._stage is OPEN:
                raise
            return cancellation.with_traceback(None)
        except BaseExceptionGroup as group:
            rest = group.split(asyncio.CancelledError)[1] if self._stage is not OPEN else group
            if rest is group:
                raise
            cause = rest
        finally:
            undo()
            value = trap = None  # an exception in this frame, with its traceback, is a cycle that holds all the call's frames
        if cause is None:
            return asyncio.CancelledError(REASON)
        try:
            raise cause
        finally:
            cause = rest = None  # as above

    # Telling: what `Telling` asks of its host, and without it.

    @property
    def around(self) -> Any:
        """The scope that the call's own are in."""
        above = self.enclosing
        if above is not None and above._at_begin is self._at_begin:
            return above.scope or above.around
        return self._at_begin

    @property
    def waits(self) -> bool:
        """Whether the call is at an await."""
        return self.trap is not RUNNING

    def tell(self) -> None:
        """Cancel the call, which waits."""
        self._move(SENT)
        if self.task.cancelling() > self._before and not asyncio_tasks.is_being_cancelled(self.task, self.call):
            self._before = self.task.cancelling()  # up to Python 3.12, task groups forget to take theirs back
        self._sent += 1
        self.task.cancel(REASON)

    def heard(self) -> None:
        """The call has the news already."""
        if self._stage is CALLED:
            self._move(HEARD)

    def warn(self) -> None:
        """The grace has ended, and somebody is still there."""
        text = "%s: cleanup after the disconnect took more than its grace of %g s; cancelling for good"
        logger.warning(text, self._describe(), self.cleanup_grace)

    def _depart(self) -> None:
        if self._on_trio:
            self._open()
            self.scope.cancel(REASON)
        elif self._at_begin is UNKNOWN:
            self._ask()
        else:
            self._telling = Telling(self)

    def _open(self) -> None:
        """Put a scope around the call, where it needs one and there is none yet. On trio also from outside of the task."""
        if self.scope is None and self.task is not None:
            if self._on_trio:
                self.scope = trio_scope.enter(self.task, self._at_begin)
            elif self._at_begin is UNKNOWN:
                self.scope = anyio.CancelScope().__enter__()

    def _is_about_to_wait(self, trap: Any) -> None:
        if self._on_trio:
            return  # which asks nobody
        if self._telling is not None:
            self._telling.waits_again()
        elif self._at_begin is UNKNOWN:
            self._reached = _reaches(self.scope)
            if self._stage is CALLED:
                asyncio.get_running_loop().call_soon(self._ask)
        elif trap is None and self.scope is None and not Telling.has_told(self.task):
            # A worker thread asks the scope that it was started in whether it is cancelled. That must be one of the call's, and anyio
            # starts threads behind a wait for nothing but the next turn.
            self.scope = anyio_scopes.enter(self.task, self.around)

    def _woke(self, error: BaseException | None) -> None:
        """What the call waited for has ended since it was told. Without an error, it has swallowed the cancellation: once more, then."""
        if error is not None:
            self._move(HEARD)
            return
        self._move(CALLED)
        if self._telling is not None:
            self._telling.lost()

    def _ask(self) -> None:
        """Without the tree: tell the call if it can be told now. Else it is asked again when it waits again."""
        if self._stage is not CALLED or not self.waits or not self._reached:
            return
        if isinstance(self.trap, asyncio.Future) and self.trap.done():
            asyncio.get_running_loop().call_soon(self._ask)
            return
        self.tell()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self.cleanup_grace, self._end_grace)

    def _end_grace(self) -> None:
        if self.cleanup_grace:
            self.warn()
        self.scope.cancel(REASON)


def _reaches(scope: anyio.CancelScope) -> bool:
    """Whether the running task would feel that scope's cancellation: whether it would feel its deadline.

    No, if another deadline is so near that one before it might pass while it is looked at. Then there will be another wait soon.
    """
    now, own = anyio.current_time(), anyio.current_effective_deadline()
    if own < now + 2.0:
        return False
    scope.deadline = now + 1.0
    reached = anyio.current_effective_deadline() < own
    scope.deadline = math.inf
    return reached


def innermost_call(task: Any) -> Any:
    """The coroutine that a task's innermost block drives by hand, which Python doesn't see from the task; None without a block."""
    block = blocks.get(task)
    return block.call if block is not None else None
