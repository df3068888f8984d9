"""The app in FastAPI: as it comes, and in our `CancelOnDisconnect`."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

from benchmarks.apps import work
from microasgi import CancelOnDisconnect

app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
async def home() -> str:
    return work.TOKEN.decode()


@app.get("/once", response_class=PlainTextResponse)
async def once() -> str:
    return await work.once()


@app.get("/json")
async def message() -> dict[str, Any]:
    return work.MESSAGE


@app.get("/users/{user}/items/{item}", response_class=PlainTextResponse)
async def item(user: str, item: int) -> str:
    return f"{user} {item}"


@app.post("/read", response_class=PlainTextResponse)
async def read(request: Request) -> str:
    return str(len(await request.body()))


@app.post("/receive", response_class=PlainTextResponse)
async def receive(request: Request) -> str:
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return str(size)


@app.get("/stream/{megabytes}")
async def stream(megabytes: int) -> StreamingResponse:
    return StreamingResponse(work.stream(megabytes))


@app.api_route("/wait", methods=["GET", "POST"], response_class=PlainTextResponse)
async def wait(token: str = "", seconds: str = "") -> str:
    return await work.wait(token, seconds)


@app.get("/ticks")
async def ticks(token: str = "") -> StreamingResponse:
    return StreamingResponse(work.ticks(token))


@app.get("/slot", response_class=PlainTextResponse)
async def slot(token: str = "") -> str:
    return await work.slot(token)


@app.get("/query", response_class=PlainTextResponse)
async def query(token: str = "") -> str:
    return await work.query(token)


@app.get("/notes")
async def notes() -> dict[str, Any]:
    return work.notes()


cancelled = CancelOnDisconnect(app)
