"""A Router's WebSockets: from a path to a handler, and from how it ends to a close code.

    returns                      1000
    raises WebSocketException    its code
    raises anything else         1011, and the error is logged
    raises, before it has        as a request's handler: the exception is answered, by an exception handler too, instead of the handshake;
    accepted                     with 403 where the server can't send a response
    returns                      before it has accepted: 500, and an error is logged

A page of another site can open a WebSocket in its visitor's name, with the visitor's cookies: CORS doesn't stop that. So a handshake that
has an `Origin` is refused with 403 unless it is this host's, or one that the route names.
"""

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.calling import is_async
from microasgi.checks import check_conversation
from microasgi.errors import answer, plain_answer
from microasgi.exceptions import HTTPException, WebSocketException, sole
from microasgi.levels import LEVELS, Level, below, route_path
from microasgi.mounting import Mount, Mounted
from microasgi.nowhere import Nowhere
from microasgi.paths import PathTemplate
from microasgi.policy import OnDisconnect
from microasgi.promise.conversation import Conversation, converse_while_connected
from microasgi.promise.visit import VISIT
from microasgi.routed import Routed
from microasgi.websockets import WebSocket

logger = logging.getLogger("microasgi")

FAILED = 1011
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

WebSocketHandler: TypeAlias = Callable[[WebSocket], Awaitable[None]]
Origins: TypeAlias = Collection[str] | Literal["*"]


class WebSocketRoute(Routed):
    """One path and the handler of its WebSockets.

        routes = Router([WebSocketRoute("/chat/{room}", chat, origins=["https://app.example"])])

    :param path: a template such as `/chat/{room}`
    :param endpoint: `async def`; takes the WebSocket
    :param on_disconnect: `cancel` stops the handler when its client leaves, `finish` lets it end; None: as the Router says
    :param cleanup_grace: seconds that a cancelled handler's cleanup may take; None: as the Router says
    :param close_grace: seconds that a handler may go on for after the client's goodbye, with what it has of the client's; 0: none;
        None: as long as its cleanup
    :param origins: whose pages may connect, beside programs, which have no `Origin`: `["https://example.org"]`, or `"*"` for all;
        None: this host's
    :raises ValueError: the path or an option is malformed
    :raises TypeError: the endpoint is no async function, or takes something else than a WebSocket
    """

    def __init__(
        self,
        path: str,
        endpoint: WebSocketHandler,
        *,
        name: str | None = None,
        on_disconnect: OnDisconnect | None = None,
        cleanup_grace: float | None = None,
        close_grace: float | None = None,
        origins: Origins | None = None,
    ) -> None:
        own_name = name or str(getattr(endpoint, "__name__", type(endpoint).__name__))
        super().__init__(PathTemplate(path), own_name, on_disconnect, cleanup_grace, limit_body=None, timeout=None)
        if close_grace is not None and not close_grace >= 0:
            raise ValueError(f"close_grace is a number of seconds, at least 0, not {close_grace!r}")
        if isinstance(origins, str) and origins != "*":
            raise ValueError(f"origins is a list, [{origins!r}], or '*', not the text {origins!r}")
        if not is_async(endpoint):
            raise TypeError(f"a WebSocket's handler is an async def that takes the WebSocket, not {endpoint!r}")
        check_conversation(endpoint, self.template.parameters)
        self.endpoint = endpoint
        self.close_grace = close_grace
        self.origins: Origins | None = origins if origins is None or origins == "*" else {_origin(origin) for origin in origins}

    def __repr__(self) -> str:
        return f"<WebSocketRoute {self.path} to {self.name}{self._policy}>"

    async def call(self, ws: WebSocket) -> None:
        """Call the handler, if the page may connect.

        :raises HTTPException: it may not
        """
        if not self.welcomes(ws):
            raise HTTPException(403, "pages of another origin can't connect here")
        await self.endpoint(ws)

    def welcomes(self, ws: WebSocket) -> bool:
        """Whether the page that opens this WebSocket may."""
        origin = ws.headers.get("origin")
        if origin is None or self.origins == "*":
            return True
        if self.origins is not None:
            return _origin(origin) in self.origins
        return _host(origin) == _host(f"{origin.partition('://')[0]}://{ws.headers.get('host', '')}")


