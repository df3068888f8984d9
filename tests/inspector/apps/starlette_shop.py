"""The same report, with Starlette."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


@asynccontextmanager
async def transaction() -> AsyncIterator[None]:
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.012)  # COMMIT or ROLLBACK: a round trip


async def query(year: int) -> dict[str, int]:
    async with transaction():
        await anyio.sleep(10)
        return {"year": year}


async def report(request: Request) -> JSONResponse:
    return JSONResponse(await query(request.path_params["year"]))


app = Starlette(routes=[Route("/report/{year:int}", report)])
