"""From a path to a handler: routes, mounts, middleware, exception handlers, policies."""

import functools
import json
import logging
import math
import re
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import anyio
import pytest

from microasgi import HTTPException, Middleware, Mount, PlainTextResponse, Request, Response, Route, Router, RouteWarning
from microasgi.asgi import ASGIApp, Receive, Scope, Send
from tests.harness import GET, Sleeper, call, serving, within
from tests.harness import Response as Answer

pytestmark = pytest.mark.anyio


async def no_answer(request: Request) -> None:
    """A handler for where none is called."""


def says(text: str) -> Callable[[Request], str]:
    """A handler that tells which one it is."""

    def handler(request: Request) -> str:
        return text

    return handler


async def tell_params(request: Request) -> dict[str, Any]:
    return {name: repr(value) for name, value in request.path_params.items()}


async def foreign_app(scope: Scope, receive: Receive, send: Send) -> None:
    """An app of another framework: tells its path and root_path."""
    body = json.dumps([scope["path"], scope["root_path"], scope.get("path_params", {})]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def header(answer: Answer, name: bytes) -> str | None:
    value = answer.header(name)
    return None if value is None else value.decode()


# Paths.


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("/{x}", "/a b", "'a b'"),
        ("/{x:str}", "/a", "'a'"),
        ("/{x:int}", "/042", "42"),
        ("/{x:float}", "/1.50", "1.5"),
        ("/{x:float}", "/3", "3.0"),
        ("/{x:path}", "/a/b/c", "'a/b/c'"),
        ("/{x:path}", "/", "''"),
        ("/{x:path}", "/a\nb", "'a\\nb'"),
        ("/{x:uuid}", "/12345678-1234-5678-1234-567812345678", repr(UUID("12345678-1234-5678-1234-567812345678"))),
        ("/{x:uuid}", "/ABCDEF00-1234-5678-1234-567812345678", repr(UUID("abcdef00-1234-5678-1234-567812345678"))),
        ("/v{x:int}.json", "/v2.json", "2"),
    ],
)
async def test_a_parameter_is_converted(template: str, path: str, expected: str) -> None:
    """Each converter gives the handler a value of its type."""
    answer = await call(Router([Route(template, tell_params)]), path=path)
    assert (answer.status, json.loads(answer.body)) == (200, {"x": expected})


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/{x}", "/"),
        ("/{x}", "/a/b"),
        ("/{x:int}", "/-1"),
        ("/{x:int}", "/1.0"),
        ("/{x:int}", "/\u0663"),  # an Arabic digit
        ("/{x:int}", "/" + "9" * 5000),
        ("/{x:float}", "/1e3"),
        ("/{x:float}", "/nan"),
        ("/{x:float}", "/1."),
        ("/{x:uuid}", "/12345678123456781234567812345678"),
        ("/{x:uuid}", "/12345678-1234-5678-1234-56781234567g"),
        ("/v{x:int}.json", "/v2xjson"),
        ("/a", "/a//b"),
        ("/a", "/a\n"),
        ("/a", "/A"),
    ],
)
async def test_a_value_that_does_not_fit_is_not_found(template: str, path: str) -> None:
    """A path that a template doesn't match, or a converter doesn't take, is a 404."""
    assert (await call(Router([Route(template, no_answer)]), path=path)).status == 404


async def test_the_first_route_answers() -> None:
    """Of several routes for a path the one added first answers, whether it is literal or a pattern."""
    with pytest.warns(RouteWarning, match="is never reached"):
        routes = Router(
            [
                Route("/items/new", says("the literal before")),
                Route("/items/{id}", says("the pattern")),
                Route("/items/last", says("the literal behind")),
                Route("/items/new", says("the literal again")),
                Mount("/items", foreign_app),
                Route("/items/a/b", says("behind the mount")),
            ]
        )
    assert (await call(routes, path="/items/new")).body == b"the literal before"
    assert (await call(routes, path="/items/last")).body == b"the pattern"
    assert json.loads((await call(routes, path="/items/a/b")).body)[1] == "/items"


