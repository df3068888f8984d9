"""Header fields: what they may contain, and what lists of options say (RFC 9110 §5)."""

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeVar

import h11

K = TypeVar("K")
V = TypeVar("V")

Fields = list[tuple[bytes, bytes]]

Field = tuple[bytes, bytes, bytes]
"""A validated field of a response: its name in lower case, its value, and the line that it makes on the wire."""

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
VALUE = rb"[\t -~\x80-\xff]*+"

REMEMBERED = 100
"""Bytes of a value up to which what its check found is remembered. Longer ones are seldom repeated, and some (cookies) should not be
kept."""


def options(fields: Iterable[tuple[bytes, ...]], name: bytes = b"connection") -> set[bytes]:
    """What the fields of this name list, in lower case (RFC 9110 §5.6.1)."""
    return listed(b",".join([field[1] for field in fields if field[0] == name]).lower())


def listed(value: bytes) -> set[bytes]:
    """The members of a list (RFC 9110 §5.6.1)."""
    return {member for part in value.split(b",") if (member := part.strip())}


@lru_cache(maxsize=1024)
def _cached_field(name: bytes, value: bytes) -> Field:
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        raise ValueError(f"header names and values are bytes, not {name!r}: {value!r}")
    try:
        block = h11.Response(status_code=200, headers=[(name, value)]).headers
    except h11.LocalProtocolError as error:
        raise ValueError(str(error)) from error
    lower, kept = block[0]
    return lower, kept, b"%b: %b\r\n" % (block.raw_items()[0][0], kept)


def validated_field(name: bytes, value: bytes) -> Field:
    """Check one header field of a response, remembering the answer: most responses carry the same few fields again and again.

    :raises ValueError: the name or the value has a byte that RFC 9110 §5 doesn't allow
    """
    if len(value) > REMEMBERED:
        return _cached_field.__wrapped__(name, value)
    return _cached_field(name, value)


SECRET = frozenset([b"authorization", b"cookie", b"proxy-authorization", b"x-api-key"])
"""Fields of requests whose values aren't kept, however short they are."""


class Kept(dict[K, V]):
    """What was worked out before, by what it was made of: some of it, for it comes again and again."""

    MOST = 1024

    def keep(self, key: K, value: V) -> None:
        """Add one; where there are too many, all others go."""
        if len(self) >= self.MOST:  # more, if other threads have servers of their own
            self.clear()
        self[key] = value


_lines: Kept[bytes, tuple[bytes, bytes]] = Kept()

known_line = _lines.get
"""The field of a line of a request that has come before. Clients send the same few lines again and again."""


def read_line(line: bytes) -> tuple[bytes, bytes]:
    """The name, in lower case, and the value of a well-formed line of a request, which is kept for the next one like it."""
    name, _, value = line.partition(b":")
    field = name.lower(), value.strip()  # a space or a tab: nothing else that `strip` takes got through
    if len(line) <= REMEMBERED and field[0] not in SECRET:
        _lines.keep(line, field)
    return field
