"""Who is told of a departure, and when: every task of the request, all in the same turn of the loop, each once.

    the block's task ─┬─ children of anyio's task groups, wherever they stand in the tree of scopes
                      ├─ what it awaits, and what `gather` runs for it
                      └─ members of an `asyncio.TaskGroup` whose block it is in           … and so on, from each of these

Told means `task.cancel()`. A task that is behind a shield, or whose await has just ended, is told as soon as that has changed; what
changes in the tree is looked at in the next turn. From then on the task's cleanup may await until its grace ends: nothing that was
there when the client left cancels it again, neither a group that its other members end nor a scope's deadline. Then it is level.

For this each task that no other task's scopes are around gets one around all of its own, late, as if it had been there from the start.
It is cancelled, so that anyio takes the request for cancelled: at the end of a group, in a thread, and when the grace ends.
"""

import asyncio
import math
from collections.abc import Iterator
from typing import Any

from microasgi.promise import anyio_scopes, asyncio_tasks
from microasgi.promise.asyncio_tasks import Task

REASON = "microasgi: the client left"

AGAIN = 0.1
"""Seconds after which at least it is seen whether somebody has opened a group of asyncio's behind its grace; as rarely as one has ended."""

blocks: dict[Any, Any] = {}
"""The innermost block (delivery.py) of each task that is in one."""

_told: dict[Task, float] = {}
"""When the grace ends of each task that was told, by its loop's clock. Of all requests: those of one within another are both's."""


def _forget(task: Task) -> None:
    _told.pop(task, None)