async def test_several_parameters() -> None:
    """A path may have several parameters, and each has its name."""
    answer = await call(Router([Route("/{a}/x/{b:int}/{rest:path}", tell_params)]), path="/1/x/2/3/4")
    assert json.loads(answer.body) == {"a": "'1'", "b": "2", "rest": "'3/4'"}


async def test_an_empty_path_is_the_root() -> None:
    """A path that is empty, as below a prefix, is the route `/`."""
    routes = Router([Route("/", says("root"))])
    assert (await call(routes, path="")).body == b"root"
    assert (await call(routes, path="/api", root_path="/api")).body == b"root"


@pytest.mark.parametrize(
    ("path", "root_path", "status"),
    [("/api/a", "/api", 200), ("/a", "/api", 200), ("/apia", "/api", 404), ("/api/api/a", "/api", 404), ("/api/a", "", 404)],
)
async def test_routes_are_below_the_root_path(path: str, root_path: str, status: int) -> None:
    """What the server was told to be below is not part of a route's path, whether or not the server includes it."""
    assert (await call(Router([Route("/a", says("a"))]), path=path, root_path=root_path)).status == status


# Methods.


async def test_a_missing_path_is_a_404() -> None:
    """No route for the path is a 404 that says so in text."""
    answer = await call(Router([Route("/a", no_answer)]), path="/b")
    assert (answer.status, answer.body, header(answer, b"content-type")) == (404, b"Not Found", "text/plain; charset=utf-8")


async def test_a_wrong_method_is_a_405() -> None:
    """A path whose routes have other methods is a 405 that lists them all, HEAD with GET."""
    routes = Router(
        [Route("/a", no_answer), Route("/{x}", no_answer, methods=["PUT", "DELETE"]), Route("/b", no_answer, methods=["PATCH"])]
    )
    answer = await call(routes, "POST", "/a")
    assert (answer.status, header(answer, b"allow")) == (405, "DELETE, GET, HEAD, PUT")


async def test_the_method_picks_among_the_routes_of_a_path() -> None:
    """Each method of one path may have a handler of its own, by the decorator named after it."""
    routes = Router()
    for name in ("get", "post", "put", "patch", "delete", "options"):
        getattr(routes, name)("/a")(says(name))
    routes.route("/b", methods=["get", "Brew"])(says("several"))
    for name in ("get", "post", "put", "patch", "delete", "options"):
        assert (await call(routes, name.upper(), "/a")).body == name.encode()
    assert (await call(routes, "BREW", "/b")).body == b"several"


async def test_head_is_what_get_would_be() -> None:
    """A HEAD goes to the handler for GET, unless a route says HEAD itself, wherever that one stands."""
    routes = Router()
    seen: list[str] = []

    @routes.get("/{path}")
    async def get(request: Request) -> str:
        seen.append(request.method)
        return "body"

    @routes.head("/own")
    async def head(request: Request) -> Response:
        seen.append("its own")
        return Response(status_code=202)

    assert (await call(routes, "HEAD", "/a")).status == 200
    assert (await call(routes, "HEAD", "/own")).status == 202
    assert (await call(routes, "GET", "/own")).status == 200
    assert seen == ["HEAD", "its own", "GET"]


async def test_head_has_no_body_on_the_wire() -> None:
    """On our server the answer to HEAD has GET's length and no body."""
    async with serving(Router([Route("/", says("hello"))])) as served, await served.connect() as client:
        await client.send(GET.replace(b"GET", b"HEAD") + GET)
        answer = await client.response(b"HEAD")
        assert (answer.status, answer.body, answer.header(b"content-length")) == (200, b"", b"5")
        assert (await client.response()).body == b"hello"


# Definitions.


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("items", "a path starts with a slash: '/items', not 'items'"),
        ("", "a path starts with a slash"),
        ("/{id:itn}", "no converter 'itn' in path '/{id:itn}'; did you mean 'int'?"),
        ("/{id:decimal}", "no converter 'decimal'"),
        ("/{int:id}", "no converter 'id' in path '/{int:id}'; the name comes first: write {id:int}"),
        ("/{str:uid}", "write {uid:str}"),
        ("/{a}/{a}", "parameter 'a' stands twice"),
        ("/{a", "has a brace that belongs to no parameter"),
        ("/a}", "has a brace that belongs to no parameter"),
        ("/{}", "has a brace that belongs to no parameter"),
        ("/{1a}", "has a brace that belongs to no parameter"),
        ("/{a:}", "has a brace that belongs to no parameter"),
    ],
)
def test_a_malformed_path_is_an_error_at_definition(path: str, message: str) -> None:
    """A path that can't be meant so is refused where it is written, with what is wrong."""
    with pytest.raises(ValueError, match=re.escape(message)):
        Route(path, no_answer)


