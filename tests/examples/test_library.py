"""The FastAPI app on a real PostgreSQL: its middleware, its dependency's end and its background task, with clients that leave."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from microasgi import CancelOnDisconnect, testing
from tests.examples.library import TABLES, library
from tests.harness import Departure, access_lines, eventually, loud_lines, serving, within
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio

SOON = 1.0


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """asyncpg is written for asyncio."""
    return "asyncio", {"use_uvloop": request.param}


@dataclass
class Library:
    """A database of its own for one test, and where the mails go.

    reminding, go_on: a mail is being sent; it is out when the test says so.
    """

    postgres: Postgres
    name: str
    reminded: list[str] = field(default_factory=list)
    reminding: anyio.Event = field(default_factory=anyio.Event)
    go_on: anyio.Event = field(default_factory=anyio.Event)

    async def remind(self, reader: str, title: str) -> None:
        self.reminding.set()
        await self.go_on.wait()
        self.reminded.append(f"{reader}: {title}")

    def app(self, size: int = 2) -> CancelOnDisconnect:
        url = f"postgresql+asyncpg://postgres@127.0.0.1:{self.postgres.port}/postgres"
        settings = {"application_name": self.name, "search_path": self.name}
        return library(url, self.remind, size=size, server_settings=settings)

    def reader(self, title: str) -> str | None:
        """Who has a book."""
        ((reader,),) = self.postgres.ask(f"select reader from {self.name}.books where title = %s", title)
        return str(reader) if reader is not None else None

    def give_back(self) -> None:
        self.postgres.ask(f"update {self.name}.books set reader = null")


@pytest.fixture
def books(postgres: Postgres) -> Iterator[Library]:
    name = f"library_{secrets.token_hex(6)}"
    postgres.ask(f"create schema {name}")
    postgres.ask(TABLES.replace("books", f"{name}.books"))
    postgres.ask(f"insert into {name}.books values ('Emma'), ('Persuasion')")
    yield Library(postgres, name)
    postgres.terminate(name)
    postgres.ask(f"drop schema {name} cascade")


async def test_a_loan(books: Library) -> None:
    """Who stays gets the book, the middleware's field and the mail; the next one gets a 409, and no mail."""
    books.go_on.set()
    async with testing.Client(books.app()) as client:
        lent = await client.post("/books/Emma/loan?reader=Ann")
        assert (lent.status_code, lent.json()) == (201, {"title": "Emma", "reader": "Ann"})
        assert lent.headers["x-seconds"]
        assert (await client.post("/books/Emma/loan?reader=Bob")).status_code == 409
        assert (await client.get("/search?words=SUA")).json() == ["Persuasion"]
    assert books.reader("Emma") == "Ann"
    assert books.reminded == ["Ann: Emma"]


async def test_no_loan_is_half_made(books: Library) -> None:
    """At whichever await of the request's own task the client leaves, a mail goes out only for a book that is lent."""
    books.go_on.set()
    async with testing.Client(books.app()) as client:
        assert (await client.get("/search?words=")).status_code == 200  # so that the pool has its connection
        departures = 0
        async for departure in client.hang_up_everywhere("/books/Emma/loan?reader=Ann", "POST"):
            departures += 1
            if books.reminded:
                assert books.reader("Emma") == "Ann", departure
            await books.postgres.wait_quiet(books.name, SOON)
            books.give_back()
            books.reminded.clear()
        assert departures
        assert (await client.get("/search?words=")).status_code == 200


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_search_dies_with_its_reader(books: Library, how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """Behind the middleware and in a session of a dependency, the query of a client that left ends, and its connection is free again."""
    async with serving(books.app(size=1)) as served:
        for number in range(3):  # of which two would find none, if one were lost
            async with await served.connect() as client:
                await client.send(b"GET /search?words=a&seconds=30 HTTP/1.1\r\nHost: test\r\n\r\n")
                await eventually(lambda: books.postgres.asleep(books.name))
                client.leave(how)
            await books.postgres.wait_quiet(books.name, SOON)
            await eventually(lambda number=number: len(access_lines(caplog)) == number + 1)  # type: ignore[misc]
    assert all(" 499 " in line for line in access_lines(caplog))
    assert loud_lines(caplog) == []


async def test_a_mail_goes_out_though_its_reader_has_left(books: Library, caplog: pytest.LogCaptureFixture) -> None:
    """A background task runs to its end: its client, which has the answer, may leave, and shutdown waits."""
    async with serving(books.app()) as served:
        async with await served.connect() as client:
            await client.send(b"POST /books/Emma/loan?reader=Ann HTTP/1.1\r\nHost: test\r\n\r\n")
            assert (await client.response(b"POST")).status == 201
            assert books.reader("Emma") == "Ann"  # the dependency has ended
            await within(books.reminding)
        served.stop.set()
        assert books.reminded == []
        books.go_on.set()
        await within(served.ended)
        assert books.reminded == ["Ann: Emma"]
    assert loud_lines(caplog) == []
