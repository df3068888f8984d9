"""What the foreign servers serve: one Router, one Starlette app and one FastAPI app, the last two in `CancelOnDisconnect`.

A request's first segment picks the app. Its query may have a `token`, under which the handlers note what happens to them; the
test asks for the notes at `/notes`, past all the apps, and lets waiting handlers go on at `/go/TOKEN`.
"""

import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import fastapi
from anyio.lowlevel import checkpoint
from fastapi.responses import StreamingResponse as FastAPIStreamingResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask as StarletteBackgroundTask
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse as StarletteJSONResponse
from starlette.responses import PlainTextResponse as StarletteText
from starlette.responses import Response as StarletteResponse
from starlette.responses import StreamingResponse as StarletteStreamingResponse
from starlette.routing import Route as StarletteRoute

from microasgi import BackgroundTask, CancelOnDisconnect, PlainTextResponse, Request, Response, Router, StreamingResponse
from microasgi.asgi import ASGIApp, Receive, Scope, Send

NOTES: defaultdict[str, list[str]] = defaultdict(list)
GO: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)


@contextmanager
def noted(token: str) -> Iterator[None]:
    """Note that a handler began, and whether it ended by itself or was stopped."""
    NOTES[token].append("began")
    try:
        yield
    except BaseException:
        NOTES[token].append("stopped")
        raise
    NOTES[token].append("ended")


async def sleep(token: str) -> str:
    """A handler that works for somebody."""
    with noted(token):
        await anyio.sleep(30)
    return "slept"


async def wait(token: str) -> str:
    """A handler that works until the test lets it go."""
    with noted(token):
        await GO[token].wait()
    return "went"


async def parts() -> AsyncIterator[bytes]:
    """A body in three parts."""
    for part in (b"one ", b"two ", b"three"):
        yield part
        await checkpoint()


async def ticks(token: str) -> AsyncIterator[bytes]:
    """A body without an end."""
    with noted(token):
        while True:
            yield b"tick\n"
            await anyio.sleep(0.01)


async def afterwards(token: str) -> None:
    """Something for the background."""
    with noted(token):
        await GO[token].wait()


# The Router.

routes = Router()


@routes.get("/hello/{name}")
async def routes_hello(request: Request) -> dict[str, str]:
    return {"hello": request.path_params["name"], "root": request.scope["root_path"]}


@routes.post("/echo")
async def routes_echo(request: Request) -> bytes:
    return await request.body()


@routes.post("/count")
async def routes_count(request: Request) -> str:
    return str(sum([len(chunk) async for chunk in request.stream()]))


@routes.get("/stream")
async def routes_stream(request: Request) -> StreamingResponse:
    return StreamingResponse(parts())


@routes.route("/sleep", ["GET", "POST"])
async def routes_sleep(request: Request) -> str:
    return await sleep(request.query_params["token"])


@routes.get("/ticks")
async def routes_ticks(request: Request) -> StreamingResponse:
    return StreamingResponse(ticks(request.query_params["token"]))


@routes.post("/late")
async def routes_late(request: Request) -> bytes:
    await wait(request.query_params["token"])
    return await request.body()


@routes.get("/background")
async def routes_background(request: Request) -> Response:
    return PlainTextResponse("later", background=BackgroundTask(afterwards, request.query_params["token"]))


@routes.post("/finish", on_disconnect="finish")
async def routes_finish(request: Request) -> str:
    token = request.query_params["token"]
    NOTES[token].append("waiting")
    await request.wait_disconnected()
    NOTES[token].append("left")
    with noted(token):
        await anyio.sleep(0.1)
    return "paid"


@routes.post("/look")
async def routes_look(request: Request) -> dict[str, Any]:
    looks = [await request.is_disconnected() for _ in range(5)]
    return {"looks": looks, "body": (await request.body()).decode()}


# The Starlette app.


