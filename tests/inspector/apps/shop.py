"""The post's app: a report that takes ten seconds of a database's time. And handlers that don't stop, each for its reason."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from microasgi import Request, Router, WebSocket

routes = Router()


@asynccontextmanager
async def transaction() -> AsyncIterator[None]:
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.012)  # COMMIT or ROLLBACK: a round trip


async def query(year: int) -> dict[str, int]:
    async with transaction():
        await anyio.sleep(10)
        return {"year": year}


@routes.get("/report/{year:int}")
async def report(request: Request) -> dict[str, int]:
    return await query(request.path_params["year"])


@routes.get("/hello")
async def hello(request: Request) -> str:
    return "hello"


@routes.get("/pay", on_disconnect="finish")
async def pay(request: Request) -> str:
    await anyio.sleep(10)
    return "paid"


@routes.get("/compute")
async def compute(request: Request) -> str:
    await anyio.sleep(0.01)
    time.sleep(10)  # noqa: ASYNC251  # that is its fault
    return "done"


@routes.websocket("/chat")
async def chat(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        await ws.send_text(await ws.receive_text())
