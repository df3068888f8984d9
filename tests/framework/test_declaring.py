"""How a Router is written down: routes without decorators, included ones, links to them, slashes at the end."""

import re
import sys
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest
from microasgi_server.websocket.protocol import _session_class
from starlette.applications import Starlette

from microasgi import HTTPException, Mount, NoMatchFound, PlainTextResponse, Request, Response, Route, Router, WebSocket, WebSocketRoute
from microasgi.asgi import Receive, Scope, Send
from microasgi.instead import INSTEAD
from microasgi.testing import Client
from tests.harness import call, loud_lines, serving

pytestmark = pytest.mark.anyio


async def handler(request: Request) -> dict[str, str]:
    return {"path": request.path, **{name: str(value) for name, value in request.path_params.items()}}


async def tell_app(request: Request) -> list[bool]:
    return [request.app is ROUTES]


async def foreign(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("foreign")(scope, receive, send)


# What other frameworks have.


def test_what_another_framework_has_is_told_in_our_words() -> None:
    """Each name that isn't ours says what to write; another is what Python says of it. Nothing that we have is among them."""
    routes = Router()
    for name, told in INSTEAD.items():
        with pytest.raises(AttributeError, match=re.escape(f"a Router has no {name!r}; write {told}")):
            getattr(routes, name)
    assert not INSTEAD.keys() & set(dir(Router)) | vars(routes).keys() & INSTEAD.keys()
    with pytest.raises(AttributeError, match=r"^'Router' object has no attribute 'gett'$") as caught:
        routes.gett  # type: ignore[attr-defined]  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("gett", routes)


def test_what_a_subclass_has_is_its_own() -> None:
    """A property that fails tells of its own fault."""

    class App(Router):
        @property
        def state(self) -> Any:
            return self.path.nothing_like_it  # type: ignore[attr-defined]

        path = "/"

    with pytest.raises(AttributeError, match="'str' object has no attribute 'nothing_like_it'"):
        App().state  # noqa: B018


# Adding and including.


async def test_a_route_without_a_decorator() -> None:
    """`add_route` is `Route` and `add` in one."""
    routes = Router()
    routes.add_route("/a", handler, ["PUT"], name="put", on_disconnect="finish")
    assert repr(routes.routes) == "[<Route PUT /a to put, on_disconnect='finish'>]"


def users() -> Router:
    made = Router([Mount("/files", foreign)], on_disconnect="finish", cleanup_grace=1, limit_body=5)
    made.add_route("/", handler, name="list")
    made.add_route("/{id:int}", handler, name="user", on_disconnect="cancel", limit_body=0)
    return made


async def test_included_routes_are_as_if_written_here() -> None:
    """They are below the prefix, which may have parameters, keep their order, and their Router's opinions."""
    routes = Router()
    routes.include(users(), prefix="/{team}/users")
    routes.include(Router([Route("/about", handler)]))
    assert [repr(route) for route in routes.routes] == [
        "<Mount /{team}/users/files of foreign, on_disconnect='finish', cleanup_grace=1>",
        "<Route GET /{team}/users/ to list, on_disconnect='finish', cleanup_grace=1>",
        "<Route GET /{team}/users/{id:int} to user, on_disconnect='cancel', cleanup_grace=1>",
        "<Route GET /about to handler>",
    ]
    assert [route.limit_body for route in routes.routes] == [5, 5, 0, None]
    assert (await call(routes, path="/red/users/5")).body == b'{"path":"/red/users/5","team":"red","id":"5"}'
    assert (await call(routes, path="/about")).status == 200
    assert (await call(routes, path="/red/users/files/x")).body == b"foreign"


def test_what_would_be_lost_is_not_included() -> None:
    """A Router with something around its routes is to be mounted; one that was included takes no more routes."""
    guarded = users()
    guarded.exception_handler(404)(lambda request, error: "")
    with pytest.raises(ValueError, match=re.escape("can't be included; write mount(prefix, router)")):
        Router().include(guarded)
    for wrong, message in ((Starlette(), "include takes a Router, not Starlette; write mount"), ([], "include takes a Router, not list")):
        with pytest.raises(TypeError, match=message):
            Router().include(wrong)  # type: ignore[arg-type]
    routes, included = Router(), users()
    with pytest.raises(ValueError, match="in itself"):
        routes.include(routes)
    with pytest.raises(ValueError, match="a path starts with a slash: '/users/files'"):
        Router().include(included, prefix="users")
    routes.include(included, prefix="/users")
    with pytest.raises(RuntimeError, match=re.escape("<Route GET /late to handler> comes too late")):
        included.get("/late")(handler)


# Links.


ROUTES = Router(
    [
        Route("/", handler, name="home"),
        Route("/app", tell_app, name="app"),
        Route("/items/{id:int}", handler, name="item"),
        Route("/items/{id:int}/{part}", handler, name="item"),
        Route("/x/{number:float}/{id:uuid}/{rest:path}", handler, name="all"),
        Mount("/users/{user}", Router([Route("/", handler, name="list"), Route("/{post:int}", handler, name="post")]), name="users"),
        Mount("/plain", Router([Route("/about us", handler, name="about"), Route("/app", tell_app)])),
        Mount("/static", foreign, name="static"),
    ]
)
ID = UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("name", "params", "path"),
    [
        ("home", {}, "/"),
        ("item", {"id": 5}, "/items/5"),
        ("item", {"id": 5, "part": "a b%"}, "/items/5/a%20b%25"),
        ("all", {"number": 1.5, "id": ID, "rest": "a/é"}, f"/x/1.5/{ID}/a/%C3%A9"),
        ("users:list", {"user": "eve"}, "/users/eve/"),
        ("users:post", {"user": "eve", "post": 7}, "/users/eve/7"),
        ("about", {}, "/plain/about%20us"),
        ("static", {"path": "css/a.css"}, "/static/css/a.css"),
        ("static", {"path": "/a.css"}, "/static/a.css"),
    ],
)
async def test_a_path_for_a_name(name: str, params: dict[str, Any], path: str) -> None:
    """A name and parameters give the path that leads there, percent-encoded: what comes back is what went in."""
    assert ROUTES.url_path_for(name, **params) == path
    answer = await call(ROUTES, path=unquote(path))
    assert answer.status == 200
    if name != "static":
        assert all(f'"{key}":"{value}"'.encode() in answer.body for key, value in params.items())