def test_a_malformed_handler_is_an_error_at_definition() -> None:
    """What can't be called with a request is refused where it is written."""
    with pytest.raises(TypeError, match="a handler is a function that takes the request"):
        Route("/", "handler")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=re.escape("must be callable with one argument, the request")):
        Route("/", lambda: None)  # type: ignore[misc, arg-type]
    with pytest.raises(TypeError, match="missing a required argument: 'b'"):
        Route("/", lambda a, b: None)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_disconnect": "stop"}, "on_disconnect is 'cancel' or 'finish', not 'stop'"),
        ({"cleanup_grace": -1}, "cleanup_grace is a number of seconds, at least 0, not -1"),
        ({"cleanup_grace": math.nan}, "cleanup_grace is a number of seconds"),
    ],
)
def test_a_malformed_policy_is_an_error_at_definition(options: dict[str, Any], message: str) -> None:
    """Routes, mounts and routers refuse a policy that there isn't."""
    for define in (lambda: Route("/", no_answer, **options), lambda: Mount("/", foreign_app, **options), lambda: Router(**options)):
        with pytest.raises(ValueError, match=re.escape(message)):
            define()


def test_malformed_methods_are_an_error_at_definition() -> None:
    """Methods are a list; a text would be one method for each of its letters."""
    with pytest.raises(ValueError, match=re.escape("methods is a list, ['GET'], not the text 'GET'")):
        Route("/", no_answer, methods="GET")


def test_only_routes_are_routes() -> None:
    """An app among the routes is refused, with the hint to mount it."""
    with pytest.raises(TypeError, match=re.escape("an app goes into Mount(prefix, app)")):
        Router([foreign_app])  # type: ignore[list-item]


def test_a_decorator_gives_the_handler_back() -> None:
    """A decorated handler is still the function it was, so that it can have several routes."""
    routes = Router()
    assert routes.get("/a")(no_answer) is no_answer
    assert routes.post("/b", name="other")(no_answer) is no_answer
    assert [route.name for route in routes.routes] == ["no_answer", "other"]


# Handlers.


async def test_a_plain_function_runs_in_a_thread() -> None:
    """A handler that isn't async doesn't block the event loop."""
    main = threading.get_ident()
    answer = await call(Router([Route("/", lambda request: str(threading.get_ident() != main))]))
    assert answer.body == b"True"


async def test_anything_callable_may_be_a_handler() -> None:
    """Partials and objects are handlers like functions: async ones are awaited, others run in a thread."""

    class Greeter:
        async def __call__(self, request: Request) -> str:
            return "from an object"

    async def greet(word: str, request: Request) -> str:
        return word

    routes = Router([Route("/object", Greeter()), Route("/partial", functools.partial(greet, "from a partial"))])
    assert (await call(routes, path="/object")).body == b"from an object"
    assert (await call(routes, path="/partial")).body == b"from a partial"


# Mounts.


@pytest.mark.parametrize(
    ("path", "root_path", "expected"),
    [
        ("/files/a/b", "", ["/files/a/b", "/files", {}]),
        ("/files", "", ["/files", "/files", {}]),
        ("/files/", "", ["/files/", "/files", {}]),
        ("/api/files/a", "/api", ["/api/files/a", "/api/files", {}]),
    ],
)
async def test_a_mounted_app_sees_its_root_path(path: str, root_path: str, expected: list[Any]) -> None:
    """The prefix moves to the end of root_path, and the path stays whole (ASGI HTTP spec, root_path)."""
    answer = await call(Router([Mount("/files/", foreign_app)]), path=path, root_path=root_path)
    assert json.loads(answer.body) == expected


