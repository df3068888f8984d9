"""The promise: a request handler stops when its client goes away.

A request runs inside one block, which lasts as long as its client. This file opens the block, and learns of the departure in one of
two ways:

    on microasgi's server    scope["extensions"]["microasgi.disconnect"]["subscribe"](visit.leave)
                             no task, no queue, no poll: the server calls back
    on any other server      the same, from pump.py, which asks the server's `receive()` as long as the call waits

What the block promises:

* Leaving cancels every task of the block, wherever it waits: once, and after a grace for good (delivery.py). It respects
  `anyio.CancelScope(shield=True)`.
* Not after the last byte of the response was handed over, and never anything outside the block: not the connection's next
  request, not a background task, not the lifespan.
* A route with `on_disconnect="finish"` isn't cancelled at all.

What it can't do: see through a server that doesn't report the departure.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.exceptions import ClientDisconnect
from microasgi.policy import OnDisconnect
from microasgi.promise.delivery import Block, current_task
from microasgi.promise.pump import Pump

logger = logging.getLogger("microasgi")

EXTENSION = "microasgi.disconnect"
CLIENT_CLOSED_REQUEST = 499
"""nginx's status, for logs: the client left before it had its response."""

VISIT = "microasgi.visit"
"""The scope's key for the request's `Visit`."""


class Visit:
    """One client's presence during one request.

    block: lasts as long.
    gone: whether the client left before its response was complete. A thread may ask.
    route: the template of the route that was found, for the log.
    answered: whether a response has begun.
    afterwards: what to run behind the block, once the response is out. A departure doesn't touch it.
    instead: the answer, if somebody else has cancelled the block before the response had begun.
    time_limit: the one that holds (timeouts.py).
    progress: how far the request has come, for all who have a hand in it (requests.py).
    extension: the server's `microasgi.disconnect`, if it has that.
    """

    gone = False
    answered = False
    route = ""
    afterwards: Callable[[], Awaitable[object]] | None = None
    instead: ASGIApp | None = None
    time_limit: Any = None
    progress: Any = None
    extension: Any = None
    block_class = Block
    _listeners: tuple[Any, ...] = ()
    _waiters: tuple[anyio.Event, ...] = ()

    def __init__(self, scope: Scope, on_disconnect: OnDisconnect, cleanup_grace: float) -> None:
        self.block = self.block_class(cleanup_grace)
        self._on_disconnect = on_disconnect
        self._method: str = scope["method"]
        self._path: str = scope["path"]

    def attach(self) -> Callable[[], object]:
        """Have the server tell of the departure from now on. Returns the undo."""
        undo: Callable[[], object] = self.extension["subscribe"](self.leave)
        return undo

    def leave(self) -> bool | None:
        """The client is gone. Called once, by whoever noticed; True if that cancels the handler."""
        self.gone = True
        for waiter in self._waiters:
            waiter.set()
        if self._on_disconnect != "cancel":
            return False
        if all(self.block.holds(task) for task in self._listeners):
            self.block.cancel(self.describe)
        else:
            # Quart and Django run the handler in a task of their own and wait for it and `receive()` at once. Cancelled there they
            # leave that task behind; told there they stop it, and clean up. So: told first, and cancelled if that doesn't help.
            self.block.cancel_after(self.block.cleanup_grace, self.describe)
        return True

    def foreign(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """`receive()` and `send()` for another framework's app, which knows nothing of us.

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

    def set_policy(self, on_disconnect: OnDisconnect | None, cleanup_grace: float | None) -> None:
        """A route has been found, and has its own opinion; None is none."""
        if cleanup_grace is not None:
            self.block.cleanup_grace = cleanup_grace
        if on_disconnect is not None:
            self._on_disconnect = on_disconnect
            if self.gone and on_disconnect == "cancel":
                self.block.cancel(self.describe)
            elif self.block.cancelled:  # what must finish isn't begun, only to be cancelled at its first await
                raise ClientDisconnect("the client left before the handler began")

    @property
    def finishes(self) -> bool:
        """Whether the handler goes on without its client."""
        return self._on_disconnect == "finish"

    def describe(self) -> str:
        """The request, for a log: in one line, whatever its path has in it."""
        path = self._path.encode("unicode_escape").decode("ascii")
        return f"{self._method} {path}" + (f" (route {self.route})" if self.route else "")

    async def wait_gone(self) -> None:
        """Return when the client has left."""
        if not self.gone:
            waiter = anyio.Event()
            self._waiters += (waiter,)
            await waiter.wait()


async def run_while_connected(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, on_disconnect: OnDisconnect = "cancel", cleanup_grace: float = 5.0
) -> None:
    """Call `app` in a block that lasts as long as its client, then run what the response left for the background.

    An exception of the app passes through as it is, never in a group; the cancellation ends here.
    """
    visit = Visit(scope, on_disconnect, cleanup_grace)
    scope[VISIT] = visit
    visit.extension = scope.get("extensions", {}).get(EXTENSION)
    pump = Pump(receive, send, scope) if visit.extension is None else None
    attach, server_send = visit.attach, send
    if pump is not None:
        attach, receive, send = partial(pump.subscribe, visit.leave), pump.receive, pump.send
    try:
        rest = visit.block.start(app(scope, receive, send), attach)  # type: ignore[arg-type]
        if rest is not None:
            await (rest if pump is None else _run_pumped(rest, visit, pump))
    except BaseException as error:
        if not visit.gone or not only_disconnects(error):
            raise
    if visit.block.cancelled and not visit.answered:
        await (_answer_nobody(server_send) if visit.instead is None else visit.instead(scope, receive, server_send))
    if visit.afterwards is not None:
        await visit.afterwards()


async def _run_pumped(rest: Awaitable[None], visit: Visit, pump: Pump) -> None:
    """Await the rest of a call on another server, which says nothing about clients that left."""
    began = time.monotonic()
    try:
        await rest
        await pump.settle()
    finally:
        await pump.end()
        if visit.gone:
            logger.info("%s 499 %.3fs the client left", visit.describe(), time.monotonic() - began)


async def _answer_nobody(send: Send) -> None:
    """Middleware around us expects an answer, and takes its absence for a fault. Behind it the server drops this one."""
    with suppress(Exception):  # who should care?
        await send({"type": "http.response.start", "status": CLIENT_CLOSED_REQUEST, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def only_disconnects(error: BaseException) -> bool:
    """Whether an exception says only that the client has left."""
    if isinstance(error, BaseExceptionGroup):
        return all(only_disconnects(inner) for inner in error.exceptions)
    return isinstance(error, ClientDisconnect)
