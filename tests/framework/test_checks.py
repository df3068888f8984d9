"""What is refused, or warned of, where it is written."""

import functools
import re
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from microasgi_server import StartupError
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware as StarletteMiddleware
from starlette.middleware.gzip import GZipMiddleware

from microasgi import URL, Mount, Request, Response, Route, Router, RouteWarning, WebSocket, WebSocketRoute
from microasgi.asgi import Receive, Scope, Send
from tests.harness import serving
from tests.naming import named

pytestmark = pytest.mark.anyio


async def handler(request: Request) -> None:
    """Never called."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Never called."""


# Paths and methods.


@pytest.mark.parametrize(
    ("path", "better"),
    [
        ("/items/<id>", "/items/{id}"),
        ("/items/<int:id>/<name>", "/items/{id:int}/{name}"),
        ("/items/:id", "/items/{id}"),
        ("/:kind/list/:id", "/{kind}/list/{id}"),
    ],
)
def test_other_frameworks_parameters_are_told(path: str, better: str) -> None:
    """A path as Flask, Django or Express would have it is refused with what to write here."""
    for define in (lambda: Route(path, handler), lambda: Mount(path, app)):
        with pytest.raises(ValueError, match=re.escape(f"write {better!r}")):
            define()


def test_a_colon_may_stand_in_a_path() -> None:
    """Only a whole segment is taken for a parameter."""
    assert Route("/items/{id}:archive", handler).path == "/items/{id}:archive"


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["GTE"], "there is no method 'GTE'; did you mean 'GET'?"),
        (["POST", "delet"], "did you mean 'DELETE'?"),
        ([], "a route has at least one method"),
        ([None], "a method is text, such as 'GET', not None (NoneType)"),
        (["of my own"], "'of my own' can't be a method"),
        (5, "a route has at least one method"),
    ],
)
def test_a_slip_in_a_method_is_told(methods: Any, message: str) -> None:
    """A method that is near to one in use is a slip, and named; one that is far from all is somebody's own."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        Route("/", handler, methods=methods)
    assert Route("/", handler, methods=["brew", "Propfind"]).methods == {"BREW", "PROPFIND"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Router().get(handler), "a decorator has one, as in @routes.get('/')"),  # type: ignore[arg-type]
        (lambda: Router().get("/", nmae="a"), "a route has no option 'nmae'; did you mean 'name'?"),  # type: ignore[call-arg]
        (lambda: Router().get("/", x="a"), "a route has no option 'x'; there are name, on_disconnect, cleanup_grace"),  # type: ignore[call-arg]
        (lambda: Router(Router()), "routes is a list of Route and Mount objects, […], not <Router of 0 routes> (Router)"),  # type: ignore[arg-type]
        (lambda: Router(middleware=app), "middleware is a list of ASGI middleware, […], not <function app"),  # type: ignore[arg-type]
        (lambda: Router(exception_handlers=[app]), "exception_handlers is a mapping, such as {404: handler}"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_stands_in_the_wrong_place_is_told(make: Callable[[], Any], message: str) -> None:
    """A decorator without its parentheses, and one where several are wanted."""
    with pytest.raises(TypeError, match=re.escape(message)):
        make()


# Handlers.


def no_arguments() -> None:
    """Never called."""


async def by_name(id: int) -> None:
    """Never called."""


async def by_name_too(request: Request, id: int) -> None:
    """Never called."""


async def yields(request: Request) -> AsyncIterator[str]:
    yield ""


def yields_plainly(request: Request) -> Iterator[str]:
    yield ""


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        (no_arguments, "handler no_arguments() must be callable with one argument, the request; write no_arguments(request)"),
        (by_name, "handler by_name is called with the request, which it names 'id', like a parameter of its path; write by_name(request)"),
        (by_name_too, "missing a required argument: 'id'; a path's parameters are in request.path_params['id']"),
        (yields, "yields, and a handler returns: put that into a function, and return StreamingResponse(function()), or EventStream("),
        (yields_plainly, "handler yields_plainly yields"),
        (app, "must be callable with one argument, the request"),
    ],
)
def test_a_handler_that_cant_be_called_is_told(endpoint: Any, message: str) -> None:
    """What the handler wants, and where it is instead."""
    with pytest.raises(TypeError, match=re.escape(message)):
        Route("/{id}", endpoint)


class OwnSocket(WebSocket):
    """A project's own."""


