"""The second net: PostgreSQL ends a query whose connection is closed, if it was asked to look.

A query can outlive its cancellation: psycopg, told while its BEGIN is on the way, starts the query all the same and tells nobody. When
the grace is over it closes the connection, which PostgreSQL doesn't notice while a query runs. Unless `client_connection_check_interval`
is set: then it looks every so many milliseconds. The setting is anybody's to make, for one connection, an engine, or a role.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import asyncpg
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from microasgi import Request, Router
from tests.harness import GET, PATIENCE, eventually, serving, within
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio

NET = "500"
"""Milliseconds from one look to the next, as the README has it."""

SQL = "select pg_sleep(30)"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def name(postgres: Postgres) -> Any:
    """What the connections of one test call themselves. Whatever goes on under this name is ended."""
    name = f"test_{secrets.token_hex(6)}"
    yield name
    postgres.terminate(name)
    postgres.terminate(f"{name}_net")


@dataclass(frozen=True)
class Query:
    """One that runs.

    close: close its connection from the client's side, and tell the server nothing else.
    """

    running: asyncio.Task[Any]
    close: Callable[[], None]


@asynccontextmanager
async def by_asyncpg(port: int, name: str, net: str | None) -> AsyncIterator[Query]:
    settings = {"application_name": name} | ({"client_connection_check_interval": net} if net else {})
    connection = await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres", server_settings=settings)
    running = asyncio.ensure_future(connection.execute(SQL))
    yield Query(running, connection.terminate)
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await running


@asynccontextmanager
async def by_psycopg(port: int, name: str, net: str | None) -> AsyncIterator[Query]:
    options = f"-c client_connection_check_interval={net}" if net else ""
    address = f"host=127.0.0.1 port={port} user=postgres dbname=postgres application_name={name}"
    connection = await psycopg.AsyncConnection.connect(address, options=options, autocommit=True)
    running = asyncio.ensure_future(connection.execute(SQL))
    # Not by libpq, which would close a descriptor that the loop watches: uvloop's libuv may end the process for that.
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as sock:
        yield Query(running, partial(sock.shutdown, socket.SHUT_RDWR))
    with suppress(psycopg.Error):
        await running
    await connection.close()


DRIVERS: dict[str, Callable[[int, str, str | None], AbstractAsyncContextManager[Query]]] = {"asyncpg": by_asyncpg, "psycopg": by_psycopg}


@pytest.mark.parametrize("driver", list(DRIVERS))
async def test_a_closed_connection_ends_its_query(postgres: Postgres, name: str, driver: str) -> None:
    """A query whose connection is closed without a request to cancel goes on, and with the net it is over about a second later."""
    netted = f"{name}_net"
    async with DRIVERS[driver](postgres.port, name, None) as without, DRIVERS[driver](postgres.port, netted, NET) as with_net:
        await eventually(lambda: postgres.asleep(name) and postgres.asleep(netted))
        without.close()
        with_net.close()
        closed_at = time.monotonic()
        await eventually(lambda: not postgres.active(netted))
        print(f"\n{driver}: over {(time.monotonic() - closed_at) * 1000:.0f} ms after its connection was closed")
        assert postgres.asleep(name) == [SQL]
        postgres.terminate(name)


async def test_told_while_its_transaction_begins(postgres: Postgres, name: str) -> None:
    """A query that psycopg starts although it was told is over when the grace and the net's interval are."""
    routes = Router(cleanup_grace=0.2)
    ended = anyio.Event()
    address = f"host=127.0.0.1 port={postgres.port} user=postgres dbname=postgres application_name={name}"
    connection = await psycopg.AsyncConnection.connect(address, options=f"-c client_connection_check_interval={NET}")

    @routes.get("/")
    async def query(request: Request) -> None:
        client.leave()
        try:
            await connection.execute(SQL)  # the server sees the end of its client before PostgreSQL can have answered BEGIN
        finally:
            ended.set()

    async with serving(routes) as served:
        client = await served.connect()
        await client.send(GET)
        await within(ended)
        await connection.close()
        await postgres.wait_quiet(name, PATIENCE)


async def _ask_asyncpg(port: int) -> Any:
    """As the README says: asyncpg, and its pool."""
    dsn = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    async with asyncpg.create_pool(dsn, min_size=0, server_settings={"client_connection_check_interval": NET}) as pool:
        return await pool.fetchval("show client_connection_check_interval")


async def _ask_psycopg(port: int) -> Any:
    """As the README says: psycopg, and its pool."""
    options = f"-c client_connection_check_interval={NET}"
    async with await psycopg.AsyncConnection.connect(
        f"host=127.0.0.1 port={port} user=postgres dbname=postgres", options=options
    ) as connection:
        row = await (await connection.execute("show client_connection_check_interval")).fetchone()
        assert row is not None
        return row[0]


async def _ask_sqlalchemy_asyncpg(port: int) -> Any:
    return await _ask_engine("asyncpg", port, {"server_settings": {"client_connection_check_interval": NET}})


async def _ask_sqlalchemy_psycopg(port: int) -> Any:
    return await _ask_engine("psycopg", port, {"options": f"-c client_connection_check_interval={NET}"})


async def _ask_engine(driver: str, port: int, arguments: dict[str, Any]) -> Any:
    engine = create_async_engine(f"postgresql+{driver}://postgres@127.0.0.1:{port}/postgres", connect_args=arguments)
    try:
        async with engine.connect() as connection:
            return await connection.scalar(text("show client_connection_check_interval"))
    finally:
        await engine.dispose()


ASKS: list[Callable[[int], Awaitable[Any]]] = [_ask_asyncpg, _ask_psycopg, _ask_sqlalchemy_asyncpg, _ask_sqlalchemy_psycopg]


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.__name__.removeprefix("_ask_"))
async def test_each_stack_can_set_it(postgres: Postgres, ask: Callable[[int], Awaitable[Any]]) -> None:
    """Every stack takes the setting for its connections, in its own way."""
    assert await ask(postgres.port) == f"{NET}ms"
