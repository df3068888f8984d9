"""The promise: a request handler stops when its client goes away.

A request runs inside one block, which lasts as long as its client. This file opens the block, and it is the only one that
cancels anything. It learns of the departure in one of two ways:

    on microasgi's server    scope["extensions"]["microasgi.disconnect"]["subscribe"](visit.leave)
                             no task, no queue, no poll: the server calls back; 2 to 5 µs a request
    on any other server      a task that keeps calling `receive()` until it says `http.disconnect`, and hands the body
                             messages it meets on the way to the handler; about 100 µs a request

What the block promises:

* Leaving cancels the block, wherever the handler waits: once, and after a grace for good (delivery.py). It respects
  `anyio.CancelScope(shield=True)`.
* Not after the last byte of the response was handed over, and never anything outside the block: not the connection's next
  request, not a background task, not the lifespan.
* A route with `on_disconnect="finish"` isn't cancelled at all.

What it can't do: see through a server that doesn't report the departure. Behind `Expect: 100-continue` the task waits until the
handler asks for the body, because asking is what makes a server send the 100. And it reads ahead 64 KiB, no further.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import anyio

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.exceptions import ClientDisconnect
from microasgi.promise.delivery import Block
from microasgi.promise.pump import Pump

logger = logging.getLogger("microasgi")

OnDisconnect = Literal["cancel", "finish"]

EXTENSION = "microasgi.disconnect"
VISIT = "microasgi.visit"
"""The scope's key for the request's `Visit`."""


class Visit(Block):
    """One client's presence during one request, and the block that lasts as long.

    gone: whether the client left before its response was complete.
    listeners: how many tasks of another framework's app wait in `receive()`, and so will be told.
    kept_body: the request's body, once somebody has read all of it: every `Request` made for this visit gives the same.
    body_streamed: whether somebody has begun to read it.
    responding: whether a response may have begun, so that it is too late for another one.
    background: what to run after the block, once the response is out.
    route: the template of the route that was found, for the log.
    subscribe: the server's, if it has the extension.
    """

    gone = False
    listeners = 0
    kept_body: bytes | None = None
    body_streamed = False
    responding = False
    background: Any = None
    route = ""
    subscribe: Callable[[Callable[[], object]], Callable[[], object]] | None = None
    _waiters: tuple[anyio.Event, ...] = ()

    def __init__(self, scope: Scope, on_disconnect: OnDisconnect, cleanup_grace: float) -> None:
        self.cleanup_grace = cleanup_grace
        self._on_disconnect = on_disconnect
        self._method: str = scope["method"]
        self._path: str = scope["path"]

    def attach(self) -> Callable[[], object]:
        """Have the server tell us."""
        return self.subscribe(self.leave) if self.subscribe is not None else super().attach()

    def leave(self) -> bool:
        """The client is gone. Called once, by whoever noticed; True if that cancels the handler."""
        self.gone = True
        for waiter in self._waiters:
            waiter.set()
        if self._on_disconnect != "cancel":
            return False
        if self.listeners:
            # Quart and Django run the handler in a task of their own and wait for it and `receive()` at once. Cancelled there they
            # leave that task behind; told there they stop it, and clean up. So: told first, and cancelled if that doesn't help.
            self.cancel_after(self.cleanup_grace)
        else:
            self.cancel()
        return True

    def listening(self, receive: Receive) -> Receive:
        """The same `receive()`, for another framework's app: whoever waits in it is told of the departure instead of cancelled."""

        async def listening_receive() -> Message:
            self.listeners += 1
            try:
                return await receive()
            finally:
                self.listeners -= 1

        return listening_receive

    def set_policy(self, on_disconnect: OnDisconnect | None, cleanup_grace: float | None) -> None:
        """A route has been found, and has its own opinion; None is none."""
        if cleanup_grace is not None:
            self.cleanup_grace = cleanup_grace
        if on_disconnect is not None:
            self._on_disconnect = on_disconnect
            if self.gone and on_disconnect == "cancel":
                self.cancel()
            elif self.cancelled:  # what must finish isn't begun, only to be cancelled at its first await
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
    extension = scope.get("extensions", {}).get(EXTENSION)
    pump: Pump | None = None
    began = 0.0
    if extension is not None:
        visit.subscribe = extension["subscribe"]
    else:
        began = time.monotonic()
        pump = Pump(receive, send, scope)
        visit.subscribe, receive, send = pump.subscribe, pump.receive, pump.send
    try:
        rest = visit.start(app(scope, receive, send))  # type: ignore[arg-type]
        if rest is not None:
            await (rest if pump is None else _run_pumped(rest, visit, pump, began))
    except BaseException as error:
        if not visit.gone or not _only_disconnects(error):
            raise
    finally:
        visit.subscribe = None  # the server's scope holds the visit, and this holds what is the server's
    if visit.background is not None:
        await visit.background()


async def _run_pumped(rest: Awaitable[None], visit: Visit, pump: Pump, began: float) -> None:
    """Await the rest of a call on another server, which says nothing about clients that left."""
    try:
        await rest
        await pump.settle()
    finally:
        await pump.end()
        if visit.gone:
            logger.info("%s 499 %.3fs the client left", visit.describe(), time.monotonic() - began)


class CancelOnDisconnect:
    """The promise around any ASGI app, on any server: its handlers stop when their clients go away.

        app = CancelOnDisconnect(FastAPI())

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
            await run_while_connected(self._listening, scope, receive, send, cleanup_grace=self.cleanup_grace)
        else:
            await self.app(scope, receive, send)

    async def _listening(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, scope[VISIT].listening(receive), send)


def check_policy(on_disconnect: object, cleanup_grace: float | None) -> None:
    """Check what a route or a router says about the disconnect; None is no opinion.

    :raises ValueError: an option is out of its range
    """
    if on_disconnect not in ("cancel", "finish", None):
        raise ValueError(f"on_disconnect is 'cancel' or 'finish', not {on_disconnect!r}")
    if cleanup_grace is not None and not cleanup_grace >= 0:
        raise ValueError(f"cleanup_grace is a number of seconds, at least 0, not {cleanup_grace!r}")


def _only_disconnects(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_only_disconnects(inner) for inner in error.exceptions)
    return isinstance(error, ClientDisconnect)
