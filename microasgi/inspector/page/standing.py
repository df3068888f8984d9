"""Where a thread stands, seen from another one."""

import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NamedTuple

from microasgi.watching.places import Place, innermost, place_of


class Standing(NamedTuple):
    """Where a thread is.

    at: the innermost line of the app's own code, as `shop.py:30 in work`; of any code, if none of it is the app's.
    line: its text.
    stack: the app's own lines that led there, the outermost first.
    files: their files' paths.
    """

    at: str
    line: str
    stack: list[str]
    files: list[str]

    @property
    def told(self) -> str:
        """The place and its line, in one."""
        return f"{self.at}: {self.line}" if self.line else self.at

    @property
    def caller(self) -> str:
        """The app's own line that has called the innermost of its functions, if there is one."""
        return self.stack[-2] if len(self.stack) > 1 else ""


def _files(places: list[Place]) -> list[str]:
    return list(dict.fromkeys(each.code.co_filename for each in places if each.own))


def standing(thread: int) -> Standing | None:
    """Where this thread stands; None, if it has ended.

    :param thread: its `ident`
    """
    places = list(_inwards(thread))
    if not places:
        return None
    place = innermost(places)
    return Standing(place.at, place.line, [each.at for each in places if each.own], _files(places))


def workers() -> list[Standing]:
    """Where other threads stand that run the app's code: a plain `def` handler's, or what somebody has given to a thread."""
    loops = threading.main_thread(), threading.current_thread()  # the app's and the page's
    idents = [thread.ident for thread in threading.enumerate() if thread not in loops]
    return [place for ident in idents if ident is not None and (place := standing(ident)) is not None and place.stack]


def _inwards(thread: int) -> Iterator[Place]:
    """Its places, the outermost first."""
    frame: FrameType | None = sys._current_frames().get(thread)
    frames = []
    while frame is not None:
        frames.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return (place_of(*each) for each in reversed(frames))
