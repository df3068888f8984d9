"""Who answers an exception.

    what was raised ── HTTPException, or another framework's ── the handler for its status
                                                             ── the handler of its nearest class, but Exception
                                                             ── its own text
                    └─ anything else ── the handler of its nearest class
                                     ── the handler for 500 ┐ is logged: it is a bug. With `debug` a page that shows it
                                     ── the server's 500    ┘ is in the place of both

Asked are the Routers that the request has come through, from the innermost outwards, as long as no response has begun. What an exception
handler raises itself is for the next one. Of a WebSocket it is the handshake that is answered, as long as the handler hasn't accepted.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.calling import call_any
from microasgi.debug import debug_page
from microasgi.exceptions import ClientDisconnect, HTTPException, WebSocketException, sole
from microasgi.handshakes import FORBIDDEN, Handshake
from microasgi.levels import LEVELS, Level
from microasgi.promise.visit import VISIT, Visit
from microasgi.requests import Request
from microasgi.responses import JSONResponse, PlainTextResponse, Response
from microasgi.returns import respond, to_response
from microasgi.signatures import name_of

ExceptionHandler: TypeAlias = Callable[[Request, Any], Any]
Handlers: TypeAlias = Mapping[int | type[Exception], ExceptionHandler]

logger = logging.getLogger("microasgi")

_UNANSWERED: Mapping[type[Exception], str] = {
    WebSocketException: "it closes a WebSocket with its code",
    ClientDisconnect: "the client has left, and nobody would get the answer",
}
"""What a handler raises or meets that ends in no response, and why."""


async def answer(error: Exception, scope: Scope, receive: Receive, *, foreign: bool = False) -> ASGIApp | None:
    """The response to an exception. None: its client has left, so that nobody gets one.

    :param foreign: it comes out of another framework's app or middleware
    :raises Exception: it has no answer, or it is too late for one
    """
    visit: Visit = scope[VISIT]
    levels: tuple[Level, ...] = scope[LEVELS]
    left = visit.gone and not visit.finishes
    raised = error
    try:
        if isinstance(error, ClientDisconnect):
            raise raised
        error = _translated(_sole(error, foreign, levels), foreign, levels)
        if left and _is_answer(error, levels):
            return None
        if left or visit.answered:
            raise raised
        debug = any(level.router.debug for level in levels)
        return await _ask(error, raised, Request(scope, receive), levels, debug=debug)
    finally:
        del error, raised  # with its traceback, it would hold this frame, and this frame it, and the handler's frames with them


async def _ask(error: Exception, raised: Exception, request: Request, levels: tuple[Level, ...], *, debug: bool) -> ASGIApp:
    """What the first Router makes of it that has a handler."""
    try:
        expected = _is_answer(error, levels)
        if debug and not expected:
            _log(request, raised)
            return debug_page(request, raised)
        for place, level in enumerate(levels):
            handler = _handler_for(error, level.router.exception_handlers)
            if handler is None:
                continue
            if not expected:
                _log(request, raised)
            try:
                return to_response(await call_any(handler, request, error), f"exception handler {name_of(handler)}")
            except Exception as own:
                return await _ask(own, own, request, levels[place + 1 :], debug=debug)
        if isinstance(error, HTTPException):
            return plain_answer(error)
        raise raised
    finally:
        del error, raised


def plain_answer(error: HTTPException) -> Response:
    """What an HTTPException says without anybody's help."""
    if error.status_code in (204, 304):
        return Response(status_code=error.status_code, headers=error.headers)
    if isinstance(error.detail, str):
        return PlainTextResponse(error.detail, error.status_code, error.headers)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def check_answerable(key: int | type[Exception]) -> None:
    """An exception handler answers, and these have no answer.

    :raises TypeError: this is one of them
    """
    for cls, why in _UNANSWERED.items():
        if isinstance(key, type) and issubclass(key, cls):
            name = key.__name__
            raise TypeError(f"an exception handler for {name} would never be asked: {why}; write try: … except {name}: in the handler")


def answering(app: ASGIApp) -> ASGIApp:
    """Middleware around which exceptions are answered, as they are around a handler."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        visit: Visit = scope[VISIT]
        request, answer_with = scope, send
        if scope["type"] == "websocket":
            handshake = Handshake(scope, receive, send)
            request, receive, answer_with = handshake.request.scope, handshake.receive, handshake.send

        async def told_send(message: Any) -> None:
            visit.answered = True
            await send(message)

        try:
            await app(scope, receive, told_send)
            return
        except Exception as error:
            if isinstance(error, WebSocketException) and request is not scope and not visit.answered:
                response: ASGIApp | None = plain_answer(HTTPException(FORBIDDEN))  # there is nothing yet that could be closed
            else:
                response = await answer(error, request, receive, foreign=True)
        if response is not None:
            await respond(response, request, receive, answer_with)

    return answered


def _log(request: Request, error: Exception) -> None:
    logger.error("Unexpected exception for %s %r", request.method, request.path, exc_info=error)


def _handler_for(error: Exception, handlers: Handlers) -> ExceptionHandler | None:
    expected = isinstance(error, HTTPException)
    if expected and error.status_code in handlers:  # type: ignore[attr-defined]
        return handlers[error.status_code]  # type: ignore[attr-defined]
    for cls in type(error).__mro__:
        if cls in handlers and not (expected and cls is Exception):
            return handlers[cls]
    return None if expected else handlers.get(500)


def _is_answer(error: Exception, levels: tuple[Level, ...]) -> bool:
    """Whether this exception is a way to answer: an HTTPException, or one with a handler that isn't for all that go wrong."""
    if isinstance(error, HTTPException):
        return True
    for level in levels:
        handlers = level.router.exception_handlers
        if (handler := _handler_for(error, handlers)) is not None:
            return handler not in (handlers.get(500), handlers.get(Exception))
    return False


def _sole(error: Exception, foreign: bool, levels: tuple[Level, ...]) -> Exception:
    """The answer that a task group has put into a group, if nothing else has gone wrong in there."""
    inner = sole(error)
    if inner is error or not isinstance(inner, Exception) or _is_answer(error, levels):
        return error
    return inner if _is_answer(_translated(inner, foreign, levels), levels) else error


def _translated(error: Exception, foreign: bool, levels: tuple[Level, ...]) -> Exception:
    """Another framework's HTTPException as ours, unless somebody has a handler for its own class.

    Out of an app or middleware, what has a status and a detail is one. What a handler raises must be called so, too: some clients'
    exceptions have both, and the status of another service is not the answer to this request.
    """
    if isinstance(error, HTTPException) or _is_answer(error, levels):
        return error
    if not foreign and all(cls.__name__ != "HTTPException" for cls in type(error).__mro__):
        return error
    status, headers = getattr(error, "status_code", None), getattr(error, "headers", None)
    if not isinstance(status, int) or not hasattr(error, "detail"):
        return error
    try:
        return HTTPException(status, error.detail, headers).with_traceback(error.__traceback__)
    except (TypeError, ValueError):  # it is none of ours after all
        return error
