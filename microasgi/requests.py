"""The request, as a handler sees it."""

from collections.abc import AsyncGenerator
from functools import cached_property
from typing import Any, Unpack, overload

from anyio.lowlevel import checkpoint

from microasgi.asgi import Receive, Scope
from microasgi.datastructures import State
from microasgi.exceptions import ClientDisconnect
from microasgi.forms import FormData, FormLimits, FormReading
from microasgi.parsing import Model, allowed, gather, parse_json
from microasgi.promise.visit import VISIT, Visit
from microasgi.request_head import RequestHead

_TURNS = 3
"""Turns of the event loop until what a socket has is known: the loop looks, then tells; asyncio tells of an RST a turn later."""


class Progress:
    """How far a request has come, for all who have a hand in it: handlers, exception handlers and middleware have a Request each.

    kept_body: the request's body, once somebody has read all of it.
    body_streamed: whether somebody has begun to read it.
    form: the body as a form, once somebody has read it.
    """

    kept_body: bytes | None = None
    body_streamed = False
    form: FormData | None = None


class Request(RequestHead):
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
    def _progress(self) -> Progress:
        visit: Visit | None = self.scope.get(VISIT)
        if visit is None:
            return Progress()
        visit.progress = visit.progress or Progress()
        return visit.progress  # type: ignore[no-any-return]

    @cached_property
    def state(self) -> State:
        """The lifespan's state, copied for this request."""
        return State(self.scope.setdefault("state", {}))

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body, piece by piece as it arrives.

        :raises ClientDisconnect: the client left in the middle of it
        :raises RuntimeError: it has been read already
        """
        if self._progress.kept_body is not None:
            yield allowed(self._progress.kept_body, self.scope.get("extensions"))
            return
        if self._progress.body_streamed:
            raise RuntimeError("the request's body was streamed already, and is not kept; read it once, or use body()")
        self._progress.body_streamed = True
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect("the client left in the middle of the request's body")
            more = message.get("more_body", False)
            if body := message.get("body", b""):
                yield body

    async def body(self, limit: int | None = None) -> bytes:
        """The whole body, which is kept: ask as often as you like.

        :param limit: how many bytes it may have
        :raises HTTPException: 413, if it has more; unread, where its Content-Length says so
        :raises ClientDisconnect: the client left in the middle of it
        """
        progress = self._progress
        if progress.kept_body is None or limit is not None:
            progress.kept_body = await gather(self.stream(), self.headers, limit)
        return allowed(progress.kept_body, self.scope.get("extensions"))

    @overload
    async def json(self, model: None = None, *, limit: int | None = None) -> Any: ...
    @overload
    async def json(self, model: type[Model], *, limit: int | None = None) -> Model: ...
    async def json(self, model: Any = None, *, limit: int | None = None) -> Any:
        """The body, read as JSON.

        :param model: the type to make of it: a dataclass, pydantic's or msgspec's models, and what these libraries make of others
        :param limit: as for `body`
        :raises HTTPException: 400, if it isn't JSON; 422, with what is wrong where, if it isn't what the model says
        :raises ClientDisconnect: the client left in the middle of it
        """
        return parse_json(await self.body(limit), model)

    def form(self, **limits: Unpack[FormLimits]) -> FormReading:
        """The body as a form: `await request.form()`, or `async with`, which closes its files at the end. Ask again, and you get the same.

        One that is neither multipart nor urlencoded is an empty form, as in Starlette: with `content-type: text/plain`, or with none.

        :param limits: max_files (100), max_fields (1000); in bytes max_part_size (1 MiB), max_memory (16 MiB), limit (none)
        :raises HTTPException: 413, if it breaks a limit; 400, if it is malformed
        """
        return FormReading(self.headers, self.stream, limits, self._progress)

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
