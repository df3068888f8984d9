"""The app in aiohttp: as it comes, and with `handler_cancellation=True`. aiohttp is its own server.

`python -m benchmarks.apps.aiohttp benchmarks.apps.aiohttp:app PORT LOOP` serves it.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

from benchmarks.apps import work
from benchmarks.stacks import IDLE, MANY


async def home(request: web.Request) -> web.Response:
    return web.Response(body=work.TOKEN, content_type="text/plain", charset="utf-8")


async def once(request: web.Request) -> web.Response:
    return web.Response(text=await work.once())


async def message(request: web.Request) -> web.Response:
    return web.json_response(work.MESSAGE)


async def item(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.match_info['user']} {int(request.match_info['item'])}")


async def read(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


async def receive(request: web.Request) -> web.Response:
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
    return web.Response(text=str(size))


async def _stream(request: web.Request, pieces: AsyncGenerator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async with aclosing(pieces):
        async for piece in pieces:
            await response.write(piece)
    await response.write_eof()
    return response


async def stream(request: web.Request) -> web.StreamResponse:
    return await _stream(request, work.stream(int(request.match_info["megabytes"])))


async def wait(request: web.Request) -> web.Response:
    return web.Response(text=await work.wait(request.query.get("token", ""), request.query.get("seconds", "")))


async def ticks(request: web.Request) -> web.StreamResponse:
    return await _stream(request, work.ticks(request.query.get("token", "")))


async def slot(request: web.Request) -> web.Response:
    return web.Response(text=await work.slot(request.query.get("token", "")))


async def query(request: web.Request) -> web.Response:
    return web.Response(text=await work.query(request.query.get("token", "")))


async def notes(request: web.Request) -> web.Response:
    return web.json_response(work.notes())


def _app() -> web.Application:
    app = web.Application(client_max_size=2**30)  # 1 MB else
    app.add_routes(
        [
            web.get("/", home),
            web.get("/once", once),
            web.get("/json", message),
            web.get(r"/users/{user}/items/{item:\d+}", item),
            web.post("/read", read),
            web.post("/receive", receive),
            web.get(r"/stream/{megabytes:\d+}", stream),
            web.get("/wait", wait),
            web.post("/wait", wait),
            web.get("/ticks", ticks),
            web.get("/slot", slot),
            web.get("/query", query),
            web.get("/notes", notes),
        ]
    )
    return app


app = _app()
cancelling = _app()


def _new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def main(target: str, port: str, loop: str) -> None:
    """Serve one of the apps of this module on 127.0.0.1, until SIGTERM."""
    served = target.partition(":")[2]
    web.run_app(
        {"app": app, "cancelling": cancelling}[served],
        host="127.0.0.1",
        port=int(port),
        loop=_new_loop(loop),
        access_log=None,
        print=None,
        backlog=MANY,
        keepalive_timeout=IDLE,
        handler_cancellation=served == "cancelling",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
