"""How a WebSocket's departures are learnt of on other servers: somebody is in `receive()` as long as the call waits.

The pump reads ahead, as far as `Inbox` has room, and so knows what the app has taken and answered. Behind more than that, nobody can see
whether the client has left. Servers give the code 1006 to a connection that broke, and most also to one that only ended; uvicorn and
Granian call that 1005, which is what a browser's `close()` says, so there it counts as a goodbye.
"""

import asyncio
from collections.abc import Callable

import anyio

from microasgi.asgi import Message, Receive, Send
from microasgi.exceptions import ClientDisconnect
from microasgi.promise import trio_scope
from microasgi.promise.inbox import NO_STATUS, VANISHED, Inbox
from microasgi.promise.on_trio import TrioTask
from microasgi.promise.pump import end, own_loop

ANSWERS = ("websocket.close", "websocket.http.response.start")
"""What an app ends a conversation with. From then on its client can't leave it any more."""


class ConversationPump:
    """Stands between an app and another server, and tells one subscriber when the client leaves: as our server's extension does.

    code: what the WebSocket was closed with.
    """

    code = VANISHED
    _answered = False  # the app has ended it
    _error: Exception | None = None  # what the pump got from the server; it belongs to the app
    _subscriber: tuple[Callable[[], object], Callable[[bool], object]] | None = None  # from the call's first wait to its end
    _task: "asyncio.Task[None] | TrioTask | None" = None

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._inbox = Inbox()
        self._changed = anyio.Event()

    def subscribe(self, leave: Callable[[], object], goodbye: Callable[[bool], object]) -> Callable[[], None]:
        """The call waits for the first time: from now on the departure must be noticed. To be called in its task; returns the undo."""
        self._subscriber = leave, goodbye
        loop = own_loop()
        if loop is not None:
            self._task = loop.create_task(self._read_ahead())
        else:
            self._task = TrioTask(self._read_ahead)
            trio_scope.current_task().parent_nursery.start_soon(self._task.run)
        return self._unsubscribe

    def _unsubscribe(self) -> None:
        self._subscriber = None

    async def end(self) -> None:
        """Have nobody in the server's `receive()` on our behalf any more. After the call, in its task."""
        task, self._task = self._task, None
        await end(task)

    async def receive(self) -> Message:
        """The app's `receive()`."""
        while (message := self._inbox.take()) is None:
            if self._error is not None:
                raise self._error
            await self._changed.wait()
        self._notify()
        return message

    async def send(self, message: Message) -> None:
        """The app's `send()`.

        :raises ClientDisconnect: the client has left
        """
        if self._inbox.end is not None:
            raise ClientDisconnect(f"the client left ({self.code})")
        self._answered = self._answered or message["type"] in ANSWERS
        taken = self._inbox.taken
        await self._send(message)
        if message["type"] == "websocket.send":
            self._inbox.answered(taken)

    async def _read_ahead(self) -> None:
        inbox = self._inbox
        try:
            while inbox.end is None:
                while inbox.full:
                    await self._changed.wait()
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    self._depart(message.get("code") or NO_STATUS, message.get("reason") or "")
                else:
                    inbox.put(message)
                self._notify()
        except Exception as error:
            self._error = error
            self._notify()

    def _depart(self, code: int, reason: str) -> None:
        """The server says that it is over, as it also does when the app has ended it."""
        self.code = code
        self._inbox.close(code, reason)
        if self._answered or self._subscriber is None:
            return
        leave, goodbye = self._subscriber
        if code != VANISHED:
            goodbye(self._inbox.busy)
        elif leave() is not False:
            self._inbox.drop()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
