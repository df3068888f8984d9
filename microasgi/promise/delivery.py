"""How a cancellation reaches a call: once, then a grace, then for good.

anyio cancels by *level*: every await inside a cancelled scope raises, again and again, until the block is left. Libraries written for
asyncio expect an *edge*: one CancelledError, after which their cleanup may await: a ROLLBACK, a cancel request to the database, giving
a connection back. Under a level that cleanup fails at its first await, and the query burns on. (60 requests cancelled in the middle of
a PostgreSQL query: by level, 60 queries go on with SQLAlchemy and with psycopg_pool; delivered once, none does.)

So on asyncio every task of the request is told by `task.cancel()`, once (telling.py), and level follows when its grace ends. No scope
costs less than one, and hardly any request needs it: what anyio must know is put into its tree when the client has left. That needs
names which anyio and asyncio keep to themselves (anyio_scopes.py, asyncio_tasks.py); without one of them, unknown.py does what it can.

On trio, Trio's own rules hold (on_trio.py).
"""

import asyncio
import logging
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from microasgi.promise import anyio_scopes, asyncio_tasks, trio_scope
from microasgi.promise.on_trio import OnTrio
from microasgi.promise.stages import CALLED, HEARD, OPEN, OVER, SENT, TRANSITIONS, Stage
from microasgi.promise.telling import REASON, Telling, blocks
from microasgi.promise.unknown import Asking, is_below_a_level, missing

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


RUNNING = object()
"""In place of what a call waits for."""


