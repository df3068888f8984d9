"""What is told to a tap where no server has one: the same events as `microasgi_server.taps` has, which this package doesn't know.

A test holds the two against each other.
"""

import re
from collections.abc import Callable, Iterable
from time import perf_counter
from types import CodeType
from typing import Any, NamedTuple

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send

HIDDEN = "***"
SECRETS = ("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key")
SHOWN = 256
LONGEST = 4096
DEPTH = 4

_QUERY = re.compile(r"\?\S+")
_ATOMS = frozenset([bool, int, float, type(None)])
_LISTS = (tuple, list)

Texts = tuple[tuple[str, str], ...]

Source = tuple[CodeType, int]


class Event(NamedTuple):
    """One thing that happened, as `microasgi_server.taps.Event`: plain data, but for the code that its source is in."""

    at: float
    connection: int
    request: int
    lane: str
    what: str
    source: Source | None
    facts: dict[str, Any]


Tap = Callable[[Event], object]
"""Gets every event, in order, in the event loop's thread. It neither raises nor blocks."""

Tell = Callable[[str, str, Source | None, dict[str, Any]], object]
"""Lane, what, where in the code, and plain facts."""


def voice(tap: Tap, number: int) -> Tell:
    """What tells of one request.

    :param number: of its connection, as far as that is known here: each request has its own
    """
    return lambda lane, what, source, facts: tap(Event(perf_counter(), number, 1, lane, what, source, facts))


async def told(app: ASGIApp, scope: Scope, receive: Receive, send: Send, tell: Tell, redaction: "Redaction") -> None:
    """Call the app, and tell what is said between it and the server."""

    async def told_receive() -> Message:
        tell("asgi", "receive?", None, {})
        message = await receive()
        tell("asgi", "receive", None, {"message": redaction.message(message)})
        return message

    async def told_send(message: Message) -> None:
        tell("asgi", "send", None, {"message": redaction.message(message)})
        try:
            await send(message)
        except BaseException as error:
            tell("asgi", "send raised", None, {"error": error_text(error)})
            raise

    tell("asgi", "call", None, {"scope": redaction.message(scope)})
    try:
        await app(scope, told_receive, told_send)
    except BaseException as error:
        tell("asgi", "end", None, {"error": error_text(error)})
        raise
    tell("asgi", "end", None, {})


class Redaction:
    """What is left out of messages and scopes, as `microasgi_server.taps.Redaction`.

    :param hide: names of fields whose values are hidden, beside `SECRETS`
    :param hide_query: whether queries are, too
    :param bodies: whether anything is shown of bodies, beside their sizes
    """

    def __init__(self, hide: Iterable[str] = (), *, hide_query: bool = False, bodies: bool = True) -> None:
        self._hidden = frozenset([*SECRETS, *(name.strip().lower() for name in hide)])
        self._hide_query = hide_query
        self._bodies = bodies
        self._parts: dict[object, Callable[[Any], Any]] = {
            "headers": self._headers,
            "extensions": _names,
            "state": _names,
            "body": self._content,
            "bytes": self._content,
            "text": self._content,
            "query_string": self._query,
        }

    def _fields(self, fields: Iterable[Any]) -> Texts:
        """A head's fields, as far as they are what they should be."""
        return tuple([self._field(*map(_text, field)) for field in fields if type(field) in _LISTS and len(field) == 2])

    def _field(self, name: str, value: str) -> tuple[str, str]:
        if name.strip().lower() in self._hidden:
            return name, HIDDEN
        return name, _QUERY.sub("?" + HIDDEN, value) if self._hide_query else value

    def _content(self, content: Any) -> Any:
        """A body, or a WebSocket's message."""
        if isinstance(content, str):
            return {"text": content[:SHOWN] if self._bodies else "", "size": len(content)}
        if not isinstance(content, bytes | bytearray | memoryview):
            return plain(content)
        with memoryview(content) as view:
            return {"bytes": view.cast("B")[:SHOWN].hex() if self._bodies and view.contiguous else "", "size": view.nbytes}

    def message(self, message: object) -> Any:
        """A message, or a scope. Of its state, which is the app's own, and of its extensions there are the names."""
        if not isinstance(message, dict):  # an app's mistake
            return plain(message)
        parts, told = self._parts, {}
        for key, value in message.items():
            part = parts.get(key) if type(key) is str else None
            told[str(key)] = plain(value) if part is None else part(value)
        return told

    def _headers(self, value: Any) -> Any:
        return self._fields(value) if isinstance(value, list | tuple) else plain(value)

    def _query(self, value: Any) -> Any:
        return HIDDEN if self._hide_query and value else plain(value)


def _names(value: Any) -> Any:
    return tuple(map(str, value)) if isinstance(value, dict) else plain(value)


def _text(value: Any) -> str:
    kind = type(value)
    if kind is bytes or kind is bytearray:
        return str(value[:LONGEST], "latin-1")
    return value[:LONGEST] if isinstance(value, str) else kind.__name__


def plain(value: Any, depth: int = DEPTH) -> Any:
    """A copy as JSON has it, cut; of what isn't data, the name of its type. Tuples, which cost the collector less than lists."""
    kind = type(value)
    if kind is str or kind is bytes:
        return _text(value)
    if kind in _ATOMS or isinstance(value, int | float):
        return value
    if depth and isinstance(value, dict):
        return {str(key): plain(inner, depth - 1) for key, inner in value.items()}
    if depth and isinstance(value, list | tuple):
        return tuple([plain(inner, depth - 1) for inner in value])
    return _text(value)


def error_text(error: BaseException) -> str:
    """An exception, by its type and what it says."""
    try:
        text = str(error)[:SHOWN]
    except Exception:  # one that can't even say what it is
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
