"""One small app in each of four frameworks, as their users would write it. All have the same routes.

A request's query names the `Witness` of its test.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import django  # type: ignore[import-untyped]
import fastapi
import quart
from django.conf import settings  # type: ignore[import-untyped]
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]
from fastapi.responses import StreamingResponse as FastAPIStreamingResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from microasgi.asgi import ASGIApp

WITNESSES: "dict[str, Witness]" = {}


class Witness:
    """What happens to a handler, for the test to see."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = anyio.Event()
        self.go = anyio.Event()
        self.ended = anyio.Event()
        self.notes: list[str] = []
        WITNESSES[name] = self

    def __enter__(self) -> None:
        self.notes.append("began")
        self.began.set()

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        self.notes.append("stopped" if kind else "ended")
        self.ended.set()


async def sleep(name: str) -> str:
    with WITNESSES[name]:
        await anyio.sleep(30)
    return "slept"


async def afterwards(name: str) -> None:
    with WITNESSES[name]:
        await WITNESSES[name].go.wait()


async def parts() -> AsyncIterator[bytes]:
    for part in (b"one ", b"two ", b"three"):
        yield part


async def ticks(name: str) -> AsyncIterator[bytes]:
    with WITNESSES[name]:
        while True:
            yield b"tick\n"
            await anyio.sleep(0.001)


# Starlette.


def starlette_app() -> ASGIApp:
    async def hello(request: Request) -> Response:
        return JSONResponse({"hello": request.path_params["name"]})

    async def double(request: Request) -> Response:
        return JSONResponse({"twice": 2 * (await request.json())["number"]})

    async def count(request: Request) -> Response:
        return PlainTextResponse(str(sum([len(chunk) async for chunk in request.stream()])))

    async def stream(request: Request) -> Response:
        return StreamingResponse(parts())

    async def endless(request: Request) -> Response:
        return StreamingResponse(ticks(request.query_params["witness"]))

    async def crash(request: Request) -> Response:
        raise ZeroDivisionError("a bug in the app")

    async def slow(request: Request) -> Response:
        return PlainTextResponse(await sleep(request.query_params["witness"]))

    async def background(request: Request) -> Response:
        return PlainTextResponse("later", background=BackgroundTask(afterwards, request.query_params["witness"]))

    async def state(request: Request) -> Response:
        return PlainTextResponse(request.state.greeting)

    async def poll(request: Request) -> Response:
        """The handler that cares by itself, as Starlette would have it."""
        witness = WITNESSES[request.query_params["witness"]]
        with witness:
            body = await request.body()
            while not await request.is_disconnected():  # noqa: ASYNC110 (Starlette offers nothing to wait for)
                await anyio.sleep(0.001)
        return PlainTextResponse(body)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        yield {"greeting": "from the lifespan"}

    class Passing(BaseHTTPMiddleware):
        """The middleware that many apps have, and that puts tasks and streams of its own between."""

        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            response = await call_next(request)
            response.headers["passed"] = "yes"
            return response

    routes = [
        Route("/hello/{name}", hello),
        Route("/double", double, methods=["POST"]),
        Route("/count", count, methods=["POST"]),
        Route("/stream", stream),
        Route("/ticks", endless),
        Route("/crash", crash),
        Route("/sleep", slow, methods=["GET", "POST"]),
        Route("/background", background),
        Route("/state", state),
    ]
    # Behind a BaseHTTPMiddleware, Starlette's `is_disconnected()` says no for ever, on every server.
    outside = Route("/poll", poll, methods=["GET", "POST"])
    return Starlette(routes=[outside, Mount("/", routes=routes, middleware=[Middleware(Passing)])], lifespan=lifespan)


# FastAPI.


def fastapi_app() -> ASGIApp:
    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[dict[str, str]]:
        yield {"greeting": "from the lifespan"}

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.get("/hello/{name}")
    async def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    @app.post("/double")
    async def double(number: Annotated[int, fastapi.Body(embed=True)]) -> dict[str, int]:
        return {"twice": 2 * number}

    @app.post("/count")
    async def count(request: fastapi.Request) -> fastapi.Response:
        return fastapi.Response(str(sum([len(chunk) async for chunk in request.stream()])))

    @app.get("/stream")
    async def stream() -> fastapi.Response:
        return FastAPIStreamingResponse(parts())

    @app.get("/ticks")
    async def endless(witness: str) -> fastapi.Response:
        return FastAPIStreamingResponse(ticks(witness))

    @app.get("/crash")
    async def crash() -> None:
        raise ZeroDivisionError("a bug in the app")

    async def dependency(witness: str) -> AsyncIterator[str]:
        try:
            yield witness
        finally:
            WITNESSES[witness].notes.append("released")

    @app.api_route("/sleep", methods=["GET", "POST"])
    async def slow(witness: Annotated[str, fastapi.Depends(dependency)]) -> str:
        return await sleep(witness)

    @app.get("/background")
    async def background(witness: str, tasks: fastapi.BackgroundTasks) -> str:
        tasks.add_task(afterwards, witness)
        return "later"

    @app.get("/state")
    async def state(request: fastapi.Request) -> fastapi.Response:
        return fastapi.Response(request.state.greeting)

    return app


# Quart.


def quart_app() -> Any:
    app = quart.Quart(__name__)

    @app.before_serving
    async def start() -> None:
        app.config["GREETING"] = "from the lifespan"

    @app.get("/hello/<name>")
    async def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    @app.post("/double")
    async def double() -> dict[str, int]:
        return {"twice": 2 * (await quart.request.get_json())["number"]}

    @app.post("/form")
    async def form() -> str:
        return str((await quart.request.form)["name"])

    @app.post("/count")
    async def count() -> str:
        return str(sum([len(chunk) async for chunk in quart.request.body]))

    @app.get("/stream")
    async def stream() -> AsyncIterator[bytes]:
        return parts()

    @app.get("/ticks")
    async def endless() -> AsyncIterator[bytes]:
        return ticks(quart.request.args["witness"])

    @app.get("/crash")
    async def crash() -> str:
        raise ZeroDivisionError("a bug in the app")

    @app.route("/sleep", methods=["GET", "POST"])
    async def slow() -> str:
        return await sleep(quart.request.args["witness"])

    @app.get("/background")
    async def background() -> str:
        app.add_background_task(afterwards, quart.request.args["witness"])
        return "later"

    @app.get("/state")
    async def state() -> str:
        return str(app.config["GREETING"])

    return app


# Django.


async def django_hello(request: HttpRequest, name: str) -> HttpResponse:
    return JsonResponse({"hello": name})


async def django_double(request: HttpRequest) -> HttpResponse:

    return JsonResponse({"twice": 2 * json.loads(request.body)["number"]})


async def django_form(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.POST["name"])


async def django_count(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


async def django_stream(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(parts())


async def django_ticks(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(ticks(request.GET["witness"]))


async def django_crash(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError("a bug in the app")


async def django_sleep(request: HttpRequest) -> HttpResponse:
    return HttpResponse(await sleep(request.GET["witness"]))


def django_sync(request: HttpRequest) -> HttpResponse:
    return HttpResponse("from a thread")


urlpatterns = [
    path("hello/<name>", django_hello),
    path("double", django_double),
    path("form", django_form),
    path("count", django_count),
    path("stream", django_stream),
    path("ticks", django_ticks),
    path("crash", django_crash),
    path("sleep", django_sleep),
    path("sync", django_sync),
]


def django_app() -> Any:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["test"], SECRET_KEY="none", LOGGING_CONFIG=None, MIDDLEWARE=[])
        django.setup()
    return get_asgi_application()
