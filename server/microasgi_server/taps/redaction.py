"""What is told of what was said: cut to its beginning, and without secrets. What is left out is left out when it is told.

    bodies   {"bytes": "474554…", "size": 70}     of at most the first 256 bytes, in hexadecimal; the size is that of all
    texts    {"text": "hello", "size": 5}         of at most the first 256 characters: a WebSocket's
    fields   (("host", "test"), ("cookie", "***"))

Bytes on the wire are `streams.py`'s.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

HIDDEN = "***"

SECRETS = ("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key")
"""Fields whose values are nobody's business."""

SHOWN = 256
"""Bytes, or characters, that are shown of bodies."""

LONGEST = 4096
"""Characters that are shown of anything else."""

DEPTH = 4
"""Of mappings and lists within each other."""

_QUERY = re.compile(r"\?\S+")
_ATOMS = frozenset([bool, int, float, type(None)])
_LISTS = (tuple, list)

Texts = tuple[tuple[str, str], ...]


class Redaction:
    """What is left out.

    :param hide: names of fields whose values are hidden, beside `SECRETS`
    :param hide_query: whether queries are, too: all that stands behind a question mark, in any field
    :param bodies: whether anything is shown of bodies, beside their sizes
    """

    def __init__(self, hide: Iterable[str] = (), *, hide_query: bool = False, bodies: bool = True) -> None:
        self.hidden = frozenset([*SECRETS, *(name.strip().lower() for name in hide)])
        self.hide_query = hide_query
        self.bodies = bodies
        self._parts: dict[object, Callable[[Any], Any]] = {
            "headers": self._headers,
            "extensions": _names,
            "state": _names,
            "body": self.content,
            "bytes": self.content,
            "text": self.content,
            "query_string": self._query,
        }

    def line(self, text: str) -> str:
        """A request line, or whatever else may have a URL in it."""
        return _QUERY.sub("?" + HIDDEN, text) if self.hide_query else text

    def fields(self, fields: Iterable[Any]) -> Texts:
        """A head's fields, as far as they are what they should be."""
        return tuple([self._field(*map(_text, field)) for field in fields if type(field) in _LISTS and len(field) == 2])

    def _field(self, name: str, value: str) -> tuple[str, str]:
        return name, HIDDEN if name.strip().lower() in self.hidden else self.line(value)

    def content(self, content: Any) -> Any:
        """A body, or a WebSocket's message."""
        if isinstance(content, str):
            return {"text": content[:SHOWN] if self.bodies else "", "size": len(content)}
        if not isinstance(content, bytes | bytearray | memoryview):
            return plain(content)
        with memoryview(content) as view:
            return {"bytes": view.cast("B")[:SHOWN].hex() if self.bodies and view.contiguous else "", "size": view.nbytes}

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
        return self.fields(value) if isinstance(value, list | tuple) else plain(value)

    def _query(self, value: Any) -> Any:
        return HIDDEN if self.hide_query and value else plain(value)


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