class Conversing:
    """The part of a Router that serves WebSockets.

    websocket_routes: WebSocket routes and mounts, in the order they were added; the first that matches answers.
    """

    on_disconnect: OnDisconnect | None
    cleanup_grace: float | None
    _nowhere: Nowhere

    def __init__(self) -> None:
        self.websocket_routes: list[WebSocketRoute | Mount] = []

    async def _call_websocket(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Open the block, if there is none yet. `app` is this Router's middleware with `_dispatch_websocket` in it."""
        if not self.websocket_routes:
            await self._nowhere.refuse_websocket(scope, receive, send)
            return
        scope[LEVELS] = (Level(self, scope.get("root_path", "")), *scope.get(LEVELS, ()))
        if VISIT in scope:
            scope[VISIT].set_policy(self.on_disconnect, self.cleanup_grace)
            await app(scope, receive, send)
            return
        grace = self.cleanup_grace if self.cleanup_grace is not None else 5.0
        await converse_while_connected(app, scope, receive, send, self.on_disconnect or "cancel", grace)

    async def _dispatch_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        conversation: Conversation = scope[VISIT]
        path = route_path(scope)
        for route in self.websocket_routes:
            match = route.template.match(path or "/")
            if match is not None:
                break
        else:
            self._nowhere.warn_of_websocket(scope["path"], path)
            await _converse(_nowhere, WebSocket(scope, receive, send))
            return
        params, matched = match
        if params:
            scope["path_params"] = {**scope.get("path_params", {}), **params}
        conversation.route += route.path
        conversation.set_policy(route.on_disconnect, route.cleanup_grace)
        if isinstance(route, WebSocketRoute):
            if route.close_grace is not None:
                conversation.close_grace = route.close_grace
            await _converse(route.call, WebSocket(scope, receive, send))
            return
        await Mounted(route.app, below(scope, path, matched), receive)(scope, receive, send)


async def _nowhere(ws: WebSocket) -> None:
    raise HTTPException(404)


async def _converse(handler: WebSocketHandler, ws: WebSocket) -> None:
    """Call the handler, and let its end be known to the client."""
    try:
        await handler(ws)
    except Exception as raised:
        if not await _answered(raised, ws):
            if ws.open:
                await ws.close(FAILED)
            raise
    else:
        if ws.pending and not ws.gone:
            route = ws.scope[VISIT].route
            logger.error("The handler of %s has returned without accepting the WebSocket: it begins with await ws.accept()", route)
            await ws.deny(plain_answer(HTTPException(500)))
        await ws.close()


async def _answered(error: Exception, ws: WebSocket) -> bool:
    """Whether an exception is a way to end a WebSocket, which it has done then.

    :raises Exception: it is none, and no answer to the handshake either
    """
    raised = sole(error)
    try:
        if isinstance(raised, WebSocketException):
            await ws.close(raised.code, raised.reason)
            return True
        if not ws.pending:
            return False
        response = await answer(error, ws.handshake.scope, ws.receive)
        if response is not None:
            await ws.deny(response)
        return True
    finally:
        del error, raised  # with its traceback, it would hold this frame, and this frame it, and the handler's frames with them


def _origin(text: str) -> str:
    """An origin to compare by: without the port that its scheme has anyhow (RFC 6454 §6)."""
    scheme, _, _ = text.partition("://")
    host = _host(text)
    return f"{scheme.lower()}://{host[0]}:{host[1]}" if host is not None else text


def _host(url: str) -> tuple[str, int | None] | None:
    """Name and port; None if it has none, as the origin `null`."""
    try:
        parts = urlsplit(url)
        return (parts.hostname, parts.port or _PORTS.get(parts.scheme)) if parts.hostname else None
    except ValueError:
        return None
