"""A small tour: `microasgi serve microasgi.demo:routes`, then look at it in a browser, or ask with curl and leave with Ctrl+C."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib.resources import files

import anyio
from anyio import from_thread

from microasgi import HTMLResponse, Request, Response, Router, StreamingResponse, WebSocket, WebSocketDisconnect

PAGE = files("microasgi").joinpath("demo.html").read_text(encoding="utf-8")

routes = Router()
rooms: defaultdict[str, set[WebSocket]] = defaultdict(set)


@routes.get("/")
async def home(request: Request) -> HTMLResponse:
    """A page with a link to each of the others."""
    return HTMLResponse(PAGE)


@routes.get("/hello/{name}")
async def hello(request: Request) -> str:
    """curl localhost:8000/hello/you"""
    return f"Hello, {request.path_params['name']}!\n"


@routes.get("/sleep")
async def sleep(request: Request) -> None:
    """curl -m 1 localhost:8000/sleep and see in the log that the ten seconds end after one."""
    await anyio.sleep(10)


@routes.get("/ticks")
async def ticks(request: Request) -> StreamingResponse:
    """curl -N localhost:8000/ticks, until you leave."""

    async def tick() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"tick {number}\n"
            number += 1
            await anyio.sleep(1)

    # A browser that may guess at the type waits for more of the text before it shows any.
    return StreamingResponse(tick(), media_type="text/plain", headers={"x-content-type-options": "nosniff"})


@routes.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    """curl -T FILE -X POST localhost:8000/upload, of any size: it is counted, not kept."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return {"bytes": size}


@routes.post("/pay", on_disconnect="finish")
async def pay(request: Request) -> Response:
    """curl -m 1 -X POST localhost:8000/pay leaves after a second; the payment is finished all the same."""
    await anyio.sleep(3)
    print("The payment is done, whether or not somebody waits for the receipt.", flush=True)
    return Response("paid\n", status_code=201, media_type="text/plain")


@routes.get("/thread")
def thread(request: Request) -> str:
    """curl -m 1 localhost:8000/thread: a plain function runs in a thread, which nobody can stop but which can ask."""
    for _ in range(50):
        time.sleep(0.1)
        from_thread.check_cancelled()
    return "five seconds of work in a thread\n"


@routes.websocket("/chat/{room}")
async def chat(ws: WebSocket) -> None:
    """The page has a room. Whoever closes it, or loses the connection, is out of it at once."""
    room = rooms[ws.path_params["room"]]
    await ws.accept()
    room.add(ws)
    try:
        async for message in ws:
            for other in tuple(room):  # one after the other: who takes nothing holds up a room, until he is given up
                with suppress(WebSocketDisconnect):
                    await other.send_text(str(message))
    finally:
        room.discard(ws)
