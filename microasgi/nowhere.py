"""What a Router says of a path that it has no route for: a redirect, if only a slash at the end is too many or too few; else 404."""

import logging
from urllib.parse import quote

from microasgi.asgi import Receive, Scope, Send
from microasgi.exceptions import HTTPException
from microasgi.matching import RouteTable
from microasgi.promise.visit import EXTENSION
from microasgi.redirects import RedirectResponse

_SAFE = "/!$&'()*+,;=:@~"

logger = logging.getLogger("microasgi")


class Nowhere:
    """The answer to paths without a route.

    :param redirect_slashes: send who asks for `/a/` to `/a` and the other way round, where there is a route (307: the method stays)
    """

    def __init__(self, table: RouteTable, *, redirect_slashes: bool) -> None:
        self._table = table
        self._redirect_slashes = redirect_slashes
        self._warned = False

    def answer(self, scope: Scope, path: str) -> RedirectResponse:
        """The redirect for a path below this Router's prefix.

        :raises HTTPException: 404, as there is nowhere to send the client
        """
        is_told = EXTENSION in scope.get("extensions", {})  # by our server: what it lacks for WebSockets
        if not is_told and b"websocket" in [value.lower() for name, value in scope["headers"] if name == b"upgrade"]:
            self._warn_of_websocket(scope["path"], "the server took it for an ordinary request")
        other = path.rstrip("/") if path.endswith("/") else path + "/"
        if not self._redirect_slashes or not other or path == "/" or not self._table.has(other):
            raise HTTPException(404)
        whole = scope["path"].removesuffix(path) + other
        root = scope.get("root_path", "")
        if not whole.startswith(root):
            whole = root + whole
        if whole.startswith("//"):  # a browser would take what follows for another host
            raise HTTPException(404)
        query = scope["query_string"].decode("latin-1")
        response = RedirectResponse("")
        response.headers["location"] = quote(whole, safe=_SAFE) + (f"?{query}" if query else "")
        return response

    async def refuse_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close a WebSocket before it opens; the server answers 403."""
        self._warn_of_websocket(scope.get("path", ""), "this Router has no route for any")
        await receive()
        await send({"type": "websocket.close", "code": 1000, "reason": ""})

    def warn_of_websocket(self, whole: str, path: str) -> None:
        """Say that this Router has routes for WebSockets, and none for this path.

        :param path: as this Router sees it, without its prefix
        """
        here = "a route there for requests, and none for WebSockets" if self._table.has(path or "/") else "no route for it"
        self._warn_of_websocket(whole, f"this Router has {here}")

    def _warn_of_websocket(self, path: str, why: str) -> None:
        """Once is enough."""
        if not self._warned:
            self._warned = True
            logger.warning("A WebSocket was asked for at %r, and refused: %s. No more of these are logged.", path, why)