class Telling:
    """One departure. It begins when this is made; `block` (delivery.py) is told with the others, and says when it is over."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self._host: Task = block.task
        self._loop = asyncio.get_running_loop()
        self._grace = 0.0 if anyio_scopes.is_below_a_level(block.around) else block.cleanup_grace
        self._roots: dict[Task, Any] = {}  # the scopes that were put around all others
        self._mine: list[Task] = []  # who was told here
        self._news: list[Any] = []  # scopes and tasks that have come, or can't be told yet
        self._opened: list[Any] = []  # scopes that cleanup has opened
        self._waited_for: list[asyncio.Future[Any]] = []  # by the call, when it was told
        self._doubtful: set[Task] = set()  # told, but a group had other errors in place of the news
        self._scheduled = self._settles = False  # whether there will be a look; and one behind it
        self._thread_told = self._is_level = self._over = False
        self._timer: asyncio.TimerHandle | None = None
        if anyio_scopes.scope_of(self._host) is not None:
            self._news += self._plant(self._host)
        elif block.waits and asyncio_tasks.is_ready(self._host):  # as most
            self._news += self._tell(self._host)
        else:
            self._news.append(self._host)
        if self._news:
            self._look()

    def end(self) -> None:
        """The call has ended. What it leaves behind, as `gather` and `wait_for` may, has its grace still, and no more than that."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._block.scope is not None:
            anyio_scopes.leave(self._host, self._block.scope)
            self._block.scope = None
        left: list[Task] = []
        for task in self._mine:
            if task.done() or task is self._host:
                _forget(task)
            else:
                task.add_done_callback(_forget)
                left.append(task)
        if left:
            self._loop.call_at(max(_told.get(task, 0.0) for task in left), self._forsake, left)

    def _forsake(self, tasks: list[Task]) -> None:
        """Have anyio cancel by level whoever of these is still there."""
        for task in tasks:
            _forget(task)
            if task in self._roots and not task.done():
                anyio_scopes.deliver(self._roots[task])

    def lost(self) -> None:
        """The call goes on: what it waited for has swallowed the cancellation. It says when it waits again."""
        _told.pop(self._host, None)

    def waits_again(self) -> None:
        """The call is about to wait."""
        if any(map(asyncio_tasks.has_a_result, self._waited_for)):  # and wait_for has forgotten the news
            self._waited_for.clear()
            self.lost()
        self.came(self._host)
        if self._doubtful:
            self._schedule()

    @staticmethod
    def has_told(task: Any) -> bool:
        """Whether this task was told, for whichever request of those in each other."""
        return task in _told

    def came(self, item: Any) -> None:
        """A scope has been opened, or a task is in another scope than before."""
        if item not in _told:
            self._news.append(item)
            self._schedule()

    def delivers(self, scope: Any) -> bool:
        """Whether a scope that is cancelled should cancel what is in it. Otherwise that is done from here."""
        if self._over or self._is_level or anyio_scopes.is_shielded(scope, self._block.around):
            return True
        self._schedule()
        return False

    def takes(self, task: Task) -> bool:
        """Whether anyio may cancel this task, as it does at each of its awaits."""
        if task in _told:
            return _told[task] <= self._loop.time()
        if self._over or self._is_shielded(task):
            return True
        self.came(task)
        return False

    def answers(self, scope: Any, called: bool) -> bool:
        """Whether a scope counts as cancelled: for a thread, and for a task unless it is in its grace. Not for anyio's own delivery."""
        if asyncio_tasks.running_loop() is self._loop:
            task = asyncio.current_task(self._loop)
            return called and task is not None and _told.get(task, 0.0) <= self._loop.time()
        called = called or anyio_scopes.is_a_threads(scope, self._roots.values())
        self._thread_told = self._thread_told or called
        return called

    def left(self, scope: Any, task: Task, error: BaseException | None, passes: bool) -> None:
        """A task leaves a scope, and says by what error; `passes`, if the scope was cancelled and can't swallow it."""
        if self._over:
            return
        if task in _told:
            if isinstance(error, BaseExceptionGroup) and error.split(asyncio.CancelledError)[0] is None:
                self._doubtful.add(task)
                self._schedule()
        elif isinstance(error, asyncio.CancelledError) and (passes or self._is_from_a_thread(scope, error)):
            self._news += self._mark(task)
            self._schedule()
            self._settle_soon()
            if task is self._host:
                self._block.heard()

    def _is_from_a_thread(self, scope: Any, error: BaseException) -> bool:
        """Whether `check_cancelled()` has raised it: it says which scope it has found cancelled."""
        scopes = (*anyio_scopes.around(scope, None), *self._roots.values())
        return self._thread_told and any(f"{id(one):x}" in str(error) for one in scopes)

    # What follows from it.

    def _schedule(self) -> None:
        if not self._scheduled and not self._over:
            self._scheduled = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Tell those who can be told now, and cancel what cleanup has opened."""
        self._scheduled = False
        if self._over:
            return
        self._revise()
        news, self._news = self._news, []
        found = [task for item in news for task in self._concerned(item)]
        late = [task for task in found if not asyncio_tasks.is_ready(task)]
        if late:  # again, and before those who are told now go on: nobody is to see them end, and not know why
            self._news += late
            self._schedule()
        while ready := [task for task in found if task not in _told and asyncio_tasks.is_ready(task)]:
            found = [other for task in ready if task not in _told for other in self._tell(task)]
            self._news += [task for task in found if not asyncio_tasks.is_ready(task)]
        self._opened = [scope for scope in self._opened if anyio_scopes.owner(scope) is not None]
        busy = [anyio_scopes.deliver_from(scope, self._block.around) for scope in self._opened]
        if any(busy) or self._news:
            self._schedule()

    def _concerned(self, item: Any) -> list[Task]:
        """The tasks that could be told, where something has changed. The call's own only while it waits; else it says when."""
        if isinstance(item, asyncio.Task):
            tasks = [item]
        elif anyio_scopes.owner(item) in _told and not anyio_scopes.is_adopted(item):
            self._opened.append(item)
            return []
        else:
            anyio_scopes.adopt(item, self)
            tasks = list(anyio_scopes.below(item, _told, self))
        waits = self._block.waits
        return [task for task in tasks if not task.done() and not self._is_shielded(task) and (waits or task is not self._host)]

    def _is_shielded(self, task: Task) -> bool:
        return anyio_scopes.is_shielded(anyio_scopes.scope_of(task), self._block.around)

    def _tell(self, task: Task) -> list[Task]:
        """Tell a task. Returns those that can be told with it."""
        found: list[Task] = []
        if task is self._host and self._block.scope is None and anyio_scopes.scope_of(task) is not None:  # opened since its client left
            found = self._plant(task)
        found += self._mark(task)
        if task is self._host:
            self._block.tell()
        else:
            task.cancel(REASON)
        self._settle_soon()
        return found

    def _mark(self, task: Task, until: float | None = None) -> list[Task]:
        """This task is told, and what it awaits with it. Returns those that can be told with them."""
        self._mine.append(task)
        _told[task] = until = until or self._loop.time() + self._grace
        company = asyncio_tasks.company(task, *self._calls(task))
        if task is self._host:
            self._waited_for = company.forgetful
        found: list[Task] = []
        for child in company.tasks:
            if child not in _told and not child.done():
                found += self._plant(child)
                found += self._mark(child, until)
        return found + self._take_over(company.groups)

    def _take_over(self, groups: list[asyncio.TaskGroup]) -> list[Task]:
        members = [member for group in groups for member in asyncio_tasks.take_over(group)]
        return [task for member in members if member not in self._roots and not member.done() for task in self._plant(member)]

    def _calls(self, task: Task) -> Iterator[Any]:
        """A task's coroutines, from the innermost out: each block in it drives one by hand, which nobody sees from the one outside."""
        block = blocks.get(task)
        while block is not None and block is not self._block:
            yield block.call
            block = block.enclosing
        yield self._block.call if task is self._host else task.get_coro()

    def _plant(self, task: Task) -> list[Task]:
        """Put a cancelled scope around all of a task's own. Returns the tasks below it."""
        if task is not self._host:
            root = anyio_scopes.enter(task, None)
        else:
            root = self._block.scope = self._block.scope or anyio_scopes.enter(task, self._block.around)
        self._roots[task] = root
        anyio_scopes.adopt(root, self)
        found = list(anyio_scopes.below(root, _told, self))
        root.cancel(REASON)
        return found

    def _revise(self) -> None:
        """Whoever left a group with other errors than the news, and isn't in its cleanup now, goes on: it is told again."""
        now = self._loop.time()
        for task in tuple(self._doubtful):
            if task.done() or _told.get(task, now) <= now or not any(map(asyncio_tasks.handles, self._calls(task))):
                self._doubtful.discard(task)
                if _told.get(task, now) > now:
                    del _told[task]
                    self._news.append(task)

    # The grace.

    def _settle_soon(self) -> None:
        """In the next turn, behind who was told: most calls have ended then, and need neither scope nor timer."""
        if not self._settles:
            self._settles = True
            self._loop.call_soon(self._settle)

    def _settle(self) -> None:
        self._settles = False
        if not self._over:
            if self._block.scope is None:
                self._news += self._plant(self._host)
                self._look()  # at once, before the first await of its cleanup has ended
            self._expire()

    def _expire(self) -> None:
        """Let anyio cancel by level whoever has had its grace, and come again when the next has."""
        now = self._loop.time()
        late = [task for task in self._mine if _told.get(task, math.inf) <= now and not task.done()]
        if late:
            if self._grace and not self._is_level:
                self._block.warn()
            self._is_level = True
            opened = [group for task in late for group in asyncio_tasks.company(task, *self._calls(task)).groups]
            for member in self._take_over(opened):  # of groups that cleanup has opened
                self._mine.append(member)
                _told[member] = now
            for root in self._roots.values():
                anyio_scopes.deliver(root)
        due = [_told[task] for task in self._mine if _told.get(task, now) > now]
        if late:
            due.append(now + max(self._grace, AGAIN))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(due), self._expire) if due else None
