"""`limit_body`: how long a request's body may be, on our own server and on another."""

from functools import partial
from typing import Any

import pytest
from microasgi_server import Limits
from starlette.applications import Starlette
from starlette.middleware import Middleware as StarletteMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route as StarletteRoute

from microasgi import CallNext, CancelOnDisconnect, Mount, Request, Response, Route, Router
from tests.harness import access_lines, call, eventually, loud_lines, serving

pytestmark = pytest.mark.anyio


async def count(request: Request) -> str:
    return str(len(await request.body()))


async def ignore(request: Request) -> str:
    return "ignored"


async def foreign(scope: Any, receive: Any, send: Any) -> None:
    """Another framework's app, as far as it matters."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % len(body)})


def routes() -> Router:
    inner = Router([Route("/own", count, methods=["POST"]), Route("/lower", count, methods=["POST"], limit_body=50)])
    return Router(
        [
            Route("/router", count, methods=["POST"]),
            Route("/raised", count, methods=["POST"], limit_body=1000),
            Route("/lifted", count, methods=["POST"], limit_body=0),
            Route("/ignored", ignore, methods=["POST"]),
            Mount("/inner", inner),
            Mount("/wide", inner, limit_body=1000),
            Mount("/foreign", foreign, limit_body=1000),
        ],
        limit_body=100,
    )


def logged(text: str, caplog: pytest.LogCaptureFixture) -> bool:
    return any(text in line for line in access_lines(caplog))


CASES = [
    ("/router", 100, 200),
    ("/router", 101, 413),
    ("/raised", 1000, 200),
    ("/raised", 1001, 413),
    ("/lifted", 5000, 200),
    ("/ignored", 101, 200),
    ("/inner/own", 101, 413),
    ("/inner/lower", 51, 413),
    ("/wide/own", 1000, 200),
    ("/wide/own", 1001, 413),
    ("/wide/lower", 51, 413),
    ("/foreign", 1000, 200),
]


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
async def test_the_innermost_opinion_holds(chunked: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A route's limit, else that of its mount, else the router's, else the server's; the log says 413, and nobody else complains."""
    async with serving(routes(), limits=Limits(body=10)) as served:
        for path, length, status in [*CASES, ("/foreign", 1001, 413)]:
            async with await served.connect() as client:
                framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % length
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (length, bytes(length)) if chunked else bytes(length)
                await client.send(b"POST %b HTTP/1.1\r\nHost: test\r\n%b\r\n\r\n%b" % (path.encode(), framing, body))
                assert ((await client.response()).status, path) == (status, path)
                await eventually(partial(logged, f'"POST {path} HTTP/1.1" {status} ', caplog))
    assert not loud_lines(caplog)


@pytest.mark.parametrize(("path", "length", "status"), CASES)
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unknown length"])
async def test_other_servers_know_nothing_of_it(path: str, length: int, status: int, sized: bool) -> None:
    """Where the server has no such extension, the router counts, and answers as it answers any HTTPException."""
    headers = [(b"content-length", b"%d" % length)] if sized else []
    response = await call(routes(), "POST", path, headers=headers, body=[bytes(length // 2), bytes(length - length // 2)])
    assert response.status == status
    if status == 413:
        assert response.body.startswith(b"the request's body has at most ")


@pytest.mark.parametrize(
    ("path", "length", "status"), [("/lower", 50, 200), ("/lower", 51, 413), ("/foreign", 51, 413), ("/ignored", 51, 200)]
)
@pytest.mark.parametrize("ours", [True, False], ids=["our server", "another"])
async def test_a_body_that_middleware_has_read_is_limited_too(path: str, length: int, status: int, ours: bool) -> None:
    """The innermost limit holds for whoever asks for the body, also where a function around has asked for it before."""
    inner = [Route(path, handler, methods=["POST"], limit_body=50) for path, handler in (("/lower", count), ("/ignored", ignore))]
    app = Router([*inner, Mount("/foreign", foreign, limit_body=50)], limit_body=100)

    @app.middleware
    async def reads(request: Request, call_next: CallNext) -> Response:
        await request.body()
        return await call_next(request)

    if not ours:
        assert (await call(app, "POST", path, body=[bytes(length)])).status == status
        return
    async with serving(app) as served, await served.connect() as client:
        await client.send(b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), length, bytes(length)))
        assert (await client.response()).status == status


class PassOn(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


@pytest.mark.parametrize("middleware", [[], [StarletteMiddleware(PassOn)]], ids=["bare", "BaseHTTPMiddleware"])
@pytest.mark.parametrize("wrap", [lambda app: app, CancelOnDisconnect], ids=["alone", "CancelOnDisconnect"])
async def test_another_framework_has_nothing_to_complain_of(wrap: Any, middleware: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A Starlette handler whose request is too long ends as if its client had left: one 413 in the log, and no error."""

    async def handler(request: Any) -> StarletteResponse:
        return StarletteResponse(await request.body())

    app = Starlette(routes=[StarletteRoute("/", handler, methods=["POST"])], middleware=middleware)
    async with serving(wrap(app), limits=Limits(body=10)) as served, await served.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\nhello world")
        assert (await client.response()).status == 413
        await eventually(partial(logged, '"POST / HTTP/1.1" 413 ', caplog))
    assert not loud_lines(caplog)


@pytest.mark.parametrize("limit", [-1, 1.5, "10", True])
@pytest.mark.parametrize("make", [lambda limit: Router(limit_body=limit), lambda limit: Route("/", count, limit_body=limit)])
def test_what_is_no_limit_is_refused(make: Any, limit: Any) -> None:
    """When the route or the router is made."""
    with pytest.raises(ValueError, match="limit_body is a number of bytes, or 0 for as many as come, not "):
        make(limit)


async def test_decorators_take_it() -> None:
    """As any other option of a route."""
    router = Router()
    router.post("/", limit_body=5)(count)
    router.mount("/m", foreign, limit_body=5)
    assert (await call(router, "POST", "/", body=[b"123456"])).status == 413
    assert [route.limit_body for route in router.routes] == [5, 5]
