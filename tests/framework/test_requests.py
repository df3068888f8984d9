"""The request, as a handler sees it."""

import gc
import json
import pickle
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import pytest

from microasgi import (
    URL,
    Address,
    CancelOnDisconnect,
    ClientDisconnect,
    FormData,
    Headers,
    HTTPException,
    QueryParams,
    Request,
    Route,
    Router,
    State,
)
from microasgi.promise.visit import VISIT
from microasgi.testing.cookies import Cookies
from tests.harness import GET, call, eventually, serving, within

pytestmark = pytest.mark.anyio

AsyncHandler = Callable[[Request], Awaitable[Any]]


async def asked(look: Callable[[Request], Any], path: str = "/", **options: Any) -> Any:
    """What `look` finds in a request."""
    found: list[Any] = []

    async def handler(request: Request) -> None:
        value = look(request)
        found.append(await value if isinstance(value, Awaitable) else value)

    await call(Router([Route("/{rest:path}", handler, methods=["GET", "POST"])]), path=path, **options)
    return found[0]


# The head.


async def test_headers_in_any_case() -> None:
    """Header names are found in any case, and the order and number of the fields is kept."""
    fields = [(b"accept", b"a"), (b"x-name", b"caf\xe9"), (b"accept", b"b")]
    headers: Headers = await asked(lambda request: request.headers, headers=fields)
    assert headers["Accept"] == headers["ACCEPT"] == "a"
    assert headers.getlist("accept") == ["a", "b"]
    assert headers["x-name"] == "caf\xe9"
    assert headers.multi_items() == [("accept", "a"), ("x-name", "caf\xe9"), ("accept", "b")]
    assert list(headers) == ["accept", "x-name"]
    assert len(headers) == 2
    assert "X-NAME" in headers
    assert "x-none" not in headers
    assert 5 not in headers  # type: ignore[comparison-overlap]
    assert headers.get("x-none", "default") == "default"
    assert headers.getlist("x-none") == []
    assert headers.raw == fields
    with pytest.raises(KeyError):
        headers["\u20ac"]


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (QueryParams("page=1&size=2&page=3"), "QueryParams has no 'q'; it has 'page', 'size'"),
        (Headers([]), "Headers has no 'q'; it has nothing"),
        (FormData([("name", "tea")]), "FormData has no 'q'; it has 'name'"),
        (Cookies({"session": "a"}), "Cookies has no 'q'; it has 'session'"),
        (QueryParams("&".join(f"{n}=" for n in range(30))), "'18', '19', …"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_key_that_there_is_not_is_told(there: Mapping[str, Any], words: str) -> None:
    """The KeyError says what there is instead, and survives the way to another process."""
    with pytest.raises(KeyError) as raised:
        there["q"]
    assert str(raised.value).endswith(words)
    assert raised.value.args == ("q",)
    assert pickle.loads(pickle.dumps(raised.value)).args == ("q",)
    assert there.get("q", "none") == "none"


async def test_the_query_is_decoded() -> None:
    """Query parameters are decoded; one given several times has all its values, and the last one counts."""
    query: QueryParams = await asked(lambda request: request.query_params, "/?a=1&b=x+y%26&a=2&empty=&%C3%A9=%E2%82%AC&bare")
    assert query["a"] == "2"
    assert query.getlist("a") == ["1", "2"]
    assert query["b"] == "x y&"
    assert query["empty"] == query["bare"] == ""
    assert query["\u00e9"] == "\u20ac"
    assert query.multi_items()[0] == ("a", "1")
    assert dict(query) == {"a": "2", "b": "x y&", "empty": "", "\u00e9": "\u20ac", "bare": ""}
    assert "none" not in query
    assert len(await asked(lambda request: request.query_params)) == 0


@pytest.mark.parametrize(
    ("fields", "cookies"),
    [
        ([], {}),
        ([b"a=1; b=2"], {"a": "1", "b": "2"}),
        ([b"a=1", b"b=2"], {"a": "1", "b": "2"}),
        ([b"a=1; a=2"], {"a": "1"}),
        ([b'a="quoted"; b="'], {"a": "quoted", "b": '"'}),
        ([b"nonsense; =x; a=1=2;; b="], {"a": "1=2", "b": ""}),
    ],
)
async def test_cookies(fields: list[bytes], cookies: dict[str, str]) -> None:
    """The pairs of all Cookie fields; of two with one name the first counts, and what isn't a pair is passed over."""
    assert await asked(lambda request: request.cookies, headers=[(b"cookie", field) for field in fields]) == cookies


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"headers": [(b"host", b"example.org:8080")]}, "http://example.org:8080/a%20b?x=%20y"),
        ({"headers": [(b"host", b"example.org")], "scheme": "https"}, "https://example.org/a%20b?x=%20y"),
        ({"server": ("10.0.0.1", 8000)}, "http://10.0.0.1:8000/a%20b?x=%20y"),
        ({"server": ("/run/app.sock", None)}, "http:///run/app.sock/a%20b?x=%20y"),
        ({"server": None}, "http://localhost/a%20b?x=%20y"),
        ({"server": None, "raw_path": None, "path": "/a"}, "http://localhost/a?x=%20y"),
    ],
)
async def test_the_url(options: dict[str, Any], url: str) -> None:
    """The URL is as the client wrote it, with the host it asked for, or else the server's address."""
    options = dict(options)
    path = options.pop("path", "/a b")
    assert str(await asked(lambda request: request.url, path + "?x=%20y", **options)) == url


