"""The app in Starlette: as it comes, in our `CancelOnDisconnect`, and with the watcher that people paste into handlers."""

from collections.abc import Awaitable, Callable

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.apps import work
from benchmarks.apps.starlette_talk import talk
from microasgi import CancelOnDisconnect

Handler = Callable[[Request], Awaitable[Response]]


async def home(request: Request) -> Response:
    return PlainTextResponse(work.TOKEN)


async def once(request: Request) -> Response:
    return PlainTextResponse(await work.once())


async def message(request: Request) -> Response:
    return JSONResponse(work.MESSAGE)


async def item(request: Request) -> Response:
    return PlainTextResponse(f"{request.path_params['user']} {request.path_params['item']}")


async def read(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def receive(request: Request) -> Response:
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return PlainTextResponse(str(size))


async def stream(request: Request) -> Response:
    return StreamingResponse(work.stream(request.path_params["megabytes"]))


async def wait(request: Request) -> Response:
    return PlainTextResponse(await work.wait(request.query_params.get("token", ""), request.query_params.get("seconds", "")))


async def ticks(request: Request) -> Response:
    return StreamingResponse(work.ticks(request.query_params.get("token", "")))


async def slot(request: Request) -> Response:
    return PlainTextResponse(await work.slot(request.query_params.get("token", "")))


async def query(request: Request) -> Response:
    return PlainTextResponse(await work.query(request.query_params.get("token", "")))


async def notes(request: Request) -> Response:
    return JSONResponse(work.notes())


def _watched(handler: Handler) -> Handler:
    """What the post's readers do by hand: a task that waits for `http.disconnect`, and cancels the handler."""

    async def watched(request: Request) -> Response:
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            response = await handler(request)
            tasks.cancel_scope.cancel()
            return response
        return Response(status_code=499)  # nobody is there to read it

    return watched


def _app(change: Callable[[Handler], Handler] = lambda handler: handler) -> Starlette:
    return Starlette(
        routes=[
            Route("/", change(home)),
            Route("/once", change(once)),
            Route("/json", change(message)),
            Route("/users/{user}/items/{item:int}", change(item)),
            Route("/read", read, methods=["POST"]),
            Route("/receive", receive, methods=["POST"]),
            Route("/stream/{megabytes:int}", stream),
            Route("/wait", change(wait), methods=["GET", "POST"]),
            Route("/ticks", ticks),
            Route("/slot", change(slot)),
            Route("/query", change(query)),
            Route("/notes", notes),
            *talk,
        ]
    )


app = _app()
cancelled = CancelOnDisconnect(app)
watched = _app(_watched)