async def starlette_hello(request: StarletteRequest) -> StarletteResponse:
    return StarletteJSONResponse({"hello": request.path_params["name"], "root": request.scope["root_path"]})


async def starlette_echo(request: StarletteRequest) -> StarletteResponse:
    return StarletteResponse(await request.body())


async def starlette_count(request: StarletteRequest) -> StarletteResponse:
    return StarletteText(str(sum([len(chunk) async for chunk in request.stream()])))


async def starlette_stream(request: StarletteRequest) -> StarletteResponse:
    return StarletteStreamingResponse(parts())


async def starlette_sleep(request: StarletteRequest) -> StarletteResponse:
    return StarletteText(await sleep(request.query_params["token"]))


async def starlette_ticks(request: StarletteRequest) -> StarletteResponse:
    return StarletteStreamingResponse(ticks(request.query_params["token"]))


async def starlette_late(request: StarletteRequest) -> StarletteResponse:
    await wait(request.query_params["token"])
    return StarletteResponse(await request.body())


async def starlette_background(request: StarletteRequest) -> StarletteResponse:
    return StarletteText("later", background=StarletteBackgroundTask(afterwards, request.query_params["token"]))


starlette_app = Starlette(
    routes=[
        StarletteRoute("/hello/{name}", starlette_hello),
        StarletteRoute("/echo", starlette_echo, methods=["POST"]),
        StarletteRoute("/count", starlette_count, methods=["POST"]),
        StarletteRoute("/stream", starlette_stream),
        StarletteRoute("/sleep", starlette_sleep, methods=["GET", "POST"]),
        StarletteRoute("/ticks", starlette_ticks),
        StarletteRoute("/late", starlette_late, methods=["POST"]),
        StarletteRoute("/background", starlette_background),
    ]
)


# The FastAPI app.

fastapi_app = fastapi.FastAPI()


@fastapi_app.get("/hello/{name}")
async def fastapi_hello(name: str, request: fastapi.Request) -> dict[str, str]:
    return {"hello": name, "root": request.scope["root_path"]}


@fastapi_app.post("/echo")
async def fastapi_echo(request: fastapi.Request) -> fastapi.Response:
    return fastapi.Response(await request.body())


@fastapi_app.post("/count")
async def fastapi_count(request: fastapi.Request) -> fastapi.Response:
    return fastapi.Response(str(sum([len(chunk) async for chunk in request.stream()])))


@fastapi_app.get("/stream")
async def fastapi_stream() -> fastapi.Response:
    return FastAPIStreamingResponse(parts())


@fastapi_app.api_route("/sleep", methods=["GET", "POST"])
async def fastapi_sleep(token: str) -> str:
    return await sleep(token)


@fastapi_app.get("/ticks")
async def fastapi_ticks(token: str) -> fastapi.Response:
    return FastAPIStreamingResponse(ticks(token))


@fastapi_app.post("/late")
async def fastapi_late(token: str, request: fastapi.Request) -> fastapi.Response:
    await wait(token)
    return fastapi.Response(await request.body())


@fastapi_app.get("/background")
async def fastapi_background(token: str, tasks: fastapi.BackgroundTasks) -> str:
    tasks.add_task(afterwards, token)
    return "later"


# All of them.

APPS: dict[str, ASGIApp] = {
    "router": routes,
    "starlette": CancelOnDisconnect(starlette_app),
    "fastapi": CancelOnDisconnect(fastapi_app),
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Pass a request on to the app that it names, or answer for the test."""
    if scope["type"] != "http":
        raise RuntimeError("only http")
    name, _, token = str(scope["path"]).removeprefix("/").partition("/")
    if name in APPS:
        await APPS[name]({**scope, "root_path": scope.get("root_path", "") + "/" + name}, receive, send)
        return
    answer: object = None
    match name:
        case "secret":
            answer = os.environ["TEST_SECRET"]
        case "notes":
            answer = NOTES
        case "go":
            GO[token].set()
    body = json.dumps(answer).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
