"""The app in Litestar."""

from typing import Any

from litestar import HttpMethod, Litestar, MediaType, Request, get, post, route
from litestar.response import Stream

from benchmarks.apps import work


@get("/", media_type=MediaType.TEXT)
async def home() -> bytes:
    return work.TOKEN


@get("/once", media_type=MediaType.TEXT)
async def once() -> str:
    return await work.once()


@get("/json")
async def message() -> dict[str, Any]:
    return work.MESSAGE


@get("/users/{user:str}/items/{item:int}", media_type=MediaType.TEXT)
async def item(user: str, item: int) -> str:
    return f"{user} {item}"


@post("/read", media_type=MediaType.TEXT, status_code=200)
async def read(request: Request[Any, Any, Any]) -> str:
    return str(len(await request.body()))


@post("/receive", media_type=MediaType.TEXT, status_code=200)
async def receive(request: Request[Any, Any, Any]) -> str:
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return str(size)


@get("/stream/{megabytes:int}")
async def stream(megabytes: int) -> Stream:
    return Stream(work.stream(megabytes))


@route("/wait", http_method=[HttpMethod.GET, HttpMethod.POST], media_type=MediaType.TEXT, status_code=200)
async def wait(token: str = "", seconds: str = "") -> str:
    return await work.wait(token, seconds)


@get("/ticks")
async def ticks(token: str = "") -> Stream:
    return Stream(work.ticks(token))


@get("/slot", media_type=MediaType.TEXT)
async def slot(token: str = "") -> str:
    return await work.slot(token)


@get("/query", media_type=MediaType.TEXT)
async def query(token: str = "") -> str:
    return await work.query(token)


@get("/notes")
async def notes() -> dict[str, Any]:
    return work.notes()


app = Litestar(
    [home, once, message, item, read, receive, stream, wait, ticks, slot, query, notes],
    request_max_body_size=None,  # 10 MB else
    openapi_config=None,
)
