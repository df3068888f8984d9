"""The tree of cancel scopes on asyncio: what anyio knows of it, and doesn't tell in public.

    scope ──► child scopes, each of which may be shielded
      └─────► tasks: those whose innermost scope this is

Should a later anyio keep its tree elsewhere, it isn't known, and `delivery.py` does without: its block opens before the call begins
instead of when its client leaves, and anyio makes each delivery. The tests run both ways.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import anyio


@cache
def _scope_class() -> type[anyio.CancelScope]:
    """anyio's scopes on asyncio, and to be asked there only. `anyio.CancelScope()` looks anew each time which library runs."""
    return type(anyio.CancelScope())


@cache
def _task_states() -> Any:
    """Where anyio keeps which scope a task is in; None if it isn't known."""
    fields = ("_parent_scope", "_child_scopes", "_tasks")
    known = all(hasattr(_scope_class()(), field) for field in fields)
    return getattr(sys.modules[_scope_class().__module__], "_task_states", None) if known else None


UNKNOWN = object()
"""In place of a scope, where anyio's tree isn't known."""


def scope_of(task: Any) -> Any:
    """The innermost scope that a task is in; None, or `UNKNOWN`."""
    states = _task_states()
    if states is None:
        return UNKNOWN
    state = states.get(task)
    return state.cancel_scope if state is not None else None


def enter(task: asyncio.Task[Any], around: Any) -> tuple[anyio.CancelScope, anyio.CancelScope]:
    """Enter two scopes as the task would have done when `around` was its innermost. Another task may run. Returns the outer one first."""
    if asyncio.current_task() is task:
        return _enter(task, around)
    with _in_the_name_of(task):
        return _enter(task, around)


def _enter(task: asyncio.Task[Any], around: Any) -> tuple[anyio.CancelScope, anyio.CancelScope]:
    own = _take_out(task, around)
    outer, inner = _scope_class()().__enter__(), _scope_class()().__enter__()
    if own is not None:
        _put_into(inner, task, *own)
    return outer, inner


@contextmanager
def _in_the_name_of(task: asyncio.Task[Any]) -> Iterator[None]:
    """Be that task, for who asks `current_task()`: a scope can be entered only by the task that is to be in it."""
    loop = asyncio.get_running_loop()
    current = asyncio.current_task(loop)
    if current is not None:
        asyncio.tasks._leave_task(loop, current)
    asyncio.tasks._enter_task(loop, task)
    try:
        yield
    finally:
        asyncio.tasks._leave_task(loop, task)
        if current is not None:
            asyncio.tasks._enter_task(loop, current)


def _take_out(task: Any, around: Any) -> tuple[Any, Any] | None:
    """Undo what the scopes did to the tree that a task has opened inside `around`. Return the innermost and the outermost of them."""
    innermost = outermost = scope_of(task)
    if innermost is around:
        return None
    while outermost._parent_scope is not around:
        outermost = outermost._parent_scope
    _task_states()[task].cancel_scope = around
    if around is not None:
        around._child_scopes.discard(outermost)
        around._tasks.add(task)
    return innermost, outermost


def _put_into(scope: Any, task: Any, innermost: Any, outermost: Any) -> None:
    """Do it again, inside `scope`, which is the innermost that the task is in now."""
    outermost._parent_scope = scope
    scope._child_scopes.add(outermost)
    scope._tasks.discard(task)
    _task_states()[task].cancel_scope = innermost


def reaches(scope: Any, task: Any) -> bool:
    """Whether a cancellation of this scope would reach the task: the way of anyio's own delivery."""
    if task in getattr(scope, "_tasks", ()):
        return True
    return any(not child.shield and not child.cancel_called and reaches(child, task) for child in getattr(scope, "_child_scopes", ()))


def is_below_a_level(scope: Any) -> bool:
    """Whether a scope around this one is cancelled, which cancels by level: then a shield would only delay."""
    return bool(getattr(scope, "_parent_cancellation_is_visible_to_us", False))