def test_the_parts_of_a_url() -> None:
    """A URL gives its parts; a port that is none is None."""
    url = URL("https://example.org:8443/a/b?q=1")
    parts = (url.scheme, url.netloc, url.hostname, url.port, url.path, url.query)
    assert parts == ("https", "example.org:8443", "example.org", 8443, "/a/b", "q=1")
    assert URL("http://example.org:nonsense/").port is None
    assert url == URL(str(url)) == str(url)
    assert hash(url) == hash(URL(str(url)))
    assert url != 5


async def test_the_client() -> None:
    """The client is an address with host and port, or None where there is none."""
    assert await asked(lambda request: request.client, client=("1.2.3.4", 99)) == Address("1.2.3.4", 99)
    assert await asked(lambda request: request.client, client=None) is None


async def test_the_method_and_path() -> None:
    """The method is as sent, and the path is decoded."""
    assert await asked(lambda request: (request.method, request.path), "/\u00e9/b", method="POST") == ("POST", "/\u00e9/b")


async def test_the_state_is_the_scopes() -> None:
    """`request.state` reads, sets and deletes in the scope's state, and names what it has where something is missing."""
    scope_state = {"db": "pool"}

    async def look(request: Request) -> None:
        assert request.state.db == "pool"
        request.state.user = "eve"
        del request.state.db
        with pytest.raises(AttributeError, match="the state has no 'db'; it has 'user'"):
            _ = request.state.db
        with pytest.raises(AttributeError, match="the state has no 'db'"):
            del request.state.db

    await asked(look, state=scope_state)
    assert scope_state == {"user": "eve"}
    with pytest.raises(AttributeError, match="it has nothing"):
        _ = State({}).anything


# The body.


async def test_the_body_is_kept() -> None:
    """The body may be asked for as often as one likes, in any form, once it was read whole."""

    async def look(request: Request) -> Any:
        first, second = await request.body(), await request.body()
        return first, second, await request.json(), [chunk async for chunk in request.stream()]

    assert await asked(look, method="POST", body=[b'{"a"', b": 1}"]) == (b'{"a": 1}', b'{"a": 1}', {"a": 1}, [b'{"a": 1}'])


async def test_the_body_is_streamed() -> None:
    """A stream gives the pieces as they come, without empty ones."""

    async def look(request: Request) -> Any:
        return [chunk async for chunk in request.stream()]

    assert await asked(look, method="POST", body=[b"one", b"", b"two", b""]) == [b"one", b"two"]
    assert await asked(look) == []


