"""What the framework's objects say of themselves, in a debugger and in a failed assertion: one line that tells their state."""

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from microasgi import BackgroundTask, JSONResponse, Mount, PlainTextResponse, Request, Response, Route, Router, StreamingResponse
from microasgi.asgi import Receive, Scope, Send
from microasgi.testing import Call, Client
from tests.harness import within

pytestmark = pytest.mark.anyio


async def handler(request: Request) -> None:
    """Never called."""


async def foreign(scope: Scope, receive: Receive, send: Send) -> None:
    """Never called."""


class Named:
    """An app that is an object."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Never called."""

    def __repr__(self) -> str:
        return "<Named>"


ROUTES: list[tuple[object, str]] = [
    (Route("/a/{id:int}", handler), "<Route GET /a/{id:int} to handler>"),
    (Route("/", handler, methods=["put", "get"], name="home"), "<Route GET,PUT / to home>"),
    (Route("/", handler, on_disconnect="finish", cleanup_grace=1), "<Route GET / to handler, on_disconnect='finish', cleanup_grace=1>"),
    (Mount("/files/", foreign), "<Mount /files of foreign>"),
    (Mount("", Named(), cleanup_grace=0), "<Mount / of <Named>, cleanup_grace=0>"),
    (Mount("/v1", Router([Route("/", handler)])), "<Mount /v1 of <Router of 1 routes>>"),
    (Router(on_disconnect="cancel"), "<Router of 0 routes, on_disconnect='cancel'>"),
    (Response(), "<Response 200, 0 bytes>"),
    (PlainTextResponse("no", 403), "<PlainTextResponse 403, 2 bytes>"),
    (JSONResponse([1], background=BackgroundTask(handler, 1)), "<JSONResponse 200, 3 bytes, then <BackgroundTask handler>>"),
    (StreamingResponse([b"a"]), "<StreamingResponse 200, streamed from list>"),
]


@pytest.mark.parametrize(("of", "told"), ROUTES, ids=[told for _, told in ROUTES])
def test_what_an_application_is_made_of_tells_its_state(of: object, told: str) -> None:
    """Routes, mounts, routers and responses tell what they answer, with what, and their own opinion of the disconnect."""
    assert repr(of) == told


async def test_a_router_in_itself_can_be_told() -> None:
    """A router counts its routes and doesn't print them, so that nothing goes round in circles."""
    routes = Router()
    routes.mount("/again", routes)
    assert repr(routes.routes) == "[<Mount /again of <Router of 1 routes>>]"


async def test_a_request_tells_what_has_become_of_it() -> None:
    """A request tells its method and path, in one line, and whether its body was read and its client has left."""
    told: list[str] = []
    routes = Router()

    @routes.post("/{path:path}", on_disconnect="finish")
    async def post(request: Request) -> None:
        told.append(repr(request))
        async with aclosing(request.stream()) as stream:
            await anext(stream)
        told.append(repr(request))
        await request.wait_disconnected()
        told.append(repr(request))

    async with Client(routes).open("POST", "/a%0Ab", content=b"x"):
        pass
    beginning = r"<Request POST '/a\nb'"
    assert told == [f"{beginning}>", f"{beginning}, body streamed>", f"{beginning}, body streamed, client gone>"]


async def test_a_request_outside_a_router_can_be_told() -> None:
    """Where nobody knows whether the client has left, a request tells the rest, a body that is kept among it."""
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}

    async def receive() -> Any:
        return {"type": "http.request", "body": b"x", "more_body": False}

    request = Request(scope, receive)
    await request.body()
    assert repr(request) == "<Request GET '/', body read>"


async def waiting(request: Request) -> None:
    await anyio.sleep_forever()


async def answering(request: Request) -> str:
    return "abc"


def stay(call: Call) -> None:
    """Nothing happens."""


@pytest.mark.parametrize(
    ("endpoint", "then", "told"),
    [
        (waiting, stay, "<Call GET '/', 1 awaits, waiting, 0 bytes of a response>"),
        (answering, stay, "<Call GET '/', 0 awaits, complete, 3 bytes of a 200>"),
        (waiting, Call.leave, "<Call GET '/', 1 awaits, client gone, 0 bytes of a response>"),
    ],
)
async def test_a_call_tells_how_far_it_has_come(endpoint: Any, then: Callable[[Call], None], told: str) -> None:
    """The test client's call tells the request, how often its app has waited, and what has come of the response."""
    async with Client(Router([Route("/", endpoint)])).open("GET", "/") as call:
        then(call)
        assert repr(call) == told


async def test_a_call_tells_what_has_come_of_its_body() -> None:
    """While the body comes, the call is answering, and tells the status and how many bytes there are."""
    begun = anyio.Event()

    async def content() -> Any:
        yield b"abc"
        begun.set()
        await anyio.sleep_forever()

    routes = Router([Route("/", lambda request: StreamingResponse(content()))])
    async with Client(routes).open("GET", "/") as call:
        await within(begun)
        assert repr(call).endswith("awaits, answering, 3 bytes of a 200>")
