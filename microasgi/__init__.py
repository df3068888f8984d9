"""A micro-framework in which a request handler stops when its client goes away.

    from microasgi import Router

    routes = Router()

    @routes.get("/hello/{name}")
    async def hello(request):
        return f"Hello, {request.path_params['name']}!"

Run it with `microasgi serve module:routes` or `microasgi.run(routes)`, or on any other ASGI server. To learn how it works, read in this
order: `routing`, `promise/visit`, `requests`, `responses`.
"""

from typing import TYPE_CHECKING, Any

from microasgi.addresses import URL, Address
from microasgi.around import CallNext, NextResponse
from microasgi.background import BackgroundTask
from microasgi.conversing import WebSocketRoute
from microasgi.datastructures import Headers, MutableHeaders, QueryParams, State
from microasgi.events import Event, EventStream
from microasgi.exceptions import ClientDisconnect, HTTPException, WebSocketDisconnect, WebSocketException
from microasgi.forms import FormData
from microasgi.middleware import Middleware
from microasgi.mounting import Mount
from microasgi.reach import RouteWarning
from microasgi.redirects import RedirectResponse
from microasgi.requests import Request
from microasgi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from microasgi.routes import Route
from microasgi.routing import Router
from microasgi.streaming import StreamingResponse
from microasgi.uploads import UploadFile
from microasgi.urls import NoMatchFound
from microasgi.websockets import WebSocket
from microasgi.wrapping import CancelOnDisconnect

if TYPE_CHECKING:
    from microasgi.command.serve import run

__all__ = [
    "URL",
    "Address",
    "BackgroundTask",
    "CallNext",
    "CancelOnDisconnect",
    "ClientDisconnect",
    "Event",
    "EventStream",
    "FormData",
    "HTMLResponse",
    "HTTPException",
    "Headers",
    "JSONResponse",
    "Middleware",
    "Mount",
    "MutableHeaders",
    "NextResponse",
    "NoMatchFound",
    "PlainTextResponse",
    "QueryParams",
    "RedirectResponse",
    "Request",
    "Response",
    "Route",
    "RouteWarning",
    "Router",
    "State",
    "StreamingResponse",
    "UploadFile",
    "WebSocket",
    "WebSocketDisconnect",
    "WebSocketException",
    "WebSocketRoute",
    "run",
]


def __getattr__(name: str) -> Any:
    """`run` needs the server; whoever has another one doesn't load it."""
    if name == "run":
        from microasgi.command.serve import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
