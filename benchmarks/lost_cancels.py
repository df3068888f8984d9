"""How often does a query outlive its cancellation, though its handler was told?

    python -m benchmarks.lost_cancels

For each driver and its pool, clients come one behind the other, each wants a query of half a minute, and leaves 0.3 s later. Most wait for
a connection then, and the last get theirs in the very milliseconds in which they leave:

    client 1     |= in its query =====================|leaves
    client 21     |. waits for a connection ...........|= its query begins |leaves        this is the one

What still runs 0.7 s after the last has left is counted: with a Router on our server, and as the control without any code of ours, where
each client is a task that is cancelled once. On the machine as it is, and with processes that spin.

What was found: asyncpg loses next to none, 1 in 3,200 on a busy machine. psycopg's query is not one step: first it begins a transaction.
Told while BEGIN is on its way, it asks PostgreSQL to cancel, which has nothing to cancel, and then goes on with the same `execute`: the
query is sent behind the request. That needs no load, only a departure within that round trip; in autocommit there is none, and as little
is lost as with asyncpg. In Python 3.11 psycopg's pool loses some more, in autocommit too: `asyncio.wait_for` forgets a cancellation that
comes in the turn in which the connection does (psycopg's issue 1345). From 3.12 on it doesn't.

`--check 500` gives PostgreSQL the second net, `client_connection_check_interval` in ms, with which it ends a query whose connection is
closed. psycopg closes it after 5 s, and so does the end of our grace: look later then, with `--after 7`.
"""

import argparse
import asyncio
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from microasgi_server import Config, serve
from psycopg_pool import AsyncConnectionPool

from microasgi import Request, Router
from tests.postgres import STACKS, Meeting, Pool, Postgres, PsycopgPool, running_postgres

GAP = 0.0005
"""Seconds from one client to the next: the first connections come back while the last clients still wait for theirs."""

STAY = 0.3
"""Seconds until each client leaves."""

PATIENCE = 60.0
"""Seconds after which a crowd has failed. It takes two, and a busy machine some more."""

SPIN = 600.0
"""Seconds after which a process that spins ends by itself, should nobody end it."""

SPINNER = f"import time\nend = time.monotonic() + {SPIN}\nwhile time.monotonic() < end: pass"

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@dataclass(frozen=True)
class Crowd:
    """Who comes.

    clients: how many.
    size: connections in the pool.
    stay: seconds until each leaves.
    after: seconds from the last departure to the count.
    """

    clients: int
    size: int
    stay: float
    after: float


Handler = Callable[[], Awaitable[None]]
Client = Callable[[], Coroutine[Any, Any, None]]
"""Comes, stays, and has left when it returns; its handler may go on."""


@asynccontextmanager
async def by_our_server(handler: Handler, stay: float) -> AsyncIterator[Client]:
    """A Router on our server; each client has a connection of its own, and closes it."""
    routes = Router()

    @routes.get("/")
    async def query(request: Request) -> None:
        await handler()

    async def client() -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(REQUEST)
            await anyio.sleep(stay)

    async with anyio.create_task_group() as tasks:
        (address,) = await tasks.start(_serve, routes)
        port = int(address.rpartition(":")[2])
        yield client
        tasks.cancel_scope.cancel()


async def _serve(routes: Router, *, task_status: anyio.abc.TaskStatus[list[str]]) -> None:
    config = Config(port=0, access_log=False, timeout_graceful_shutdown=0)
    await serve(routes, config, task_status=task_status)


@asynccontextmanager
async def by_tasks(handler: Handler, stay: float) -> AsyncIterator[Client]:
    """No code of ours: each client is a task, cancelled once."""
    handlers: list[asyncio.Future[None]] = []

    async def client() -> None:
        task = asyncio.ensure_future(handler())
        handlers.append(task)
        await asyncio.sleep(stay)
        task.cancel()

    yield client
    await asyncio.gather(*handlers, return_exceptions=True)


WAYS: dict[str, Callable[[Handler, float], AbstractAsyncContextManager[Client]]] = {"ours": by_our_server, "control": by_tasks}


