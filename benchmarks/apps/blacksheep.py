"""The app in BlackSheep."""

from functools import partial

from blacksheep import Application, Request, Response, StreamedContent, json, text

from benchmarks.apps import work

app = Application()
get, post = app.router.get, app.router.post

TEXT = b"text/plain; charset=utf-8"


@get("/")
async def home() -> Response:
    return text(work.TOKEN.decode())


@get("/once")
async def once() -> Response:
    return text(await work.once())


@get("/json")
async def message() -> Response:
    return json(work.MESSAGE)


@get("/users/{user}/items/{item}")
async def item(user: str, item: int) -> Response:
    return text(f"{user} {item}")


@post("/read")
async def read(request: Request) -> Response:
    return text(str(len(await request.read() or b"")))


@post("/receive")
async def receive(request: Request) -> Response:
    size = 0
    async for piece in request.stream():  # type: ignore[attr-defined]  # its stub says that it is a coroutine
        size += len(piece)
    return text(str(size))


@get("/stream/{megabytes}")
async def stream(megabytes: int) -> Response:
    return Response(200, content=StreamedContent(TEXT, partial(work.stream, megabytes)))


@get("/wait")
@post("/wait")
async def wait(token: str = "", seconds: str = "") -> Response:
    return text(await work.wait(token, seconds))


@get("/ticks")
async def ticks(token: str = "") -> Response:
    return Response(200, content=StreamedContent(TEXT, partial(work.ticks, token)))


@get("/slot")
async def slot(token: str = "") -> Response:
    return text(await work.slot(token))


@get("/query")
async def query(token: str = "") -> Response:
    return text(await work.query(token))


@get("/notes")
async def notes() -> Response:
    return json(work.notes())
