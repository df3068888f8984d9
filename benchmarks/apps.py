"""The apps that are measured. Each answers with the run's token, so that a stranger on the same port is noticed."""

import os
from typing import Any

from microasgi import Request, Response, Router
from microasgi.disconnect import VISIT, Visit

TOKEN = "MICROASGI_BENCHMARK_TOKEN"
"""The environment variable that tells an app what to answer."""

BODY = os.environ.get(TOKEN, "hello").encode()
HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(BODY))]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Hello-world without a framework: what is left is the server."""
    if scope["type"] != "http":
        raise NotImplementedError(f"this app has no {scope['type']}")
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


class _Absent(Visit):
    """What a Router needs of a request's `Visit`, and no more: there is no scope to cancel."""

    __slots__ = ()

    def __init__(self) -> None:
        self.gone = False
        self.responding = False
        self.background = None
        self.route = ""


class Unprotected(Router):
    """The same Router without the promise: it subscribes to nothing, and nothing cancels its handlers."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope[VISIT] = _Absent()
        await self._app(scope, receive, send)


async def _home(request: Request) -> Response:
    return Response(BODY, media_type="text/plain")


protected = Router()
protected.get("/")(_home)

unprotected = Unprotected()
unprotected.get("/")(_home)