def takes(annotation: Any) -> Any:
    """A handler that is annotated so."""

    async def one(what: Any) -> None:
        """Never called."""

    one.__annotations__["what"] = annotation
    return one


SOCKETS = [WebSocket, OwnSocket, "WebSocket", "microasgi.WebSocket", "'WebSocket'"]


@pytest.mark.parametrize("annotation", SOCKETS, ids=str)
def test_a_websockets_handler_on_a_route_for_requests_is_told(annotation: Any) -> None:
    """It would be called with a request: that shows at import, whichever way the annotation is written."""
    for define in (Router().get("/ws"), Router().route("/ws"), lambda one: Route("/ws", one)):
        with pytest.raises(TypeError, match=r"handler one takes a WebSocket, and is called with a request; write @routes.websocket"):
            define(takes(annotation))
    assert WebSocketRoute("/ws", takes(annotation)).name == "one"


@pytest.mark.parametrize("annotation", [Request, "Request", "microasgi.Request"], ids=str)
def test_a_requests_handler_on_a_route_for_websockets_is_told(annotation: Any) -> None:
    """The other way round, too."""
    for define in (Router().websocket("/ws"), lambda one: WebSocketRoute("/ws", one)):
        with pytest.raises(
            TypeError, match=r"handler one takes a Request, and is called with a WebSocket; write @routes.get, or one\(ws: W"
        ):
            define(takes(annotation))
    assert Route("/ws", takes(annotation)).name == "one"


@pytest.mark.parametrize(
    "annotation", [Any, None, "Any", "a.Request | b.WebSocket", "b.WebSocket | a.Request", Request | WebSocket], ids=str
)
def test_what_may_be_either_is_left_alone(annotation: Any) -> None:
    """An annotation that says nothing, or both, is no mistake."""
    assert Route("/", takes(annotation)).name == WebSocketRoute("/", takes(annotation)).name


def test_a_websockets_handler_takes_nothing_else() -> None:
    """Where to find a path's parameters is told, as for requests."""

    async def one(ws: WebSocket, room: str) -> None:
        """Never called."""

    with pytest.raises(TypeError, match=r"with one argument, the WebSocket: .*'room'; .* in ws.path_params\['room'\]"):
        Router().websocket("/chat/{room}")(one)  # type: ignore[type-var]


def test_a_handler_may_hold_values_of_its_own() -> None:
    """Only what is called with the request is compared with the path: a default is a usual way to keep a value."""

    def kept(request: Request, name: str = "kept") -> str:
        return name

    assert Route("/{name}", kept).methods == {"GET"}


# Mounts.


class Wsgi:
    def __call__(self, environ: Any, start_response: Any) -> Any:
        return []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("app", "a mount or middleware needs an ASGI app, not 'app' (str)"),
        ([Route("/", handler)], "write Router([…])"),
        (handler, "the app handler(request) must be callable with three arguments"),
        (Router, "it is a class: is an instance of it meant?"),
        (Wsgi(), "a WSGI app needs an adapter, such as a2wsgi's WSGIMiddleware"),
    ],
)
def test_what_is_no_app_cant_be_mounted(wrong: Any, message: str) -> None:
    """What can't be called as an ASGI app is refused, with what was meant, perhaps."""
    with pytest.raises(TypeError, match=re.escape(message)):
        Router().mount("/a", wrong)


class Untold:
    """An app that doesn't tell what it takes, as Sentry's."""

    __slots__ = ("__call__",)

    def __init__(self) -> None:
        self.__call__ = app


@pytest.mark.parametrize("right", [app, Starlette(), Router(), HTTPEndpoint, functools.partial(app), Untold()], ids=named)
def test_whatever_is_an_app_can_be_mounted(right: Any) -> None:
    """Functions, objects, partials, and classes that are called with scope, receive and send."""
    assert Mount("/a", right).app is right