async def test_a_mount_ends_at_a_slash() -> None:
    """A prefix is whole segments: `/files` is not the beginning of `/filesystem`."""
    assert (await call(Router([Mount("/files", foreign_app)]), path="/filesystem")).status == 404


@pytest.mark.parametrize("prefix", ["", "/"])
async def test_an_empty_mount_takes_everything(prefix: str) -> None:
    """A mount without a prefix takes what no route before it took, and adds nothing to root_path."""
    routes = Router([Route("/a", says("a")), Mount(prefix, foreign_app)])
    assert (await call(routes, path="/a")).body == b"a"
    assert json.loads((await call(routes, path="/b")).body) == ["/b", "", {}]
    assert json.loads((await call(routes, "POST", path="/a")).body) == ["/a", "", {}]


async def test_routers_nest_with_parameters() -> None:
    """A router in a router in a router has the parameters of every prefix, and the routes below it match what is left."""
    users = Router([Route("/posts/{post:int}", tell_params), Route("/", says("the user"))])
    api = Router([Mount("/users/{user}", users)])
    routes = Router([Mount("/v{version:int}", api)])
    answer = await call(routes, path="/v1/users/eve/posts/7")
    assert json.loads(answer.body) == {"version": "1", "user": "'eve'", "post": "7"}
    assert (await call(routes, path="/v1/users/eve")).body == b"the user"
    assert (await call(routes, path="/v1/users")).status == 404
    assert (await call(routes, path="/vx/users/eve")).status == 404


async def test_a_sibling_does_not_see_a_mounts_scope() -> None:
    """What a mount changes is for the app under it: middleware outside still sees the whole."""
    seen: list[Any] = []

    def around(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)
            seen.append((scope["path"], scope["root_path"]))

        return middleware

    await call(Router([Mount("/a", Router([Mount("/b", foreign_app)]))], middleware=[around]), path="/a/b/c")
    assert seen == [("/a/b/c", "")]


async def test_the_path_of_a_request_is_whole() -> None:
    """Below a mount `request.path` and `request.url` are still what the client asked for."""

    async def tell(request: Request) -> list[str]:
        return [request.path, str(request.url)]

    answer = await call(Router([Mount("/a", Router([Route("/b", tell)]))]), path="/a/b", headers=[(b"host", b"test")])
    assert json.loads(answer.body) == ["/a/b", "http://test/a/b"]


async def test_a_routers_404_is_its_own() -> None:
    """A path that a mounted router doesn't know is a 404, though a route behind the mount would match."""
    with pytest.warns(RouteWarning, match=re.escape("GET /a/b is never reached: <Mount /a of <Router of 0 routes>> comes first")):
        routes = Router([Mount("/a", Router()), Route("/a/b", says("behind"))])
    assert (await call(routes, path="/a/b")).status == 404


