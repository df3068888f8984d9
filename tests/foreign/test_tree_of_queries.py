"""The query dies with the request, in whichever task of it the query runs.

FastAPI runs an endpoint in tasks of its own behind a `BaseHTTPMiddleware` (`@app.middleware("http")` is one), and a stream in one on every
server that announces an ASGI spec older than 2.4, as uvicorn does. There its task group would cancel it by level, and the drivers'
cleanup, which awaits, would fail: the query would go on for nobody. `APPS` are the shapes of such apps.

The suite sees each app on each database stack and server, a loop each, with a few clients; `pytest -m slow` all of them, on both loops,
with two hundred.
"""

import asyncio
import math
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import fastapi
import pytest
from fastapi.responses import StreamingResponse

from microasgi import CancelOnDisconnect, Request, Router
from microasgi.asgi import ASGIApp
from tests.foreign.servers import SERVERS
from tests.harness import GET, Client, Departure, Served, eventually, loud_lines
from tests.postgres import STACKS, Execute, Pool, Postgres, serves_all

pytestmark = pytest.mark.anyio

SOON = 1.0
"""Seconds after a departure within which the database must be at rest. On a busy machine it isn't always, so the median counts."""

FORGOTTEN = 4.0
"""Seconds after which a query that still runs has been forgotten, in any case: it would take 30, and the grace is 5."""

QUERY = "select pg_sleep(30)"

AT_ONCE = 3
"""Queries of one request that runs several."""

DEPARTURES: list[Departure] = ["FIN", "RST", "half-close"]


# The apps.


async def query(pool: Pool) -> None:
    async with pool.connection() as execute:
        await execute(QUERY)


async def queries_in_an_anyio_group(pool: Pool) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(query, pool)


async def queries_in_an_asyncio_group(pool: Pool) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(query(pool))


async def queries_in_mixed_groups(pool: Pool) -> None:
    """Groups of each library in the other's, and timeouts around."""

    async def in_an_asyncio_group() -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(query(pool))

    async def in_an_anyio_group() -> None:
        with anyio.move_on_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(query, pool)

    async with anyio.create_task_group() as outer:
        outer.start_soon(in_an_asyncio_group)
        async with asyncio.TaskGroup() as inner:
            inner.create_task(in_an_anyio_group())
            await asyncio.gather(query(pool), asyncio.sleep(30))


Work = Callable[[Pool], Awaitable[None]]


def fastapi_app(pool: Pool, work: Work = query, middlewares: int = 0) -> ASGIApp:
    """One endpoint, behind so many middlewares that do nothing."""
    api = fastapi.FastAPI()

    @api.get("/")
    async def endpoint() -> None:
        await work(pool)

    _add_middlewares(api, middlewares)
    return CancelOnDisconnect(api)


def with_a_dependency(pool: Pool) -> ASGIApp:
    """The session comes from a dependency, behind one middleware."""
    api = fastapi.FastAPI()

    async def session() -> AsyncIterator[Execute]:
        async with pool.connection() as execute:
            yield execute

    @api.get("/")
    async def endpoint(execute: Annotated[Any, fastapi.Depends(session)]) -> None:
        await execute(QUERY)

    _add_middlewares(api, 1)
    return CancelOnDisconnect(api)


def streaming(pool: Pool, middlewares: int = 0) -> ASGIApp:
    """A stream's generator queries between its parts."""
    api = fastapi.FastAPI()

    async def parts() -> AsyncIterator[bytes]:
        async with pool.connection() as execute:
            yield b"first"
            await execute(QUERY)

    @api.get("/")
    async def endpoint() -> fastapi.Response:
        return StreamingResponse(parts())

    _add_middlewares(api, middlewares)
    return CancelOnDisconnect(api)


def _add_middlewares(api: fastapi.FastAPI, how_many: int) -> None:
    for _ in range(how_many):

        @api.middleware("http")
        async def passing(request: fastapi.Request, call_next: Callable[[fastapi.Request], Awaitable[Any]]) -> Any:
            return await call_next(request)


def routed(pool: Pool, work: Work) -> ASGIApp:
    """Our own Router."""
    routes = Router()

    @routes.get("/")
    async def endpoint(request: Request) -> None:
        await work(pool)

    return routes


@dataclass(frozen=True)
class App:
    """A shape of app.

    queries: how many of them a request has at the same time.
    """

    make: Callable[[Pool], ASGIApp]
    queries: int = 1