async def test_a_stream_is_read_once() -> None:
    """A body that was streamed is gone: to ask for it again is a mistake, which is told."""

    async def look(request: Request) -> None:
        async for _ in request.stream():
            pass
        for again in (request.body, request.json, request.stream().__anext__):
            with pytest.raises(RuntimeError, match="was streamed already"):
                await again()

    await asked(look, method="POST", body=[b"one"])


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\xff", b"nothing", b"[" * 100_000])
async def test_a_body_that_is_not_json_is_a_400(body: bytes) -> None:
    """`json()` of what isn't JSON is the client's fault: the answer is 400, with the reason."""

    async def handler(request: Request) -> Any:
        return await request.json()

    answer = await call(Router([Route("/", handler, methods=["POST"])]), "POST", body=[body])
    assert answer.status == 400
    assert answer.body.startswith(b"the request's body is not JSON: ")


async def test_a_400_can_be_handled() -> None:
    """The handler itself may catch it, as an HTTPException."""

    async def handler(request: Request) -> str:
        with pytest.raises(HTTPException) as raised:
            await request.json()
        return str(raised.value.status_code)

    assert (await call(Router([Route("/", handler, methods=["POST"])]), "POST", body=[b"no"])).body == b"400"


def posted(length: int, body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % length + body


async def test_an_unread_body_does_not_disturb_the_next_request() -> None:
    """A handler need not read the body: the connection's next request is served all the same."""
    routes = Router()

    @routes.post("/")
    async def uninterested(request: Request) -> str:
        return "no, thanks"

    @routes.get("/")
    async def home(request: Request) -> str:
        return "home"

    async with serving(routes) as served, await served.connect() as client:
        await client.send(posted(100_000, b"x" * 100_000))
        assert (await client.response()).body == b"no, thanks"
        await client.send(GET)
        assert (await client.response()).body == b"home"


async def read_body(request: Request) -> Any:
    return await request.body()


async def read_stream(request: Request) -> Any:
    return [chunk async for chunk in request.stream()]


@pytest.mark.parametrize("read", [read_body, read_stream, Request.json])
async def test_a_body_that_ends_early(read: AsyncHandler, caplog: pytest.LogCaptureFixture) -> None:
    """Where the handler goes on without its client, reading on raises ClientDisconnect; unhandled, that is no fault of anybody's."""
    errors: list[Exception] = []
    began, ended = anyio.Event(), anyio.Event()

    async def handler(request: Request) -> None:
        began.set()
        try:
            await read(request)
        except OSError as error:
            errors.append(error)
            raise
        finally:
            ended.set()

    async with serving(Router([Route("/", handler, methods=["POST"], on_disconnect="finish")])) as served:
        async with await served.connect() as client:
            await client.send(posted(10, b"half "))
            await within(began)
        await within(ended)
    assert [type(error) for error in errors] == [ClientDisconnect]
    assert [record for record in caplog.records if record.levelname not in ("INFO", "DEBUG")] == []


async def test_the_body_survives_the_question() -> None:
    """Asking whether the client is there, before and in the middle, takes nothing of the body."""

    async def look(request: Request) -> Any:
        before = [await request.is_disconnected() for _ in range(3)]
        chunks = []
        async for chunk in request.stream():
            chunks.append(chunk)
            assert not await request.is_disconnected()
            with anyio.move_on_after(0.001):
                await request.wait_disconnected()
        return before, b"".join(chunks)

    assert await asked(look, method="POST", body=[b"one", b"two", b"three"]) == ([False] * 3, b"onetwothree")

    async def handler(request: Request) -> str:
        return json.dumps([part.decode() if isinstance(part, bytes) else part for part in await look(request)])

    async with serving(Router([Route("/", handler, methods=["POST"])])) as served, await served.connect() as client:
        await client.send(posted(10, b"0123456789"))
        assert json.loads((await client.response()).body) == [[False] * 3, "0123456789"]


async def test_waiting_for_the_client_to_leave() -> None:
    """Under 'finish' both questions say so when the client has left, and go on saying it."""
    began, ended = anyio.Event(), anyio.Event()
    answers: list[bool] = []

    async def handler(request: Request) -> None:
        answers.append(await request.is_disconnected())
        began.set()
        await request.wait_disconnected()
        await request.wait_disconnected()
        answers.append(await request.is_disconnected())
        ended.set()

    async with serving(Router([Route("/", handler, on_disconnect="finish")])) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await within(began)
        await within(ended)
    assert answers == [False, True]


async def test_a_request_outside_a_router() -> None:
    """A Request made by hand knows of no client until the app is wrapped in CancelOnDisconnect, and says so."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        answer = str(await request.is_disconnected()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    with pytest.raises(RuntimeError, match="wrap the app in CancelOnDisconnect"):
        await call(app)
    assert (await call(CancelOnDisconnect(app))).body == b"False"


POSTED = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b"


async def looks_at_all(request: Request) -> str:
    await request.form()
    return repr((request.headers, request.query_params, request.cookies, request.url, request.client, request.state, request))


async def streams(request: Request) -> list[int]:
    return [len(piece) async for piece in request.stream()]


@pytest.mark.parametrize("seconds", [None, 20])
@pytest.mark.parametrize("handler", [looks_at_all, streams, Request.body, Request.form])
async def test_a_request_leaves_nothing_to_the_collector(handler: AsyncHandler, seconds: float | None) -> None:
    """What it was made of, and what was sent in it, is freed when it is answered: the collector may come by after thousands of others."""
    visits: list[weakref.ref[object]] = []

    async def endpoint(request: Request) -> str:
        visits.append(weakref.ref(request.scope[VISIT]))
        return repr(await handler(request))

    routes = Router([Route("/", endpoint, methods=["POST"], timeout=seconds)])
    async with serving(routes) as served, await served.connect() as client:
        gc.collect()
        gc.disable()
        try:
            await client.send(POSTED)
            assert (await client.response()).status == 200
            await eventually(lambda: visits[0]() is None)
        finally:
            gc.enable()
