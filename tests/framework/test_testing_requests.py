"""What the test client sends: httpx's arguments, cookies as in a browser, a time limit; and the same from plain functions."""

import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from microasgi import JSONResponse, Request, Response, Router
from microasgi.testing import Client, SyncClient
from tests.harness import Sleeper
from tests.needs import demand_package

pytestmark = pytest.mark.anyio

routes = Router()


@routes.route("/echo", ["GET", "HEAD", "POST", "OPTIONS"])
async def echo(request: Request) -> dict[str, Any]:
    """Tells what it was asked."""
    return {
        "url": str(request.url),
        "query": request.query_params.multi_items(),
        "headers": request.headers.multi_items(),
        "cookies": dict(request.cookies),
        "body": (await request.body()).decode("latin-1"),
    }


@routes.get("/set")
@routes.get("/deep/set")
async def sets(request: Request) -> Response:
    """Sets the cookies that the query holds."""
    response = JSONResponse({})
    for cookie in request.query_params.getlist("cookie"):
        response.raw_headers.append((b"set-cookie", cookie.encode()))
    return response


async def seen(client: Client, method: str = "POST", url: str = "/echo", **options: Any) -> dict[str, Any]:
    """What the app has seen of a request."""
    found: dict[str, Any] = (await client.request(method, url, **options)).json()
    return {**found, "headers": dict(found["headers"])}


# The URL and the body.


@pytest.mark.parametrize(
    ("url", "params", "query"),
    [
        ("/echo", {"a": 1, "b": ["x", "y"], "c": None, "d": True}, [["a", "1"], ["b", "x"], ["b", "y"], ["c", ""], ["d", "true"]]),
        ("/echo?a=1", [("a", "2"), ("ü", "&=")], [["a", "1"], ["a", "2"], ["ü", "&="]]),
        ("/echo", "a=1&a=2", [["a", "1"], ["a", "2"]]),
        ("/echo?a=b c%20d#part", None, [["a", "b c d"]]),
    ],
)
async def test_the_query_is_made_of_the_url_and_of_params(url: str, params: Any, query: list[list[str]]) -> None:
    """Parameters are added to what the URL has, encoded; a name may have several values."""
    assert (await seen(Client(routes), url=url, params=params))["query"] == query


async def test_what_a_browser_would_encode_is_encoded() -> None:
    """The path goes out as bytes of ASCII, what was encoded already as it is, and without a fragment."""
    paths = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append((scope["path"], scope["raw_path"]))
        await Response(b"")(scope, receive, send)

    for url in ("/säle/a b", "/s%C3%A4le/a%20b#there"):
        await Client(app).get(url)
    assert paths == [("/säle/a b", b"/s%C3%A4le/a%20b")] * 2


@pytest.mark.parametrize(
    ("options", "kind", "body"),
    [
        ({"data": {"a": "1 2", "b": ["x", 3], "c": None}}, "application/x-www-form-urlencoded", "a=1+2&b=x&b=3&c="),
        ({"data": {}}, "application/x-www-form-urlencoded", ""),
        ({"content": "text"}, None, "text"),
        ({"json": {"a": None}}, "application/json", '{"a": null}'),
        ({"json": [], "headers": {"Content-Type": "application/ld+json"}}, "application/ld+json", "[]"),
        ({}, None, ""),
    ],
)
async def test_a_body_has_its_type_and_its_length(options: dict[str, Any], kind: str | None, body: str) -> None:
    """Forms, texts and JSON come with the fields that go without saying, also an empty body of a POST."""
    found = await seen(Client(routes), **options)
    assert found["body"] == body
    assert found["headers"].get("content-type") == kind
    assert found["headers"]["content-length"] == str(len(body))


def named(content: bytes) -> io.BytesIO:
    """An open file."""
    file = io.BytesIO(content)
    file.name = "/home/me/notes.txt"
    return file


FILES: list[Any] = [
    {"file": ("a.png", b"\x89PNG\r\n")},
    {"file": ("a.bin", "text", "image/x-own"), "other": b"bare"},
    [("file", ("1.txt", b"1")), ("file", ("2", b"2"))],
    {"file": ('a"b\r\nc.txt', b"")},
    {"file": named(b"notes")},
]


