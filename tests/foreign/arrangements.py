"""Middleware inside and around our part, in every order that apps have it.

    around(our part(inside(the framework's app)))

An app's handlers wait, each at a path of its own, in a `Stay` that the test looks at.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio
import fastapi
import sentry_sdk
import sniffio
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount

import microasgi
from microasgi import CancelOnDisconnect, Router
from microasgi.asgi import ASGIApp
from tests.foreign.servers import SERVERS
from tests.harness import Client, Departure, within

Wrap = Callable[[ASGIApp], ASGIApp]


# The handlers.


@dataclass
class Stay:
    """One request's time in its handler, and how it ended.

    notes: what became of it; at the end "cleaned up", if its cleanup could await what it wanted.
    """

    begun: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)
    notes: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def lasting(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            self.notes.append("cancelled" if isinstance(error, anyio.get_cancelled_exc_class()) else type(error).__name__)
            raise
        finally:
            try:
                await self._clean_up()
            finally:
                self.ended.set()

    async def wait(self) -> None:
        self.begun.set()
        await anyio.sleep(30)

    async def _clean_up(self) -> None:
        # On trio, cleanup that awaits must shield itself. On asyncio the drivers that know nothing of anyio open no scope.
        with anyio.CancelScope(shield=True) if sniffio.current_async_library() == "trio" else nullcontext():
            await anyio.sleep(0.001)
            await anyio.sleep(0.001)
            self.notes.append("cleaned up")


Stays = dict[str, Stay]


def _handlers(stays: Stays, streaming: Any) -> dict[str, Any]:
    """By their paths; with the class that the framework has for a stream. They work with any framework's request."""

    async def wait(request: Any) -> Any:
        async with stays["/wait"].lasting():
            await stays["/wait"].wait()

    async def stream(request: Any) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            async with stays["/stream"].lasting():
                yield b"first"
                await stays["/stream"].wait()

        return streaming(parts())

    async def body(request: Any) -> Any:
        async with stays["/body"].lasting():
            async for _ in request.stream():
                stays["/body"].begun.set()

    return {"/wait": wait, "/stream": stream, "/body": body}


# The middleware.


async def _passing(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


class Spans:
    """What OpenTelemetry's middleware has finished."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def of_requests(self) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.kind is SpanKind.SERVER]


def _http(app: Any) -> Any:
    return BaseHTTPMiddleware(app, dispatch=_passing)


def _cors(app: Any) -> Any:
    return CORSMiddleware(app, allow_origins=["*"])


def _gzip(app: Any) -> Any:
    return GZipMiddleware(app, minimum_size=1)


def _session(app: Any) -> Any:
    return SessionMiddleware(app, secret_key="none")


def middlewares(spans: Spans) -> dict[str, list[Wrap]]:
    """Each arrangement's, innermost first."""

    def opentelemetry(app: Any) -> Any:
        return OpenTelemetryMiddleware(app, tracer_provider=spans.provider)

    return {
        "nothing": [],
        "http": [_http],
        "http-twice": [_http, _http],
        "cors": [_cors],
        "gzip": [_gzip],
        "session": [_session],
        "opentelemetry": [opentelemetry],
        "sentry": [SentryAsgiMiddleware],
        "all": [_http, _cors, _gzip, _session, opentelemetry, _http, SentryAsgiMiddleware],
    }


def _wrapped(app: Any, wraps: Iterable[Wrap]) -> Any:
    for wrap in wraps:
        app = wrap(app)
    return app


# Our parts.


def _fastapi(stays: Stays, inside: list[Wrap]) -> fastapi.FastAPI:
    api = fastapi.FastAPI()
    for path, handler in _handlers(stays, StreamingResponse).items():
        api.add_route(path, handler, methods=["GET", "POST"])

    async def dependency() -> AsyncIterator[Stay]:
        async with stays["/depends"].lasting():
            yield stays["/depends"]

    @api.get("/depends")
    async def depends(stay: Annotated[Stay, fastapi.Depends(dependency)]) -> None:
        await stay.wait()

    for wrap in inside:
        api.add_middleware(wrap)
    return api


def _routes(stays: Stays, inside: list[Wrap]) -> Router:
    routes = Router(middleware=inside[::-1])
    for path, handler in _handlers(stays, microasgi.StreamingResponse).items():
        routes.route(path, ["GET", "POST"])(handler)
    return routes


def fastapi_in_ours(stays: Stays, inside: list[Wrap], around: list[Wrap]) -> Any:
    return _wrapped(CancelOnDisconnect(_fastapi(stays, inside)), around)


def fastapi_in_a_router(stays: Stays, inside: list[Wrap], around: list[Wrap]) -> Any:
    routes = Router()
    routes.mount("/", _fastapi(stays, inside))
    return _wrapped(routes, around)


def router(stays: Stays, inside: list[Wrap], around: list[Wrap]) -> Any:
    return _wrapped(_routes(stays, inside), around)


def router_in_starlette(stays: Stays, inside: list[Wrap], around: list[Wrap]) -> Any:
    app = Starlette(routes=[Mount("/", _routes(stays, inside))])
    for wrap in around:
        app.add_middleware(wrap)
    return app


def ticking_alone(inside: list[Wrap]) -> Any:
    """FastAPI and nothing of ours, with a stream that has no end: what it does with a departure is its own."""
    api = fastapi.FastAPI()

    async def ticks() -> AsyncIterator[bytes]:
        while True:
            yield b"tick\n"
            await anyio.sleep(0.001)

    @api.get("/")
    async def endpoint() -> Response:
        return StreamingResponse(ticks())

    for wrap in inside:
        api.add_middleware(wrap)
    return api


OURS = {
    "CancelOnDisconnect": fastapi_in_ours,
    "Router-FastAPI": fastapi_in_a_router,
    "Router": router,
    "Starlette-Router": router_in_starlette,
}


# The clients.

SOON = 1.0
"""Seconds within which a handler must have ended after its client left."""

FIELDS = b"Host: test\r\nOrigin: http://elsewhere\r\nAccept-Encoding: gzip\r\n"

REQUESTS = {
    "/wait": b"GET /wait HTTP/1.1\r\n" + FIELDS + b"\r\n",
    "/stream": b"GET /stream HTTP/1.1\r\n" + FIELDS + b"\r\n",
    "/body": b"POST /body HTTP/1.1\r\nContent-Length: 10\r\n" + FIELDS + b"\r\nhello",
    "/depends": b"GET /depends HTTP/1.1\r\n" + FIELDS + b"\r\n",
}

STOPPED = (["cancelled", "cleaned up"], ["ClientDisconnect", "cleaned up"])
"""The end of a handler that was cancelled, or, where it read the body, told by its framework."""


async def all_leave(server: str, app: Any, stays: Stays, departure: Departure = "FIN") -> None:
    """One client a handler: when all of them wait, all leave, and soon all have ended."""
    async with SERVERS[server](app) as served, AsyncExitStack() as stack:
        clients: list[Client] = []
        for path, stay in stays.items():
            clients.append(await stack.enter_async_context(await served.connect()))
            await clients[-1].send(REQUESTS[path])
            await within(stay.begun)
        for client in clients:
            client.leave(departure)
        for stay in stays.values():
            await within(stay.ended, SOON)
        served.stop.set()
        await within(served.ended)


# Sentry.


class Collecting(sentry_sdk.transport.Transport):
    """Keeps the errors that would be reported."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.errors: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        if (event := envelope.get_event()) is not None:
            self.errors.append(event)
