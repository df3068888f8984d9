"""What happens in the calls of a test, for whom it fails: pytest's plugin shows it as a ladder.

Nothing is kept where nobody would show it. Where it is, an event is a tuple, and becomes words in a failure only.
"""

import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

from microasgi.inspector.told import Shown, in_order, where
from microasgi.watching.places import innermost, suspended_in

CALLS, EVENTS = 8, 2000
"""Of so many calls of a test the last are kept, and of each so many events, the last, too."""


class Record:
    """What happens in one call.

    title: what the client asks for.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._told: deque[tuple[float, str, str, Any, dict[str, Any]]] = deque(maxlen=EVENTS)

    def tell(self, lane: str, what: str, **facts: Any) -> None:
        """Something happens now."""
        self._told.append((time.perf_counter() * 1000, lane, what, None, facts))

    def waits(self, call: Coroutine[Any, Any, Any]) -> None:
        """The running task is about to wait there."""
        places = suspended_in(call)
        own = innermost(places)
        facts = {"at": own.at, "line": own.line, "inner": places[-1].at}
        self._told.append((time.perf_counter() * 1000, "handler", "wait", own.source, facts))

    def events(self) -> list[Shown]:
        """As the inspector knows them."""
        names = ("at", "lane", "what", "source", "facts")
        every = (dict(zip(names, told, strict=True)) for told in self._told)
        return in_order({**event, "connection": 1, "request": 1, "source": event["source"] and where(*event["source"])} for event in every)


class Silent(Record):
    """Keeps nothing."""

    def tell(self, lane: str, what: str, **facts: Any) -> None:
        pass

    def waits(self, call: Coroutine[Any, Any, Any]) -> None:
        pass


class Records:
    """The records of the running test.

    kept: the last ones; None, as long as nobody would show them.
    count: how many there were.
    """

    def __init__(self) -> None:
        self.kept: deque[Record] | None = None
        self.count = 0

    def begin(self) -> None:
        """A test begins."""
        self.kept, self.count = deque(maxlen=CALLS), 0

    def record(self, title: str) -> Record:
        """That of one more call."""
        if self.kept is None:
            return _SILENT
        self.count += 1
        record = Record(title)
        self.kept.append(record)
        return record


_SILENT = Silent("")

records = Records()


def name_of(callback: object) -> str:
    """What a callback is called."""
    return str(getattr(callback, "__qualname__", type(callback).__qualname__))


def message_facts(message: Any) -> dict[str, Any]:
    """An ASGI message, as far as a ladder shows it."""
    body = message.get("body")
    content = {"body": {"bytes": "", "size": len(body)}} if isinstance(body, bytes | bytearray | memoryview) else {}
    return {"message": {"type": message["type"], "status": message.get("status"), "more_body": message.get("more_body", False), **content}}
