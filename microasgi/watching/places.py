"""Where a suspended coroutine is: in which lines, from the outermost in."""

import linecache
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

from microasgi.promise.asyncio_tasks import frames
from microasgi.promise.delivery import current_task
from microasgi.promise.telling import blocks

_LIBRARIES = tuple(
    {*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")), str(Path(__file__).parents[1]), "<"}
)
_SERVER = "microasgi_server"
_DEMO = str(Path(__file__).parents[1] / "demo.py")
"""The one app among the libraries: whoever tries the tools on it wants to see its lines."""

_REMEMBERED = 4096


class Place(NamedTuple):
    """An instruction, as one reads it.

    code, instruction: where it is; the second is its offset.
    at: `shop.py:48 in query`.
    line: the text of that line, if there is one.
    own: whether it is the app's own code, and no library's.
    """

    code: CodeType
    instruction: int
    at: str
    line: str
    own: bool

    @property
    def source(self) -> tuple[CodeType, int]:
        """As an event has it."""
        return self.code, self.instruction


_places: dict[tuple[int, int], Place] = {}
"""By the code's id and the instruction. A place keeps its code, so that the id stays its own."""


def place_of(code: CodeType, instruction: int) -> Place:
    """What there is to read."""
    found = _places.get((id(code), instruction))
    if found is None:
        if len(_places) >= _REMEMBERED:
            _places.clear()
        found = _places[id(code), instruction] = _look_up(code, instruction)
    return found


def _look_up(code: CodeType, instruction: int) -> Place:
    file = code.co_filename
    number = next((line for start, end, line in code.co_lines() if start <= instruction < end and line), code.co_firstlineno)
    at = f"{Path(file).name}:{number} in {code.co_name}"
    return Place(code, instruction, at, linecache.getline(file, number).strip(), is_own(file))


def is_own(file: str) -> bool:
    """Whether this is a file of the app's, and no library's."""
    return file == _DEMO or (not file.startswith(_LIBRARIES) and _SERVER not in Path(file).parts)


def suspended_in(call: Any, outer: Any = None) -> list[Place]:
    """The places where the running task's coroutine, which is about to wait, is suspended, from the outermost in.

    :param outer: the block that the call itself is in, if it is in one
    """
    calls = []
    block = blocks.get(current_task())
    while block is not None and block is not outer:
        calls.append(block.call)  # which its block drives by hand, so that nobody sees it
        block = block.enclosing
    return [place_of(frame.f_code, frame.f_lasti) for one in [call, *reversed(calls)] for frame in _frames(one)]


def innermost(places: Sequence[Place]) -> Place:
    """The innermost place in the app's own code, else the innermost of all."""
    return ([place for place in places if place.own] or places)[-1]


def place(call: Any) -> str:
    """Where the running task's coroutine is about to wait: the innermost line of the app's own code, else the innermost of all."""
    return innermost(suspended_in(call)).at


def raised_at(error: BaseException) -> str:
    """The innermost line of the app's own code that an exception has left; empty: none."""
    at, step = "", error.__traceback__
    while step is not None:
        place = place_of(step.tb_frame.f_code, step.tb_lasti)
        at, step = place.at if place.own else at, step.tb_next
    return at


def _frames(awaitable: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine, from the outermost in, as far as they can be seen."""
    for thing, _ in frames(awaitable):
        frame = next((getattr(thing, name) for name in ("cr_frame", "gi_frame", "ag_frame") if hasattr(thing, name)), None)
        if frame is not None:
            yield frame
