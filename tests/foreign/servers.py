"""Foreign servers in the test's own event loop, beside ours: the test sees their log, and its handlers can set its events.

How they behave as programs of their own is in `test_foreign_servers.py`.
"""

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio

from tests.harness import Served, eventually, serving, within

Serving = Callable[[Any], AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def on_uvicorn(app: Any) -> AsyncIterator[Served]:
    """Serve `app` on uvicorn, as long as the block lasts. Its log goes where everybody's does."""
    import uvicorn

    served_by = uvicorn.Server(uvicorn.Config(app, lifespan="off", http="h11", log_config=None, timeout_graceful_shutdown=1))
    stop, ended = anyio.Event(), anyio.Event()

    async def run(sock: socket.socket) -> None:
        await served_by.serve([sock])
        ended.set()

    async def stop_it() -> None:
        await stop.wait()
        served_by.should_exit = True

    with socket.create_server(("127.0.0.1", 0)) as sock:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, sock)
            tasks.start_soon(stop_it)
            await eventually(lambda: served_by.started)
            try:
                yield Served(f"http://127.0.0.1:{sock.getsockname()[1]}", stop, ended)
            finally:
                stop.set()
                with anyio.CancelScope(shield=True):
                    await within(ended)


@asynccontextmanager
async def on_hypercorn(app: Any) -> AsyncIterator[Served]:
    """The same on hypercorn, whose worker for trio it is."""
    import hypercorn.trio

    config, stop, ended = hypercorn.Config(), anyio.Event(), anyio.Event()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = logging.getLogger("hypercorn.error")

    async def with_a_lifespan(scope: Any, receive: Any, send: Any) -> None:
        """The app, and a lifespan for those that have none: without one, this server warns."""
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for _ in range(2):
            await send({"type": f"{(await receive())['type']}.complete"})

    async def run(*, task_status: Any) -> None:
        await hypercorn.trio.serve(with_a_lifespan, config, shutdown_trigger=stop.wait, task_status=task_status)
        ended.set()

    async with anyio.create_task_group() as tasks:
        (address,) = await tasks.start(run)
        yield Served(address, stop, ended)
        tasks.cancel_scope.cancel()


SERVERS: dict[str, Serving] = {"ours": serving, "uvicorn": on_uvicorn, "hypercorn": on_hypercorn}
