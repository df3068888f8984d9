"""The rules of HTTP on the server's side: the scope of a request, and its body. A WebSocket's scope is much the same."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from microasgi.lint.rule import Level, Moment, Side, Spec, rule, shown
from microasgi.lint.shapes import (
    BYTES,
    DICT,
    ITERABLE,
    MESSAGES,
    NAMED,
    TEXT,
    TEXTS,
    Key,
    capitals,
    faults,
    field_faults,
    or_none,
    pseudo_fields,
)
from microasgi.lint.talks import Heard, Said, Talk

SCOPE = "HTTP Connection Scope"

COMMON = (
    Key("scheme", NAMED),
    Key("path", TEXT, needed=True),
    Key("raw_path", or_none(BYTES)),
    Key("root_path", TEXT),
    Key("headers", ITERABLE, needed=True),
    Key("state", DICT),
)
"""What both scopes have, …"""

SCOPES = {
    "http": (Key("http_version", TEXT, needed=True), Key("method", TEXT, needed=True), Key("query_string", BYTES, needed=True), *COMMON),
    "websocket": (Key("http_version", TEXT), Key("query_string", or_none(BYTES)), Key("subprotocols", TEXTS), *COMMON),
}
"""… and what is each one's own."""


@rule("H-1", Spec.WWW, SCOPE, Level.ERROR, Side.SERVER, Moment.CALLED, *SCOPES)
def scope_has_its_keys(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """The scope has the entries that it needs, and what it has is of the right types. What has a default may be missing."""
    yield from faults(SCOPES[scope["type"]], scope)


@rule("H-2", Spec.WWW, SCOPE, Level.NOTE, Side.SERVER, Moment.CALLED, "http")
def method_is_in_capitals(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """The method is in capital letters. (To HTTP `get` is another method than `GET`, RFC 9110 §9.1: who passes it on keeps to that.)"""
    method = scope.get("method")
    if isinstance(method, str) and method != method.upper():
        yield f"method is {shown(method)}"


@rule("H-3", Spec.WWW, SCOPE, Level.WARN, Side.SERVER, Moment.CALLED, "http", "websocket")
def version_is_one_of_three(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """HTTP's version is "1.0", "1.1" or "2". (A server of HTTP/3 has no other way than to say "3".)"""
    if scope.get("http_version", "1.1") not in ("1.0", "1.1", "2", "3"):
        yield f"http_version is {shown(scope['http_version'])}"


@rule("H-4", Spec.WWW, SCOPE, Level.WARN, Side.SERVER, Moment.CALLED, "http", "websocket")
def path_is_the_raw_path_decoded(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """`path` is `raw_path`, if that is there, with percent-encoding and UTF-8 decoded; either may have the `root_path` in front."""
    path, raw, root = (scope.get(name) for name in ("path", "raw_path", "root_path"))
    if not isinstance(path, str) or not isinstance(raw, bytes):
        return
    try:
        decoded = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return  # nobody says what becomes of these bytes
    prefix = root.rstrip("/") if isinstance(root, str) else ""
    if path not in (decoded, prefix + decoded, decoded.removeprefix(prefix)):
        yield f"path is {shown(path)}, but raw_path is {shown(raw)}"


@rule("H-5", Spec.WWW, SCOPE, Level.ERROR, Side.SERVER, Moment.CALLED, "http", "websocket")
def raw_path_has_no_query(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """`raw_path` ends before the query string."""
    raw = scope.get("raw_path")
    if isinstance(raw, bytes) and b"?" in raw:
        yield f"raw_path is {shown(raw)}"


@rule("H-6", Spec.WWW, SCOPE, Level.ERROR, Side.SERVER, Moment.CALLED, "http", "websocket")
def headers_are_pairs_of_bytes(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """Each header field is a pair of bytes: a name and a value."""
    yield from field_faults(scope)


@rule("H-7", Spec.WWW, SCOPE, Level.NOTE, Side.SERVER, Moment.CALLED, "http", "websocket")
def names_are_in_small_letters(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """The names of header fields are in small letters, by preference: most apps look for these."""
    yield from capitals(scope)


@rule("H-8", Spec.WWW, SCOPE, Level.ERROR, Side.SERVER, Moment.CALLED, "http", "websocket")
def no_pseudo_headers(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """Pseudo headers of HTTP/2 and HTTP/3, whose names begin with a colon, aren't passed on."""
    yield from pseudo_fields(scope)


@rule("H-9", Spec.WWW, SCOPE, Level.ERROR, Side.SERVER, Moment.CALLED, "http", "websocket")
def client_is_host_and_port(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """`client` is missing, None, or a host (str) and a port (int)."""
    if not _is_address(scope.get("client"), int):
        yield f"client is {shown(scope['client'])}"


@rule("H-10", Spec.WWW, SCOPE, Level.ERROR, Side.SERVER, Moment.CALLED, "http", "websocket")
def server_is_host_and_port(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """`server` is missing, None, or a host (str) and a port (int); or a socket's path and None."""
    if not _is_address(scope.get("server"), int | None):
        yield f"server is {shown(scope['server'])}"


def _is_address(value: Any, port: Any) -> bool:
    if value is None:
        return True
    try:
        host, number = value
    except (TypeError, ValueError):
        return False
    return isinstance(host, str) and not isinstance(value, str | bytes) and isinstance(number, port) and not isinstance(number, bool)


@rule("H-11", Spec.WWW, "Request", Level.ERROR, Side.SERVER, Moment.RECEIVED, "http.request")
def request_has_its_keys(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """`body` is bytes, `more_body` a bool; each may be missing."""
    yield from faults(MESSAGES["http.request"], message)


@rule("H-12", Spec.WWW, "Request", Level.ERROR, Side.SERVER, Moment.RECEIVED, "http.request")
def nothing_behind_the_body(talk: Talk, _: object) -> Iterator[str]:
    """Nothing of a body comes behind the message that has said that there is no more of it."""
    if talk.heard is Heard.WHOLE:
        yield "'http.request', behind one without more_body"


@rule("H-13", Spec.WWW, "Disconnect", Level.ERROR, Side.SERVER, Moment.RECEIVED, "http.request")
def nothing_behind_a_disconnect(talk: Talk, _: object) -> Iterator[str]:
    """Who asks again after `http.disconnect` gets another one, and nothing else."""
    if talk.heard is Heard.GONE:
        yield "'http.request', behind 'http.disconnect'"


@rule("H-14", Spec.WWW, "Disconnect", Level.WARN, Side.SERVER, Moment.RECEIVED, "http.request")
def nothing_behind_the_response(talk: Talk, _: object) -> Iterator[str]:
    """Who calls `receive()` behind the whole response gets `http.disconnect`, also if there was more of a body."""
    if talk.asked is Said.DONE and talk.heard not in (Heard.WHOLE, Heard.GONE):
        yield "'http.request', to who has asked behind the end of the response"
