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

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.exceptions import ClientDisconnect, only_disconnects
from microasgi.policy import OnDisconnect
from microasgi.promise.delivery import Block
from microasgi.promise.foreign import Foreign, answer_nobody
from microasgi.promise.pump import Pump

EXTENSION = "microasgi.disconnect"

VISIT = "microasgi.visit"
"""The scope's key for the request's `Visit`."""


class Visit(Foreign):
    """One client's presence during one request.

    block: lasts as long.
    gone: whether the client left before its response was complete. A thread may ask.
    route: the template of the route that was found, for the log.
    answered: whether a response has begun.
    afterwards: what to run behind the block, once the response is out. A departure doesn't touch it.
    instead: the answer, if somebody else has cancelled the block before the response had begun.
    time_limit: the one that holds (timeouts.py).
    progress: how far the request has come, for all who have a hand in it (request_body.py).
    extension: the server's `microasgi.disconnect`, if it has that.
    """

    gone = False
    route = ""
    afterwards: Callable[[], Awaitable[object]] | None = None
    instead: ASGIApp | None = None
    time_limit: Any = None
    progress: Any = None
    extension: Any = None
    block_class = Block
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
        if self._listens_elsewhere:  # it is told there, and cancelled if that doesn't help
            self.block.cancel_after(self.block.cleanup_grace, self.describe)
        else:
            self.block.cancel(self.describe)
        return True

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
            await (rest if pump is None else pump.run(rest, visit))
    except BaseException as error:
        if not visit.gone or not only_disconnects(error):
            raise
    if visit.block.cancelled and not visit.answered:
        await (answer_nobody(server_send) if visit.instead is None else visit.instead(scope, receive, server_send))
    if visit.afterwards is not None:
        await visit.afterwards()