@pytest.mark.parametrize(
    ("name", "params", "kind", "message"),
    [
        ("itme", {"id": 5}, NoMatchFound, "there is no route 'itme'; did you mean 'item'?"),
        ("item", {}, NoMatchFound, "route 'item' doesn't take the parameters none: it takes id or it takes id, part"),
        ("users:list", {}, NoMatchFound, "route 'users:list' doesn't take the parameters none: it takes user"),
        ("static", {}, NoMatchFound, "it takes path"),
        ("item", {"id": "x"}, ValueError, "id='x' doesn't fit into path '/items/{id:int}': it must be like [0-9]+"),
        ("item", {"id": -1}, ValueError, "id=-1 doesn't fit"),
        ("item", {"id": 1, "part": "a/b"}, ValueError, "part='a/b' doesn't fit"),
    ],
)
def test_a_path_that_there_isnt_is_told(name: str, params: dict[str, Any], kind: type[Exception], message: str) -> None:
    """A wrong name, wrong parameters, and values that the route wouldn't take back."""
    with pytest.raises(kind, match=re.escape(message)):
        ROUTES.url_path_for(name, **params)


async def test_a_url_for_a_name() -> None:
    """`request.url_for` begins with scheme, host and the outermost root_path, wherever it is called."""

    async def link(request: Request) -> list[str]:
        return [str(request.url_for("users:post", user="eve", post=7))]

    routes = Router(
        [
            Mount("/users/{user}", Router([Route("/{post:int}", handler, name="post")]), name="users"),
            Mount("/in", Router([Route("/link", link)])),
        ]
    )
    for path in ("/api x/in/link", "/in/link"):
        answer = await call(routes, path=path, root_path="/api x", headers=[(b"host", b"test:81")], scheme="https")
        assert answer.body == b'["https://test:81/api%20x/users/eve/7"]'


async def test_a_request_knows_its_app() -> None:
    """`request.app` is the outermost Router, in mounted ones, too."""
    for path in ("/app", "/plain/app"):
        assert (await call(ROUTES, path=path)).body == b"[true]"


# Slashes.


SLASHES = Router(
    [
        Route("/a", handler, methods=["POST"]),
        Route("/b/", handler),
        Route("/{x}/c", handler),
        Mount("/in", Router([Route("/d", handler), Route("/e/", handler)])),
        Route("/{x:path}/f", handler),
    ]
)


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/a/", "/a"),
        ("/a/?x=1&y=%20", "/a?x=1&y=%20"),
        ("/b", "/b/"),
        ("/a b%/c/", "/a%20b%25/c"),
        ("/in/d/", "/in/d"),
        ("/in/e", "/in/e/"),
        ("/api/a/", "/api/a"),
    ],
)
async def test_a_slash_too_many_or_too_few_is_a_redirect(path: str, location: str) -> None:
    """Where only the path with, or without, a slash has a route, the client is sent there: 307, and the query stays."""
    for method in ("GET", "POST"):
        answer = await call(SLASHES, method, path, root_path="/api" if path.startswith("/api") else "")
        assert (answer.status, answer.header(b"location")) == (307, location.encode())


