"""The tree of Trio's cancel scopes: what `anyio_scopes.py` is on asyncio.

Each scope that is entered has a `CancelStatus`, which knows its parent; each task knows the innermost it is in. A scope that is
entered late is put between two that are there already.

Should a later Trio keep its tree elsewhere, it isn't known, and `on_trio.py` does without: its scope opens before the call begins.
"""

import sys
from functools import cache
from types import SimpleNamespace
from typing import Any

import anyio

UNKNOWN = object()
"""In place of a scope, where Trio's tree isn't known."""


@cache
def _run_context() -> Any:
    """Where Trio keeps which task runs; None if its tree isn't known."""
    run = sys.modules.get("trio._core._run")
    fields = ("_activate_cancel_status", "_cancel_status")
    known = all(hasattr(getattr(run, "Task", None), field) for field in fields)
    known = known and isinstance(getattr(getattr(run, "CancelStatus", None), "parent", None), property)
    return getattr(run, "GLOBAL_RUN_CONTEXT", None) if known else None


def current_task() -> Any:
    """The task that runs."""
    return sys.modules["trio"].lowlevel.current_task()


def scope_of(task: Any) -> Any:
    """The innermost scope that a task is in, or `UNKNOWN`."""
    return task._cancel_status if _run_context() is not None else UNKNOWN


def enter(task: Any, around: Any) -> anyio.CancelScope:
    """Enter a scope as the task would have done when `around` was its innermost. Another task may run."""
    scope = anyio.CancelScope()
    context = _run_context()
    if context is None:
        return scope.__enter__()
    if not around.encloses(task._cancel_status):  # `task_status.started()` within the call has moved the task to another nursery
        around = task.parent_nursery._cancel_status
    stand_in = _StandIn(around)
    running, context.task = getattr(context, "task", None), stand_in
    try:
        scope.__enter__()
    finally:
        if running is not None:
            context.task = running
        else:
            del context.task
    outermost = task._cancel_status
    if outermost is around:
        task._activate_cancel_status(stand_in._cancel_status)
        return scope
    while outermost.parent is not around:
        outermost = outermost.parent
    outermost.parent = stand_in._cancel_status
    return scope


class _StandIn:
    """A task, as far as a scope that is entered asks of one, and as Trio does at a Ctrl+C, which waits until it is done."""

    _ki_protected = True
    coro = SimpleNamespace(cr_frame=None)

    def __init__(self, status: Any) -> None:
        self._cancel_status = status

    def _activate_cancel_status(self, status: Any) -> None:
        self._cancel_status = status
