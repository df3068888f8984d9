"""How a Router is written down: its routes, its mounts, what answers its exceptions, what goes around it."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from copy import copy
from typing import Any, TypeAlias, TypedDict, TypeVar, Unpack

from microasgi.around import Around, MiddlewareFunction
from microasgi.asgi import ASGIApp
from microasgi.checks import check_exception_handler, check_lifespan, check_middleware_function, check_options, check_path, check_state
from microasgi.conversing import Conversing, Origins, WebSocketHandler, WebSocketRoute
from microasgi.errors import ExceptionHandler, answering, check_answerable
from microasgi.instead import Instead
from microasgi.matching import RouteTable
from microasgi.mounting import Mount
from microasgi.opinions import Opinions
from microasgi.paths import PathTemplate
from microasgi.policy import OnDisconnect
from microasgi.routes import Handler, Route
from microasgi.urls import path_for

AnyHandler = TypeVar("AnyHandler", bound=Handler)
AnyExceptionHandler = TypeVar("AnyExceptionHandler", bound=ExceptionHandler)
AnyMiddleware = TypeVar("AnyMiddleware", bound=MiddlewareFunction)

AnyWebSocketHandler = TypeVar("AnyWebSocketHandler", bound=WebSocketHandler)
AnyRoute = TypeVar("AnyRoute", bound=Route | Mount | WebSocketRoute)

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]


class RouteOptions(TypedDict, total=False):
    """What a route may say besides path, handler and methods. The meanings are those of `Route`."""

    name: str | None
    on_disconnect: OnDisconnect | None
    cleanup_grace: float | None
    limit_body: int | None
    timeout: float | None


class WebSocketOptions(TypedDict, total=False):
    """What a WebSocket's route may say besides path and handler. The meanings are those of `WebSocketRoute`."""

    name: str | None
    on_disconnect: OnDisconnect | None
    cleanup_grace: float | None
    close_grace: float | None
    origins: Origins | None


