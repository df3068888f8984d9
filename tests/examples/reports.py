"""A shop's orders and reports on PostgreSQL: a pool, transactions, and what a departure may and may not interrupt.

    GET  /reports/{year}       slow, and worth nothing without its reader: the query dies with the request
    POST /orders               all of it in one transaction: both the order and the smaller stock, or neither
    POST /orders/{id}/payment  finished, whoever leaves: nobody could tell whether the money is gone; and paying twice is paying once

psycopg's pool in autocommit, with transactions where they are wanted, is the arrangement that loses the fewest cancellations.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from psycopg_pool import AsyncConnectionPool, PoolTimeout

from microasgi import HTTPException, JSONResponse, PlainTextResponse, Request, Router

TABLES = """
create table stock (item text primary key, left_over int not null check (left_over >= 0));
create table orders (id bigint generated always as identity primary key, item text not null references stock, amount int not null,
                     ordered timestamptz not null default now(), paid text);
"""

REPORT = """
select item, count(*), sum(amount) from orders, pg_sleep(%(slowness)s)
where extract(year from ordered) = %(year)s group by item order by item
"""

Charge = Callable[[int], Awaitable[str]]
"""Takes the money for an order, and returns a receipt's number."""


def service(dsn: str, charge: Charge, *, size: int = 4, patience: float = 5.0, slowness: float = 0.0) -> Router:
    """The app.

    :param dsn: where the database is
    :param charge: takes the money
    :param size: connections in the pool
    :param patience: seconds that a request waits for one of them, before it is told to come back later
    :param slowness: seconds that a report takes
    """

    @asynccontextmanager
    async def lifespan(_: Router) -> AsyncIterator[Mapping[str, Any]]:
        options = {"autocommit": True}
        async with AsyncConnectionPool(dsn, min_size=size, max_size=size, timeout=patience, kwargs=options, open=False) as pool:
            await pool.wait()
            yield {"pool": pool, "charge": charge, "slowness": slowness}

    routes = Router(lifespan=lifespan, exception_handlers={PoolTimeout: busy})
    routes.get("/reports/{year:int}")(report)
    routes.post("/orders")(order)
    routes.post("/orders/{id:int}/payment", on_disconnect="finish")(pay)
    return routes


async def report(request: Request) -> list[dict[str, Any]]:
    """What was ordered in a year."""
    values = {"year": request.path_params["year"], "slowness": request.state.slowness}
    async with request.state.pool.connection() as connection:
        rows = await (await connection.execute(REPORT, values)).fetchall()
    return [{"item": item, "orders": orders, "amount": amount} for item, orders, amount in rows]


async def order(request: Request) -> JSONResponse:
    """Take something out of the stock."""
    match await request.json():
        case {"item": str(item), "amount": int(amount)} if item.isprintable() and 0 < amount < 1000:
            pass
        case _:
            raise HTTPException(422, 'an order is {"item": TEXT, "amount": NUMBER}, and not of a thousand or more')
    take = "update stock set left_over = left_over - %s where item = %s and left_over >= %s"
    insert = "insert into orders (item, amount) values (%s, %s) returning id"
    async with request.state.pool.connection() as connection, connection.transaction():
        taken = await connection.execute(take, (amount, item, amount))
        if not taken.rowcount:
            raise HTTPException(409, f"there aren't {amount} of {item!r}")
        (number,) = await (await connection.execute(insert, (item, amount))).fetchone()
    return JSONResponse({"id": number}, 201, headers={"location": f"/orders/{number}"})


async def pay(request: Request) -> dict[str, str]:
    """Charge for an order, once: the row is locked meanwhile, so that a second attempt waits for the first and finds its receipt."""
    number = request.path_params["id"]
    async with request.state.pool.connection() as connection, connection.transaction():
        row = await (await connection.execute("select paid from orders where id = %s for update", (number,))).fetchone()
        if row is None:
            raise HTTPException(404, f"there is no order {number}")
        (receipt,) = row
        if receipt is None:
            receipt = await request.state.charge(number)
            await connection.execute("update orders set paid = %s where id = %s", (receipt, number))
    return {"receipt": receipt}


def busy(request: Request, error: PoolTimeout) -> PlainTextResponse:
    return PlainTextResponse("every connection is taken; try again", 503, headers={"retry-after": "1"})
