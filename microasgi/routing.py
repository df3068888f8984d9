"""From a path to a handler, and from what the handler returns to a response.

    Router ── the disconnect's block opens (promise/visit.py)
      └─ middleware ── each an ASGI app around the next
           └─ _dispatch ── Route:  handler(Request) → Response
                       └── Mount:  any ASGI app under a prefix, another Router too

A Router within a Router adds to the block that is open already. Where it has no opinion on `on_disconnect`, `cleanup_grace` or an
exception, the one around it decides.
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.calling import call_any
from microasgi.exceptions import HTTPException
from microasgi.lifespan import run_lifespan
from microasgi.limits import check_limit, limit_body
from microasgi.matching import RouteTable
from microasgi.promise.unknown import missing
from microasgi.promise.visit import VISIT, OnDisconnect, Visit, check_policy, run_while_connected
from microasgi.requests import BEGUN, OURS, PROGRESS, THEIRS, Progress, Request
from microasgi.responses import PlainTextResponse, to_response
from microasgi.routes import Handler, Mount, Route, told_policy

ExceptionHandler = Callable[[Request, Any], Any]
Lifespan = Callable[["Router"], AbstractAsyncContextManager[Any]]
MiddlewareFactory = Callable[[ASGIApp], ASGIApp]
AnyHandler = TypeVar("AnyHandler", bound=Handler)

logger = logging.getLogger("microasgi")


class Router:
    """An ASGI app made of routes. The first one that matches, in the order they were added, answers.

        routes = Router()

        @routes.get("/items/{id:int}")
        async def item(request):
            return {"id": request.path_params["id"]}

    :param routes: `Route`s and `Mount`s to begin with
    :param lifespan: an async context manager function, called with this router at startup; the mapping it may yield becomes
        `request.state`
    :param middleware: ASGI middleware, outermost first: callables from app to app, or `Middleware(cls, …)`
    :param exception_handlers: by status or exception class: called with the request and the exception, return as handlers do
    :param on_disconnect: what happens to a handler whose client leaves: `cancel` or `finish`. Not given, the Router around this
        one decides, and `cancel` is what the outermost does
    :param cleanup_grace: seconds that a cancelled handler's cleanup may take; not given, as the Router around, and 5 outermost
    :param limit_body: bytes of a request's body, more are answered with 413; not given, as the Router around or the server
    """

    def __init__(
        self,
        routes: Sequence[Route | Mount] = (),
        *,
        lifespan: Lifespan | None = None,
        middleware: Sequence[MiddlewareFactory] = (),
        exception_handlers: Mapping[int | type[Exception], ExceptionHandler] | None = None,
        on_disconnect: OnDisconnect | None = None,
        cleanup_grace: float | None = None,
        limit_body: int | None = None,
    ) -> None:
        check_policy(on_disconnect, cleanup_grace)
        check_limit(limit_body)
        self._table = RouteTable()
        self.routes = self._table.routes
        self.exception_handlers = dict(exception_handlers or {})
        self.on_disconnect = on_disconnect
        self.cleanup_grace = cleanup_grace
        self.limit_body = limit_body
        self._lifespan = lifespan
        for route in routes:
            self.add(route)
        self._app: ASGIApp = self._dispatch
        if middleware:  # some, Sentry's for one, take a bound method for an app of ASGI 2

            async def innermost(scope: Scope, receive: Receive, send: Send) -> None:
                await self._dispatch(scope, receive, send)

            self._app = innermost
        for wrap in reversed(middleware):
            self._app = wrap(self._app)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.routes)} routes{told_policy(self.on_disconnect, self.cleanup_grace)}>"

    # Adding routes.

    def add(self, route: Route | Mount) -> None:
        """Add one route at the end."""
        if not isinstance(route, Route | Mount):
            raise TypeError(f"routes are Route and Mount objects, not {type(route).__name__}; an app goes into Mount(prefix, app)")
        self._table.add(route)

    def route(
        self,
        path: str,
        methods: Collection[str] | None = None,
        *,
        name: str | None = None,
        on_disconnect: OnDisconnect | None = None,
        cleanup_grace: float | None = None,
        limit_body: int | None = None,
    ) -> Callable[[AnyHandler], AnyHandler]:
        """Decorate a handler. The parameters are those of `Route`."""

        def decorate(endpoint: AnyHandler) -> AnyHandler:
            policy: Any = {"on_disconnect": on_disconnect, "cleanup_grace": cleanup_grace, "limit_body": limit_body}
            self.add(Route(path, endpoint, methods=methods, name=name, **policy))
            return endpoint

        return decorate

    def get(self, path: str, **options: Any) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for GET, and HEAD with it."""
        return self.route(path, ["GET"], **options)

    def post(self, path: str, **options: Any) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for POST."""
        return self.route(path, ["POST"], **options)

    def put(self, path: str, **options: Any) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for PUT."""
        return self.route(path, ["PUT"], **options)

    def patch(self, path: str, **options: Any) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for PATCH."""
        return self.route(path, ["PATCH"], **options)

    def delete(self, path: str, **options: Any) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for DELETE."""
        return self.route(path, ["DELETE"], **options)

    def head(self, path: str, **options: Any) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for HEAD alone, where it should not be what GET would answer."""
        return self.route(path, ["HEAD"], **options)

    def options(self, path: str, **options: Any) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for OPTIONS."""
        return self.route(path, ["OPTIONS"], **options)

    def mount(
        self,
        path: str,
        app: ASGIApp,
        *,
        name: str | None = None,
        on_disconnect: OnDisconnect | None = None,
        cleanup_grace: float | None = None,
        limit_body: int | None = None,
    ) -> None:
        """Put an app under a prefix. The parameters are those of `Mount`."""
        self.add(Mount(path, app, name=name, on_disconnect=on_disconnect, cleanup_grace=cleanup_grace, limit_body=limit_body))

    # Serving.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.limit_body is not None and scope["type"] == "http":
            receive = limit_body(self.limit_body, scope, receive)
        match scope["type"]:
            case "http" if VISIT in scope:
                scope[VISIT].set_policy(self.on_disconnect, self.cleanup_grace)
                if PROGRESS not in scope:
                    scope[PROGRESS] = Progress()
                await self._app(scope, receive, send)
            case "http":
                scope[PROGRESS] = Progress()
                grace = self.cleanup_grace if self.cleanup_grace is not None else 5.0
                await run_while_connected(self._app, scope, receive, send, self.on_disconnect or "cancel", grace)
            case "lifespan":
                missing()  # warns
                await run_lifespan(self.lifespan_context, scope, receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000, "reason": ""})
            case other:
                raise RuntimeError(f"a Router serves http, not {other!r}")

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope[VISIT]
        progress: Progress = scope[PROGRESS]
        around = progress.answer
        progress.answer = OURS
        try:
            response = await self._answer(visit, progress, scope, receive, send)
        except Exception as error:
            error = self._sole(error)
            if visit.gone and not visit.finishes and self._is_answer(error):
                return  # which nobody gets
            if progress.answer is not OURS or (visit.gone and not visit.finishes):
                raise
            progress.answer = around
            response = to_response(await self._handle(error, Request(scope, receive), outermost=around is not OURS))
        if response is not None:
            progress.answer = BEGUN
            await self._respond(response, visit, scope, receive, send)

    async def _answer(self, visit: Visit, progress: Progress, scope: Scope, receive: Receive, send: Send) -> ASGIApp | None:
        """The response to be sent; None if a mounted app has been asked for it, and has sent its own."""
        path = _route_path(scope)
        found, params, matched = self._table.find(scope["method"], path or "/")
        if params:
            scope["path_params"] = {**scope.get("path_params", {}), **params}
        visit.route += found.path
        visit.set_policy(found.on_disconnect, found.cleanup_grace)
        if found.limit_body is not None:
            receive = limit_body(found.limit_body, scope, receive)
        if isinstance(found, Route):
            return to_response(await found.call(Request(scope, receive)))
        if not isinstance(found.app, Router):
            progress.answer = THEIRS
            receive, send = visit.foreign(receive, send)
        await found.app({**scope, "root_path": scope.get("root_path", "") + path[:matched]}, receive, send)
        return None

    async def _respond(self, response: ASGIApp, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        visit.answered = True
        try:
            await response(scope, receive, send)
        except OSError:
            # The result of a handler that finishes without its client is dropped; what it left for the background isn't.
            if not (visit.gone and visit.finishes):
                raise
        background = getattr(response, "background", None)
        if background is not None:
            visit.afterwards = partial(call_any, background)

    async def _handle(self, error: Exception, request: Request, *, outermost: bool) -> Any:
        """What the exception's handler returns; without one, the Router around this one is asked."""
        handler = self._handler_for(error)
        if handler is None:
            if outermost and isinstance(error, HTTPException):
                return PlainTextResponse(error.detail, error.status_code, error.headers)
            try:
                raise error
            finally:
                del error  # with its traceback, it would hold this frame, and this frame it, and the handler's frames with them
        if not self._is_answer(error):
            logger.error("Unexpected exception for %s %r", request.method, request.path, exc_info=error)
        return await call_any(handler, request, error)

    def _handler_for(self, error: Exception) -> ExceptionHandler | None:
        handlers = self.exception_handlers
        if isinstance(error, HTTPException) and error.status_code in handlers:
            return handlers[error.status_code]
        for cls in type(error).__mro__:
            if cls in handlers:
                return handlers[cls]
        return None if isinstance(error, HTTPException) else handlers.get(500)

    def _is_answer(self, error: Exception) -> bool:
        """Whether this exception is a way to answer: an HTTPException, or one with a handler that isn't for all that go wrong."""
        handlers = self.exception_handlers
        return isinstance(error, HTTPException) or self._handler_for(error) not in (None, handlers.get(500), handlers.get(Exception))

    def _sole(self, error: Exception) -> Exception:
        """The answer that a task group has put into a group, if nothing else has gone wrong in there."""
        sole: BaseException = error
        while isinstance(sole, BaseExceptionGroup) and len(sole.exceptions) == 1:
            sole = sole.exceptions[0]
        return sole if isinstance(sole, Exception) and self._handler_for(error) is None and self._is_answer(sole) else error

    @asynccontextmanager
    async def lifespan_context(self) -> AsyncIterator[dict[str, Any]]:
        """This router's lifespan, and those of the routers mounted in it; yields the state of all."""
        state: dict[str, Any] = {}
        async with AsyncExitStack() as stack:
            if self._lifespan is not None:
                state.update(await stack.enter_async_context(self._lifespan(self)) or {})
            for route in self.routes:
                if isinstance(route, Mount) and isinstance(route.app, Router):
                    state.update(await stack.enter_async_context(route.app.lifespan_context()))
            yield state


def _route_path(scope: Scope) -> str:
    """The path below `root_path`: what this router has to match."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path
