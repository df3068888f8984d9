"""Following a coroutine from outside, await by await: for the test client, which leaves at a chosen one."""

import sysconfig
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import anyio

from microasgi.promise.asyncio_tasks import frames
from microasgi.promise.delivery import current_task
from microasgi.promise.stages import HEARD
from microasgi.promise.telling import REASON, blocks


class Stepper:
    """Awaits a coroutine, says each time it is about to wait, and when a wait ends with a cancellation."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        suspended: Callable[[Coroutine[Any, Any, None]], None],
        cancelled: Callable[[BaseException], None],
    ) -> None:
        self._coroutine = coroutine
        self._suspended = suspended
        self._cancelled = cancelled

    def __await__(self) -> Generator[Any, Any, None]:
        step: Callable[[Any], Any] = self._coroutine.send
        value: Any = None
        while True:
            try:
                trap = step(value)
            except StopIteration:
                return
            self._suspended(self._coroutine)
            try:
                value = yield trap
                step, raised = self._coroutine.send, getattr(value, "error", None)  # trio sends an `outcome.Error`
            except BaseException as error:
                step, value, raised = self._coroutine.throw, error, error
            if isinstance(raised, anyio.get_cancelled_exc_class()):
                self._cancelled(raised)


def is_departure(error: BaseException) -> bool:
    """Whether a cancellation of trio's is the departure's. On asyncio one that has gone through other tasks doesn't tell."""
    return getattr(error, "reason", None) == REASON


def goes_on(*, heard: bool) -> bool:
    """Whether the running task's call knows of the departure, and is still at work.

    :param heard: whether its cancellation has come, by what trio says: there the call's block doesn't see who has heard
    """
    block = blocks.get(current_task())
    return block is not None and (heard or block.stage is HEARD)


def place(coroutine: Coroutine[Any, Any, None]) -> str:
    """Where the running task's coroutine is about to wait: the innermost line of the app's own code, else the innermost of all."""
    block = blocks.get(current_task())
    frames = [*_frames(coroutine), *(_frames(block.call) if block is not None else ())]
    own = [frame for frame in frames if not frame.f_code.co_filename.startswith(_LIBRARIES)]
    frame = (own or frames)[-1]
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"


_LIBRARIES = tuple(
    {*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")), str(Path(__file__).parents[1]), "<"}
)


def _frames(awaitable: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine, from the outermost in, as far as they can be seen."""
    for thing, _ in frames(awaitable):
        frame = next((getattr(thing, name) for name in ("cr_frame", "gi_frame", "ag_frame") if hasattr(thing, name)), None)
        if frame is not None:
            yield frame