@asynccontextmanager
async def _autocommit(port: int, size: int, name: str) -> AsyncIterator[Pool]:
    """psycopg's pool, with connections that begin no transaction by themselves."""
    conninfo = f"host=127.0.0.1 port={port} user=postgres dbname=postgres application_name={name}"
    async with AsyncConnectionPool(conninfo, min_size=0, max_size=size, open=False, kwargs={"autocommit": True}) as pool:
        yield PsycopgPool(pool)


POOLS = {**STACKS, "psycopg_pool, autocommit": _autocommit}


async def left_running(postgres: Postgres, stack: str, way: str, crowd: Crowd) -> int:
    """Have the crowd come and leave, and count the queries that run on."""
    name = f"lost_{secrets.token_hex(6)}"
    with anyio.fail_after(PATIENCE + crowd.after):
        async with POOLS[stack](postgres.port, crowd.size, name) as pool:
            await _fill(pool, crowd.size)

            async def handler() -> None:
                async with pool.connection() as execute:
                    await execute("select pg_sleep(30)")

            async with WAYS[way](handler, crowd.stay) as client:
                async with anyio.create_task_group() as clients:
                    for _ in range(crowd.clients):
                        clients.start_soon(client)
                        await anyio.sleep(GAP)
                await anyio.sleep(crowd.after)
                found = len(postgres.active(name))
                postgres.terminate(name)
    return found


async def _fill(pool: Pool, size: int) -> None:
    """Open all connections of the pool: a service that has run for a while."""
    meeting = Meeting(size)
    async with anyio.create_task_group() as tasks:
        for _ in range(size):
            tasks.start_soon(meeting.attend, pool)


@contextmanager
def spinning(processes: int) -> Iterator[None]:
    """Keep the machine busy."""
    with ExitStack() as stack:
        for _ in range(processes):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", SPINNER]))
            stack.callback(process.kill)
        yield


def row(stack: str, way: str, found: list[int], crowd: Crowd) -> str:
    """One line of the table."""
    percent = 100 * sum(found) / (len(found) * crowd.clients)
    return f"  {stack:<26}{way:<9}{sum(found):>5} of {len(found) * crowd.clients:<6}{percent:5.1f} %   at most {max(found)} of one crowd"


def measure(postgres: Postgres, crowd: Crowd, rounds: int, loop: str) -> None:
    """All drivers, both ways, and print each line as soon as it is known."""
    options = {"use_uvloop": loop == "uvloop"}
    for stack in POOLS:
        for way in WAYS:
            found = [
                anyio.run(left_running, postgres, stack, way, crowd, backend="asyncio", backend_options=options) for _ in range(rounds)
            ]
            print(row(stack, way, found, crowd), flush=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lost_cancels", description="Count the queries that outlive their cancellation."
    )
    parser.add_argument("--rounds", type=int, default=2, help="crowds for each line (default: 2, some two minutes in all)")
    parser.add_argument("--clients", type=int, default=200, help="in a crowd (default: 200)")
    parser.add_argument("--size", type=int, default=20, help="connections in the pool (default: 20)")
    parser.add_argument("--after", type=float, default=0.7, help="seconds from the last departure to the count (default: 0.7)")
    parser.add_argument("--check", type=int, default=0, help="client_connection_check_interval, in ms (default: 0, which is PostgreSQL's)")
    parser.add_argument("--spin", type=int, default=2, help="processes that keep the machine busy (default: 2)")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()
    logging.disable()  # the drivers' warnings and ours about each query that goes on
    crowd = Crowd(arguments.clients, arguments.size, STAY, arguments.after)
    print(f"Python {sys.version.split()[0]}, {arguments.loop}; queries still active {crowd.after:g} s after the last client has left")
    with running_postgres() as postgres:
        postgres.ask(f"alter role postgres set client_connection_check_interval = {arguments.check:d}")
        for processes in (0, arguments.spin):
            print(f"\n{f'{processes} processes spin' if processes else 'the machine as it is'}, load {os.getloadavg()[0]:.1f}")
            with spinning(processes):
                measure(postgres, crowd, arguments.rounds, arguments.loop)


if __name__ == "__main__":
    main()
