"""What is told, and to whom."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from types import CodeType
from typing import Any, NamedTuple

from microasgi_server.taps.redaction import Redaction

Source = tuple[CodeType, int]
"""A place in the code: the instruction's offset in it. Who shows it looks up the line."""

Facts = dict[str, Any]

HERE = f"{Path(__file__).parent}{os.sep}"
"""Where nothing happens: it is only told from there."""


class Event(NamedTuple):
    """One thing that happened.

    at: seconds, by `time.perf_counter`.
    connection: its number, from 1.
    request: the number on this connection of the request that it has to do with, or is about to begin, from 1; 0 before any byte.
    lane, what: see the package.
    source: where in the code that was.
    facts: plain data, cut and redacted, as JSON has it: who keeps an event keeps nothing else alive.
    """

    at: float
    connection: int
    request: int
    lane: str
    what: str
    source: Source | None
    facts: Facts


Tap = Callable[[Event], object]
"""Gets every event, in order, in the event loop's thread. It neither raises nor blocks."""


class Teller:
    """The voice of one request, or of one connection, whose `request` is then the newest.

    redaction: for whoever has something to tell that must be cut first.
    beyond: how the files begin of those who only pass on what others do, as the functions here.
    """

    __slots__ = ("beyond", "connection", "redaction", "request", "tap")

    def __init__(self, tap: Tap, redaction: Redaction, connection: int, request: int = 0, beyond: tuple[str, ...] = (HERE,)) -> None:
        self.tap = tap
        self.redaction = redaction
        self.connection = connection
        self.request = request
        self.beyond = beyond

    def __call__(self, lane: str, what: str, facts: Facts) -> None:
        """Tell it; its source is whoever called the first of the functions here, or of those that only pass it on."""
        frame = sys._getframe(1)
        while frame.f_code.co_filename.startswith(self.beyond):
            frame = frame.f_back  # type: ignore[assignment]  # somebody has called us
        self.tap(Event(perf_counter(), self.connection, self.request, lane, what, (frame.f_code, frame.f_lasti), facts))

    def tell(self, lane: str, what: str, source: Source | None, facts: Facts) -> None:
        """Tell of what happened elsewhere. The facts are plain already."""
        self.tap(Event(perf_counter(), self.connection, self.request, lane, what, source, facts))

    def of(self, request: int) -> "Teller":
        """The voice of this request, whichever is the newest."""
        return Teller(self.tap, self.redaction, self.connection, request, self.beyond)


class Voice(dict[str, Any]):
    """`Teller.tell` as an extension's only entry, in a mapping without items: as `extensions.Functions`, so that scopes can be echoed."""

    __slots__ = ("tell",)

    def __init__(self, tell: Callable[[str, str, Source | None, Facts], object]) -> None:
        super().__init__()
        self.tell = tell

    def __missing__(self, name: str) -> Any:
        if name == "tell":
            return self.tell
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name == "tell"

    def __bool__(self) -> bool:
        return True

    def get(self, name: str, default: Any = None) -> Any:
        return self.tell if name == "tell" else default