async def dispatch(request: Request, call_next: Any) -> Any:
    """Never called."""


def no_app(app: Any) -> None:
    """Never anything."""


@pytest.mark.parametrize(
    ("middleware", "message"),
    [
        (dispatch, "middleware=[…] takes ASGI middleware, callables from app to app; write @routes.middleware above dispatch"),
        (StarletteMiddleware(GZipMiddleware), "write microasgi.Middleware"),
        (no_app, "a mount or middleware needs an ASGI app, not None (NoneType)"),
        ("gzip", "middleware is a callable from app to app, not 'gzip' (str)"),
    ],
)
def test_what_is_no_middleware_is_told(middleware: Any, message: str) -> None:
    """What isn't a callable from app to app, and what gives none."""
    with pytest.raises(TypeError, match=re.escape(message)):
        Router(middleware=[middleware])


# Lifespans.


async def bare(router: Router) -> AsyncIterator[None]:
    yield


async def awaited(router: Router) -> None:
    """Never called."""


@contextmanager
def plain(router: Router) -> Iterator[None]:
    yield


@asynccontextmanager
async def right(router: Router) -> AsyncIterator[Any]:
    yield 5


@asynccontextmanager
async def without_router() -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("lifespan", "message"),
    [
        (bare, "lifespan bare gives no async context manager; write @contextlib.asynccontextmanager above an async def that yields"),
        (awaited, "lifespan awaited gives no async context manager"),
        (plain, "lifespan plain gives no async context manager"),
        (without_router, "lifespan without_router() must be callable with one argument, the Router; write without_router(router)"),
        (right(Router()), "write it without calling it"),
        ("lifespan", "a lifespan is a function that gives an async context manager, not 'lifespan' (str)"),
    ],
    ids=named,
)
def test_a_wrong_lifespan_is_told(lifespan: Any, message: str) -> None:
    """What is no function that gives an async context manager is refused where the Router is made."""
    with pytest.raises(TypeError, match=re.escape(message)):
        Router(lifespan=lifespan)


async def test_a_state_that_is_no_mapping_is_told() -> None:
    """What a lifespan yields is checked at startup, which fails."""
    with pytest.raises((StartupError, BaseExceptionGroup)) as raised:
        async with serving(Router(lifespan=right)):
            raise AssertionError("it serves")
    error: BaseException = raised.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    place = f"; see {__file__}, line {right.__wrapped__.__code__.co_firstlineno}"  # type: ignore[attr-defined]
    assert str(error).endswith('lifespan right must yield None or a mapping of names, such as {"pool": pool}, not 5 (int)' + place)