async def test_a_websocket_is_refused() -> None:
    """A router closes a WebSocket that it has no route for, where the server can't send a response of its own."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await Router()({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert sent == ["websocket.close"]


# Middleware.


def noting(notes: list[str], name: str) -> Callable[[ASGIApp], ASGIApp]:
    def wrap(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            notes.append(f"{name} in")
            await app(scope, receive, send)
            notes.append(f"{name} out")

        return middleware

    return wrap


async def test_middleware_is_outermost_first() -> None:
    """The first middleware is the outermost, and an outer router's is around an inner one's."""
    notes: list[str] = []
    inner = Router([Route("/", says("x"))], middleware=[noting(notes, "inner")])
    await call(Router([Mount("/a", inner)], middleware=[noting(notes, "first"), noting(notes, "second")]), path="/a/")
    assert notes == ["first in", "second in", "inner in", "inner out", "second out", "first out"]


async def test_middleware_with_arguments() -> None:
    """`Middleware(cls, …)` is called with the app first, and then its arguments."""

    class Adding:
        def __init__(self, app: ASGIApp, name: bytes, *, value: bytes) -> None:
            self.app, self.field = app, (name, value)

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def adding_send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message["headers"], self.field]}
                await send(message)

            await self.app(scope, receive, adding_send)

    routes = Router([Route("/", says("x"))], middleware=[Middleware(Adding, b"x-added", value=b"yes")])
    assert header(await call(routes), b"x-added") == "yes"
    assert header(await call(routes, path="/nowhere"), b"x-added") == "yes"  # and around the errors


async def test_middleware_may_answer_itself() -> None:
    """A middleware that answers keeps the request from the routes."""

    def guard(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("no", 403)(scope, receive, send)

        return middleware

    assert (await call(Router([Route("/", says("x"))], middleware=[guard]))).status == 403


async def test_middleware_may_ask_again() -> None:
    """A router that has failed a middleware is asked anew, and still answers its own HTTPExceptions."""
    errors = iter([ConnectionError("a first try"), HTTPException(409)])

    async def handler(request: Request) -> None:
        raise next(errors)

    def twice(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            except ConnectionError:
                await app(scope, receive, send)

        return middleware

    assert (await call(Router([Route("/", handler)], middleware=[twice]))).status == 409


# Exceptions.


class Odd(Exception):
    pass


class Odder(Odd):
    pass


def raising(error: Exception) -> Callable[[Request], Any]:
    async def handler(request: Request) -> None:
        raise error

    return handler


async def test_an_http_exception_is_an_answer() -> None:
    """An HTTPException answers with its status, its detail, by default the status's phrase, and its headers."""
    answer = await call(Router([Route("/", raising(HTTPException(401, "who?", {"WWW-Authenticate": "Basic"})))]))
    assert (answer.status, answer.body, header(answer, b"www-authenticate")) == (401, b"who?", "Basic")
    assert (await call(Router([Route("/", raising(HTTPException(418)))]))).body == b"I'm a Teapot"
    assert (await call(Router([Route("/", raising(HTTPException(599)))]))).status == 599


async def test_an_exception_without_a_handler_passes() -> None:
    """What nobody handles reaches the server as it is, and not in a group."""
    error = Odd("a bug")
    with pytest.raises(Odd) as raised:
        await call(Router([Mount("/a", Router([Route("/", raising(error))]))]), path="/a/")
    assert raised.value is error


async def test_the_nearest_class_handles() -> None:
    """An exception goes to the handler of its own class before that of a base class."""

    async def odd(request: Request, error: Odd) -> str:
        return f"odd {error}"

    def odder(request: Request, error: Odder) -> Response:
        return PlainTextResponse(f"odder {error}", 400)

    routes = Router([Route("/odd", raising(Odd("1"))), Route("/odder", raising(Odder("2")))], exception_handlers={Odd: odd, Odder: odder})
    assert (await call(routes, path="/odd")).body == b"odd 1"
    answer = await call(routes, path="/odder")
    assert (answer.status, answer.body) == (400, b"odder 2")


async def test_a_status_has_a_handler() -> None:
    """A handler for a status gets the HTTPExceptions with it, those of the routing too, and HTTPException the others."""
    routes = Router(
        [Route("/gone", raising(HTTPException(410)))],
        exception_handlers={404: lambda request, error: f"no {request.path}", HTTPException: lambda request, error: f"{error.status_code}"},
    )
    assert (await call(routes, path="/nowhere")).body == b"no /nowhere"
    assert (await call(routes, path="/gone")).body == b"410"
    assert (await call(routes, "POST", path="/gone")).body == b"405"


