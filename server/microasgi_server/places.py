"""Where a server may listen, as texts say it: `--bind`, `--uds-permissions`."""

import re
from typing import NamedTuple

_UNIX = "unix:"
_TCP = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^\[\]:]*)):(?P<port>\d{1,5})", re.ASCII)


class Place(NamedTuple):
    """An address to bind.

    host, port: of TCP; an empty host is every address.
    path: of a unix socket, instead of both.
    """

    host: str = ""
    port: int = 0
    path: str = ""


def place(text: str) -> Place:
    """What `HOST:PORT`, `[IPv6]:PORT` or `unix:PATH` stands for.

    :raises ValueError: it is none of them
    """
    if text.startswith(_UNIX) and len(text) > len(_UNIX):
        return Place(path=text.removeprefix(_UNIX))
    found = _TCP.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise ValueError(f"{text!r} is no address to listen on")
    return Place(found["six"] or found["host"], int(found["port"]))


def is_place(text: object) -> bool:
    """Whether it is one."""
    try:
        return isinstance(text, str) and place(text) is not None
    except ValueError:
        return False


def is_permissions(value: object) -> bool:
    """Whether it is a file's permissions as chmod takes them: three octal digits."""
    return isinstance(value, str) and re.fullmatch("[0-7]{3}", value, re.ASCII) is not None
