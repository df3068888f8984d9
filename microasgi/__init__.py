"""A micro-framework in which a request handler stops when its client goes away.

    from microasgi import Router

    routes = Router()

    @routes.get("/hello/{name}")
    async def hello(request):
        return f"Hello, {request.path_params['name']}!"

Run it with `microasgi serve module:routes` or `microasgi.run(routes)`, or on any other ASGI server. To learn how it works, read in this
order: `routing`, `promise/visit`, `requests`, `responses`.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microasgi.command.serve import run
    from microasgi.public import *  # noqa: F403

__all__ = [  # noqa: F405
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

_ELSEWHERE = {
    **dict.fromkeys(("TestClient", "Client", "AsyncClient"), "from microasgi.testing import Client"),
    **dict.fromkeys(("FastAPI", "Starlette", "APIRouter", "App"), "from microasgi import Router"),
    "FileResponse": "from microasgi.files import FileResponse",
    "StaticFiles": "from microasgi.files import StaticFiles",
}
"""What others have here, and what to write instead."""


def __getattr__(name: str) -> Any:
    """The public names, once one of them is asked for; and `run`, which needs the server: whoever has another one doesn't load it."""
    if name == "run":
        from microasgi.command.serve import run

        return run
    if name in __all__:
        from microasgi import public

        globals().update({each: getattr(public, each) for each in public.__all__})
        return globals()[name]
    if name in _ELSEWHERE:  # an ImportError: of any other, `from microasgi import …` makes a sentence of its own
        raise ImportError(f"microasgi has no {name!r}; write {_ELSEWHERE[name]}", name=__name__)
    # With these two, Python itself asks whether another name was meant.
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
