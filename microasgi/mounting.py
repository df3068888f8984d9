"""A mounted app in place of a response, which a Router sends when it has found out who answers a request."""

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.conversing import mounted


class Mounted:
    """A mounted app with the scope and the `receive()` it gets."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        self._app = mounted(app)
        self._scope = scope
        self._receive = receive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(self._scope, self._receive, send)
