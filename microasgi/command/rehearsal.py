"""A departure that nobody sees, before the one that is shown: Python's first run of any code takes several times as long as its others.

A server that serves has all that behind it, so what is measured afterwards is what users have.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
from microasgi_server import Config, serve
from microasgi_server.connection import Connection
from microasgi_server.taps import tapped

from microasgi.requests import Request
from microasgi.routing import Router
from microasgi.watching import watch

TIMES = 10
"""How often a client leaves each of the routes."""

REQUEST = "GET /{} HTTP/1.1\r\nHost: rehearsal\r\n\r\n"

ROUTES = ("transaction", "group")
"""What handlers wait in: a block that cleans up, tasks of their own. How each is told of a departure is code of its own."""


@asynccontextmanager
async def _transaction() -> AsyncIterator[None]:
    try:
        yield
    finally:
        await anyio.lowlevel.checkpoint()


async def _query(begun: anyio.Event) -> None:
    async with _transaction():
        begun.set()
        await anyio.sleep_forever()


async def rehearse(host: str) -> None:
    """Serve an app of our own, on a port of its own, with clients that leave. It takes some 100 ms."""
    routes, begun, ended = Router(), anyio.Event(), anyio.Event()

    @routes.get("/transaction")
    async def transaction(request: Request) -> None:
        try:
            await _query(begun)
        finally:
            ended.set()

    @routes.get("/group")
    async def group(request: Request) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_query, begun)
        finally:
            ended.set()

    config = Config(host=host, port=0, access_log=False, lifespan="off")
    async with anyio.create_task_group() as tasks:
        served: Any = partial(serve, watch(routes), config, connection_class=tapped(Connection, lambda event: None))
        (address,) = await tasks.start(served)
        for path in TIMES * ROUTES:
            begun, ended = anyio.Event(), anyio.Event()
            with suppress(OSError):
                async with await anyio.connect_tcp(host, int(address.rpartition(":")[2])) as client:
                    await client.send(REQUEST.format(path).encode())
                    await begun.wait()
            await ended.wait()
        tasks.cancel_scope.cancel()
