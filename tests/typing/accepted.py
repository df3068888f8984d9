"""What type checkers must take: the ways in which an app is written that work."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypedDict, assert_type

from starlette.responses import PlainTextResponse as StarletteText

from microasgi import (
    URL,
    CallNext,
    HTTPException,
    JSONResponse,
    Mount,
    NextResponse,
    Request,
    Response,
    Route,
    Router,
    StreamingResponse,
)
from microasgi.asgi import Receive, Scope, Send


class Item(TypedDict):
    id: int


@asynccontextmanager
async def lifespan(router: Router) -> AsyncIterator[dict[str, str]]:
    yield {"pool": "…"}


routes = Router(lifespan=lifespan, debug=True, redirect_slashes=False, on_disconnect="cancel", cleanup_grace=1)


@routes.get("/text", name="text", on_disconnect="finish", cleanup_grace=0.5)
async def text(request: Request) -> str:
    return str(request.url_for("text"))


@routes.post("/bytes")
def plain(request: Request) -> bytes:
    return b""


@routes.put("/dict")
async def numbers(request: Request) -> dict[str, int]:
    return {"a": 1}


@routes.patch("/typed")
async def typed(request: Request) -> Item:
    return {"id": 1}


@routes.delete("/mapping")
async def mapping(request: Request) -> Mapping[str, object]:
    return {}


@routes.head("/list")
async def several(request: Request) -> list[Item]:
    return [{"id": 1}]


@routes.options("/none")
async def nothing(request: Request) -> None:
    return None


@routes.route("/either", methods=["GET", "POST"], name="either")
async def either(request: Request) -> dict[str, str] | Response | None:
    return JSONResponse({}) if request.method == "GET" else None


@routes.get("/stream")
async def stream(request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield "a"

    return StreamingResponse(pieces(), headers={"x-a": "b"})


@routes.get("/theirs")
async def theirs(request: Request) -> StarletteText:
    return StarletteText("a")


@routes.get("/untyped")
async def anything(request: Request) -> Any:
    raise HTTPException(422, {"why": ["so"]}, {"x-a": "b"})


@routes.exception_handler(404)
async def lost(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"detail": error.detail}, error.status_code)


@routes.exception_handler(KeyError)
def missing(request: Request, error: KeyError) -> str:
    return str(error)


@routes.middleware
async def timed(request: Request, call_next: CallNext) -> Response:
    response = await call_next(request)
    assert_type(response, NextResponse)
    response.headers["x-a"] = str(response.status_code)
    return response


@routes.middleware
async def guard(request: Request, call_next: CallNext) -> Response | dict[str, str]:
    return {} if "x-key" not in request.headers else await call_next(request)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """An app."""


routes.mount("/app", app, name="app")
routes.add_route("/added", text, ["GET"], name="added")
routes.include(Router([Route("/a", text), Mount("/b", app)]), prefix="/included")

assert_type(routes.url_path_for("text"), str)


async def names(request: Request) -> None:
    assert_type(request.url_for("text", id=1), URL)
