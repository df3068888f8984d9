"""A mounted app, as a Router calls it: another Router, or another framework's app, which knows nothing of us."""

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.declaring import Declarations
from microasgi.errors import answering
from microasgi.levels import LEVELS
from microasgi.promise.visit import VISIT, Visit


class Mounted:
    """A mounted app with the scope and the `receive()` it gets."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(self._app, Declarations):  # a Router answers exceptions itself, and asks those around it
            await self._app(self._scope, self._receive, send)
        else:
            await answering(self._ask)(scope, self._receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope[VISIT]
        await self._app({**self._scope, LEVELS: ()}, *visit.foreign(receive, send))