APPS = {
    "plain": App(fastapi_app),
    "middleware": App(lambda pool: fastapi_app(pool, middlewares=1)),
    "two-middlewares": App(lambda pool: fastapi_app(pool, middlewares=2)),
    "middleware-dependency": App(with_a_dependency),
    "anyio-group": App(lambda pool: fastapi_app(pool, queries_in_an_anyio_group), AT_ONCE),
    "asyncio-group": App(lambda pool: fastapi_app(pool, queries_in_an_asyncio_group), AT_ONCE),
    "middleware-anyio-group": App(lambda pool: fastapi_app(pool, queries_in_an_anyio_group, 1), AT_ONCE),
    "middleware-asyncio-group": App(lambda pool: fastapi_app(pool, queries_in_an_asyncio_group, 1), AT_ONCE),
    "mixed-groups": App(lambda pool: fastapi_app(pool, queries_in_mixed_groups), 3),
    "middleware-mixed-groups": App(lambda pool: fastapi_app(pool, queries_in_mixed_groups, 1), 3),
    "stream": App(streaming),
    "middleware-stream": App(lambda pool: streaming(pool, 1)),
    "router-anyio-group": App(lambda pool: routed(pool, queries_in_an_anyio_group), AT_ONCE),
    "router-asyncio-group": App(lambda pool: routed(pool, queries_in_an_asyncio_group), AT_ONCE),
}

# The tests.

LOOPS = {"asyncio": ("asyncio", {"use_uvloop": False}), "uvloop": ("asyncio", {"use_uvloop": True})}

TREE_STACKS = ("sqlalchemy-asyncpg", "sqlalchemy-psycopg", "psycopg_pool")
"""asyncpg's own pool cleans up out of every scope's reach: there is nothing to be seen with it."""

CELLS = [(app, stack, server, loop) for app in APPS for stack in TREE_STACKS for server in ("ours", "uvicorn") for loop in LOOPS]


def _few() -> list[Any]:
    """Every app, stack and server: on one loop, so that every pair of an app, stack or server and a loop is there."""
    cells = []
    for app, stack, server, loop in CELLS:
        first = (list(APPS).index(app) + TREE_STACKS.index(stack) + ("ours", "uvicorn").index(server)) % 2
        if loop == list(LOOPS)[first]:
            cells.append(_cell(app, stack, server, loop))
    return cells


def _cell(app: str, stack: str, server: str, loop: str) -> Any:
    return pytest.param(LOOPS[loop], server, stack, APPS[app], id=f"{app}-{stack}-{server}-{loop}")


async def leave_in_mid_query(served: Served, postgres: Postgres, name: str, clients: int, queries: int) -> float:
    """So many clients come, and leave together when all their queries run. Returns the seconds until nothing ran, no transaction open."""
    async with AsyncExitStack() as stack:
        here: list[Client] = []
        for _ in range(clients):
            here.append(await stack.enter_async_context(await served.connect()))
            await here[-1].send(GET)
        await eventually(lambda: len(postgres.asleep(name)) == clients * queries)
        for number, client in enumerate(here):
            client.leave(DEPARTURES[number % 3])
        left_at = time.monotonic()
        await postgres.wait_quiet(name, FORGOTTEN)
        return time.monotonic() - left_at


async def check(app: App, stack: str, server: str, postgres: Postgres, size: int, leavers: int) -> None:
    """Have so many clients leave an app whose pool has so many connections, as many at once as the pool has connections for."""
    name = f"test_{secrets.token_hex(6)}"
    clients = min(leavers, size // app.queries)
    times = math.ceil(leavers / clients)
    rests: list[float] = []
    try:
        async with STACKS[stack](postgres.port, size, name) as pool, SERVERS[server](app.make(pool)) as served:
            while len(rests) < times or (statistics.median(rests) > SOON and len(rests) < times + 2):
                rests.append(await leave_in_mid_query(served, postgres, name, clients, app.queries))
            assert statistics.median(rests) <= SOON, rests
            await serves_all(pool, size)
            await postgres.wait_quiet(name, FORGOTTEN)
    finally:
        postgres.terminate(name)


@pytest.mark.parametrize(("anyio_backend", "server", "stack", "app"), _few())
async def test_every_query_of_a_request_dies(postgres: Postgres, server: str, stack: str, app: App, caplog: Any) -> None:
    """Clients leave in mid-query: a second later none runs, the pool has all its connections, and the log is calm."""
    await check(app, stack, server, postgres, size=5 * app.queries, leavers=5)
    assert loud_lines(caplog) == []


@pytest.mark.slow
@pytest.mark.parametrize(("anyio_backend", "server", "stack", "app"), [_cell(*cell) for cell in CELLS])
async def test_two_hundred_leave(postgres: Postgres, server: str, stack: str, app: App, caplog: Any) -> None:
    """The same with two hundred clients and a pool of twenty."""
    await check(app, stack, server, postgres, size=20, leavers=200)
    assert loud_lines(caplog) == []