@pytest.mark.parametrize("files", FILES, ids=lambda files: str(files)[:25])
async def test_a_form_with_files_is_what_httpx_sends(files: Any) -> None:
    """Names, contents and media types are sent as httpx sends them, the same bytes but for the boundary."""
    demand_package("httpx")
    import httpx

    data = {"name": "Ä", "tags": ["x", "y"]}
    found = await seen(Client(routes), files=files, data=data)
    theirs = httpx.Request("POST", "http://testserver/echo", files=files, data=data)
    boundary = found["headers"]["content-type"].rpartition("=")[2]
    expected = theirs.read().decode("latin-1").replace(theirs.headers["content-type"].rpartition("=")[2], boundary)
    assert found["body"] == expected
    assert found["headers"]["content-type"] == f"multipart/form-data; boundary={boundary}"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"content": b"", "json": 1}, TypeError, "a request has one body, and not content and json"),
        ({"data": {"a": "b"}, "json": 1}, TypeError, "not data and json: only data and files go together, as one form"),
        ({"files": {"a": b"b"}, "json": {}}, TypeError, "not files and json"),
        ({"content": "a", "files": {"a": b"b"}}, TypeError, "not content and files"),
        ({"data": {}, "files": {"a": b"b"}, "json": 1}, TypeError, "not data and files and json"),
        ({"data": {}, "json": 1}, TypeError, "not data and json"),
        ({"data": b"a=b"}, TypeError, "a body as it is goes into content"),
        ({"files": {"file": 42}}, TypeError, "a file is bytes, a text or an open file"),
        ({"headers": {"x-a": "b\r\nc: d"}}, ValueError, "HTTP allows no such header field: 'x-a'"),
        ({"headers": {"x a": "b"}}, ValueError, "HTTP allows no such header field"),
        ({"headers": {"x-a": 1}}, ValueError, "HTTP allows no such header field"),
    ],
)
async def test_what_no_client_could_send_is_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """More than one body, and what isn't one, is an error before the app is called."""
    with pytest.raises(error, match=words):
        await Client(routes).post("/echo", **options)


async def test_header_fields_may_repeat() -> None:
    """A field of a call takes the place of the client's own; as pairs, a name can have several."""
    client = Client(routes, headers=[("x-a", "1"), ("x-b", "2")])
    found = (await client.get("/echo", headers=[("X-A", "3"), ("X-A", "4")])).json()
    assert [field for field in found["headers"] if field[0].startswith("x-")] == [["x-b", "2"], ["x-a", "3"], ["x-a", "4"]]


async def test_the_base_url_is_scheme_and_host() -> None:
    """The app sees the base URL's scheme, host and port; anything but these is refused."""
    found = await seen(Client(routes, base_url="https://shop.example:8443"))
    assert (found["url"], found["headers"]["host"]) == ("https://shop.example:8443/echo", "shop.example:8443")
    for wrong in ("shop.example", "ftp://shop.example", "http://shop.example/app", "http://"):
        with pytest.raises(ValueError, match="a base URL is a scheme and a host"):
            Client(routes, base_url=wrong)


@pytest.mark.parametrize("method", ["head", "options"])
async def test_every_method_has_its_own(method: str) -> None:
    """`head` and `options` are there as the others; the answer to a HEAD has no body."""
    response = await getattr(Client(routes), method)("/echo")
    assert (response.status_code, bool(response.content)) == (200, method == "options")


# Cookies.


