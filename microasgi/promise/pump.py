"""How a departure is learnt of on other servers: `receive()` is called all the time, since that is where ASGI tells of it."""

from collections import deque
from typing import Any

import anyio

from microasgi.asgi import Message, Receive, Scope, Send
from microasgi.exceptions import ClientDisconnect

READ_AHEAD = 64 * 1024
"""Bytes of body taken from another server before the handler asks for them. In bytes, not messages: some servers split."""


class Pump:
    """Calls another server's `receive()` all the time, since that is where ASGI tells of a disconnect.

    :param holds: don't call it before the app does
    """

    def __init__(self, receive: Receive, send: Send, visit: Any, *, holds: bool) -> None:
        self._receive = receive
        self._send = send
        self._visit = visit
        self._holds = holds
        self._messages: deque[Message] = deque()
        self._size = 0
        self._trailers = False
        self._answered = False  # the last byte is handed over: from then on leaving means nothing
        self._sent = False  # the last byte, and the server's `send()` has returned
        self._changed = anyio.Event()

    async def run(self) -> None:
        """Read ahead until the client leaves."""
        while True:
            while self._holds or self._size >= READ_AHEAD:
                await self._changed.wait()
            message = await self._receive()
            if message["type"] == "http.disconnect":
                # Servers also say this when the response is complete.
                if not self._answered:
                    self._visit.leave()
                self._notify()
                return
            self._messages.append(message)
            self._size += len(message.get("body", b""))
            self._notify()

    async def receive(self) -> Message:
        """The app's `receive()`.

        It doesn't say `http.disconnect` while the last byte is being sent: Starlette, told so, cancels its own `send()`.
        """
        self._holds = False
        self._notify()
        while not self._messages:
            if self._visit.gone or self._sent:
                return {"type": "http.disconnect"}
            await self._changed.wait()
        if self._visit.gone:
            return {"type": "http.disconnect"}
        message = self._messages.popleft()
        self._size -= len(message.get("body", b""))
        self._notify()
        return message

    async def send(self, message: Message) -> None:
        """The app's `send()`.

        :raises ClientDisconnect: the client has left
        """
        if self._visit.gone:
            raise ClientDisconnect("the client left")
        if message["type"] == "http.response.start":
            self._trailers = message.get("trailers", False)
        last = (message["type"] == "http.response.body" and not message.get("more_body", False) and not self._trailers) or (
            message["type"] == "http.response.trailers" and not message.get("more_trailers", False)
        )
        if not last:
            await self._send(message)
            return
        self._answered = True
        try:
            await self._send(message)
        finally:
            self._sent = True
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def expects_continue(scope: Scope) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"])
