"""The scope as the client's own request would have made it, without the proxies between."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from microasgi_server.asgi import ASGIApp, Receive, Scope, Send
from microasgi_server.http1.targets import is_authority
from microasgi_server.proxies.forwarded import FORWARDED, X_FORWARDED, Said, read_forwarded, read_x_forwarded
from microasgi_server.proxies.trust import LOCAL, Trusted

USUAL = X_FORWARDED[:2]
"""What nearly every proxy is configured to set. One that passes another on as it came lets its clients say what they like."""

_SCHEMES = {"http": ("http", "ws"), "https": ("https", "wss"), "ws": ("http", "ws"), "wss": ("https", "wss")}
"""By what a proxy calls it: a request's, and a WebSocket's."""

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}

_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9\-._~!$&'()*+,;=:@%]+)+")


def is_fields(names: Sequence[str]) -> bool:
    """Whether these are fields that can be believed together: where a proxy writes one kind, the other is its clients'."""
    return set(names) <= set(X_FORWARDED) or set(names) == {FORWARDED}


class Proxies:
    """Those in front that are believed, and in which of their fields."""

    def __init__(self, trusted: Sequence[str], fields: Sequence[str]) -> None:
        """:raises ValueError: one of `trusted` is no address, network, `unix` or `*`, or the fields don't belong together"""
        if not is_fields(fields):
            raise ValueError(f"the fields to believe are some of {', '.join(X_FORWARDED)}, or {FORWARDED} alone, not {', '.join(fields)}")
        self.trusted = Trusted(trusted)
        self._names = frozenset(name.lower().encode() for name in fields)

    def seen_through(self, scope: Scope) -> Scope:
        """The scope, or another one in its place, if its peer is believed and says something."""
        peer = scope.get("client")
        if (peer[0] if peer else None) not in self.trusted:
            return scope
        fields: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            if name in self._names:
                fields.setdefault(name, []).append(value.decode("latin-1"))
        if not fields:
            return scope
        lines = fields.get(FORWARDED.lower().encode())
        said = read_x_forwarded(fields, self.trusted) if lines is None else read_forwarded(lines, self.trusted)
        return {**scope, **_changes(scope, said)}


def _changes(scope: Scope, said: Said) -> dict[str, Any]:
    """What becomes of a scope by what is said, as far as that is well-formed."""
    changes: dict[str, Any] = {}
    if said.client is not None:
        changes["client"] = said.client
    schemes = _SCHEMES.get(said.scheme.lower())
    if schemes is not None:
        changes["scheme"] = schemes[scope["type"] == "websocket"]
    scheme = changes.get("scheme") or scope.get("scheme", "http")
    authority = _authority(scope, said)
    if authority is not None:
        name, port = authority
        usual = _DEFAULT_PORTS.get(scheme, 0)
        host = f"{name}:{port}" if port and port != usual else name
        changes["server"] = (name.strip("[]"), port or usual)
        changes["headers"] = [(b"host", host.encode("latin-1")), *(field for field in scope["headers"] if field[0] != b"host")]
    prefix = said.prefix.rstrip("/")
    if _PREFIX.fullmatch(prefix):
        changes |= _behind(prefix, scope)
    return changes


def _authority(scope: Scope, said: Said) -> tuple[str, int] | None:
    """The name and the port that the client has asked for; 0 is the scheme's own. None, if neither is said."""
    name, own = _split(said.host) if is_authority(said.host.encode("latin-1")) else ("", "")
    port = _port(own or said.port)
    if name and (port or not own):
        return name, port
    if name or not port:
        return None
    name, _ = _split(next((value.decode("latin-1") for field, value in scope["headers"] if field == b"host"), ""))
    return (name, port) if name else None


def _split(authority: str) -> tuple[str, str]:
    """A name, in brackets if it is an IPv6 address, and a port, which may be empty."""
    name, colon, port = authority.rpartition(":")
    return (name, port) if colon and not port.endswith("]") else (authority, "")


def _port(text: str) -> int:
    """The number of a port; 0, if it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 and int(text) < 65536 else 0


def _behind(prefix: str, scope: Scope) -> dict[str, Any]:
    """A path behind the prefix that a proxy has taken from it, instead of `Config.root_path` (ASGI HTTP spec, `root_path`)."""
    path, raw_path, known = scope["path"], scope.get("raw_path"), scope.get("root_path", "")
    if path == "*":  # the asterisk is no path
        return {}
    if known and path.startswith(f"{known}/"):
        path = path.removeprefix(known)
        raw_path = raw_path and raw_path.removeprefix(quote(known).encode())
    root_path = unquote(prefix)
    changes = {"root_path": root_path, "path": root_path + path}
    return changes if raw_path is None else {**changes, "raw_path": prefix.encode() + raw_path}


class ProxyHeaders:
    """An ASGI app whose requests look as they did when they reached the first believed proxy. For any server.

        app = ProxyHeaders(app, trusted=["10.0.0.0/8"])

    From `X-Forwarded-For` comes the scope's `client`, from `X-Forwarded-Proto` its `scheme`; from the others, if they are chosen, `server`
    and the field Host, and `root_path`. What isn't well-formed is ignored, and so is all that somebody else says.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str] = LOCAL, fields: Sequence[str] = USUAL) -> None:
        """Wrap an app.

        :param trusted: the proxies, as addresses, networks, `unix` for whoever comes by a unix socket, or `*` for everybody
        :param fields: those of their fields that they always set themselves: some of `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and
            `-Prefix`, or `Forwarded` (RFC 7239) alone
        :raises ValueError: one of them is none
        """
        self.app = app
        self._proxies = Proxies(trusted, fields)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = self._proxies.seen_through(scope)
        await self.app(scope, receive, send)
