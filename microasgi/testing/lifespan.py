"""The lifespan from the server's side, for an app without a server (ASGI lifespan spec 2.0)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from microasgi.asgi import ASGIApp, Message
from microasgi.testing.tasks import beside_the_block


@asynccontextmanager
async def running(app: ASGIApp, state: dict[str, Any]) -> AsyncIterator[None]:
    """The app between its startup and its shutdown; one that has no lifespan is left alone.

    :raises RuntimeError: its startup failed
    """
    started, stop, ended = anyio.Event(), anyio.Event(), anyio.Event()
    failures: list[str] = []

    async def receive() -> Message:
        if not started.is_set():
            return {"type": "lifespan.startup"}
        await stop.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        if message["type"].endswith(".failed"):
            failures.append(f"the app's {message['type'].split('.')[1]} failed: {message.get('message', '')}")
        started.set()

    async def run() -> None:
        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}, receive, send)
        except Exception as error:
            if started.is_set() and not failures:
                failures.append(f"the app's lifespan raised {error!r}")
        finally:
            started.set()
            ended.set()

    async with beside_the_block() as tasks:
        tasks.start_soon(run)
        await started.wait()
        if not failures:
            try:
                yield
            finally:
                stop.set()
                with anyio.CancelScope(shield=True):
                    await ended.wait()
    if failures:
        raise RuntimeError(failures[0])
