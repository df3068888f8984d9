"""The shop on a real PostgreSQL: what its clients interrupt by leaving, and what they can't."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from microasgi import Router, testing
from tests.examples.reports import TABLES, service
from tests.harness import Client, Departure, access_lines, eventually, loud_lines, serving, within
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio

SIZE = 2
SOON = 1.0


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """psycopg is written for asyncio."""
    return "asyncio", {"use_uvloop": request.param}


@dataclass
class Shop:
    """A database of its own for one test, and somebody who takes the money.

    name: the schema's, and the application's in pg_stat_activity.
    charged: the orders that were charged.
    charging, go_on: somebody pays now; the money is taken when the test says so.
    """

    postgres: Postgres
    name: str
    charged: list[int] = field(default_factory=list)
    charging: anyio.Event = field(default_factory=anyio.Event)
    go_on: anyio.Event = field(default_factory=anyio.Event)

    async def charge(self, number: int) -> str:
        self.charging.set()
        await self.go_on.wait()
        self.charged.append(number)
        return f"receipt {len(self.charged)}"

    def routes(self, **options: Any) -> Router:
        where = f"host=127.0.0.1 port={self.postgres.port} user=postgres dbname=postgres"
        dsn = f"{where} application_name={self.name} options='-c search_path={self.name}'"
        return service(dsn, self.charge, size=SIZE, **options)

    def ask(self, query: str) -> Any:
        """The one value that a query gives."""
        return self.postgres.ask(query.format(self.name))[0][0]

    def books(self) -> tuple[int, int]:
        """What is left over, and what was ordered."""
        ordered = self.ask("select coalesce(sum(amount), 0) from {}.orders")
        return self.ask("select sum(left_over) from {}.stock"), ordered


@pytest.fixture
def shop(postgres: Postgres, anyio_backend: Any) -> Any:
    name = f"shop_{secrets.token_hex(6)}"
    postgres.ask(f"create schema {name}")
    for statement in TABLES.replace("create table ", f"create table {name}.").replace("references ", f"references {name}.").split(";\n"):
        if statement.strip():
            postgres.ask(statement)
    postgres.ask(f"insert into {name}.stock values ('tea', 100)")
    yield Shop(postgres, name)
    postgres.terminate(name)
    postgres.ask(f"drop schema {name} cascade")


@asynccontextmanager
async def visitor(served: Any, method: bytes, target: bytes) -> AsyncIterator[Client]:
    """Somebody whose request is sent."""
    async with await served.connect() as client:
        await client.send(b"%b %b HTTP/1.1\r\nHost: test\r\n\r\n" % (method, target))
        yield client


async def test_orders_and_reports(shop: Shop) -> None:
    """What was ordered is in the report, and what isn't there can't be."""
    async with testing.Client(shop.routes()) as client:
        first = await client.post("/orders", json={"item": "tea", "amount": 60})
        assert (first.status_code, first.headers["location"]) == (201, "/orders/1")
        assert (await client.post("/orders", json={"item": "tea", "amount": 60})).status_code == 409
        assert (await client.post("/orders", json={"item": "tea", "amount": "all"})).status_code == 422
        assert (await client.post("/orders", json={"item": "tea\0", "amount": 1})).status_code == 422
        assert (await client.post("/orders/7/payment")).status_code == 404
        year = shop.ask("select extract(year from now())::int")
        assert (await client.get(f"/reports/{year}")).json() == [{"item": "tea", "orders": 1, "amount": 60}]
        assert (await client.get("/reports/1999")).json() == []
    assert shop.books() == (40, 60)


async def test_an_order_is_never_half_made(shop: Shop) -> None:
    """At whichever await the client leaves, what is left over and what was ordered make up the stock, and the pool is whole."""
    before = shop.books()
    async with testing.Client(shop.routes()) as client:
        departures = 0
        async for departure in client.hang_up_everywhere("/orders", "POST", json={"item": "tea", "amount": 1}):
            departures += 1
            assert sum(shop.books()) == sum(before), departure
            await shop.postgres.wait_quiet(shop.name, SOON)
        assert departures > 3
        for _ in range(SIZE + 1):
            assert (await client.get("/reports/1999")).status_code == 200
    assert sum(shop.books()) == sum(before)


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_report_dies_with_its_reader(shop: Shop, how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """As many readers as there are connections leave in the middle of the query, round after round: none runs on, and none is missing."""
    routes = shop.routes(slowness=30)
    async with serving(routes) as served:
        for _ in range(2):
            async with visitor(served, b"GET", b"/reports/2026") as one, visitor(served, b"GET", b"/reports/2026") as other:
                await eventually(lambda: len(shop.postgres.asleep(shop.name)) == SIZE)
                one.leave(how)
                other.leave(how)
            await shop.postgres.wait_quiet(shop.name, SOON)
        await eventually(lambda: len(access_lines(caplog)) == 2 * SIZE)
    assert all(" 499 " in line for line in access_lines(caplog))
    assert loud_lines(caplog) == []


async def test_who_waits_for_a_connection_is_told_to_come_back(shop: Shop) -> None:
    """A full pool is a 503 after a while, not an error."""
    async with serving(shop.routes(slowness=30, patience=0.1)) as served:
        async with visitor(served, b"GET", b"/reports/2026"), visitor(served, b"GET", b"/reports/2026"):
            await eventually(lambda: len(shop.postgres.asleep(shop.name)) == SIZE)
            async with visitor(served, b"GET", b"/reports/2026") as third:
                response = await third.response()
        assert (response.status, response.header(b"retry-after")) == (503, b"1")
        await shop.postgres.wait_quiet(shop.name, SOON)


async def test_a_payment_is_finished_and_made_once(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves while it pays has paid; when it comes back it gets the same receipt, and is charged no second time."""
    shop.postgres.ask(f"insert into {shop.name}.orders (item, amount) values ('tea', 5)")
    async with serving(shop.routes()) as served:
        async with visitor(served, b"POST", b"/orders/1/payment"):
            await within(shop.charging)
        async with visitor(served, b"POST", b"/orders/1/payment") as again:  # while the first still runs
            await eventually(
                lambda: shop.ask("select count(*) from pg_stat_activity where application_name = '{}' and wait_event_type = 'Lock'")
            )
            shop.go_on.set()
            response = await again.response(b"POST")
        await shop.postgres.wait_quiet(shop.name, SOON)
    assert response.body == b'{"receipt":"receipt 1"}'
    assert shop.charged == [1]
    assert shop.ask("select paid from {}.orders") == "receipt 1"
    assert loud_lines(caplog) == []