@pytest.mark.parametrize("path", ["/", "/nowhere", "/nowhere/", "/in/nowhere/", "//evil.example/f/"])
async def test_what_leads_nowhere_is_a_404(path: str) -> None:
    """Where neither has a route there is no redirect, nor to a path that a browser would take for another host."""
    assert (await call(SLASHES, path=path)).status == 404


async def test_slashes_may_be_taken_as_they_are() -> None:
    """`redirect_slashes=False` makes a 404 of it, and exception handlers are asked."""
    routes = Router([Route("/a", handler)], redirect_slashes=False, exception_handlers={404: lambda request, error: "no such path"})
    assert (await call(routes, path="/a/")).body == b"no such path"


async def test_a_wrong_method_is_no_redirect() -> None:
    """A path that has a route, for another method, is a 405."""
    with pytest.raises(HTTPException):
        Router([Route("/a", handler)])._table.find("PUT", "/a")
    assert (await call(Router([Route("/a", handler), Route("/a/", handler)]), "PUT", "/a/")).status == 405


# WebSockets.


async def test_a_websocket_is_refused_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """Where another server makes an ordinary request of it, the log says so, once."""
    routes = Router([Route("/", handler)])
    for _ in range(2):
        assert (await call(routes, path="/chat", headers=[(b"upgrade", b"WebSocket")])).status == 404
    assert (await call(routes)).status == 200
    (said,) = loud_lines(caplog)
    assert "A WebSocket was asked for at '/chat', and refused: the server took it for an ordinary request." in said


async def test_nothing_is_added_to_what_our_server_says(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package websockets the one warning is the server's, which says what to install."""
    monkeypatch.setitem(sys.modules, "microasgi_server.websocket.session", None)
    _session_class.cache_clear()
    more = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=="
    async with serving(Router([Route("/", handler)])) as served, await served.connect() as client:
        await client.send(f"GET /chat HTTP/1.1\r\nhost: a\r\n{more}\r\n\r\n".encode())
        assert (await client.response()).status == 404
    _session_class.cache_clear()
    (said,) = loud_lines(caplog)
    assert "pip install 'microasgi[websockets]'" in said


async def test_a_websocket_scope_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """On a server that has WebSockets the connection is closed before it opens, and each Router warns once."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    routes = Router()
    for router in (routes, routes, Router()):
        await router({"type": "websocket", "path": "/chat"}, receive, send)
    assert sent == ["websocket.close"] * 3
    assert [line.partition("refused: ")[2][:32] for line in loud_lines(caplog)] == ["this Router has no route for any"] * 2


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/zzz", "this Router has no route for it"),
        ("/home", "this Router has a route there for requests, and none for WebSockets"),
        ("/in/zzz", "this Router has no route for it"),
        ("/in/home", "this Router has a route there for requests, and none for WebSockets"),
    ],
)
async def test_a_websocket_for_a_path_without_one_is_told(path: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    """Also where there are others: a mistyped path, or `get` for `websocket`, is a 404 for the client, and a warning in the log."""

    async def chat(ws: WebSocket) -> None:
        await ws.accept()

    here: list[Route | WebSocketRoute] = [WebSocketRoute("/chat", chat), Route("/home", handler)]
    routes = Router([*here, Mount("/in", Router(here))])
    async with Client(routes) as client:
        for _ in range(2):
            async with client.websocket(path) as ws:
                assert ws.response.status_code == 404
        async with client.websocket("/chat") as ws:
            assert ws.accepted
    (said,) = loud_lines(caplog)
    assert f"A WebSocket was asked for at '{path}', and refused: {why}. No more of these are logged." in said


async def test_mounted_routers_link_to_all() -> None:
    """A response that redirects to a link is the usual way to use one."""
    from microasgi import RedirectResponse

    async def back(request: Request) -> Response:
        return RedirectResponse(request.url_for("home"), 303)

    routes = Router([Route("/", handler, name="home"), Mount("/in", Router([Route("/back", back)]))])
    answer = await call(routes, path="/in/back", headers=[(b"host", b"test")])
    assert answer.header(b"location") == b"http://test/"
