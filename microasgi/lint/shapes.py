"""What scopes and messages have in them: a table, and what looks through it."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from microasgi.lint.rule import shown


@dataclass(frozen=True)
class Kind:
    """What a value may be.

    words: as in "status is '200', not an int".
    """

    words: str
    admits: Callable[[Any], bool]


@dataclass(frozen=True)
class Key:
    """One entry of a scope or a message.

    needed: whether the spec has no default for it.
    """

    name: str
    kind: Kind
    needed: bool = False


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_iterable(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


TEXT = Kind("a str", _is(str))
BYTES = Kind("bytes", _is(bytes))
WHOLE = Kind("an int", _is(int))
SWITCH = Kind("a bool", _is(bool))
DICT = Kind("a dict", _is(dict))
ITERABLE = Kind("an iterable of pairs", _is_iterable)
TEXTS = Kind("an iterable of str", lambda value: _is_iterable(value) and all(isinstance(each, str) for each in value))
NAMED = Kind("a str that isn't empty", lambda value: isinstance(value, str) and value != "")


def or_none(kind: Kind) -> Kind:
    return Kind(f"{kind.words} or None", lambda value: value is None or kind.admits(value))


MESSAGES: dict[str, tuple[Key, ...]] = {
    "http.request": (Key("body", BYTES), Key("more_body", SWITCH)),
    "http.disconnect": (),
    "http.response.start": (Key("status", WHOLE, needed=True), Key("headers", ITERABLE), Key("trailers", SWITCH)),
    "http.response.body": (Key("body", BYTES), Key("more_body", SWITCH)),
    "http.response.trailers": (Key("headers", ITERABLE), Key("more_trailers", SWITCH)),
    "http.response.early_hint": (Key("links", ITERABLE),),
    "http.response.pathsend": (Key("path", TEXT, needed=True),),
    "http.response.zerocopysend": (Key("offset", or_none(WHOLE)), Key("count", or_none(WHOLE)), Key("more_body", SWITCH)),
    "http.response.push": (Key("path", TEXT, needed=True), Key("headers", ITERABLE)),
    "http.response.debug": (Key("info", DICT, needed=True),),
    "websocket.connect": (),
    "websocket.accept": (Key("subprotocol", or_none(TEXT)), Key("headers", ITERABLE)),
    "websocket.receive": (Key("bytes", or_none(BYTES)), Key("text", or_none(TEXT))),
    "websocket.send": (Key("bytes", or_none(BYTES)), Key("text", or_none(TEXT))),
    "websocket.disconnect": (Key("code", WHOLE, needed=True), Key("reason", or_none(TEXT))),
    "websocket.close": (Key("code", WHOLE), Key("reason", or_none(TEXT))),
    "websocket.http.response.start": (Key("status", WHOLE, needed=True), Key("headers", ITERABLE)),
    "websocket.http.response.body": (Key("body", BYTES), Key("more_body", SWITCH)),
    "lifespan.startup": (),
    "lifespan.startup.complete": (),
    "lifespan.startup.failed": (Key("message", TEXT),),
    "lifespan.shutdown": (),
    "lifespan.shutdown.complete": (),
    "lifespan.shutdown.failed": (Key("message", TEXT),),
}
"""What each message has beside its type. More is allowed (ASGI, Error Handling)."""

RECEIVED = (
    *("http.request", "http.disconnect", "websocket.connect", "websocket.receive", "websocket.disconnect"),
    *("lifespan.startup", "lifespan.shutdown"),
)
"""Those that a server sends; the others are an app's."""

EXTENSIONS = {
    "http.response.trailers": "http.response.trailers",
    "http.response.early_hint": "http.response.early_hint",
    "http.response.pathsend": "http.response.pathsend",
    "http.response.zerocopysend": "http.response.zerocopysend",
    "http.response.push": "http.response.push",
    "http.response.debug": "http.response.debug",
    "websocket.http.response.start": "websocket.http.response",
    "websocket.http.response.body": "websocket.http.response",
}
"""The messages that an extension brings, with its name."""


def faults(keys: Iterable[Key], given: Mapping[str, Any]) -> Iterator[str]:
    """What is missing, and what is something else than it should be."""
    for key in keys:
        if key.name not in given:
            if key.needed:
                yield f"{key.name} is missing"
        elif not key.kind.admits(given[key.name]):
            yield f"{key.name} is {shown(given[key.name])}, not {key.kind.words}"


def fields(given: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The header fields that are pairs. An iterable that can be walked only once is left alone."""
    for pair in _walked(given.get("headers")):
        if len(pair) == 2:
            yield pair[0], pair[1]


def field_names(given: Mapping[str, Any]) -> list[bytes]:
    """Those that are bytes."""
    return [name for name, _ in fields(given) if isinstance(name, bytes)]


def capitals(given: Mapping[str, Any]) -> Iterator[str]:
    """Names of header fields that aren't in small letters."""
    names = sorted({name for name in field_names(given) if name != name.lower()})
    if names:
        yield f"headers has {shown(names)}"


def pseudo_fields(given: Mapping[str, Any]) -> Iterator[str]:
    """Those of HTTP/2 and HTTP/3, whose names begin with a colon."""
    yield from (f"headers has {shown(name)}" for name in field_names(given) if name[:1] == b":")


def field_faults(given: Mapping[str, Any]) -> Iterator[str]:
    """Header fields that aren't pairs of bytes."""
    for pair in _walked(given.get("headers")):
        if len(pair) != 2 or not all(isinstance(part, bytes) for part in pair):
            kinds = ", ".join(type(part).__name__ for part in pair)  # and not what they are: there are secrets among them
            yield f"headers has ({kinds}), not a pair of bytes" + (f", called {shown(pair[0])}" if pair else "")


def _walked(value: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, Iterable) and not isinstance(value, str | bytes) and iter(value) is not value:
        for each in value:
            yield tuple(each) if isinstance(each, Iterable) and not isinstance(each, str | bytes) else (each,)


def foreign(value: Any, path: str = "") -> Iterator[str]:
    """Where there is something in a message that couldn't be sent over a network (ASGI, Events)."""
    match value:
        case None | bool() | bytes() | str():
            return
        case int():
            if not -(2**63) <= value < 2**63:
                yield f"{path} is {shown(value)}, which 64 bits don't hold"
        case float():
            if not math.isfinite(value):
                yield f"{path} is {value}"
        case dict():
            for key, each in value.items():
                if isinstance(key, str):
                    yield from foreign(each, f"{path}.{key}" if path else key)
                else:
                    yield f"{path or 'it'} has the key {shown(key)}, not a str"
        case list() | tuple():
            for number, each in enumerate(value):
                yield from foreign(each, f"{path}[{number}]")
        case _:
            yield f"{path} is {shown(value)}"
