"""What type checkers must refuse, line by line: what fails when it runs. `# refused:` has mypy's code for the error in its line."""

from collections.abc import AsyncIterator, Coroutine
from typing import Any

from microasgi import CallNext, HTTPException, JSONResponse, Mount, Request, Response, Route, Router
from microasgi.asgi import Receive, Scope, Send

routes = Router(on_disconect="cancel")  # refused: call-arg
Router(on_disconnect="stop")  # refused: arg-type
Router(debug="yes")  # refused: arg-type
Router(exception_handlers={"404": str})  # refused: dict-item


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """An app."""


async def text(request: Request) -> str:
    return ""


# Slips in the keywords.

routes.get("/a", nmae="a")  # refused: call-arg
routes.post("/a", on_disconnect="stop")  # refused: arg-type
routes.put("/a", cleanup_grace="1")  # refused: arg-type
routes.route("/a", method=["GET"])  # refused: call-arg
routes.delete(5)  # refused: arg-type
routes.mount("/a", text)  # refused: arg-type
routes.mount("/a", app, prefix="/a")  # refused: call-arg
routes.add_route("/a", text, name=5)  # refused: arg-type
routes.include(app)  # refused: arg-type
Mount("/a", "app")  # refused: arg-type
Route("/a", app)  # refused: arg-type


# What handlers don't return.


@routes.get("/a")  # refused: type-var
async def pair(request: Request) -> tuple[str, int]:
    return "no", 404


@routes.get("/a")  # refused: type-var
async def number(request: Request) -> int:
    return 5


@routes.get("/a")  # refused: type-var
async def unordered(request: Request) -> set[str]:
    return set()


@routes.get("/a")  # refused: type-var
async def generator(request: Request) -> AsyncIterator[str]:
    yield ""


@routes.get("/a")  # refused: type-var
async def forgotten(request: Request) -> Coroutine[Any, Any, str]:
    return text(request)


@routes.get("/a")  # refused: type-var
async def cls(request: Request) -> type[Response]:
    return Response


# What handlers don't take.


@routes.get("/{id}")  # refused: type-var
async def parameter(request: Request, id: str) -> None:
    """FastAPI's way."""


@routes.get("/")  # refused: type-var
async def without() -> None:
    """Flask's way."""


@routes.exception_handler("404")  # refused: arg-type
async def lost(request: Request, error: HTTPException) -> str:
    return ""


@routes.exception_handler(404)  # refused: type-var
async def only_one(request: Request) -> str:
    return ""


@routes.middleware  # refused: type-var
def plain(request: Request, call_next: CallNext) -> Response:
    return Response()


@routes.middleware  # refused: type-var
async def wrong(request: Request, call_next: CallNext) -> int:
    response = await call_next(request)
    response.headers["x-a"] = 5  # refused: assignment
    return response.status_code


# Responses.

HTTPException("404")  # refused: arg-type
HTTPException(401, "who?", {"retry-after": 5})  # refused: dict-item
JSONResponse({}, "201")  # refused: arg-type
Response("", headers={"x-a": 5})  # refused: dict-item
Response().set_cookie("a", samesite="Lax")  # refused: arg-type