# Responses.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Response("", "200"), "a status is a number, such as 404, not '200' (str)"),  # type: ignore[arg-type]
        (lambda: Response("", 1000), "a status is a number from 100 to 599, not 1000"),
        (lambda: Response("", 200, {"X-Count": 5}), "the header 'X-Count' is text, not 5 (int); write \"5\""),  # type: ignore[dict-item]
        (lambda: Response("", 200, {"X-Name": b"a"}), "is text, not b'a' (bytes); write 'a'"),  # type: ignore[dict-item]
        (lambda: Response("", 200, {"X-Name": Path("/a")}), "PosixPath('/a') (PosixPath); write str() around it"),  # type: ignore[dict-item]
        (lambda: Response("", 200, {b"X-Name": "a"}), "a header's name is text"),  # type: ignore[dict-item]
        (lambda: Response("", 200, {"X Name": "a"}), "'X Name' can't be the name of a header"),
        (lambda: Response("", 200, {"X-Name": "a\nb"}), "can't have a line break or a NUL in its value 'a\\nb'"),
        (lambda: Response("", 200, {"X-Name": "\u20ac"}), "can't have '\u20ac' in its value: quote it"),
        (lambda: Response().set_cookie("a b"), "'a b' can't be the name of a cookie"),
        (lambda: Response().set_cookie("a", 5), "a cookie's name and value are text, not 5"),  # type: ignore[arg-type]
        (lambda: Response().set_cookie("a", "\u20ac"), "has letters that no header takes"),
        (lambda: Response().set_cookie("a", max_age="5"), "max_age is a whole number of seconds, not '5'"),  # type: ignore[arg-type]
        (lambda: Response().set_cookie("a", expires=5), "expires is a datetime, not 5; max_age takes seconds"),  # type: ignore[arg-type]
        (lambda: Response().set_cookie("a", samesite="Lax"), "samesite is one of lax, strict, none, not 'Lax'"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_response_that_http_doesnt_have_is_told(make: Callable[[], Any], message: str) -> None:
    """Status, header fields and cookies are checked where the response is made."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        make()


def test_a_right_response_passes() -> None:
    """An enum's member is a status, and everything that a cookie may have is taken."""
    response = Response("", HTTPStatus.CREATED, {"X-Name": "caf\xe9"})
    response.set_cookie("a", "b", max_age=5, expires=datetime(2026, 1, 2), samesite="none", secure=True)
    assert response.status_code == 201
    assert response.headers["set-cookie"] == "a=b; expires=Fri, 02 Jan 2026 00:00:00 GMT; Max-Age=5; Path=/; SameSite=none; Secure"


def test_a_responses_headers_can_be_changed() -> None:
    """`headers` reads and changes what will be sent: names in any case, one field or several."""
    response = Response("abc", headers={"X-A": "1", "X-C": URL("/c")})
    response.headers["x-a"] = "2"
    response.headers["X-B"] = "3"
    response.headers.append("X-B", "4")
    assert response.headers.getlist("x-b") == ["3", "4"]
    response.headers["x-b"] = "5"
    del response.headers["x-a"]
    response.headers["x-b"] = URL("/b")
    assert response.raw_headers == [(b"x-c", b"/c"), (b"content-length", b"3"), (b"x-b", b"/b")]
    with pytest.raises(KeyError):
        del response.headers["x-a"]
    with pytest.raises(TypeError, match="is text, not 5"):
        response.headers["x-b"] = 5  # type: ignore[assignment]


# Routes that are never reached.


def get(path: str, *methods: str) -> Route:
    return Route(path, handler, methods=methods or ["GET"])


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        (get("/a"), get("/a"), "GET /a is never reached: <Route GET /a to handler> comes first and answers all of it"),
        (get("/a", "GET", "PUT"), get("/a", "PUT", "POST"), "PUT /a is never reached"),
        (get("/{x}"), get("/a"), "GET /a is never reached"),
        (get("/{x}"), get("/{y}"), "GET /{y} is never reached"),
        (get("/{x}"), get("/{y:int}"), "GET /{y:int} is never reached"),
        (get("/{x:path}"), get("/{y}/{z:uuid}"), "is never reached"),
        (get("/{x:float}"), get("/{y:int}"), "is never reached"),
        (Mount("/a", app), get("/a/b"), "GET /a/b is never reached: <Mount /a of app> comes first"),
        (Mount("", app), get("/{x}"), "is never reached"),
        (Mount("/a", app), Mount("/a/b", app), "the mount /a/b is never reached"),
        (get("/a"), get("/b"), None),
        (get("/a"), get("/{x}"), None),
        (get("/a"), get("/a", "POST"), None),
        (get("/a"), get("/a", "HEAD"), None),
        (get("/{x:int}"), get("/{x}"), None),
        (get("/{x:int}"), get("/{x:float}"), None),
        (get("/{x}"), get("/{x:path}"), None),
        (get("/{x}/{y}"), get("/{x:path}"), None),
        (get("/v{x}"), get("/{x}"), None),
        (get("/a/{x}"), Mount("/a", app), None),
        (Mount("/a/b", app), Mount("/a", app), None),
        (Mount("/a", app), get("/ab"), None),
    ],
    ids=named,
)
def test_a_route_that_is_never_reached_is_warned_of(first: Route | Mount, then: Route | Mount, told: str | None) -> None:
    """What comes first and takes all of a route's paths is named, at the line that added the route; what leaves it any isn't."""
    routes = Router([first])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        routes.add(then)
    assert [(warning.category, warning.filename) for warning in caught] == ([(RouteWarning, __file__)] if told else [])
    if told:
        assert told in str(caught[0].message)