class Declarations(Conversing, Opinions, Instead):
    """The part of a Router that is used at import.

    routes: all of them, in order.
    exception_handlers: by status or exception class.
    on_disconnect, cleanup_grace, limit_body, timeout: the Router's own opinion; None is none.

    :param dispatch: the app made of the routes, which middleware goes around
    :param lifespan: what is run around the serving
    """

    def __init__(
        self,
        dispatch: ASGIApp,
        lifespan: Lifespan | None,
        on_disconnect: OnDisconnect | None,
        cleanup_grace: float | None,
        limit_body: int | None,
        timeout: float | None,
    ) -> None:
        check_lifespan(lifespan)
        Opinions.__init__(self, on_disconnect, cleanup_grace, limit_body, timeout)
        Conversing.__init__(self)
        self._table = RouteTable()
        self.routes = self._table.routes
        self.exception_handlers: dict[int | type[Exception], ExceptionHandler] = {}
        self._lifespan = lifespan
        self._dispatched = self._app = dispatch
        self._included_in: str | None = None

    def add(self, route: Route | Mount | WebSocketRoute) -> None:
        """Add one route at the end."""
        if not isinstance(route, Route | Mount | WebSocketRoute):
            raise TypeError(f"routes are Route and Mount objects, not {type(route).__name__}; an app goes into Mount(prefix, app)")
        if self._included_in is not None:
            raise RuntimeError(f"{route!r} comes too late: its Router's routes were included below {self._included_in!r} already")
        if not isinstance(route, Route):
            self.websocket_routes.append(route)
        if not isinstance(route, WebSocketRoute):
            self._table.add(route)

    def add_route(self, path: str, endpoint: Handler, methods: Collection[str] | None = None, **options: Unpack[RouteOptions]) -> None:
        """Add a route without a decorator. The parameters are those of `Route`."""
        self.add(Route(path, endpoint, methods=methods, **options))

    def route(
        self, path: str, methods: Collection[str] | None = None, **options: Unpack[RouteOptions]
    ) -> Callable[[AnyHandler], AnyHandler]:
        """Decorate a handler. The parameters are those of `Route`."""
        check_path(path)
        check_options(options, RouteOptions.__annotations__)

        def decorate(endpoint: AnyHandler) -> AnyHandler:
            self.add_route(path, endpoint, methods, **options)
            return endpoint

        return decorate

    def get(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for GET, and HEAD with it."""
        return self.route(path, ["GET"], **options)

    def post(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for POST."""
        return self.route(path, ["POST"], **options)

    def put(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for PUT."""
        return self.route(path, ["PUT"], **options)

    def patch(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for PATCH."""
        return self.route(path, ["PATCH"], **options)

    def delete(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for DELETE."""
        return self.route(path, ["DELETE"], **options)

    def head(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for HEAD alone, where it should not be what GET would answer."""
        return self.route(path, ["HEAD"], **options)

    def options(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[AnyHandler], AnyHandler]:
        """`route` for OPTIONS."""
        return self.route(path, ["OPTIONS"], **options)

    def websocket(self, path: str, **options: Unpack[WebSocketOptions]) -> Callable[[AnyWebSocketHandler], AnyWebSocketHandler]:
        """Decorate the handler of a path's WebSockets. The parameters are those of `WebSocketRoute`."""
        check_path(path)
        check_options(options, WebSocketOptions.__annotations__)

        def decorate(endpoint: AnyWebSocketHandler) -> AnyWebSocketHandler:
            self.add(WebSocketRoute(path, endpoint, **options))
            return endpoint

        return decorate

    def mount(self, path: str, app: ASGIApp, **options: Unpack[RouteOptions]) -> None:
        """Put an app under a prefix. The parameters are those of `Mount`."""
        self.add(Mount(path, app, **options))

    def include(self, router: "Declarations", *, prefix: str = "") -> None:
        """Add the routes of another Router, as if they were written here, below a prefix.

        They keep that Router's opinion of the disconnect. It can't have what belongs to a Router as a whole, middleware, exception
        handlers or a lifespan: `mount` is for those; its `debug` and `redirect_slashes` don't count. Routes that it gets afterwards
        would be missing, so it takes none.

        :raises ValueError: the Router has more than routes
        """
        if not isinstance(router, Declarations):
            raise TypeError(f"include takes a Router, not {type(router).__name__}; write mount(prefix, app) for another app")
        if router is self:
            raise ValueError("a Router can't be included in itself")
        if router._app is not router._dispatched or router.exception_handlers or router._lifespan:
            raise ValueError("a Router with middleware, exception handlers or a lifespan can't be included; write mount(prefix, router)")
        for route in router.routes:
            self.add(_below(prefix, route, router))
        for websocket_route in router.websocket_routes:
            if isinstance(websocket_route, WebSocketRoute):
                self.add(_below(prefix, websocket_route, router))
        router._included_in = prefix or "/"

    def exception_handler(self, key: int | type[Exception]) -> Callable[[AnyExceptionHandler], AnyExceptionHandler]:
        """Decorate what answers an exception: with this status, or of this class. It is called with the request and the exception.

        A handler for `Exception` or 500 answers what nobody expected, which is logged; it isn't asked for an HTTPException. Of a WebSocket
        it answers the handshake, as long as that hasn't been accepted.

        :raises TypeError: an exception of this class has no answer
        """
        check_exception_handler(key, _nothing)

        def decorate(handler: AnyExceptionHandler) -> AnyExceptionHandler:
            self._add_exception_handler(key, handler)
            return handler

        return decorate

    def _add_exception_handler(self, key: int | type[Exception], handler: ExceptionHandler) -> None:
        check_exception_handler(key, handler)
        check_answerable(key)
        self.exception_handlers[key] = handler

    def middleware(self, function: AnyMiddleware) -> AnyMiddleware:
        """Decorate an async function of the request and `call_next` that goes around all that is there so far: the last is the outermost.

        It runs in the handler's task, returns as handlers do, and may raise as they do. Of a WebSocket it is called with the handshake:
        there `call_next` returns a response with the status 101, when the handler has accepted.
        """
        check_middleware_function(function)
        self._app = answering(Around(self._app, function))
        return function

    def url_path_for(self, name: str, /, **params: Any) -> str:
        """The path of the route with this name, percent-encoded; `mount:route` below a mount that has a name.

        :raises NoMatchFound: there is no such route, or it has other parameters
        :raises ValueError: a value doesn't fit into the path
        """
        return path_for(self.routes, name, params)

    @asynccontextmanager
    async def lifespan_context(self) -> AsyncIterator[dict[str, Any]]:
        """This router's lifespan, and those of the routers mounted in it; yields the state of all."""
        state: dict[str, Any] = {}
        async with AsyncExitStack() as stack:
            if self._lifespan is not None:
                state.update(check_state(await stack.enter_async_context(self._lifespan(self)), self._lifespan))
            for route in self.routes:
                if isinstance(route, Mount) and isinstance(route.app, Declarations):
                    state.update(await stack.enter_async_context(route.app.lifespan_context()))
            yield state


def _nothing(request: Any, error: Any) -> None:
    """In place of a handler that isn't known yet."""


def _below(prefix: str, route: AnyRoute, router: Declarations) -> AnyRoute:
    """The route as if it were written below the prefix, with its Router's policy where it has none."""
    twin = copy(route)
    twin.template = PathTemplate(prefix.rstrip("/") + route.path, is_prefix=isinstance(route, Mount))
    if twin.on_disconnect is None:
        twin.on_disconnect = router.on_disconnect
    if twin.cleanup_grace is None:
        twin.cleanup_grace = router.cleanup_grace
    if isinstance(twin, WebSocketRoute):
        return twin
    if twin.limit_body is None:
        twin.limit_body = router.limit_body
    if twin.timeout is None:
        twin.timeout = router.timeout
    return twin
