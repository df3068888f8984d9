"""From a path to a handler, and from what the handler returns to a response.

    Router ── the disconnect's block opens (promise/visit.py)
      └─ middleware ── each an ASGI app around the next
           └─ _dispatch ── Route:  handler(Request) → Response
                       └── Mount:  any ASGI app under a prefix, another Router too

A Router within a Router adds to the block that is open already. Where it has no opinion on `on_disconnect`, `cleanup_grace` or an
exception, the one around it decides.
"""

from collections.abc import Mapping, Sequence

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.checks import check_parts
from microasgi.conversing import WebSocketRoute
from microasgi.declaring import Declarations, Lifespan
from microasgi.errors import ExceptionHandler, answer, answering
from microasgi.levels import LEVELS, Level, below, route_path
from microasgi.lifespan import run_lifespan
from microasgi.limits import limit_body
from microasgi.middleware import MiddlewareFactory, inside
from microasgi.mounting import Mount, Mounted
from microasgi.nowhere import Nowhere
from microasgi.opinions import heed
from microasgi.policy import OnDisconnect
from microasgi.promise.unknown import missing
from microasgi.promise.visit import VISIT, Visit, run_while_connected
from microasgi.requests import Request
from microasgi.returns import respond, to_response
from microasgi.routes import Route
from microasgi.timeouts import limit_time


class Router(Declarations):
    """An ASGI app made of routes. The first one that matches, in the order they were added, answers.

        routes = Router()

        @routes.get("/items/{id:int}")
        async def item(request):
            return {"id": request.path_params["id"]}

    :param routes: `Route`s and `Mount`s to begin with
    :param lifespan: an async context manager function, called with this router at startup; the mapping it may yield becomes
        `request.state`
    :param middleware: ASGI middleware, outermost first: callables from app to app, or `Middleware(cls, …)`
    :param exception_handlers: as the decorator `exception_handler`, by status or exception class
    :param on_disconnect: what happens to a handler whose client leaves: `cancel` or `finish`. Not given, the Router around this
        one decides, and `cancel` is what the outermost does
    :param cleanup_grace: seconds that a cancelled handler's cleanup may take; not given, as the Router around, and 5 outermost
    :param limit_body: bytes of a request's body, more are answered with 413; not given, as the Router around or the server
    :param timeout: seconds that a handler may take until it is stopped and answered for with 503; not given, as the Router around
    :param redirect_slashes: send who asks for `/a/` to `/a`, or the other way round, where only that has a route
    :param debug: answer an exception that nobody expected with a page that shows it. Never where others can ask
    """

    def __init__(
        self,
        routes: Sequence[Route | Mount | WebSocketRoute] = (),
        *,
        lifespan: Lifespan | None = None,
        middleware: Sequence[MiddlewareFactory] = (),
        exception_handlers: Mapping[int | type[Exception], ExceptionHandler] | None = None,
        on_disconnect: OnDisconnect | None = None,
        cleanup_grace: float | None = None,
        limit_body: int | None = None,
        timeout: float | None = None,
        redirect_slashes: bool = True,
        debug: bool = False,
    ) -> None:
        check_parts(routes, middleware, exception_handlers)
        super().__init__(self._dispatch, lifespan, on_disconnect, cleanup_grace, limit_body, timeout)
        self._alone = (Level(self, ""),)
        self.debug = debug
        self._nowhere = Nowhere(self._table, redirect_slashes=redirect_slashes)
        for key, handler in (exception_handlers or {}).items():
            self._add_exception_handler(key, handler)
        for route in routes:
            self.add(route)
        if middleware:
            self._app = answering(inside(middleware, self._dispatch))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.routes)} routes{self._policy}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.limit_body is not None and scope["type"] == "http":
            receive = limit_body(self.limit_body, scope, receive)
        match scope["type"]:
            case "http":
                levels, root = scope.get(LEVELS), scope.get("root_path", "")
                scope[LEVELS] = (Level(self, root), *(levels or ())) if levels or root else self._alone
                if VISIT in scope:
                    scope[VISIT].set_policy(self.on_disconnect, self.cleanup_grace)
                    await self._app(scope, receive, send)
                    return
                grace = self.cleanup_grace if self.cleanup_grace is not None else 5.0
                await run_while_connected(self._app, scope, receive, send, self.on_disconnect or "cancel", grace)
            case "lifespan":
                missing()  # warns
                await run_lifespan(self.lifespan_context, scope, receive, send)
            case "websocket":
                await self._call_websocket(self._app, scope, receive, send)
            case other:
                raise RuntimeError(f"a Router serves http and websocket, not {other!r}")

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._dispatch_websocket(scope, receive, send)
            return
        visit: Visit = scope[VISIT]
        around = visit.time_limit
        response: ASGIApp | None
        try:
            try:
                response = await self._answer(scope, receive)
            except Exception as error:
                response = await answer(error, scope, receive)
            if visit.time_limit is not None:
                send = visit.time_limit.holding(send)
            if isinstance(response, Mounted):
                await response(scope, receive, send)
            elif response is not None:
                await respond(response, scope, receive, send)
        finally:
            if visit.time_limit is not around:
                visit.time_limit.end()
                visit.time_limit = around

    async def _answer(self, scope: Scope, receive: Receive) -> ASGIApp:
        """The response to be sent, or a mounted app to be asked for it."""
        visit: Visit = scope[VISIT]
        if self.timeout is not None:
            limit_time(self.timeout, visit, scope)
        path = route_path(scope) if scope.get("root_path") else scope["path"]
        match = self._table.find(scope["method"], path or "/")
        if match is None:
            return self._nowhere.answer(scope, path)
        found, params, matched = match
        if params:
            scope["path_params"] = {**scope.get("path_params", {}), **params}
        visit.route += found.template.path
        receive = heed(found, scope, receive)
        if isinstance(found, Route):
            return to_response(await found.call(Request(scope, receive)), found)
        return Mounted(found.app, below(scope, path, matched), receive)
