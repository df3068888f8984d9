"""A departure travels: client → service A → service B → PostgreSQL, each behind its own promise, and the query at the far end stops.

A calls B with httpx, B queries with one of the drivers. Nothing is passed on by hand: A's handler stops, so httpx closes its connection,
so B's handler stops, so its driver cancels the query. `pytest tests/foreign/test_cascade.py -s` prints how long each hop took.
"""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import pytest

from microasgi import Request, Router
from microasgi.streaming import StreamingResponse
from tests.harness import GET, Departure, eventually, loud_lines, serving, within
from tests.postgres import STACKS, Meeting, Pool, Postgres

pytestmark = pytest.mark.anyio

A_HOP = 1.0
"""Seconds that each hop may take."""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return "asyncio", {"use_uvloop": request.param}


@dataclass
class Service:
    """When one of the services learnt that its client had left, and when its handler had ended, by cancellation or otherwise."""

    learnt_at: float = 0.0
    ended_at: float = 0.0
    cancelled: bool = False
    ended: anyio.Event = field(default_factory=anyio.Event)

    async def watch(self, request: Request) -> None:
        """Note the departure, in a task of its own: the drivers are told before the handler's own code is."""
        await request.wait_disconnected()
        self.learnt_at = time.monotonic()

    @asynccontextmanager
    async def noting(self) -> AsyncIterator[None]:
        """Around what the handler does."""
        try:
            yield
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise
        finally:
            self.ended_at = time.monotonic()
            self.ended.set()


@asynccontextmanager
async def services(postgres: Postgres, pool: Pool, url: str) -> AsyncIterator[tuple[Any, Service, Service]]:
    """Run both; yields A as it is served, and what to see of A and B."""
    a, b = Service(), Service()
    routes_a, routes_b = Router(), Router()

    @routes_b.get("/query")
    async def query(request: Request) -> None:
        watchers.start_soon(b.watch, request)
        async with b.noting(), pool.connection() as execute:
            await execute("select pg_sleep(30)")

    @routes_b.get("/stream")
    async def stream(request: Request) -> StreamingResponse:
        watchers.start_soon(b.watch, request)

        async def rows() -> AsyncIterator[bytes]:
            async with b.noting(), pool.connection() as execute:
                yield b"the first\n"
                await execute("select pg_sleep(30)")

        return StreamingResponse(rows())

    async with (
        anyio.create_task_group() as watchers,
        serving(routes_b) as served_b,
        httpx.AsyncClient(base_url=served_b.address, timeout=30) as http,
    ):

        @routes_a.get("/")
        async def call(request: Request) -> str:
            watchers.start_soon(a.watch, request)
            async with a.noting():
                if url == "/query":
                    return (await http.get(url)).text
                async with http.stream("GET", url) as response:
                    return "".join([text async for text in response.aiter_text()])

        async with serving(routes_a) as served_a:
            yield served_a, a, b
            watchers.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["FIN", "RST", "half-close"])
@pytest.mark.parametrize("url", ["/query", "/stream"])
@pytest.mark.parametrize("stack", list(STACKS))
async def test_a_departure_travels(
    postgres: Postgres, stack: str, url: str, how: Departure, caplog: pytest.LogCaptureFixture, record_property: Any
) -> None:
    """The client leaves A, which waits for B, which waits for its query: each hop takes less than a second, and then nothing runs."""
    name = f"test_{secrets.token_hex(6)}"
    size = 2
    async with (
        STACKS[stack](postgres.port, size, name) as pool,
        services(postgres, pool, url) as (served, a, b),
        await served.connect() as client,
    ):
        await client.send(GET)
        await eventually(lambda: postgres.asleep(name))
        left_at = time.monotonic()
        client.leave(how)
        await eventually(lambda: not postgres.active(name))
        stopped_at = time.monotonic()
        await within(a.ended)
        await within(b.ended)
        assert (a.cancelled, b.cancelled) == (True, True)
        hops = {
            "the client leaves → A knows": a.learnt_at - left_at,
            "→ A's handler has ended": a.ended_at - a.learnt_at,
            "→ B knows": b.learnt_at - a.ended_at,
            "→ the query has stopped": stopped_at - b.learnt_at,
            "B knows → its handler has ended": b.ended_at - b.learnt_at,
        }
        assert max(hops.values()) < A_HOP, hops
        assert min(hops.values()) > -A_HOP / 10, hops  # the query is looked at from outside, and httpx closes before A's handler ends
        await postgres.wait_quiet(name, A_HOP)
        meeting = Meeting(size)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for _ in range(size):
                    tasks.start_soon(meeting.attend, pool)
    assert loud_lines(caplog) == []
    figures = ", ".join(f"{hop} {seconds * 1000:.1f} ms" for hop, seconds in hops.items())
    record_property("hops", figures)
    print(f"\n{stack}, {url}, {how}: {figures}")
