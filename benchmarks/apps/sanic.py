"""The app in Sanic, which is its own server and an ASGI app, too.

`python -m benchmarks.apps.sanic benchmarks.apps.sanic:app PORT LOOP` serves it.
"""

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from sanic import HTTPResponse, Request, Sanic, json, text

from benchmarks.apps import work
from benchmarks.stacks import IDLE, MANY

app: "Sanic[Any, Any]" = Sanic("benchmarks")
app.config.REQUEST_MAX_SIZE = 2**30  # 100 MB else
app.config.KEEP_ALIVE_TIMEOUT = IDLE
app.config.RESPONSE_TIMEOUT = IDLE
app.config.REQUEST_TIMEOUT = IDLE
app.config.MOTD = False  # a dozen lines about the machine


@app.get("/")
async def home(request: Request) -> HTTPResponse:
    return text(work.TOKEN.decode())


@app.get("/once")
async def once(request: Request) -> HTTPResponse:
    return text(await work.once())


@app.get("/json")
async def message(request: Request) -> HTTPResponse:
    return json(work.MESSAGE)


@app.get("/users/<user:str>/items/<item:int>")
async def item(request: Request, user: str, item: int) -> HTTPResponse:
    return text(f"{user} {item}")


@app.post("/read")
async def read(request: Request) -> HTTPResponse:
    return text(str(len(request.body)))


@app.post("/receive", stream=True)
async def receive(request: Request) -> HTTPResponse:
    size = 0
    assert request.stream is not None
    async for piece in request.stream:  # type: ignore[attr-defined]  # the ASGI one's type has no `__aiter__`
        size += len(piece)
    return text(str(size))


async def _stream(request: Request, pieces: AsyncGenerator[bytes]) -> None:
    response = await request.respond(content_type="text/plain; charset=utf-8")
    async with aclosing(pieces):
        async for piece in pieces:
            await response.send(piece)
    await response.eof()


@app.get("/stream/<megabytes:int>")
async def stream(request: Request, megabytes: int) -> None:
    await _stream(request, work.stream(megabytes))


@app.route("/wait", methods=["GET", "POST"])
async def wait(request: Request) -> HTTPResponse:
    return text(await work.wait(request.args.get("token", ""), request.args.get("seconds", "")))


@app.get("/ticks")
async def ticks(request: Request) -> None:
    await _stream(request, work.ticks(request.args.get("token", "")))


@app.get("/slot")
async def slot(request: Request) -> HTTPResponse:
    return text(await work.slot(request.args.get("token", "")))


@app.get("/query")
async def query(request: Request) -> HTTPResponse:
    return text(await work.query(request.args.get("token", "")))


@app.get("/notes")
async def notes(request: Request) -> HTTPResponse:
    return json(work.notes())


def main(target: str, port: str, loop: str) -> None:
    """Serve the app on 127.0.0.1 in this process, until SIGTERM."""
    app.config.USE_UVLOOP = loop == "uvloop"
    app.run("127.0.0.1", int(port), single_process=True, access_log=False, motd=False, backlog=MANY)


if __name__ == "__main__":
    main(*sys.argv[1:])
