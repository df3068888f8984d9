"""The request, as a handler sees it: what it says (`request_head`), what it brings (`request_body`), and whether its client is there."""

from functools import cached_property
from typing import Any

from anyio.lowlevel import checkpoint

from microasgi.asgi import Receive, Scope
from microasgi.datastructures import State
from microasgi.promise.visit import VISIT, Visit
from microasgi.request_body import RequestBody

_TURNS = 3
"""Turns of the event loop until what a socket has is known: the loop looks, then tells; asyncio tells of an RST a turn later."""


class Request(RequestBody):
    """One HTTP request.

    scope: the ASGI scope it was made from.
    method: in upper case.
    path: decoded, with the prefix of any mount.
    path_params: what the route's path captured, converted.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.path_params: dict[str, Any] = scope.get("path_params", {})
        self._receive = receive

    def __repr__(self) -> str:
        body = ", body read" if self._progress.kept_body is not None else ", body streamed" if self._progress.body_streamed else ""
        gone = ", client gone" if VISIT in self.scope and self.gone else ""
        return f"<Request {self.method} {self.path!r}{body}{gone}>"

    @cached_property
    def state(self) -> State:
        """The lifespan's state, copied for this request."""
        return State(self.scope.setdefault("state", {}))

    @property
    def gone(self) -> bool:
        """Whether the client has left, as far as it is known by now. To be asked from threads, too."""
        return self._visit.gone

    async def is_disconnected(self) -> bool:
        """Whether the client has left. Lets the event loop look first; never takes anything of the body."""
        for _ in range(_TURNS):
            await checkpoint()
        return self._visit.gone

    async def wait_disconnected(self) -> None:
        """Return when the client has left. Never takes anything of the body.

        Under `on_disconnect="cancel"` the departure cancels this wait too, unless it is shielded.
        """
        await self._visit.wait_gone()

    @property
    def _visit(self) -> Visit:
        try:
            visit: Visit = self.scope[VISIT]
        except KeyError:
            raise RuntimeError("outside a Router, wrap the app in CancelOnDisconnect to ask whether the client is there") from None
        return visit
