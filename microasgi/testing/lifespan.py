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
    lifespan = Lifespan()
    async with beside_the_block() as tasks:
        tasks.start_soon(lifespan.run, app, state)
        await lifespan.started.wait()
        if not lifespan.failures:
            try:
                yield
            finally:
                lifespan.stop.set()
                with anyio.CancelScope(shield=True):
                    await lifespan.ended.wait()
    if lifespan.failures:
        raise RuntimeError(lifespan.failures[0])


class Lifespan:
    """The one call of an app that lasts as long as all others.

    started: the app has answered the startup, or has ended without.
    stop: the shutdown may begin.
    ended: the app has returned.
    failures: what went wrong, in the app's own words.
    """

    def __init__(self) -> None:
        self.started = anyio.Event()
        self.stop = anyio.Event()
        self.ended = anyio.Event()
        self.failures: list[str] = []
        self._asked = False

    async def run(self, app: ASGIApp, state: dict[str, Any]) -> None:
        """Call the app to its end. It writes into the state what its requests are to have."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            if self.started.is_set() and not self.failures:
                self.failures.append(f"the app's lifespan raised {error!r}")
        finally:
            self.started.set()
            self.ended.set()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self.stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"].endswith(".failed"):
            self.failures.append(f"the app's {message['type'].split('.')[1]} failed: {message.get('message', '')}")
        self.started.set()
