"""What is otherwise for another framework's app, which knows nothing of us.

Quart and Django run the handler in a task of their own and wait for it and for `receive()` at once. Cancelled there they leave that task
behind; told there they stop it, and clean up. So who waits in `receive()` is remembered.
"""

from contextlib import suppress
from typing import Any

from anyio.lowlevel import checkpoint

from microasgi.asgi import Message, Receive, Send
from microasgi.promise.delivery import Block, current_task

CLIENT_CLOSED_REQUEST = 499
"""nginx's status, for logs: the client left before it had its response."""


class Foreign:
    """The part of a visit that is for another framework's app."""

    block: Block
    answered = False
    _listeners: tuple[Any, ...] = ()

    @property
    def _listens_elsewhere(self) -> bool:
        """Whether a task waits in `receive()` that isn't told with the call."""
        return not all(self.block.holds(task) for task in self._listeners)

    def foreign(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """`receive()` and `send()` for another framework's app.

        Who waits in `receive()` is remembered. After the departure `send()` drops what it is given: the app is being cancelled, and an
        exception would only be reported by it as one that nobody expected.
        """

        async def foreign_receive() -> Message:
            task = current_task()
            self._listeners += (task,)
            try:
                return await receive()
            finally:
                self._listeners = tuple(other for other in self._listeners if other is not task)

        async def foreign_send(message: Message) -> None:
            self.answered = self.answered or message["type"] == "http.response.start"
            try:
                await send(message)
            except OSError:
                if not self.block.cancelled:
                    raise
                await checkpoint()  # an app that only ever sends

        return foreign_receive, foreign_send


async def answer_nobody(send: Send) -> None:
    """Middleware around us expects an answer, and takes its absence for a fault. Behind it the server drops this one."""
    with suppress(Exception):  # who should care?
        await send({"type": "http.response.start", "status": CLIENT_CLOSED_REQUEST, "headers": []})
        await send({"type": "http.response.body", "body": b""})