@pytest.mark.parametrize(
    ("set_at", "cookies", "kept"),
    [
        ("/set", ["a=1; Path=/", "b=2"], {"a": "1", "b": "2"}),
        ("/set", ['a="quoted"'], {"a": '"quoted"'}),
        ("/set", ["a=1; Max-Age=0"], {}),
        ("/set", ["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], {}),
        ("/set", ["a=1; Max-Age=60"], {"a": "1"}),
        ("/set", ["a=1; Path=/echo", "b=1; Path=/other"], {"a": "1"}),
        ("/deep/set", ["a=1", "b=2; Path=/"], {"b": "2"}),
        ("/set", ["a=1; Secure", "b=2; HttpOnly; SameSite=Lax"], {"b": "2"}),
        ("/set", ["a=1; Domain=elsewhere.example"], {}),
    ],
)
async def test_cookies_are_kept_and_sent_as_in_a_browser(set_at: str, cookies: list[str], kept: dict[str, str]) -> None:
    """What a response sets comes back with later requests, where path, domain, age and `Secure` allow it."""
    client = Client(routes)
    await client.get(set_at, params={"cookie": cookies})
    assert (await seen(client))["cookies"] == {name: value.strip('"') for name, value in kept.items()}


async def test_a_secure_cookie_is_sent_over_https() -> None:
    """`Secure` cookies go to an https base URL."""
    client = Client(routes, base_url="https://testserver")
    await client.get("/set", params={"cookie": "a=1; Secure"})
    assert (await seen(client))["cookies"] == {"a": "1"}


async def test_cookies_can_be_set_read_and_dropped() -> None:
    """The client's cookies are a mapping; a server replaces and deletes those that the test has set."""
    client = Client(routes, cookies={"session": "abc"})
    assert dict(client.cookies) == {"session": "abc"}
    client.cookies["theme"] = "dark"
    assert (await seen(client))["cookies"] == {"session": "abc", "theme": "dark"}
    response = await client.get("/set", params={"cookie": ["session=xyz; Path=/; HttpOnly", "theme=; Max-Age=0; Path=/"]})
    assert response.cookies == {"session": "xyz", "theme": ""}
    assert (dict(client.cookies), len(client.cookies)) == ({"session": "xyz"}, 1)
    assert (await seen(client, cookies={"session": "once", "more": "1"}))["cookies"] == {"session": "once", "more": "1"}
    del client.cookies["session"]
    assert (await seen(client))["cookies"] == {}
    for name in ("session", "nothing"):
        with pytest.raises(KeyError):
            del client.cookies[name]


# The time limit.


@pytest.mark.parametrize("in_client", [True, False])
async def test_a_client_that_waits_too_long_leaves(in_client: bool) -> None:
    """After `timeout` seconds the client leaves, the handler is cancelled as for any departure, and it is a TimeoutError."""
    slow = Router()
    sleeper = Sleeper()
    slow.get("/")(sleeper)
    client = Client(slow, timeout=0.01) if in_client else Client(slow)
    with pytest.raises(TimeoutError, match=r"GET / had no end within 0\.01 s; the client left then"):
        await client.get("/", **({} if in_client else {"timeout": 0.01}))
    assert (sleeper.cancellations, sleeper.ended.is_set()) == (1, True)


# Plain functions.


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sync_app(events: list[str]) -> Router:
    """Routes with a lifespan, whose events are noted."""

    @asynccontextmanager
    async def lifespan(router: Router) -> AsyncIterator[dict[str, str]]:
        events.append("up")
        yield {"name": "state"}
        events.append("down")

    app = Router(lifespan=lifespan)
    app.mount("/in", routes)

    @app.get("/state")
    async def state(request: Request) -> str:
        return str(request.state.name)

    @app.get("/slow")
    async def slow(request: Request) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            events.append("stopped")

    @app.get("/steps")
    async def steps(request: Request) -> str:
        await checkpoint()
        await checkpoint()
        return "done"

    return app


def test_a_plain_function_can_be_a_test(backend: str) -> None:
    """Requests, cookies, the lifespan and its state work without `async`, in one loop for the whole block."""
    events: list[str] = []
    with SyncClient(sync_app(events), backend=backend, headers={"x-a": "1"}) as client:
        assert events == ["up"]
        assert client.get("/state").text == "state"
        client.get("/in/set", params={"cookie": "a=1; Path=/"})
        assert client.post("/in/echo", json=[1]).json()["cookies"] == {"a": "1"} == dict(client.cookies)
        methods = (client.head, client.options, client.put, client.patch, client.delete)
        assert [method("/in/echo").status_code for method in methods] == [200, 200, 405, 405, 405]
    assert events == ["up", "down"]


def test_without_its_block_each_call_has_a_loop() -> None:
    """A client that isn't entered makes its requests all the same, without the lifespan."""
    events: list[str] = []
    client = SyncClient(sync_app(events))
    assert client.get("/in/echo").status_code == 200
    assert len([*client.hang_up_everywhere("/steps")]) == 2
    assert events == []


def test_a_plain_function_can_leave(backend: str) -> None:
    """A request that is on its way is left in the middle, and everywhere."""
    events: list[str] = []
    with SyncClient(sync_app(events), backend=backend) as client:
        with client.open("GET", "/slow") as call:
            assert (call.awaits, call.response.status_code, call.cancelled) == (1, 0, False)
            assert "waiting" in repr(call)
            assert call.hang_up().complete is False
            assert call.cancelled
        with client.open("GET", "/slow") as call:
            call.leave()
        with client.open("GET", "/steps") as call:
            assert call.finish().text == "done"
        assert events == ["up", "stopped", "stopped"]
        assert [str(departure).partition(",")[0] for departure in client.hang_up_everywhere("/steps")] == [
            "the client left at await 1",
            "the client left at await 2",
        ]


def test_what_fails_in_the_loop_fails_the_test(backend: str) -> None:
    """An assertion of the block and an error of the lifespan come out as they are, and the loop ends."""
    with pytest.raises(AssertionError, match="mine"), SyncClient(sync_app([]), backend=backend):
        raise AssertionError("mine")
    broken = Router(lifespan=lambda router: 1 / 0)  # type: ignore[arg-type, return-value]
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="startup failed"), SyncClient(broken, backend=backend):
        pass
    assert time.monotonic() - began < 5
