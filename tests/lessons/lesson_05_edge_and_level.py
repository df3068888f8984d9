"""Edge and level.

A cancellation that is told once lets the cleanup behind it await, and one that is told at every await does not.

Predict: a handler waits for a query and is cancelled. In its `finally` it awaits a ROLLBACK. Does the database ever hear of that? And what
if the cleanup itself never ends?
"""

import asyncio
from contextlib import suppress

import anyio

from microasgi import Request, Router
from microasgi.testing import Client
from tests.harness import eventually
from tests.lessons.form import Break, Place

# To cancel a task means to have an exception raised at the `await` where it waits. From there it goes up, as exceptions do, through every
# `finally`. What is asked here is what becomes of an `await` in such a `finally`.


class Database:
    """One that works at a query until it is told to stop."""

    working = False

    async def query(self) -> None:
        self.working = True
        try:
            await anyio.sleep_forever()
        finally:
            await self.roll_back()

    async def roll_back(self) -> None:
        await anyio.sleep(0.001)  # until it has arrived
        self.working = False


# *Level*, as anyio and trio have it: a scope is cancelled, and as long as a task is in there, each of its awaits raises. Nobody can miss
# that, and nobody can stay. But the ROLLBACK is an `await`, too.


async def cancelled_by_level(database: Database) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.query)
        await eventually(lambda: database.working)
        tasks.cancel_scope.cancel()


async def test_level_cancels_the_cleanup_too() -> None:
    """Under a level, cleanup fails at its first await, and the database works on, for nobody."""
    database = Database()
    await cancelled_by_level(database)
    assert database.working


class Shielded(Database):
    async def roll_back(self) -> None:
        with anyio.CancelScope(shield=True):
            await super().roll_back()


async def test_under_a_level_cleanup_needs_a_shield() -> None:
    """Who writes for a level shields what has to be awaited: on trio that is the rule, and its libraries keep it."""
    database = Shielded()
    await cancelled_by_level(database)
    assert not database.working


# *Edge*, as asyncio has it: `task.cancel()` raises at one `await`, and that was it. asyncio's drivers are written for this, and have no
# shields. So the same query, cancelled once, is rolled back.


async def test_an_edge_lets_cleanup_await() -> None:
    """Told once, cleanup can do its work."""
    database = Database()
    task = asyncio.create_task(database.query())
    await eventually(lambda: database.working)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert not database.working


# Now the other side of it. Told once, a cleanup may also take for ever, and nobody will tell it again.


async def test_an_edge_is_over_when_it_was_told() -> None:
    """A cleanup that never ends holds on to its task, and to whatever the task has."""

    async def stubborn() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep_forever()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    task.cancel()
    _, pending = await asyncio.wait([task], timeout=0.05)
    assert pending == {task}
    task.cancel()
    await asyncio.wait([task])


# A departure is told here as an edge, and after a grace as a level: what asyncio's libraries expect, and an end that is sure. The grace is
# 5 seconds, unless a route says otherwise.


async def test_a_departure_is_an_edge_then_a_level() -> None:
    """A handler whose client has left may clean up, for a while."""
    database, routes = Database(), Router()

    @routes.get("/query")
    async def query(request: Request) -> None:
        await database.query()

    @routes.get("/stubborn", cleanup_grace=0.05)
    async def stubborn(request: Request) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep_forever()

    client = Client(routes)
    async with client.open("GET", "/query") as call:
        await call.hang_up()
    assert not database.working, "the ROLLBACK has arrived"
    with anyio.fail_after(5):
        async with client.open("GET", "/stubborn") as call:
            await call.hang_up()
    assert call.cancelled


# Break it: without a grace, the level comes at once.

BREAK = Break(
    old='@routes.get("/query")',
    new='@routes.get("/query", cleanup_grace=0)',
    fails='assert not database.working, "the ROLLBACK has arrived"',
)

READ_NEXT = [
    Place("microasgi/promise/stages.py", "Stage"),  # from the telling to the end, as a table
    Place("microasgi/promise/delivery.py", "Block"),  # who tells the handler
    Place("microasgi/promise/telling.py", "Telling"),  # who tells the tasks that it has started
]
