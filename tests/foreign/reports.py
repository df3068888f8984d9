"""A service whose every answer is a slow query, to be left in the middle of; and the same as a FastAPI app for foreign servers."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import fastapi

from microasgi import CancelOnDisconnect
from tests.postgres import STACKS, Meeting, Pool

SIZE = 20
"""Connections in the pool."""


class Reports:
    """What its handlers do, and how many began, ended, and ended by cancellation; and when each did, by the system's monotonic clock."""

    def __init__(self, pool: Pool) -> None:
        self.began = self.ended = self.cancelled = 0
        self.ended_at: dict[int, float] = {}
        self._pool = pool
        self._meeting = Meeting(SIZE)

    async def report(self, number: int) -> None:
        """A query of half a minute, with the report's number in it."""
        self.began += 1
        try:
            async with self._pool.connection() as execute:
                await execute(f"select pg_sleep(30) /* {number} */")
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.ended += 1
            self.ended_at[number] = time.monotonic()

    async def together(self) -> None:
        """Return when as many requests as the pool has connections each hold one."""
        await self._meeting.attend(self._pool)


STATE: dict[str, Reports] = {}


@asynccontextmanager
async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    """Open a pool of each kind, which call themselves after their stacks."""
    name, port = os.environ["TEST_SECRET"], int(os.environ["TEST_POSTGRES"])
    async with AsyncExitStack() as pools:
        for stack, open_pool in STACKS.items():
            STATE[stack] = Reports(await pools.enter_async_context(open_pool(port, SIZE, f"{stack}-{name}")))
        yield


api = fastapi.FastAPI(lifespan=lifespan)


@api.get("/{stack}/report/{number}")
async def report(stack: str, number: int) -> None:
    await STATE[stack].report(number)


@api.websocket("/{stack}/report/{number}")
async def talked_report(websocket: fastapi.WebSocket, stack: str, number: int) -> None:
    await websocket.accept()
    await STATE[stack].report(number)


@api.get("/{stack}/together")
async def together(stack: str) -> None:
    await STATE[stack].together()


@api.get("/{stack}/counts")
async def counts(stack: str) -> list[int]:
    reports = STATE[stack]
    return [reports.began, reports.ended, reports.cancelled]


@api.get("/{stack}/ended")
async def ended(stack: str) -> dict[int, float]:
    return STATE[stack].ended_at


@api.get("/secret")
async def secret() -> str:
    return os.environ["TEST_SECRET"]


app = CancelOnDisconnect(api)
