"""What an option's value may be: which values there are, how a text is read as one, and what is said of one that isn't."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from microasgi_server.access_fields import FIELDS, is_format
from microasgi_server.http1.fields import TOKEN, VALUE
from microasgi_server.places import is_permissions, is_place
from microasgi_server.proxies.forwarded import FORWARDED, X_FORWARDED
from microasgi_server.proxies.headers import is_fields
from microasgi_server.proxies.hosts import is_host
from microasgi_server.proxies.trust import is_trustable

NOT_THE_OPERATORS = (b"connection", b"content-length", b"transfer-encoding")
"""Fields that say where a response ends, which differs from one to the next."""


@dataclass(frozen=True)
class Kind:
    """The values that an option may have.

    wanted: what they are, as the sentence "port is …" ends.
    admits: whether a value is one of them.
    read: makes one of a text, or raises ValueError.
    shown: what stands for the value in a command's help.
    several: whether a value is any number of texts, so that a command line may have its option more than once.
    """

    wanted: str
    admits: Callable[[Any], bool]
    read: Callable[[str], Any]
    shown: str
    several: bool = False


def _whole(text: str) -> int:
    """An integer as a person writes it: not "1_000", not " 1", which Python would take, too."""
    if not (text.isascii() and text.removeprefix("-").isdecimal()):
        raise ValueError(text)
    return int(text)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0  # nan isn't


def _is_prefix(value: Any) -> bool:
    return value == "" or (isinstance(value, str) and value.startswith("/") and not value.endswith("/"))


def _is_some(value: Any) -> bool:
    return _is_whole(value) and value >= 1


_SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _switch(text: str) -> bool:
    try:
        return _SWITCHES[text.lower()]
    except KeyError:
        raise ValueError(text) from None


USUAL_WINDOW = 12
"""Bits: more hardly compress better, and cost a connection more than all else of it."""


def _window(text: str) -> int:
    """A window's bits; `on` and `off` are words for two of them."""
    word = text.lower()
    return (USUAL_WINDOW if _SWITCHES[word] else 0) if word in _SWITCHES else _whole(text)


def _is_header(value: Any) -> bool:
    if not isinstance(value, str) or not value.isprintable() or max(value, default="") > "\xff":
        return False
    name, colon, rest = value.encode("latin-1").partition(b":")
    return bool(colon and re.fullmatch(TOKEN, name) and re.fullmatch(VALUE, rest)) and name.lower() not in NOT_THE_OPERATORS


def _all(admits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda values: isinstance(values, list | tuple) and all(map(admits, values))


def _commas(text: str) -> tuple[str, ...]:
    """The members of a list as the environment has it, with commas, spaces, or both between them."""
    return tuple(text.replace(",", " ").split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


TEXT = Kind("a text", lambda value: isinstance(value, str), str, "TEXT")
SECRET = Kind("a text", lambda value: value is None or isinstance(value, str), str, "TEXT")
PATH = Kind("a path", lambda value: value is None or (isinstance(value, str) and value != ""), str, "PATH")
DIRECTORY = Kind("a directory", lambda value: isinstance(value, str) and value != "", str, "DIR")
FLAG = Kind("on or off", lambda value: isinstance(value, bool), _switch, "")
PORT = Kind("a number from 0 to 65535", lambda value: _is_whole(value) and 0 <= value <= 65535, _whole, "PORT")
OPTIONAL_PORT = Kind(PORT.wanted, lambda value: value is None or PORT.admits(value), _whole, "PORT")
COUNT = Kind("a whole number, 0 or more", lambda value: _is_whole(value) and value >= 0, _whole, "NUMBER")
SOME = Kind("a whole number, 1 or more", _is_some, _whole, "NUMBER")
LIMIT = Kind(SOME.wanted, lambda value: value is None or _is_some(value), _whole, "NUMBER")
BYTES = Kind("a whole number of bytes, 0 or more", COUNT.admits, _whole, "BYTES")
SIZE = Kind("a whole number of bytes, 1 or more", _is_some, _whole, "BYTES")
BYTES_OR_ANY = Kind(SIZE.wanted, LIMIT.admits, _whole, "BYTES")
SECONDS = Kind("a number of seconds, 0 or more", _is_time, float, "SECONDS")
INTERVAL = Kind("a number of seconds, more than 0, or inf for never", lambda value: _is_time(value) and value > 0, float, "SECONDS")
SECONDS_OR_ANY = Kind("a number of seconds, more than 0", lambda value: value is None or INTERVAL.admits(value), float, "SECONDS")
WINDOW = Kind("on, off, or 9 to 15, the bits of a window", lambda value: _is_whole(value) and value in (0, *range(9, 16)), _window, "BITS")
LINE = Kind(f"one line whose names in braces are of {', '.join(f'{{{name}}}' for name in FIELDS)}", is_format, str, "FORMAT")
HEADERS = Kind(
    "a list of NAME: VALUE (in the environment a line each), none of which frames a response",
    _all(_is_header),
    _lines,
    "NAME:VALUE",
    several=True,
)
PATHS = Kind(
    "a list of paths that start with a slash (in the environment with spaces between them)",
    _all(lambda path: isinstance(path, str) and path.startswith("/")),
    lambda text: tuple(text.split()),
    "PATH",
    several=True,
)
PLACES = Kind(
    "a list of HOST:PORT, [IPv6]:PORT and unix:PATH (in the environment with spaces between them)",
    _all(is_place),
    lambda text: tuple(text.split()),
    "ADDRESS",
    several=True,
)
PERMISSIONS = Kind("three octal digits, as 660", is_permissions, str, "MODE")
NUMBERS = Kind(
    "a list of whole numbers, 0 or more (in the environment with spaces between them)",
    _all(COUNT.admits),
    lambda text: tuple(map(_whole, text.split())),
    "NUMBER",
    several=True,
)
PEERS = Kind("a list of addresses, networks, unix and *, with commas between them", _all(is_trustable), _commas, "ADDRESSES", several=True)
PROXY_FIELDS = Kind(
    f"a list of {', '.join(X_FORWARDED)}, with commas between them, or {FORWARDED} alone",
    lambda names: _all(lambda name: isinstance(name, str))(names) and is_fields(names),
    _commas,
    "FIELDS",
    several=True,
)
HOSTS = Kind(
    "a list of names such as example.com and *.example.com, or addresses, without ports, with commas between them",
    _all(is_host),
    _commas,
    "HOSTS",
    several=True,
)
NAMES = Kind(
    "a list of names (in the environment a line each)",
    _all(lambda name: isinstance(name, str) and name != ""),
    _lines,
    "NAME",
    several=True,
)
PREFIX = Kind("a path that starts with a slash and ends without one, as /api does", _is_prefix, lambda text: text.rstrip("/"), "PREFIX")


def choice(*names: str) -> Kind:
    """One of these words."""
    return Kind(f"{', '.join(names[:-1])} or {names[-1]}", lambda value: value in names, str, f"{{{','.join(names)}}}")
