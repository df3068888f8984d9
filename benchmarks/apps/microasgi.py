"""The app in microasgi, with the promise and without it."""

from typing import Any

from benchmarks.apps import work
from benchmarks.apps.microasgi_talk import talk
from microasgi import PlainTextResponse, Request, Response, Router, StreamingResponse
from microasgi.levels import LEVELS, Level
from microasgi.promise.visit import VISIT, Visit


class _Absent(Visit):
    """What a Router needs of a request's `Visit`, and no more: there is no block to end, and nobody to tell.

    Its class has all that a handler asks of it. To set anything here would make the promise look cheaper than it is.
    """

    __slots__ = ()

    def __init__(self) -> None:
        pass


class Unprotected(Router):
    """The same Router without the promise: it subscribes to nothing, and nothing cancels its handlers."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope[VISIT] = _Absent()
        scope[LEVELS] = (Level(self, scope.get("root_path", "")),)
        await self._app(scope, receive, send)


async def home(request: Request) -> Response:
    return PlainTextResponse(work.TOKEN)


async def once(request: Request) -> Response:
    return PlainTextResponse(await work.once())


async def message(request: Request) -> dict[str, Any]:
    return work.MESSAGE


async def item(request: Request) -> str:
    return f"{request.path_params['user']} {request.path_params['item']}"


async def read(request: Request) -> str:
    return str(len(await request.body()))


async def receive(request: Request) -> str:
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return str(size)


async def stream(request: Request) -> StreamingResponse:
    return StreamingResponse(work.stream(request.path_params["megabytes"]))


async def wait(request: Request) -> str:
    return await work.wait(request.query_params.get("token", ""), request.query_params.get("seconds", ""))


async def ticks(request: Request) -> StreamingResponse:
    return StreamingResponse(work.ticks(request.query_params.get("token", "")))


async def slot(request: Request) -> str:
    return await work.slot(request.query_params.get("token", ""))


async def query(request: Request) -> str:
    return await work.query(request.query_params.get("token", ""))


async def notes(request: Request) -> dict[str, Any]:
    return work.notes()


def _with_routes(router: Router) -> Router:
    router.get("/")(home)
    router.get("/once")(once)
    router.get("/json")(message)
    router.get("/users/{user}/items/{item:int}")(item)
    router.post("/read")(read)
    router.post("/receive")(receive)
    router.get("/stream/{megabytes:int}")(stream)
    router.route("/wait", ["GET", "POST"])(wait)
    router.get("/ticks")(ticks)
    router.get("/slot")(slot)
    router.get("/query")(query)
    router.get("/notes")(notes)
    router.include(talk)
    return router


app = _with_routes(Router())
unprotected = _with_routes(Unprotected())