@pytest.mark.parametrize("key", [500, Exception])
async def test_the_last_handler_logs(key: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What ends at the handler for 500 or Exception is a bug: it is logged with its traceback, and the answer is the handler's."""
    error = Odd("a bug")
    routes = Router([Route("/", raising(error))], exception_handlers={key: lambda request, error: PlainTextResponse("sorry", 500)})
    answer = await call(routes)
    assert (answer.status, answer.body) == (500, b"sorry")
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "GET '/'" in record.getMessage()


async def test_an_expected_exception_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An exception with a handler of its own, and an HTTPException 500 that was meant, are no bugs."""
    handlers: dict[Any, Any] = {Odd: lambda request, error: "odd", 500: lambda request, error: PlainTextResponse("meant", 500)}
    routes = Router([Route("/odd", raising(Odd())), Route("/meant", raising(HTTPException(500)))], exception_handlers=handlers)
    assert (await call(routes, path="/odd")).body == b"odd"
    assert (await call(routes, path="/meant")).body == b"meant"
    assert caplog.records == []


async def test_nested_routers_inherit_handlers() -> None:
    """An exception is handled by the innermost router with a handler for it; one without leaves it to the next around."""
    inner = Router([Route("/odd", raising(Odd())), Route("/key", raising(KeyError()))], exception_handlers={Odd: says_error("inner")})
    outer = Router(
        [Mount("/in", inner)], exception_handlers={Odd: says_error("outer"), KeyError: says_error("outer"), 404: says_error("outer")}
    )
    assert (await call(outer, path="/in/odd")).body == b"inner Odd"
    assert (await call(outer, path="/in/key")).body == b"outer KeyError"
    assert (await call(outer, path="/in/nowhere")).body == b"outer HTTPException"


def says_error(name: str) -> Callable[[Request, Exception], str]:
    return lambda request, error: f"{name} {type(error).__name__}"


async def test_a_handlers_own_exception_passes_outwards() -> None:
    """An exception handler that raises is handled by the router around it, not by itself."""

    def failing(request: Request, error: Exception) -> None:
        raise KeyError("in the handler") from error

    inner = Router([Route("/", raising(Odd()))], exception_handlers={Odd: failing, KeyError: says_error("inner")})
    assert (
        await call(Router([Mount("/a", inner)], exception_handlers={KeyError: says_error("outer")}), path="/a/")
    ).body == b"outer KeyError"


async def test_a_router_within_a_foreign_app_answers_its_errors() -> None:
    """A router behind another framework's app behind a router answers its own HTTPExceptions, and leaves others to the outer one."""
    inner = Router([Route("/odd", raising(Odd()))])

    async def between(scope: Scope, receive: Receive, send: Send) -> None:
        await inner(scope, receive, send)

    routes = Router([Mount("/a", between)], exception_handlers={404: says_error("outer"), Odd: says_error("outer")})
    assert (await call(routes, path="/a/nowhere")).body == b"Not Found"
    assert (await call(routes, path="/a/odd")).body == b"outer Odd"


async def test_an_exception_after_the_start_is_not_handled() -> None:
    """Once a response may have begun there is no second one: the exception reaches the server."""

    class Failing(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise Odd("in the middle")

    routes = Router([Route("/", lambda request: Failing())], exception_handlers={Odd: says_error("late"), 500: says_error("late")})
    with pytest.raises(Odd, match="in the middle"):
        await call(routes)


# Policies.


@pytest.mark.parametrize(
    ("outer", "mount", "inner", "route", "stops"),
    [
        (None, None, None, None, True),
        ("finish", None, None, None, False),
        ("finish", "cancel", None, None, True),
        ("finish", None, "cancel", None, True),
        ("cancel", None, "finish", "cancel", True),
        (None, None, None, "finish", False),
        (None, "finish", None, None, False),
        ("cancel", "finish", "cancel", "finish", False),
    ],
)
async def test_the_innermost_policy_holds(outer: Any, mount: Any, inner: Any, route: Any, stops: bool) -> None:
    """Of the routers, mounts and the route on a request's way, the innermost that has a policy decides."""
    began, ended = anyio.Event(), anyio.Event()
    outcome: list[str] = []

    async def handler(request: Request) -> str:
        began.set()
        try:
            await request.wait_disconnected()
            await anyio.sleep(0.001)
            outcome.append("finished")
        finally:
            ended.set()
        return "nobody hears it"

    inside = Router([Route("/", handler, on_disconnect=route)], on_disconnect=inner)
    routes = Router([Mount("/in", inside, on_disconnect=mount)], on_disconnect=outer)
    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET.replace(b"/", b"/in/", 1))
        await within(began)
        client.leave()
        await within(ended)
    assert outcome == ([] if stops else ["finished"])


async def test_a_mounted_app_is_stopped_too() -> None:
    """The promise holds for a foreign app under a router."""
    sleeper = Sleeper()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sleeper.sleep()

    async with serving(Router([Mount("/a", app)])) as served, await served.connect() as client:
        await client.send(GET.replace(b"/", b"/a", 1))
        await within(sleeper.begun)
        client.leave()
        await within(sleeper.ended, 1)
    assert sleeper.cancellations == 1
