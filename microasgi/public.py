"""Where each public name comes from, but for `run`. `microasgi` loads this when it is first asked for one.

So the command is there at once, and catches a Ctrl+C that comes while the rest is being imported. All come together: none is left to be
imported in the middle of a request.
"""

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
]
