"""A request's body: piece by piece, as a whole, and read as JSON or as a form."""

from collections.abc import AsyncGenerator
from functools import cached_property
from typing import Any, Unpack, overload

from microasgi.asgi import Receive
from microasgi.exceptions import ClientDisconnect
from microasgi.forms import FormData, FormLimits, FormReading
from microasgi.parsing import Model, allowed, gather, parse_json
from microasgi.promise.visit import VISIT, Visit
from microasgi.request_head import RequestHead


class Progress:
    """How far a request has come, for all who have a hand in it: handlers, exception handlers and middleware have a Request each.

    kept_body: the request's body, once somebody has read all of it.
    body_streamed: whether somebody has begun to read it.
    form: the body as a form, once somebody has read it.
    """

    kept_body: bytes | None = None
    body_streamed = False
    form: FormData | None = None


class RequestBody(RequestHead):
    """The part of a Request that its client goes on sending while the handler runs."""

    _receive: Receive

    @cached_property
    def _progress(self) -> Progress:
        visit: Visit | None = self.scope.get(VISIT)
        if visit is None:
            return Progress()
        visit.progress = visit.progress or Progress()
        return visit.progress  # type: ignore[no-any-return]

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
