"""Who is told of a departure, and when: every task of the request, all in the same turn of the loop, each once.

    the block's task ─┬─ children of anyio's task groups, wherever they stand in the tree of scopes
                      ├─ what it awaits, and what `gather` runs for it
                      └─ members of an `asyncio.TaskGroup` whose block it is in           … and so on, from each of these

Told means `task.cancel()`. A task that is behind a shield, or whose await has just ended, can't be told yet; whenever anything changes
in the tree, it is looked through again in the next turn. From then on the task's cleanup may await until its grace ends: nothing that
was there when the client left cancels it again, neither a group that its other members end nor a scope's deadline. Then it is level.

For this each task that stands at the root of a tree gets a scope around all of its own, late, as if it had been there from the start.
It is cancelled, so that anyio goes on from it: into the scopes that cleanup opens, at the end of every shield, and when the grace ends.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Protocol

from microasgi.promise import anyio_scopes, asyncio_tasks
from microasgi.promise.asyncio_tasks import Task

REASON = "microasgi: the client left"


class Host(Protocol):
    """The block whose call is told.

    task, call: the task, and the coroutine that the block drives in it.
    scope: a scope around the call, if there is one already.
    cleanup_grace: seconds.
    """

    task: Any
    call: Any
    scope: Any
    cleanup_grace: float

    @property
    def around(self) -> Any:
        """The scope that the call's own are in."""

    @property
    def waits(self) -> bool:
        """Whether the call is at an await."""

    def tell(self) -> None:
        """Cancel the call, which waits."""

    def heard(self) -> None:
        """The call has the news already."""

    def expired(self, *, own: bool) -> None:
        """A grace has ended; the call's own, or only that of another task."""


