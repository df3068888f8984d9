"""Bytes on the wire, as they are told: the first 256 of each piece, with asterisks where a secret is, one for each of its bytes.

A secret may come in any number of pieces, and so may the name of its field. Nothing here parses HTTP, which could be wrong about where it
is: whatever looks like such a field, at the beginning of any line, is taken for one, in bodies, too. It rather hides too much.
"""

import re
from typing import Any

from microasgi_server.taps.redaction import SHOWN, Redaction

_MASK = bytes(byte if byte in b"\r\n" else ord("*") for byte in range(256))

_VALUE = re.compile(rb"(?:[^\n]|\n(?=[ \t]|\Z))*+")
"""Up to the end of its line, or of those that go on with it (RFC 9112 §5.2). Of the last line one can't know yet."""

_QUERY = re.compile(rb"\?(\S*)")
_WORD = re.compile(rb"\S*")
_HEAD = re.compile(rb"[\r\n]*[^\r\n].*?\n\r?\n", re.DOTALL)
_REST_OF_HEAD = re.compile(rb".*?\n\r?\n", re.DOTALL)
_INTERIM = re.compile(rb"HTTP/1\.1 1(?!01)")

_BLANK = 16
"""Blanks on each side of a name: more than anybody sends."""


class Stream:
    """One direction of a connection."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        names = b"|".join(re.escape(name.encode("latin-1", "replace")) for name in sorted(redaction.hidden))
        self._field = re.compile(rb"[\r\n][ \t]{0,%d}(?:%b)[ \t]{0,%d}:" % (_BLANK, names, _BLANK), re.IGNORECASE)
        self._kept = max(map(len, redaction.hidden)) + 2 * _BLANK + 2
        self._tail = b"\n"  # the end of what came: as much as may belong to a field's name
        self._hides = False  # whether that is in a secret
        self._in_query = False
        self._in_head = True
        self._head_so_far = b""  # its last two bytes

    def expect_head(self, expected: bool = True) -> None:
        """What comes next is a head, or isn't one. That counts only where nothing is shown of bodies."""
        self._in_head, self._head_so_far = expected, b""

    def piece(self, data: bytes) -> dict[str, Any]:
        """What is told of the next piece."""
        shown = bytearray(data[:SHOWN])
        visible = SHOWN if self._redaction.bodies else self._of_a_head(data)
        self._hide_fields(shown)
        if self._redaction.hide_query:
            self._hide_queries(shown)
        if len(data) > SHOWN:
            self._pass_over(data[SHOWN:])
        return {"bytes": shown[:visible].hex(), "size": len(data)}

    def _of_a_head(self, data: bytes) -> int:
        """How many of these bytes are a head's."""
        if not self._in_head:
            return 0
        before = self._head_so_far
        text = before + data
        head = (_REST_OF_HEAD if before else _HEAD).match(text)
        if head is None:
            self._head_so_far = text[-2:] if text.strip(b"\r\n") else b""
            return len(data)
        self.expect_head(_INTERIM.match(data) is not None)
        return head.end() - len(before)

    def _hide_fields(self, shown: bytearray) -> None:
        text, before = self._tail + shown, len(self._tail)
        position = 0
        while True:
            if self._hides:
                start, position = position, _VALUE.match(text, position).end()  # type: ignore[union-attr]  # it matches anything
                _hide(shown, max(start - before, 0), max(position - before, 0))
                if position == len(text):
                    break
            field = self._field.search(text, position)
            self._hides = field is not None
            if field is None:
                break
            position = field.end()
        self._tail = text[-self._kept :] if not self._hides else b"\n" if text.endswith(b"\n") else b""

    def _hide_queries(self, shown: bytearray) -> None:
        if self._in_query:
            end = _WORD.match(shown).end()  # type: ignore[union-attr]  # it matches anything
            _hide(shown, 0, end)
            self._in_query = end == len(shown)
        for start, end in [query.span(1) for query in _QUERY.finditer(shown)]:
            _hide(shown, start, end)
            self._in_query = end == len(shown)

    def _pass_over(self, rest: bytes) -> None:
        """Take note of how this ends, which isn't shown."""
        if self._redaction.hide_query:
            word = max(map(rest.rfind, (b" ", b"\t", b"\r", b"\n")))
            self._in_query = rest.rfind(b"?") > word or (self._in_query and word < 0)
        line = len(rest) - 1
        while (line := rest.rfind(b"\n", 0, line)) >= 0 and rest[line + 1] in b" \t":
            pass  # it goes on with the line before
        if line >= 0:
            self._hides, self._tail, rest = False, b"", rest[line:]
        self._hide_fields(bytearray(rest))


def _hide(shown: bytearray, start: int, end: int) -> None:
    shown[start:end] = shown[start:end].translate(_MASK)
