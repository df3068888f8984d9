"""What was told: events of every lane in one order, as plain data.

The server tells an `Event`; shown, to whoever doesn't run in its process, one is a `Shown`:

    {"at": 1003.875, "connection": 1, "request": 1, "lane": "wire", "what": "FIN", "source": "asyncio.py:108", "facts": {}}

where `at` is in milliseconds from the first. This is a line of the JSON export, too.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import CodeType
from typing import Any, Protocol

from microasgi.inspector.secrets import redacted

Shown = dict[str, Any]

VERSION = 1
"""Of the shape of a `Shown`."""


class Lane(Enum):
    """Who does it, from the client to the handler."""

    CLIENT = "client"
    WIRE = "wire"
    CORE = "core"
    ASGI = "asgi"
    HANDLER = "handler"


LANES = tuple(lane.value for lane in Lane)


class Event(Protocol):
    """One thing that happened.

    at: by `time.perf_counter()`, in seconds; its clock is the same in every process of a machine.
    connection: its number, from 1.
    request: of this connection, from 1; 0: none yet.
    lane: a `Lane`'s value.
    what: the kind of thing.
    source: the code that did it, and which of its instructions.
    facts: plain, cut and redacted.
    """

    @property
    def at(self) -> float: ...
    @property
    def connection(self) -> int: ...
    @property
    def request(self) -> int: ...
    @property
    def lane(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def source(self) -> tuple[CodeType, int] | None: ...
    @property
    def facts(self) -> dict[str, Any]: ...


Cut = Callable[[bytes], dict[str, Any]]
"""Makes what is told of bytes: see `cut`."""

Tell = Callable[..., object]
"""`tell(what, **facts)`: something in the client's lane."""


def shown(event: Event, began: float = 0.0) -> Shown:
    """The event as plain data.

    :param began: what `at` is counted from, in seconds
    """
    return {
        "at": round((event.at - began) * 1000, 3),
        "connection": event.connection,
        "request": event.request,
        "lane": event.lane,
        "what": event.what,
        "source": None if event.source is None else where(*event.source),
        "facts": event.facts,
    }


def where(code: CodeType, instruction: int) -> str:
    """`path/file.py:123`, from the working directory if it lies there."""
    line = next((line for start, end, line in code.co_lines() if start <= instruction < end and line), code.co_firstlineno)
    path = Path(code.co_filename)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line}"


def in_order(events: Iterable[Shown]) -> list[Shown]:
    """By time, counted from the first."""
    ordered = sorted(events, key=lambda event: event["at"])
    began = ordered[0]["at"] if ordered else 0.0
    return [{**event, "at": round(event["at"] - began, 3)} for event in ordered]


class Ends:
    """The first events of many, and the newest: what one reads of a response that never ends. Any thread may add, and look.

    left_out: how many between them there is no room for.

    :param most: how many are kept, half of them the first
    """

    def __init__(self, most: int = 4_000) -> None:
        self.first: list[Shown] = []
        self.newest: deque[Shown] = deque(maxlen=most // 2)
        self.left_out = 0

    def __iter__(self) -> Iterator[Shown]:
        return iter([*self.first, *self.newest.copy()])

    def __len__(self) -> int:
        return len(self.first) + len(self.newest)

    def append(self, event: Shown) -> None:
        """One more."""
        if len(self.first) < (self.newest.maxlen or 0):
            self.first.append(event)
        else:
            self.left_out += len(self.newest) == self.newest.maxlen
            self.newest.append(event)


class Recording:
    """Keeps what a client tells of itself: its lane."""

    def __init__(self, connection: int = 1) -> None:
        self.events = Ends()
        self._connection = connection

    def __call__(self, what: str, **facts: Any) -> None:
        at = round(time.perf_counter() * 1000, 3)
        event = {"at": at, "connection": self._connection, "request": 0, "lane": "client", "what": what, "source": None, "facts": facts}
        self.events.append(event)


def cut(data: bytes) -> dict[str, Any]:
    """Bytes as facts have them: not more than the first 256, and no secrets."""
    return {"bytes": redacted(data)[:256].hex(), "size": len(data)}
