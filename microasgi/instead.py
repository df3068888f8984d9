"""What to write on a Router instead of what the apps of other frameworks have.

Only a name that there isn't comes here. Type checkers don't see this: to them such a name is an error, as it should be.
"""

from typing import TYPE_CHECKING, Any

_DECORATOR = "@routes.route(path, methods=[…]) above the handler, or routes.add_route(path, handler, [method])"
_HANDLER = "@routes.exception_handler(key) above the handler, or Router(exception_handlers={key: handler})"
_INCLUDE = 'routes.include(router, prefix="/…"), or routes.mount("/…", router) if it has middleware or a lifespan of its own'
_LIFESPAN = "Router(lifespan=lifespan), with an async context manager: what it does before its yield is the startup"
_MIDDLEWARE = "@routes.middleware above an async function of the request and call_next, or Router(middleware=[Middleware(cls, …)])"
_MOUNT = 'routes.mount("/…", app)'
_STATE = "request.state, which has what the Router's lifespan yields"
_WEBSOCKET = "@routes.websocket(path) above the handler, or routes.add(WebSocketRoute(path, handler))"

INSTEAD = {
    # Starlette's and FastAPI's.
    "add_api_route": _DECORATOR,
    "add_api_websocket_route": _WEBSOCKET,
    "add_event_handler": _LIFESPAN,
    "add_exception_handler": _HANDLER,
    "add_middleware": _MIDDLEWARE,
    "add_websocket_route": _WEBSOCKET,
    "api_route": _DECORATOR,
    "include_router": _INCLUDE,
    "on_event": _LIFESPAN,
    "state": _STATE,
    "trace": '@routes.route(path, methods=["TRACE"])',
    "websocket_route": _WEBSOCKET,
    # Flask's, Quart's and Sanic's.
    "add_url_rule": _DECORATOR,
    "after_request": _MIDDLEWARE,
    "after_serving": _LIFESPAN,
    "before_request": _MIDDLEWARE,
    "before_serving": _LIFESPAN,
    "blueprint": _INCLUDE,
    "config": _STATE,
    "ctx": _STATE,
    "errorhandler": _HANDLER,
    "exception": _HANDLER,
    "listener": _LIFESPAN,
    "register_blueprint": _INCLUDE,
    "register_middleware": _MIDDLEWARE,
    "run": "microasgi.run(routes)",
    "test_client": "microasgi.testing.Client(routes)",
    # aiohttp's.
    "add_get": "@routes.get(path)",
    "add_post": "@routes.post(path)",
    "add_routes": "Router([Route(path, handler), …])",
    "add_subapp": _MOUNT,
    "on_cleanup": _LIFESPAN,
    "on_shutdown": _LIFESPAN,
    "on_startup": _LIFESPAN,
    "router": "the routes on the Router itself: @routes.get(path)",
}
"""By the name."""


class Instead:
    """Has a word for who writes what another framework has."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in INSTEAD and not hasattr(type(self), name):
                raise AttributeError(f"a Router has no {name!r}; write {INSTEAD[name]}", name=name, obj=self)
            return object.__getattribute__(self, name)  # raises what it has raised, in a property, too
