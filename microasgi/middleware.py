"""ASGI middleware, as a Router takes it: callables from app to app."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.checks import check_app, check_middleware

MiddlewareFactory: TypeAlias = Callable[[ASGIApp], ASGIApp]


class Middleware:
    """A middleware class with its arguments, for `Router(middleware=[Middleware(GZip, minimum_size=500)])`."""

    def __init__(self, cls: Callable[..., ASGIApp], *args: Any, **kwargs: Any) -> None:
        self.cls = cls
        self.args = args
        self.kwargs = kwargs

    def __call__(self, app: ASGIApp) -> ASGIApp:
        return self.cls(app, *self.args, **self.kwargs)


def inside(middleware: Sequence[MiddlewareFactory], dispatch: ASGIApp) -> ASGIApp:
    """The app with the middleware around it, outermost first.

    :raises TypeError: one of them isn't middleware, or makes no ASGI app
    """

    async def innermost(scope: Scope, receive: Receive, send: Send) -> None:
        await dispatch(scope, receive, send)

    app: ASGIApp = innermost  # some, Sentry's for one, take a bound method for an app of ASGI 2
    for wrap in reversed(middleware):
        check_middleware(wrap)
        app = wrap(app)
        check_app(app)
    return app
