"""The query dies with the request, and the connection goes back to its pool: on PostgreSQL, with its four common drivers.

They are written for asyncio, so there is no trio here. What was found out about each:

* SQLAlchemy (with asyncpg, with psycopg) and psycopg_pool need awaits in their cleanup: they cancel the query over a second connection,
  wait for its answer, roll back, and give the connection back. Cancelled by level, they can't, and the query goes on: see the last test.
* asyncpg's own pool cleans up in a task of its own, out of every scope's reach, and gets along with both.
* In whichever task of the request the query runs, all of this must hold: `test_tree_of_queries.py` has the shapes that apps have.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from microasgi import Request, Router, testing
from tests.harness import GET, Client, Departure, eventually, loud_lines, serving, within
from tests.postgres import STACKS, Pool, Postgres, serves_all

pytestmark = pytest.mark.anyio

SIZE = 3
"""Connections in each pool."""

SOON = 1.0
"""Seconds after a departure within which the database must be at rest."""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(params=list(STACKS))
def stack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class Database:
    """A table and a pool of its own for one test, and what its handler does.

    name: the table's, and the application's in pg_stat_activity.
    waiting: set by a handler that awaits something other than the database.
    ended: set when the handler has ended.
    ends: what each handler's end was: the exception's class, or None.
    """

    postgres: Postgres
    pool: Pool
    name: str
    waiting: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)
    ends: list[type[BaseException] | None] = field(default_factory=list)

    async def wait(self) -> None:
        """Something else that a handler may wait for."""
        self.waiting.set()
        await anyio.sleep_forever()

    def sleeping(self) -> bool:
        """Whether a handler is in its query."""
        return bool(self.postgres.asleep(self.name))

    def rows(self) -> list[int]:
        """What is committed, as anybody sees it."""
        return [row[0] for row in self.postgres.ask(f"select number from {self.name} order by number")]

    def watched(self, handler: "Handler") -> Router:
        """A Router with this handler, whose end is noted."""
        routes = Router()

        @routes.get("/")
        async def watched(request: Request) -> None:
            try:
                await handler(self)
            except BaseException as error:
                self.ends.append(type(error))
                raise
            else:
                self.ends.append(None)
            finally:
                self.ended.set()

        return routes

    async def check(self) -> None:
        """The handler was cancelled, nothing of it is left in the database within a second, and the pool serves its full size."""
        left_at = time.monotonic()
        await within(self.ended)
        assert self.ends == [anyio.get_cancelled_exc_class()]
        await self.postgres.wait_quiet(self.name, SOON - (time.monotonic() - left_at))
        assert self.rows() == []
        await self.serves_all()
        await self.postgres.wait_quiet(self.name, SOON)

    async def serves_all(self) -> None:
        """Use every connection of the pool at the same time."""
        await serves_all(self.pool, SIZE)


Handler = Callable[[Database], Awaitable[None]]


@asynccontextmanager
async def database(postgres: Postgres, stack: str, size: int = SIZE) -> AsyncIterator[Database]:
    """A fresh one, with `size` connections in its pool."""
    name = f"test_{secrets.token_hex(6)}"
    postgres.ask(f"create table {name} (number int)")
    try:
        async with STACKS[stack](postgres.port, size, name) as pool:
            yield Database(postgres, pool, name)
    finally:
        postgres.terminate(name)
        postgres.ask(f"drop table {name}")


# The handlers, and how to see that each is where its client should leave it.


async def in_mid_query(db: Database) -> None:
    async with db.pool.connection() as execute:
        await execute("select pg_sleep(30)")


async def idle_in_a_transaction(db: Database) -> None:
    async with db.pool.transaction() as execute:
        await execute(f"insert into {db.name} values (1)")
        await db.wait()


async def between_two_statements(db: Database) -> None:
    async with db.pool.connection() as execute:
        await execute("select 1")
        await db.wait()
        await execute(f"insert into {db.name} values (1)")


async def between_two_connections(db: Database) -> None:
    async with db.pool.connection() as execute:
        await execute("select 1")
    await db.wait()
    async with db.pool.connection() as execute:
        await execute(f"insert into {db.name} values (1)")


async def between_several_writes(db: Database) -> None:
    async with db.pool.transaction() as execute:
        await execute(f"insert into {db.name} values (1)")
        await execute(f"insert into {db.name} values (2)")
        await db.wait()
        await execute(f"insert into {db.name} values (3)")


async def in_the_last_of_several_writes(db: Database) -> None:
    async with db.pool.transaction() as execute:
        await execute(f"insert into {db.name} values (1)")
        await execute(f"insert into {db.name} values (2)")
        await execute(f"insert into {db.name} select 3 from pg_sleep(30)")


async def in_a_task_group(db: Database) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(in_mid_query(db))
        await in_mid_query(db)


async def in_a_gathering(db: Database) -> None:
    await asyncio.gather(in_mid_query(db), in_mid_query(db))


async def in_an_anyio_task_group(db: Database) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_mid_query, db)
        await in_mid_query(db)


PLACES: dict[str, tuple[Handler, Callable[[Database], bool]]] = {
    "mid-query": (in_mid_query, Database.sleeping),
    "idle in a transaction": (idle_in_a_transaction, lambda db: db.waiting.is_set()),
    "between two statements": (between_two_statements, lambda db: db.waiting.is_set()),
    "between two connections": (between_two_connections, lambda db: db.waiting.is_set()),
    "between several writes": (between_several_writes, lambda db: db.waiting.is_set()),
    "in the last of several writes": (in_the_last_of_several_writes, Database.sleeping),
    "in two queries, in a task group": (in_a_task_group, lambda db: len(db.postgres.asleep(db.name)) == 2),
    "in two queries, gathered": (in_a_gathering, lambda db: len(db.postgres.asleep(db.name)) == 2),
    "in two queries, in an anyio task group": (in_an_anyio_task_group, lambda db: len(db.postgres.asleep(db.name)) == 2),
}


@pytest.mark.parametrize("place", list(PLACES))
async def test_the_database_is_at_rest(postgres: Postgres, stack: str, place: str, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever the client leaves: within a second no query runs, nothing is written, and the pool has all its connections."""
    handler, arrived = PLACES[place]
    async with database(postgres, stack) as db, serving(db.watched(handler)) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await eventually(lambda: arrived(db))
        await db.check()
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("race", [False, True], ids=["waiting", "getting it that moment"])
async def test_an_exhausted_pool(postgres: Postgres, stack: str, race: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves while its handler waits for a free connection takes none with it, even if one is just being given to it."""
    queued = anyio.Event()

    async def handler(db: Database) -> None:
        queued.set()
        await in_mid_query(db)

    async with database(postgres, stack) as db, serving(db.watched(handler)) as served:
        async with await served.connect() as client, AsyncExitStack() as held:
            for _ in range(SIZE):
                execute = await held.enter_async_context(db.pool.connection())
                await execute("select 1")
            await client.send(GET)
            await within(queued)
            client.leave()
            if not race:
                await within(db.ended)
                assert not db.postgres.active(db.name)
        await db.check()
    assert loud_lines(caplog) == []


async def test_one_after_the_other(postgres: Postgres, stack: str, caplog: pytest.LogCaptureFixture) -> None:
    """The pool is as good after many departures, of every kind, as after one."""
    departures: list[Departure] = ["FIN", "RST", "half-close"]
    times = 4 * SIZE
    async with database(postgres, stack) as db, serving(db.watched(in_the_last_of_several_writes)) as served:
        async with AsyncExitStack() as clients:
            for number in range(times):
                client: Client = await clients.enter_async_context(await served.connect())
                await client.send(GET)
                await eventually(db.sleeping)
                client.leave(departures[number % 3])
                await eventually(lambda number=number: len(db.ends) == number + 1)  # type: ignore[misc]
        assert db.ends == times * [anyio.get_cancelled_exc_class()]
        await postgres.wait_quiet(db.name, SOON)
        assert db.rows() == []
        await db.serves_all()
    assert loud_lines(caplog) == []


def _overlook_asyncpgs_connecting() -> None:
    """A task that is cancelled just as asyncpg's socket has connected leaves a future of asyncpg's behind, with an error in it.

    Nobody waits for that any more, so asyncio reports it; nothing else is wrong. A connection that was broken off is made anew in a
    later run, whose client leaves there too.
    """
    loop = asyncio.get_running_loop()
    report = loop.get_exception_handler()
    assert report is not None

    def overlook(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if str(context.get("exception")) != "unexpected connection_lost() call":
            report(loop, context)

    loop.set_exception_handler(overlook)


async def test_never_half_written(postgres: Postgres, stack: str, caplog: pytest.LogCaptureFixture) -> None:
    """Over every await of a transaction, all of it is written or nothing, and the pool stays whole."""
    async with database(postgres, stack) as db:

        async def pay(db: Database) -> None:
            async with db.pool.transaction() as execute:
                await execute(f"insert into {db.name} values (1)")
                await execute(f"insert into {db.name} values (2)")

        _overlook_asyncpgs_connecting()
        seen: list[list[int]] = []
        client = testing.Client(db.watched(pay))
        async for departure in client.hang_up_everywhere("/"):
            assert departure.cancelled
            seen.append(db.rows())
            assert seen[-1] in ([], [1, 2]), str(departure)
            await postgres.wait_quiet(db.name, SOON)  # a connection may have been closed, which PostgreSQL learns later
            postgres.ask(f"truncate {db.name}")
        assert db.rows() == [1, 2]  # the last time, nobody left
        assert seen[0] == []
        assert len(seen) > 3
        await db.serves_all()
    assert loud_lines(caplog) == []


async def test_the_fault_can_be_seen(postgres: Postgres, record_property: Callable[[str, object], None]) -> None:
    """Without the grace, by level from the start, queries go on after their handlers have ended: these tests would see it."""
    attempts = 12
    left_running: dict[str, int] = {}
    for stack in STACKS:
        async with database(postgres, stack, attempts) as db:
            routes = db.watched(in_mid_query)
            routes.cleanup_grace = 0
            async with serving(routes) as served:
                async with AsyncExitStack() as clients:
                    for _ in range(attempts):
                        client = await clients.enter_async_context(await served.connect())
                        await client.send(GET)
                    await eventually(lambda db=db: len(postgres.asleep(db.name)) == attempts)  # type: ignore[misc]
                await eventually(lambda db=db: len(db.ends) == attempts)  # type: ignore[misc]
                with suppress(AssertionError):
                    await postgres.wait_quiet(db.name, SOON)
                left_running[stack] = len(postgres.active(db.name))
    record_property("queries left running", left_running)
    print(f"\nby level, queries left running of {attempts}: {left_running}")
    assert any(left_running.values()), left_running
