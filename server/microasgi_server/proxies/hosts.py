"""The names that an app is asked for: others are somebody's attempt to have it write links to them."""

import re
from collections.abc import Sequence

from microasgi_server.asgi import ASGIApp, Receive, Scope, Send
from microasgi_server.proxies.trust import parsed

MISDIRECTED = 421
"""RFC 9110 §15.5.20: the request has come to the wrong server."""

_REASON = b"this server isn't who the Host of the request names (RFC 9110 \xc2\xa715.5.20)\n"

_NAME = re.compile(r"\*|(?:\*\.)?[a-z0-9_](?:[a-z0-9\-_.]*[a-z0-9_])?", re.IGNORECASE)


def is_host(name: object) -> bool:
    """Whether it is a name, `*.` and a name, an address or `*`, without a port."""
    return isinstance(name, str) and (_NAME.fullmatch(name) or parsed(name.removeprefix("[").removesuffix("]"))) is not None


class Hosts:
    """The names that an app answers to."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """:raises ValueError: one of them is none"""
        for name in allowed:
            if not is_host(name):
                raise ValueError(f"a host is a name such as example.com or *.example.com, or an address, without a port, not {name!r}")
        self._any = "*" in allowed
        names = [name.lower().strip("[]") for name in allowed]
        self._names = frozenset(name for name in names if not name.startswith("*."))
        self._endings = tuple(name[1:] for name in names if name.startswith("*."))

    def allow(self, scope: Scope) -> bool:
        """Whether a request asks for one of them, whatever the port."""
        if self._any:
            return True
        host = next((value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"), "")
        name = re.sub(r":\d*$", "", host) if not host.startswith("[") else host[1:].partition("]")[0]
        name = name.removesuffix(".")  # the root of all names, which nearly nobody writes
        return name in self._names or name.endswith(self._endings)


async def misdirected(scope: Scope, receive: Receive, send: Send) -> None:
    """The app that answers in the place of the one that wasn't meant."""
    kind = "http"
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close"})  # before it was accepted: the server answers with 403
            return
        kind = "websocket.http"
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(_REASON))]
    await send({"type": f"{kind}.response.start", "status": MISDIRECTED, "headers": fields})
    await send({"type": f"{kind}.response.body", "body": _REASON})


class AllowedHosts:
    """An ASGI app that is asked for these names only; the answer to other requests is 421. For any server.

        app = AllowedHosts(app, ["example.com", "*.example.com"])

    Where proxies are believed in X-Forwarded-Host, `ProxyHeaders` belongs around it.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        """Wrap an app.

        :param allowed: names and addresses without ports; `*.example.com` is every name below example.com, `*` any name
        :raises ValueError: one of them is none
        """
        self.app = app
        self._hosts = Hosts(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        meant = scope["type"] not in ("http", "websocket") or self._hosts.allow(scope)
        await (self.app if meant else misdirected)(scope, receive, send)
