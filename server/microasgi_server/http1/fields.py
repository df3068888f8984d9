"""Header fields: what they may contain, and what lists of options say (RFC 9110 §5)."""

from collections.abc import Iterable
from functools import lru_cache

import h11

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
