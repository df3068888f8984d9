"""Tasks that run one request after another, for the transports that have no cheap tasks of their own.

On trio a new task for every request costs 12 % of a small request (measured, hello-world, 32 connections).
"""

import logging
import math
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

import anyio
from anyio.abc import TaskGroup

logger = logging.getLogger("microasgi_server")


class InFreshContext:
    """Awaits what `run` returns, with its context variables kept apart from the surrounding task's.

    So one task can serve requests one after another, and each still has a context of its own.
    """

    __slots__ = ("_context", "_run")

    def __init__(self, context: Context, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._context = context
        self._run = run

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine = self._context.run(self._run)
        step: Callable[[Any], Any] = coroutine.send
        value: Any = None
        try:
            while True:
                try:
                    trap = self._context.run(step, value)
                except StopIteration:
                    return
                try:
                    value = yield trap
                    step = coroutine.send
                except BaseException as error:
                    value, step = error, coroutine.throw
        finally:
            value = None  # may hold an exception, whose traceback (from Python 3.13 on) leads to this frame: a cycle


class Handover:
    """Where a task waits for its next request, or for None, the end."""

    __slots__ = ("_call", "_given", "scope")

    def __init__(self, scope: anyio.CancelScope) -> None:
        self.scope = scope  # around the task
        self._given = anyio.Event()
        self._call: InFreshContext | None = None

    def hand_over(self, call: InFreshContext | None) -> None:
        self._call = call
        self._given.set()

    async def wait(self) -> InFreshContext | None:
        await self._given.wait()
        return self._call


class Tasks:
    """The tasks that run requests, all in one task group.

    What cancels the group doesn't reach them: the server's end tells each request first (`server._end`).

    :param context: what each request's own context is copied from
    :param kept: how many may wait for a next request; what more there are end with theirs
    """

    def __init__(self, context: Context, group: TaskGroup, kept: int) -> None:
        self._kept = kept
        self._context = context
        self._group = group
        self._idle: list[Handover] = []
        self._released = False

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> anyio.CancelScope:
        """Run it, in a fresh context. What cancels the scope that this returns, while it runs, ends it."""
        call = InFreshContext(self._context.copy(), run)
        if self._idle:
            handover = self._idle.pop()
            handover.hand_over(call)
            return handover.scope
        scope = anyio.CancelScope(shield=True)
        self._context.copy().run(self._group.start_soon, self._run, call, scope)
        return scope

    async def _run(self, call: InFreshContext | None, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                while call is not None:
                    await call
                    call = None  # what it holds must not live as long as the wait for the next
                    # The scope's own, or that of another which the app has left open: the next request must not run in there.
                    ending = anyio.current_effective_deadline() < math.inf
                    if self._released or ending or len(self._idle) >= self._kept:
                        return
                    handover = Handover(scope)
                    self._idle.append(handover)
                    try:
                        call = await handover.wait()
                    except BaseException:
                        if handover in self._idle:  # nobody must give it a request any more
                            self._idle.remove(handover)
                        raise
        except Exception:  # trio's RuntimeError, if the app has left a scope open: it must end this task only
            logger.exception("A request has left its task in disorder")

    def release(self) -> None:
        """Nothing more will come: who waits for a request waits no longer."""
        self._released = True
        while self._idle:
            self._idle.pop().hand_over(None)
