"""The promise for a WebSocket, whose client can leave in two ways.

* It *vanishes*: the connection breaks, or falls silent. The handler is cancelled at once, as a request's is.
* It *says goodbye*, or the server does as it stops. What it said before is not lost: as long as the handler has something of the client's
  left, untaken or in hand, or waits in `receive()` and will see the goodbye there, it may go on, for `close_grace` seconds. Else it is
  cancelled at once: nobody hears what it would still say.

Another framework's app is told of both ways where it waits in `receive()`, even of a disappearance, and cancelled if it goes on for longer
than its grace: it cleans up behind that message, in Starlette's `except WebSocketDisconnect` or in Channels' `disconnect()`, and a
cancellation would pass that by. One that doesn't wait there is cancelled at once.

*In hand* is what a handler has taken with `receive()`, and has neither answered with a `send()` since nor come back from for more.

Who learns of it first is microasgi's server, which calls back; on any other one, `ConversationPump` asks its `receive()` all the time.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.exceptions import only_disconnects
from microasgi.policy import OnDisconnect
from microasgi.promise.asyncio_tasks import running_loop
from microasgi.promise.conversation_pump import ConversationPump
from microasgi.promise.on_trio import call_later
from microasgi.promise.visit import EXTENSION, VISIT, Visit

logger = logging.getLogger("microasgi")

TURNS = 3
"""Of the event loop, in which another framework's app that has just answered gets back to `receive()`, in a new task as Channels does."""


class Conversation(Visit):
    """One client's presence as long as one WebSocket.

    close_grace: seconds that a handler may go on for after a goodbye, if it has something left to do; None: as long as its cleanup.
    listening: how many wait for the client's next message, and will be told of a goodbye there.
    """

    def __init__(self, scope: Scope, on_disconnect: OnDisconnect, cleanup_grace: float, close_grace: float | None) -> None:
        super().__init__({**scope, "method": "GET"}, on_disconnect, cleanup_grace)
        self.close_grace = close_grace
        self.listening = 0
        self._is_foreign = self._is_told = False
        self._undo: Callable[[], object] | None = None  # calls off the cancellation that is to come

    def foreign(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        self._is_foreign = True
        foreign_receive, foreign_send = super().foreign(receive, send)

        async def telling_receive() -> Message:
            message = await foreign_receive()
            self._is_told = self._is_told or message["type"] == "websocket.disconnect"
            return message

        return telling_receive, foreign_send

    def leave(self) -> bool | None:
        """The client has vanished. True if that cancels the handler, False if it goes on and may have all that was said before."""
        if self.finishes or not self._is_foreign:
            return super().leave()
        self._depart()
        return self._tell_or_cancel(self.block.cleanup_grace)

    def goodbye(self, busy: bool) -> bool:
        """The client has said goodbye, or the server has. True if that cancels the handler.

        :param busy: whether it has something of the client's left
        """
        self._depart()
        if self.finishes:
            return False
        grace = self.close_grace if self.close_grace is not None else self.block.cleanup_grace
        if grace and (busy or self.listening):
            self._cancel_later(grace)
            return False
        if grace and self._is_foreign:
            return self._tell_or_cancel(grace) or False
        self.block.cancel(self.describe)
        return True

    def _tell_or_cancel(self, grace: float, turns: int = TURNS) -> bool | None:
        """Cancel another framework's app, at once or after a grace, in which it is told where it waits in `receive()`, or soon will."""
        if self._listeners or self._is_told:
            self._cancel_later(grace)
            return None
        if turns and (loop := running_loop()) is not None:
            loop.call_soon(self._tell_or_cancel, grace, turns - 1)
        else:
            self.block.cancel(self.describe)
        return True

    def _depart(self) -> None:
        self.gone = True
        for waiter in self._waiters:
            waiter.set()

    def _cancel_later(self, seconds: float) -> None:
        def cancel() -> None:
            if not self.block.cancelled:
                text = "%s: the handler goes on %g s after the client has left; cancelling"
                logger.warning(text, self.describe(), seconds)
                self.block.cancel(self.describe)

        if self.block.task is not None:  # else it hasn't begun, or has ended
            self._undo = call_later(self.block.task, seconds, cancel)

    def end(self) -> None:
        """The call has ended: nobody is to be cancelled later."""
        undo, self._undo = self._undo, None  # or the two would hold each other
        if undo is not None:
            undo()


async def converse_while_connected(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    on_disconnect: OnDisconnect = "cancel",
    cleanup_grace: float = 5.0,
    close_grace: float | None = None,
) -> None:
    """Call `app` in a block that lasts as long as its client; as `visit.run_while_connected`, for a WebSocket."""
    conversation = Conversation(scope, on_disconnect, cleanup_grace, close_grace)
    scope[VISIT] = conversation
    extension = scope.get("extensions", {}).get(EXTENSION)
    pump: ConversationPump | None = None
    if extension is not None:
        subscribe: Callable[..., Callable[[], object]] = extension["subscribe"]
    else:
        pump = ConversationPump(receive, send)
        subscribe, receive, send = pump.subscribe, pump.receive, pump.send
    began = time.monotonic()
    try:
        call: Any = app(scope, receive, send)
        rest = conversation.block.start(call, lambda: subscribe(conversation.leave, conversation.goodbye))
        if rest is not None:
            await rest
    except BaseException as error:
        if not conversation.gone or not only_disconnects(error):
            raise
    finally:
        conversation.end()
        if pump is not None:
            await pump.end()
            if conversation.gone:
                logger.info("%s %d %.3fs the client left", conversation.describe(), pump.code, time.monotonic() - began)
    if conversation.afterwards is not None:
        await conversation.afterwards()
