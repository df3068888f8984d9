"""What is read of anyio's cancel scopes on asyncio and isn't public: their tree, and how it is told of a departure.

    scope ──► child scopes, each of which may be shielded
      └─────► tasks: those whose innermost scope this is

anyio cancels by level, and so do its task groups: each scope that is cancelled cancels every task below it, at every await. For the
tasks that are in their grace that must not be. So the scopes that are there when the client leaves become `Spared`: anyio goes on
delivering through them, but doesn't see those tasks in them. A scope that is opened later, by code that cleans up, is anyio's own, and
anyio's rule holds in it.
"""

import sys
from collections.abc import Collection, Iterator
from functools import cache
from importlib import import_module
from typing import Any
from weakref import ref

from microasgi.promise.asyncio_tasks import Task, in_the_name_of


@cache
def _library() -> Any:
    return import_module("anyio._backends._asyncio")


@cache
def missing() -> tuple[str, ...]:
    """The names that this anyio doesn't have, of those that are used here."""
    try:
        library = _library()
        scope = library.CancelScope()
    except (ImportError, AttributeError):
        return ("anyio's asyncio backend",)
    fields = ("_parent_scope", "_child_scopes", "_tasks", "_shield", "_host_task", "_cancel_called", "_cancel_handle")
    methods = ("_deliver_cancellation", "_restart_cancellation_in_parent", "_parent_cancellation_is_visible_to_us")
    names = [(library, "_task_states"), *((scope, field) for field in (*fields, *methods))]
    return tuple(f"anyio's {name}" for owner, name in names if not hasattr(owner, name))


@cache
def _states() -> Any:
    return _library()._task_states.data  # by weak reference: a lookup in there costs a third of one in the dictionary around it


def scope_of(task: Task) -> Any:
    """The innermost scope that a task is in, or None."""
    state = _states().get(ref(task))
    return state.cancel_scope if state is not None else None


def around(scope: Any, outermost: Any) -> Iterator[Any]:
    """This scope and those around it, up to `outermost`, which isn't among them."""
    while scope is not None and scope is not outermost:
        yield scope
        scope = scope._parent_scope


def enter(task: Task, outer: Any) -> Any:
    """Enter a scope as the task would have done when `outer` was its innermost. Another task may run."""
    states = _library()._task_states
    innermost = outermost = scope_of(task)
    with in_the_name_of(task):
        if innermost is outer:
            return _library().CancelScope().__enter__()
        *_, outermost = around(innermost, outer)
        states[task].cancel_scope = outer
        if outer is not None:
            outer._child_scopes.discard(outermost)
        scope = _library().CancelScope().__enter__()
    outermost._parent_scope = scope
    scope._child_scopes.add(outermost)
    scope._tasks.discard(task)
    states[task].cancel_scope = innermost
    return scope


def leave(task: Task, scope: Any) -> None:
    """Leave a scope that was entered late. The task may have left others open inside it, in a generator that nobody closes."""
    if scope_of(task) is scope:
        scope.__exit__(None, None, None)
        return
    outer = scope._parent_scope
    for child in scope._child_scopes:
        child._parent_scope = outer
    if outer is not None:
        outer._child_scopes.discard(scope)
        outer._child_scopes.update(scope._child_scopes)


def adopt(scope: Any, listener: Any) -> None:
    """Let a listener (telling.py) decide for the tasks in this scope; those in the scopes inside it have scopes of their own."""
    if not is_adopted(scope):
        scope.__class__ = _spared_class()
        scope._child_scopes = _Watched(scope._child_scopes)
        scope._tasks = _Watched(scope._tasks)
        scope._child_scopes.listener = scope._tasks.listener = listener


def is_adopted(scope: Any) -> bool:
    """Whether somebody decides for this scope's tasks."""
    return isinstance(scope, _spared_class())


def is_within(task: Task, host: Task) -> bool:
    """Whether a task is `host`, or a child of a task group of its."""
    return task is host or any(scope._host_task is host for scope in around(scope_of(task), None))


def owner(scope: Any) -> Task | None:
    """The task that has opened a scope, and is in it."""
    task: Task | None = scope._host_task
    return task


def is_shielded(scope: Any, outermost: Any) -> bool:
    """Whether this scope, or one around it up to `outermost`, shields what is in it."""
    return any(one._shield for one in around(scope, outermost))


def is_a_threads(scope: Any, roots: Collection[Any]) -> bool:
    """Whether this is the shield that anyio puts around the wait for a thread, with nothing around it but one of the roots.

    Only then anyio lets the thread ask that one whether it is cancelled; else the one around it.
    """
    return bool(scope._shield and not scope._child_scopes and scope._parent_scope in roots)


def below(scope: Any, told: Collection[Task], listener: Any) -> Iterator[Task]:
    """The tasks below a scope that were not told, as far as no shield protects them. Adopts the scopes on the way.

    But not those that a task has opened which was told: what cleans up speaks anyio in there, and the listener hears of them.
    """
    for child in tuple(scope._child_scopes):
        if child._host_task in told and not is_adopted(child):
            listener.came(child)
            continue
        adopt(child, listener)
        if not child._shield:
            yield from below(child, told, listener)
    yield from [task for task in scope._tasks if task not in told and not task.done()]


def is_below_a_level(scope: Any) -> bool:
    """Whether a scope that cancels by level would reach those in this one."""
    for one in around(scope, None):
        if one._cancel_called and not is_adopted(one):
            return True
        if one._shield:
            break
    return False


def deliver(scope: Any) -> None:
    """Have a cancelled scope cancel what it may, unless it does so already, turn after turn."""
    if scope._cancel_handle is None:
        scope._deliver_cancellation(scope)


def deliver_from(scope: Any, outermost: Any) -> bool:
    """Cancel, once, whoever waits in this scope, on behalf of the cancelled one below `outermost`. True if somebody is still there."""
    *_, origin = around(scope, outermost)
    return not scope._shield and bool(scope._deliver_cancellation(origin))


class _Watched(set[Any]):
    """The tasks or the child scopes of a scope."""

    listener: Any

    def add(self, item: Any) -> None:
        super().add(item)
        self.listener.came(item)


@cache
def _spared_class() -> Any:
    base: Any = _library().CancelScope

    class Spared(base):  # type: ignore[misc]
        """A scope that spares the tasks in their grace."""

        __slots__ = ()

        @property
        def cancel_called(self) -> bool:
            """What anyio's checkpoints ask in a loop, until they are cancelled, and `check_cancelled()` in a thread."""
            return bool(self._child_scopes.listener.answers(self, self._cancel_called))

        def _deliver_cancellation(self: Any, origin: Any) -> bool:
            if origin is self and not self._child_scopes.listener.delivers(self):
                return False
            tasks = self._tasks
            self._tasks = {task for task in tasks if self._child_scopes.listener.takes(task)}
            try:
                return bool(base._deliver_cancellation(self, origin))
            finally:
                self._tasks = tasks

        def _restart_cancellation_in_parent(self) -> None:
            # Called when the scope is left; its `__exit__` may have been looked up before it was adopted. A scope lets the error of
            # its own cancellation pass, if one around it is cancelled too.
            passes = self._cancel_called and self._parent_cancellation_is_visible_to_us
            self._child_scopes.listener.left(self, self._host_task, sys.exc_info()[1], passes)
            base._restart_cancellation_in_parent(self)

    return Spared
