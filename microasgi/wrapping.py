"""The promise around any ASGI app, another framework's above all."""

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.policy import check_policy
from microasgi.promise.conversation import converse_while_connected
from microasgi.promise.unknown import missing
from microasgi.promise.visit import VISIT, run_while_connected


class CancelOnDisconnect:
    """The promise around any ASGI app, on any server: its handlers stop when their clients go away, and so do its WebSockets.

        app = CancelOnDisconnect(FastAPI())

    A WebSocket's handler that waits in `receive()`, or gets back there at once, is told there, by a `websocket.disconnect`, and cancelled
    only if it goes on for longer than its grace: `except WebSocketDisconnect` is how such apps clean up. One that waits for something
    else is cancelled at once: what must happen then, too, belongs into `finally`.

    :param app: an ASGI 3 application
    :param cleanup_grace: as for `Router`
    :raises ValueError: the grace is negative
    """

    def __init__(self, app: ASGIApp, *, cleanup_grace: float = 5.0) -> None:
        check_policy("cancel", cleanup_grace)
        self.app = app
        self.cleanup_grace = cleanup_grace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and VISIT not in scope:
            await run_while_connected(self._call, scope, receive, send, cleanup_grace=self.cleanup_grace)
        elif scope["type"] == "websocket" and VISIT not in scope:
            await converse_while_connected(self._call, scope, receive, send, cleanup_grace=self.cleanup_grace)
        else:
            missing()  # warns, at startup
            await self.app(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, *scope[VISIT].foreign(receive, send))
