"""Faults that a review found, each as a user would have met it."""

import logging
from typing import Any

import anyio
import pytest
from microasgi_server import Config, StartupError, serve

from microasgi import HTTPException, Request, Router
from tests.harness import GET, access_lines, eventually, loud_lines, serving, within

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("line", [b"HEAD foo HTTP/1.1", b"HEAD / HTTP/2.0"])
async def test_a_head_request_can_be_refused(line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A HEAD request that isn't served gets a refusal without a body, and nothing is logged above info."""
    async with serving(Router()) as served, await served.connect() as client:
        await client.send(line + b"\r\nHost: test\r\n\r\n")
        head, _, body = (await client.receive_until_closed()).partition(b"\r\n\r\n")
    assert head.split()[1] in (b"400", b"505")
    assert body == b""
    assert loud_lines(caplog) == []


async def test_a_client_that_left_before_the_end_keeps_its_grace() -> None:
    """A handler that cleans up because its client left may do so to its end, though the server is stopped meanwhile."""
    begun, cleaning, cleaned = anyio.Event(), anyio.Event(), anyio.Event()
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                cleaning.set()
                await anyio.sleep(0.3)
                cleaned.set()

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave()
        await within(cleaning)
    assert cleaned.is_set()


async def test_a_finishing_handler_outlives_its_connections_other_call() -> None:
    """Cancelling the server stops a connection's leftover background work, and lets a `finish` handler of the same connection end."""
    background, begun, finished = anyio.Event(), anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        if scope["path"] == "/":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            background.set()
            await anyio.sleep_forever()
        await routes(scope, receive, send)

    routes = Router(on_disconnect="finish")

    @routes.get("/pay")
    async def pay(request: Request) -> str:
        begun.set()
        await anyio.sleep(0.3)
        finished.set()
        return "paid"

    async with serving(app) as served:
        client = await served.connect()
        await client.send(GET + b"GET /pay HTTP/1.1\r\nHost: test\r\n\r\n")
        await within(background)
        await within(begun)
    client.leave()
    assert finished.is_set()


async def test_the_servers_end_is_no_departure(caplog: pytest.LogCaptureFixture) -> None:
    """A request that the server's end cuts off is logged with 503 and that reason, not as a client that left."""
    begun = anyio.Event()
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> None:
        begun.set()
        await anyio.sleep_forever()

    async with serving(routes) as served:
        client = await served.connect()
        await client.send(GET)
        await within(begun)
    client.leave()
    assert [" 503 " in line and "the server stopped" in line and "client left" not in line for line in access_lines(caplog)] == [True]


async def test_a_request_that_cant_become_whole_isnt_begun() -> None:
    """With `half_close`, a pipelined request whose body ends with the client's FIN is not begun, and the connection closes."""
    began: list[str] = []
    begun, go = anyio.Event(), anyio.Event()
    routes = Router()

    @routes.get("/")
    async def home(request: Request) -> str:
        began.append("GET")
        begun.set()
        await go.wait()
        return "hello"

    @routes.post("/")
    async def post(request: Request) -> bytes:
        began.append("POST")
        return await request.body()

    async with serving(routes, half_close=True) as served, await served.connect() as client:
        await client.send(GET + b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nab")
        client.leave("half-close")
        await within(begun)
        go.set()
        assert (await client.receive_until_closed()).endswith(b"hello")
    assert began == ["GET"]


async def test_a_finishing_handlers_exception_is_handled(caplog: pytest.LogCaptureFixture) -> None:
    """A `finish` handler that raises HTTPException after its client left has answered: nothing is logged above info."""
    begun, left = anyio.Event(), anyio.Event()
    routes = Router(on_disconnect="finish")

    @routes.get("/")
    async def home(request: Request) -> None:
        begun.set()
        await request.wait_disconnected()
        left.set()
        raise HTTPException(404)

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        client.leave()
        await within(left)
        await eventually(lambda: access_lines(caplog))
    assert ' HTTP/1.1" 499 ' in access_lines(caplog)[0]
    assert loud_lines(caplog) == []


async def test_an_exception_handler_may_read_the_body_again() -> None:
    """A body that the handler has read is there for the exception handler too."""

    async def explain(request: Request, error: ValueError) -> bytes:
        return await request.body()

    routes = Router(exception_handlers={ValueError: explain})

    @routes.post("/")
    async def post(request: Request) -> None:
        await request.body()
        raise ValueError

    async with serving(routes) as served, await served.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab")
        assert (await client.response()).body == b"ab"


async def test_a_value_that_is_no_response_is_the_error_handlers(caplog: pytest.LogCaptureFixture) -> None:
    """What a handler returns and nothing can be made of goes to the 500 handler, as any other error."""

    async def sorry(request: Request, error: Exception) -> str:
        return f"sorry: {type(error).__name__}"

    routes = Router(exception_handlers={500: sorry})

    @routes.get("/")
    async def home(request: Request) -> dict[str, object]:
        return {"x": object()}

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).body == b"sorry: TypeError"
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
async def test_a_host_that_cant_be_one(host: str) -> None:
    """A host name that no name could look like is a StartupError with the name in it."""
    with pytest.raises(StartupError, match=host):
        await serve(Router(), Config(host=host, port=0))


async def test_a_huge_receive_buffer_is_as_much_as_there_can_be(caplog: pytest.LogCaptureFixture) -> None:
    """A receive buffer that the kernel can't count does no harm to a connection that pauses."""
    begun, go = anyio.Event(), anyio.Event()
    routes = Router()

    @routes.post("/")
    async def post(request: Request) -> str:
        begun.set()
        await go.wait()
        return str(len(await request.body()))

    async with serving(routes, receive_buffer=2**30) as served, await served.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000))
        await within(begun)
        go.set()
        assert (await client.response()).body == b"300000"
    assert loud_lines(caplog) == []


@pytest.mark.parametrize(("name", "value"), [(b"content-length", b"5"), (b"Transfer-Encoding", b"chunked")])
async def test_framing_is_no_trailer(name: bytes, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A trailer that would change the framing never gets onto the wire: the response is broken off."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"hello"})
        await send({"type": "http.response.trailers", "headers": [(name, value)]})

    async with serving(app) as served, await served.connect() as client:
        await client.send(GET)
        data = await client.receive_until_closed()
    assert b"hello" in data
    assert name not in data.partition(b"hello")[2]
    assert "can't be trailers" in caplog.text


async def test_a_304_has_no_transfer_encoding() -> None:
    """A 304 comes without transfer-encoding, and the next request on the connection is served."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        await send({"type": "http.response.start", "status": 304, "headers": [(b"transfer-encoding", b"chunked")]})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as served, await served.connect() as client:
        for _ in range(2):
            await client.send(GET)
            response = await client.response()
            assert response.status == 304
            assert response.header(b"transfer-encoding") is None
