"""The app of `test_faults.py`: what every request is answered with can be told by who asks."""

import hashlib
import os
import random
from collections.abc import AsyncIterator
from typing import Any

import anyio
from microasgi_server import stats

from microasgi import Request, Response, Router, StreamingResponse, WebSocket

PIECE = 10_000
"""Bytes of a stream that are sent at a time."""


def content(seed: int, size: int) -> bytes:
    """Bytes that look like no others."""
    return random.Random(seed).randbytes(size)


routes = Router()


@routes.get("/bytes/{seed:int}/{size:int}")
async def whole(request: Request) -> Response:
    return Response(content(**request.path_params))


@routes.get("/stream/{seed:int}/{size:int}")
async def stream(request: Request) -> Response:
    body = content(**request.path_params)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), PIECE):
            yield body[start : start + PIECE]
            await anyio.sleep(0.001)

    return StreamingResponse(pieces())


@routes.post("/digest")
async def digest(request: Request) -> str:
    found = hashlib.sha256()
    async for piece in request.stream():
        found.update(piece)
    return found.hexdigest()


@routes.get("/sleep")
async def sleep(request: Request) -> None:
    await anyio.sleep_forever()


@routes.websocket("/chat")
async def chat(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        assert isinstance(message, bytes)
        await ws.send_bytes(message)


@routes.get("/now")
async def now(request: Request) -> dict[str, Any]:
    """What this worker has open, the question itself not counted."""
    found = stats()
    return {"pid": os.getpid(), "calls": found.in_flight - 1, "connections": found.connections - 1}