class Block:
    """A call that can be told to stop.

    cleanup_grace: seconds that cleanup may take, looked up when the cancellation comes through; 0 means level from the start.
    task, call: where the call runs, and its coroutine, once it has begun.
    trap: what the call waits for, as it has told the loop or is about to; or `RUNNING`.
    enclosing: the block that this one is in, of the same task.
    stage: how far the cancellation has come. Only `_move` moves it.
    way: how it is told: a `Telling` once the client has left; from the beginning another, on trio or where the tree isn't known.
    scope: around the call, where there is one: once the client has left, or from the beginning where the tree isn't known, or on asyncio
        where there may be a thread below somebody else's scope.
    """

    task: Any = None
    call: Any = None
    trap: Any = RUNNING
    stage = OPEN
    enclosing: "Block | None" = None
    way: Telling | Asking | OnTrio | None = None
    scope: Any = None
    _at_begin: Any = None  # on asyncio, the innermost scope around the call as it began
    _before = 0  # the task's cancellations when the call began
    _sent = 0  # how many of those since then are ours
    _timer: asyncio.TimerHandle | None = None
    _describe: Callable[[], str] = str

    def __init__(self, cleanup_grace: float) -> None:
        self.cleanup_grace = cleanup_grace

    def __repr__(self) -> str:
        return f"<Block {self.stage.name}{'' if self.waits else ', running'}>"

    @property
    def cancelled(self) -> bool:
        """Whether the call was told to stop, or will be."""
        return self.stage is not OPEN

    def cancel(self, describe: Callable[[], str] = str) -> None:
        """Tell the call to stop: now, or as soon as it waits unshielded. For a warning, `describe` says what runs here."""
        if self.stage is not OPEN:
            return
        self._move(CALLED)
        self._describe = describe
        if self.task is not None:
            self._depart()

    def cancel_after(self, seconds: float, describe: Callable[[], str] = str) -> None:
        """Cancel the call if it is still there when so many seconds have passed; at its next wait, if it isn't waiting now."""
        if self.waits:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.cancel, describe)
        else:
            self.cancel(describe)

    def holds(self, task: Any) -> bool:
        """Whether a task will be told with the call, as far as the tree of scopes tells. On trio there are no others."""
        if self.way is None or isinstance(self.way, Telling):
            return anyio_scopes.is_within(task, self.task)
        return self.way.holds(task)

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
        task: Any = asyncio.current_task(loop) if loop is not None else None
        on_trio = task is None  # also where that is a guest of asyncio's loop
        if on_trio:
            task = trio_scope.current_task()
        self.task, self.call, self.enclosing = task, call, blocks.get(task)
        blocks[task] = self
        if on_trio:
            self.way = OnTrio(self)
        elif missing():
            self._before, self.way = task.cancelling(), Asking(self)
            self._at_begin = self.scope
        else:
            self._before, self._at_begin = task.cancelling(), anyio_scopes.scope_of(task)
        if self.stage is CALLED:  # before it has begun
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
        rest: BaseException | None = None
        news: BaseException | None = None
        try:
            await self._drive(call, trap, attach)
        except BaseException as error:
            rest = error if self.stage is OPEN else _without_news(error)
            if rest is error:
                rest = None  # as below
                if not self._end(error):
                    raise
                return
            news = error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError(REASON)
        try:
            if self._end(rest):
                return
            if rest is not None:
                raise rest
            # Somebody else has cancelled the task too? An anyio scope does it again at the next await, `task.cancel()` doesn't.
            if news is not None and task.cancelling() > self._before and not self._is_below_a_level(task):
                raise news.with_traceback(None)
        finally:
            rest = news = None  # an exception in this frame, with its traceback, is a cycle that holds all the call's frames

    def _is_below_a_level(self, task: Any) -> bool:
        """Whether a scope that cancels by level would reach the call's task."""
        return is_below_a_level() if missing() else anyio_scopes.is_below_a_level(anyio_scopes.scope_of(task))

    def _end(self, error: BaseException | None) -> bool:
        """Leave the scopes, and let the block around this one be the task's again. True if a scope has swallowed the error."""
        if self.enclosing is None:
            del blocks[self.task]
        else:
            blocks[self.task] = self.enclosing
        if self._timer is not None:
            self._timer.cancel()
        if self.stage is not OPEN:
            self._move(OVER)
            self._describe = str  # who says what runs here may hold this block
            for _ in range(self._sent):
                self.task.uncancel()
        if self.way is not None:
            self.way.end()
            self.way = None
        self.task = None  # a cancellation that comes now finds nobody
        return self.scope is not None and bool(self.scope.__exit__(type(error) if error is not None else None, error, None))

    def _move(self, stage: Stage) -> None:
        """The one place that moves the stage."""
        if stage not in TRANSITIONS[self.stage]:
            raise AssertionError(f"a block that is {self.stage.name} can't become {stage.name}")
        self.stage = stage

    @types.coroutine
    def _drive(self, call: Call, trap: Any, attach: Attach) -> Generator[Any, Any, None]:
        """Drive the call by hand from its first wait on, standing between it and its cancellation."""
        send, throw = call.send, call.throw
        error: BaseException | None = None
        value: Any = None
        undo = attach()
        try:
            while True:
                if self.stage is not OPEN or self._at_begin is not None:
                    self._is_about_to_wait(trap)
                self.trap = trap
                try:
                    value = yield trap
                except BaseException as raised:
                    error = raised
                self.trap = RUNNING
                if self.stage is SENT:
                    self._woke(error)
                try:
                    trap = send(value) if error is None else throw(error)
                except StopIteration:
                    return
                finally:
                    error = None
        finally:
            undo()
            value = trap = None  # as in `_run`

    # What the ways ask of their host, and what is asked of them.

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
        if self.stage is CALLED:
            self._move(HEARD)

    def warn(self) -> None:
        """The grace has ended, and somebody is still there."""
        text = "%s: cleanup after the disconnect took more than its grace of %g s; cancelling for good"
        logger.warning(text, self._describe(), self.cleanup_grace)

    def _depart(self) -> None:
        if self.way is None:
            self.way = Telling(self)
        elif not isinstance(self.way, Telling):  # which comes but once
            self.way.ask()

    def _is_about_to_wait(self, trap: Any) -> None:
        if self.way is not None:
            self.way.waits_again()
        elif trap is None and self.scope is None and not Telling.has_told(self.task):
            # A worker thread asks the scope that it was started in whether it is cancelled. That must be one of the call's, and anyio
            # starts threads behind a wait for nothing but the next turn.
            self.scope = anyio_scopes.enter(self.task, self.around)

    def _woke(self, error: BaseException | None) -> None:
        """What the call waited for has ended since it was told. Without an error, it has swallowed the cancellation: once more, then."""
        self._move(HEARD if error is not None else CALLED)
        if error is None and self.way is not None:
            self.way.lost()


def _without_news(error: BaseException) -> BaseException | None:
    """What is left of an error without the cancellations in it."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(asyncio.CancelledError)[1]
    return error if not isinstance(error, asyncio.CancelledError) else None
