"""What is borrowed from others, each on a Router and our server: it does its work, and the promise holds through it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import itsdangerous  # noqa: F401 (SessionMiddleware needs it)
import pytest
import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from microasgi import Middleware, Request, Router
from tests.harness import Departure, Response, Sleeper, access_lines, eventually, loud_lines, serving, within

pytestmark = pytest.mark.anyio

Look = Callable[[Response], bool]
"""Whether the middleware has had its hand in an answer."""

BORROWED: dict[str, tuple[Middleware, str, Look]] = {
    "CORS": (
        Middleware(CORSMiddleware, allow_origins=["https://a.example"]),
        "Origin: https://a.example",
        lambda answer: answer.header(b"access-control-allow-origin") == b"https://a.example",
    ),
    "GZip": (
        Middleware(GZipMiddleware, minimum_size=10),
        "Accept-Encoding: gzip",
        lambda answer: answer.header(b"content-encoding") == b"gzip" and answer.body[:2] == b"\x1f\x8b",
    ),
    "TrustedHost": (
        Middleware(TrustedHostMiddleware, allowed_hosts=["test", "b.example"]),
        "X-Nothing: x",
        lambda answer: answer.status == 200,
    ),
    "Session": (
        Middleware(SessionMiddleware, secret_key="none"),
        "X-Nothing: x",
        lambda answer: (answer.header(b"set-cookie") or b"").startswith(b"session="),
    ),
    "HTTPSRedirect": (
        Middleware(HTTPSRedirectMiddleware),
        "X-Nothing: x",
        lambda answer: answer.header(b"location") == b"https://test/",
    ),
}


def head(path: str, field: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: test\r\n{field}\r\n\r\n".encode()


@pytest.mark.parametrize("name", BORROWED)
async def test_middleware(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A middleware of Starlette's does its work around a Router, and a client that leaves is noticed through it."""
    middleware, field, look = BORROWED[name]
    sleeper = Sleeper()
    routes = Router(middleware=[middleware])

    @routes.get("/")
    async def hello(request: Request) -> str:
        if name == "Session":
            request.scope["session"]["user"] = "eve"
        return "hello" * 100

    routes.get("/sleep")(sleeper)
    async with serving(routes) as served:
        async with await served.connect() as client:
            await client.send(head("/", field))
            assert look(await client.response())
        if name == "HTTPSRedirect":  # which lets nobody through
            return
        async with await served.connect() as client:
            await client.send(head("/sleep", field))
            await within(sleeper.begun)
        await within(sleeper.ended)
        await eventually(lambda: len(access_lines(caplog)) == 2)
    assert sleeper.cancellations == 1
    assert '" 499 ' in access_lines(caplog)[1]
    assert loud_lines(caplog) == []


async def test_a_host_that_is_not_trusted() -> None:
    """TrustedHost answers by itself."""
    routes = Router(middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["b.example"])])
    async with serving(routes) as served, await served.connect() as client:
        await client.send(head("/", "X-Nothing: x"))
        assert (await client.response()).status == 400


@pytest.fixture
def event_source_response(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Importing sse-starlette changes uvicorn, for good and for all other tests: that is taken back."""
    monkeypatch.setattr(uvicorn.Server, "handle_exit", uvicorn.Server.handle_exit)
    from sse_starlette import EventSourceResponse

    return EventSourceResponse


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_sse_starlette(how: Departure, event_source_response: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A response of sse-starlette's streams, and ends with its client."""
    sleeper, routes = Sleeper(), Router()

    @routes.get("/")
    async def events(request: Request) -> Any:
        async def two() -> AsyncIterator[dict[str, Any]]:
            yield {"data": "first", "id": "1"}
            await sleeper.sleep()

        return event_source_response(two())

    async with serving(routes) as served:
        async with await served.connect() as client:
            await client.send(head("/", "X-Nothing: x"))
            data = b""
            with anyio.fail_after(5):
                while b"data: first" not in data:
                    data += await client.receive()
            await within(sleeper.begun)
            client.leave(how)
        await within(sleeper.ended)
        await eventually(lambda: access_lines(caplog))
    assert sleeper.cancellations == 1
    assert loud_lines(caplog) == []
