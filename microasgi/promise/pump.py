"""How a departure is learnt of on other servers: somebody must be in `receive()`, since that is where ASGI tells of it.

Who that is depends on what the call does, and most calls need nobody:

    it doesn't wait                  nobody: it couldn't be told anything before it ends
    it waits in `receive()`          the app itself: it is in the server's `receive()`, and we look at what comes out
    it waits for anything else       the pump: a task that reads ahead, up to 64 KiB, until `http.disconnect` comes

The pump is started two turns of asyncio's loop after the wait began: by then many waits are over, and a task costs more than all else
here. So much later, too, is a departure noticed, and no more. (Trio has no such turns to spend: there it is started at once.) After the
last byte of the response it isn't started any more.

Only one at a time is in the server's `receive()`: servers wake one waiter. And nobody is there any more when the request is over.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from microasgi.asgi import Message, Receive, Scope, Send
from microasgi.exceptions import ClientDisconnect
from microasgi.promise import trio_scope
from microasgi.promise.asyncio_tasks import running_loop
from microasgi.promise.on_trio import TrioTask

logger = logging.getLogger("microasgi")

READ_AHEAD = 64 * 1024
"""Bytes of body taken from another server before the handler asks for them. In bytes, not messages: some servers split."""


class Reader(Enum):
    """Who is in the server's `receive()`.

    NOBODY ──► SOON ──► PUMP ──► NOBODY, or ENDED
       │         │
       └─────────┴────► APP ───► NOBODY, or ENDED
    """

    NOBODY = "nobody, and nobody needs to be"
    SOON = "nobody yet, but the pump if the call still waits in two turns"
    APP = "the app, which has asked itself"
    PUMP = "the task that reads ahead"
    ENDED = "nobody any more: it has said `http.disconnect`"


class Answer(Enum):
    """How far the response is."""

    OPEN = "the client's leaving is a departure"
    LAST = "the last byte is handed over: from now on leaving means nothing"
    SENT = "and the server's `send()` of the last message has returned"


NOBODY, SOON, APP, PUMP, ENDED = Reader  # in Python 3.11, `Reader.APP` costs five times as much
OPEN, LAST, SENT = Answer


class Pump:
    """Stands between an app and another server, and tells one subscriber when the client leaves: as our server's extension does.

    gone: whether the client left before its response was complete.
    """

    gone = False
    _reader = NOBODY
    _answer = OPEN
    _trailers = False
    _left: int | None = None  # bytes of the body that are still to come, if the head has told
    _asked = False  # whether the app has asked for the body: what makes a server send `100 Continue`
    _size = 0  # bytes that are read ahead
    _error: Exception | None = None  # what the pump got from the server; it belongs to the app
    _callback: Callable[[], object] | None = None  # from the call's first wait to its end
    _loop: asyncio.AbstractEventLoop | None = None  # from then on; None on Trio
    _host: Any = None  # the call's task, on Trio
    _task: "asyncio.Task[None] | TrioTask | None" = None  # the pump's
    _changed: anyio.Event | None = None  # there if anybody waits for it

    def __init__(self, receive: Receive, send: Send, scope: Scope) -> None:
        self._receive = receive
        self._send = send
        self._headers = scope["headers"]  # not the scope: it holds the visit, and that holds us
        self._is_head = scope["method"] == "HEAD"
        self._messages: deque[Message] = deque()

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """The call waits for the first time: from now on the departure must be noticed. To be called in its task; returns the undo."""
        self._callback = callback
        self._loop = own_loop()
        if self._loop is None:
            self._host = trio_scope.current_task()
        if self.gone:
            callback()
        self._watch()
        return self._unsubscribe

    async def run(self, rest: Awaitable[None], visit: Any) -> None:
        """Await the rest of a visit's call, and log the departure: the server knows nothing of it."""
        began = time.monotonic()
        try:
            await rest
            if self._answer is SENT and isinstance(self._task, asyncio.Task) and not self._task.done():
                # Cheaper than to cancel the pump: most servers say `http.disconnect` when the response is complete.
                await asyncio.sleep(0)
        finally:
            await self._end()
            if visit.gone:
                logger.info("%s 499 %.3fs the client left", visit.describe(), time.monotonic() - began)

    async def _end(self) -> None:
        """Have nobody in the server's `receive()` on our behalf any more. After the call, in its task."""
        task, self._task = self._task, None  # or the two would hold each other
        await end(task)
        if self._reader is PUMP:  # cancelled before it had begun
            self._reader = NOBODY
        error, self._error = self._error, None
        if error is not None:
            logger.warning("the server's receive() failed: whether the client left wasn't noticed", exc_info=error)

    async def receive(self) -> Message:
        """The app's `receive()`.

        It doesn't say `http.disconnect` while the last byte is being sent: Starlette, told so, cancels its own `send()`.
        """
        while not self.gone:
            if self._messages:
                message = self._messages.popleft()
                self._size -= len(message.get("body", b""))
                self._watch()
                return message
            if self._answer is SENT:
                break
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._reader is not NOBODY and self._reader is not SOON:
                await self._change()
            elif (message := await self._ask())["type"] != "http.disconnect":
                return message
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """The app's `send()`.

        :raises ClientDisconnect: the client has left
        """
        if self.gone:
            raise ClientDisconnect("the client left")
        kind = message["type"]
        if kind == "http.response.start":
            self._trailers = message.get("trailers", False)
            self._left = None if self._trailers else 0 if self._is_head else _told_length(message)
        elif self._left and kind == "http.response.body":
            self._left -= len(message.get("body", b""))
        if self._left == 0:  # apps may say later that this was all
            self._answer = LAST
        last = (kind == "http.response.body" and not message.get("more_body", False) and not self._trailers) or (
            kind == "http.response.trailers" and not message.get("more_trailers", False)
        )
        if not last:
            await self._send(message)
            return
        self._answer = LAST
        try:
            await self._send(message)
        finally:
            self._answer = SENT
            self._notify()

    async def _ask(self) -> Message:
        """Call the server's `receive()` as the app."""
        self._reader = APP
        self._asked = True
        left = False
        try:
            message = await self._receive()
            left = message["type"] == "http.disconnect"
        finally:
            self._reader = ENDED if left else NOBODY
            self._notify()
            self._watch()
        if left and self._answer is OPEN:
            # On asyncio a call is told while it waits. By a task: in a callback of the loop, anyio doesn't know which library runs.
            loop = own_loop()
            if loop is not None:
                self._task = loop.create_task(self._leave_soon())
            else:
                self._leave()
                await checkpoint()
        return message

    async def _read_ahead(self) -> None:
        """The pump."""
        try:
            while self._size < READ_AHEAD:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._reader = ENDED
                    self._leave()
                    return
                self._messages.append(message)
                self._size += len(message.get("body", b""))
                self._notify()
        except Exception as error:
            self._error = error
        finally:
            if self._reader is PUMP:
                self._reader = NOBODY
            self._notify()

    def _watch(self) -> None:
        """Have the pump started, if it is needed."""
        if self._reader is not NOBODY or self._callback is None or self._answer is not OPEN:
            return
        if self._size >= READ_AHEAD or self._error is not None or not (self._asked or not _expects_continue(self._headers)):
            return
        if self._loop is not None:
            self._reader = SOON
            self._loop.call_soon(self._pass_a_turn)
        else:
            self._reader = PUMP
            self._task = TrioTask(self._read_ahead)
            # Beside the call, not around it: it may have opened scopes already, and what is opened now would be inside of them.
            self._host.parent_nursery.start_soon(self._task.run)

    def _pass_a_turn(self) -> None:
        """What only gave the loop a turn goes on in this one, behind us, and what waited for it in the next."""
        if self._reader is SOON and self._loop is not None:
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        if self._reader is SOON and self._loop is not None:
            if self._callback is not None and self._answer is OPEN:
                self._reader = PUMP
                self._task = self._loop.create_task(self._read_ahead())
            else:
                self._reader = NOBODY

    async def _leave_soon(self) -> None:
        await asyncio.sleep(0)  # an eager task runs at once, and the call doesn't wait yet
        self._leave()

    def _leave(self) -> None:
        """The server has said `http.disconnect`, as it also does when the response is complete."""
        if self._answer is OPEN:
            self.gone = True
            if self._callback is not None:
                self._callback()
        self._notify()

    def _unsubscribe(self) -> None:
        self._callback = None

    async def _change(self) -> None:
        """Wait until something is different."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def own_loop() -> asyncio.AbstractEventLoop | None:
    """The loop of this task; None if it is Trio's, also where that is a guest of asyncio's loop."""
    loop = running_loop()
    return loop if loop is not None and asyncio.current_task(loop) is not None else None


async def end(task: "asyncio.Task[None] | TrioTask | None") -> None:
    """Have a task ended, if there is one: cancel it, and wait for that whatever happens."""
    if task is not None and not task.done():
        task.cancel()
        with anyio.CancelScope(shield=True):
            await (task.wait() if isinstance(task, TrioTask) else asyncio.wait((task,)))


def _told_length(start: Message) -> int | None:
    """How long the body will be that is sent behind this message; None if its head doesn't tell (RFC 9112 §6.3)."""
    if start.get("status") in (204, 304):
        return 0
    named = {name.lower(): value for name, value in start.get("headers", ())}
    length = named.get(b"content-length", b"")
    return int(length) if length.isdigit() and b"transfer-encoding" not in named else None


def _expects_continue(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