class Telling:
    """One departure. It begins when this is made, and is over when the block is.

    told: when the grace ends of each task that was told, by the loop's clock.
    """

    def __init__(self, host: Host) -> None:
        self.told: dict[Task, float] = {}
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._roots: dict[Task, Any] = {}
        self._doubtful: set[Task] = set()
        self._due = False  # whether there will be a look at the tree
        self._answered = False  # whether a thread was told
        self._over = False
        self._timer: asyncio.TimerHandle | None = None
        self._grace = host.cleanup_grace
        if host.around is not None and host.around._effectively_cancelled:
            self._grace = 0.0  # a level reaches the call from outside
        if anyio_scopes.scope_of(host.task) is not None:
            self._plant(host.task)
        self._look()

    def end(self) -> None:
        """The call has ended."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self.root is not None:
            self.root.__exit__(None, None, None)

    @property
    def root(self) -> Any:
        """The scope around the call; None while it needs none."""
        return self._roots.get(self._host.task)

    def lost(self, task: Task) -> None:
        """A task was told and goes on all the same: what it waited for has swallowed the cancellation. Once more, then."""
        del self.told[task]
        self.changed()

    # What anyio asks, and tells.

    def changed(self) -> None:
        """A scope or a task has come, or a task waits again: look through the tree in the next turn."""
        if not self._due and not self._over:
            self._due = True
            self._loop.call_soon(self._look)

    def takes(self, task: Task | None) -> bool:
        """Whether anyio may cancel this task."""
        if task is None:
            return False
        until = self.told.get(task)
        if until is not None:
            return until <= self._loop.time()
        if any(scope.shield for scope in anyio_scopes.around(anyio_scopes.scope_of(task), self._host.around)):
            return True  # a scope behind a shield cancels what is in it
        self.changed()
        return False

    def answers(self, scope: Any) -> bool:
        """Whether a scope counts as cancelled: for a thread, and for a task unless it is in its grace."""
        if asyncio_tasks.running_loop() is self._loop:
            return scope._cancel_called and self.takes(asyncio.current_task(self._loop))
        # anyio lets a thread ask its own shield, where there is no scope around that.
        alone = scope._shield and not scope._child_scopes and scope._parent_scope in self._roots.values()
        told: bool = scope._cancel_called or alone
        self._answered = self._answered or told
        return told

    def left(self, scope: Any, error: BaseException | None) -> None:
        """A task leaves a scope: with the news from its thread, or with other errors in place of its cancellation."""
        task: Task = scope._host_task
        if task in self.told:
            if isinstance(error, BaseExceptionGroup) and error.split(asyncio.CancelledError)[0] is None:
                self._doubtful.add(task)
                self.changed()
        elif self._answered and isinstance(error, asyncio.CancelledError) and self._names(scope, error):
            self._mark(task)
            if task is self._host.task:
                self._host.heard()

    def _names(self, scope: Any, error: BaseException) -> bool:
        """Whether `check_cancelled()` has raised this error: it says which scope it has found cancelled."""
        return any(f"{id(one):x}" in str(error) for one in (scope, *self._roots.values()))

    # What follows from it.

    def _look(self) -> None:
        """Tell those who can be told."""
        if self._over:
            return
        self._due = True  # what follows changes the tree
        self._revise()
        found = self._untold()
        again = not all(map(asyncio_tasks.is_ready, found))
        if again:  # before those who are told now go on: nobody is to see them end, and not know why
            self._loop.call_soon(self._look)
        while ready := [task for task in found if asyncio_tasks.is_ready(task)]:
            for task in ready:
                self._tell(task)
            found = self._untold()
        for root in self._roots.values():
            anyio_scopes.deliver(root)
        self._due = again

    def _untold(self) -> list[Task]:
        """The tasks that no shield protects, and that nobody has told. The call's own only while it waits; else it says when."""
        host = self._host.task
        found = [task for root in tuple(self._roots.values()) for task in self._below(root)]
        if host not in self._roots and host not in self.told:
            found.append(host)
        return [task for task in found if task is not host or self._host.waits]

    def _below(self, scope: Any) -> Iterator[Task]:
        for child in tuple(scope._child_scopes):
            if not anyio_scopes.is_adopted(child):
                if child._host_task in self.told:
                    continue  # opened in its cleanup
                anyio_scopes.adopt(child, self)
            if not child._shield:
                yield from self._below(child)
        yield from [task for task in scope._tasks if task not in self.told and not task.done()]

    def _tell(self, task: Task) -> None:
        if task in self.told:  # with another, which awaits it
            return
        self._mark(task)
        if task is self._host.task:
            self._host.tell()
        else:
            task.cancel(REASON)

    def _mark(self, task: Task) -> None:
        """This task is told now, and what it awaits with it; the members of its groups can be."""
        now = self._loop.time()
        if not self.told:
            self._loop.call_soon(self._settle)  # most calls end in the next turn, and need neither scope nor timer
        self.told[task] = now + self._grace
        for child in asyncio_tasks.awaited(task):
            if child not in self.told:
                self._plant(child)
                self._mark(child)
        for group in asyncio_tasks.groups(self._call_of(task)):
            for child in asyncio_tasks.members(group):
                if child not in self._roots:
                    self._plant(child)

    def _plant(self, task: Task) -> None:
        """Put a cancelled scope around all of a task's own."""
        if task is self._host.task:
            root = self._host.scope or anyio_scopes.enter(task, self._host.around)
        else:
            root = anyio_scopes.enter(task, None)
        self._roots[task] = root
        anyio_scopes.adopt(root, self)
        tuple(self._below(root))
        root.cancel(REASON)

    def _call_of(self, task: Task) -> Any:
        return self._host.call if task is self._host.task else task.get_coro()

    def _revise(self) -> None:
        """Whoever left a group with other errors than its cancellation, and isn't in its cleanup now, goes on: it is told again."""
        for task in tuple(self._doubtful):
            if task.done() or not asyncio_tasks.handles_an_error(self._call_of(task)):
                self._doubtful.discard(task)
                self.told.pop(task, None)

    # The grace.

    def _settle(self) -> None:
        if self._over:
            return
        if self._host.task not in self._roots:
            self._plant(self._host.task)
        self._expire()

    def _expire(self) -> None:
        """Let anyio cancel by level whoever has had its grace, and come again when the next has."""
        now = self._loop.time()
        late = [task for task, until in self.told.items() if until <= now and not task.done()]
        if late:
            if self._grace:
                self._host.expired(own=self._host.task in late)
            for root in self._roots.values():
                anyio_scopes.deliver(root)
        due = [until for until in self.told.values() if until > now]
        self._timer = self._loop.call_at(min(due), self._expire) if due else None
