"""What a handler returned: made a response, or refused with what to write instead; and how a response is sent."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.calling import call_any, is_async
from microasgi.promise.visit import VISIT, Visit
from microasgi.responses import JSONResponse, PlainTextResponse, Response

Result: TypeAlias = Response | ASGIApp | str | bytes | Mapping[Any, Any] | list[Any] | None
"""What a handler may return: a response of ours or of another framework, or what one is made of."""


def to_response(value: Any, handler: object = "a handler") -> ASGIApp:
    """What a handler returned, as a response.

    :param handler: who returned it, for the message
    :raises TypeError: it is nothing that a response can be made of
    """
    match value:
        case Response():
            return value
        case str():
            return PlainTextResponse(value)
        case bytes():
            return Response(value, media_type="application/octet-stream")
        case dict() | list():
            return JSONResponse(value)
        case None:
            return Response(status_code=204)
        case _ if is_async(value) and not isinstance(value, type):  # a foreign framework's response is an ASGI app too
            return value  # type: ignore[no-any-return]
        case Mapping():
            return JSONResponse(value)
    told = f"{handler} returned {_told(value)}; a handler returns a response, str, bytes, dict, list or None"
    hint = _hint(value)
    if inspect.iscoroutine(value):
        value.close()  # or Python complains that nobody awaited it
    raise TypeError(f"{told}{f': {hint}' if hint else ''}")


def _told(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a value of type {type(value).__name__}"


def _hint(value: Any) -> str:
    """What was meant, perhaps."""
    match value:
        case type() if issubclass(value, Response):
            return f"write {value.__name__}(…)"
        case tuple() if (status := next((part for part in value if isinstance(part, int)), None)) is not None:
            body = next((part for part in value if not isinstance(part, int)), "")
            kind = PlainTextResponse if isinstance(body, str) else Response if isinstance(body, bytes) else JSONResponse
            return f"(body, status) is no response, write {kind.__name__}(body, {status})"
        case _ if inspect.isawaitable(value):
            return "is an await missing?"
        case _ if inspect.isasyncgen(value):
            return "write StreamingResponse(…) around it, or EventStream(…) if it yields Events"
        case _ if inspect.isgenerator(value):
            return "write StreamingResponse(…) around it"
        case _ if callable(value):
            return "was it meant to be called?"
    return "write JSONResponse(…) around it, if JSON is meant"


async def respond(response: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Send it, and leave what it has for the background to the visit."""
    visit: Visit = scope[VISIT]
    visit.answered = True
    try:
        await response(scope, receive, send)
    except OSError:
        # The result of a handler that finishes without its client is dropped; what it left for the background isn't.
        if not (visit.gone and visit.finishes):
            raise
    if isinstance(response, Response) and response.background is not None:  # another framework's sees to its own
        visit.afterwards = partial(_one_by_one, visit.afterwards, response.background)


async def _one_by_one(first: Callable[[], Awaitable[object]] | None, then: Callable[[], Any]) -> None:
    """Middleware may have added something to what the handler's response had."""
    if first is not None:
        await first()
    await call_any(then)
