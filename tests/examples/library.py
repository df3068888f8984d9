"""A FastAPI app as many are: a middleware, a session from a dependency with `yield`, background tasks; and one line that makes it stop.

It lends books. What a request has begun when its client leaves is rolled back by the dependency, its connection goes back to the pool,
and no reminder goes out for a book that nobody has.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import fastapi
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from microasgi import CancelOnDisconnect

TABLES = "create table books (title text primary key, reader text)"

Remind = Callable[[str, str], Awaitable[None]]
"""Sends a reader a mail about a title."""


async def timed(request: fastapi.Request, call_next: Callable[[fastapi.Request], Awaitable[fastapi.Response]]) -> fastapi.Response:
    """A middleware of the usual kind: FastAPI runs what is behind it in a task of its own, and that is stopped, too."""
    began = time.perf_counter()
    response = await call_next(request)
    response.headers["x-seconds"] = f"{time.perf_counter() - began:.3f}"
    return response


async def session(request: fastapi.Request) -> AsyncIterator[AsyncSession]:
    """A session for one request: committed at its end, rolled back if it raises or is cancelled."""
    async with request.app.state.sessions() as opened, opened.begin():
        yield opened


async def reminder(request: fastapi.Request) -> Remind:
    remind: Remind = request.app.state.remind
    return remind


Session = Annotated[AsyncSession, fastapi.Depends(session, scope="function")]  # its end comes before the response, so 200 means written
Reminder = Annotated[Remind, fastapi.Depends(reminder)]

books = fastapi.APIRouter()


@books.post("/books/{title}/loan", status_code=201)
async def lend(title: str, reader: str, opened: Session, remind: Reminder, later: fastapi.BackgroundTasks) -> dict[str, str]:
    """Lend a book that is there; its reader gets a mail about it when the answer is out."""
    taken = await opened.execute(
        text("update books set reader = :reader where title = :title and reader is null"), {"title": title, "reader": reader}
    )
    if not taken.rowcount:  # type: ignore[attr-defined]
        raise fastapi.HTTPException(409, f"{title!r} isn't there")
    later.add_task(remind, reader, title)
    return {"title": title, "reader": reader}


@books.get("/search")
async def search(words: str, opened: Session, seconds: float = 0.0) -> list[str]:
    """Look through all titles, as slowly as asked for: what search-as-you-type leaves behind at each key."""
    found = text("select title from books, pg_sleep(:seconds) where title ilike :pattern order by title")
    return [title for (title,) in await opened.execute(found, {"seconds": seconds, "pattern": f"%{words}%"})]


def library(url: str, remind: Remind, *, size: int = 4, **options: Any) -> CancelOnDisconnect:
    """The app.

    :param url: SQLAlchemy's, for the database
    :param remind: sends the mail
    :param size: connections in the pool
    :param options: what else the driver wants to know
    """

    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        engine = create_async_engine(url, pool_size=size, max_overflow=0, connect_args=options)
        app.state.sessions, app.state.remind = async_sessionmaker(engine, expire_on_commit=False), remind
        yield
        await engine.dispose()

    app = fastapi.FastAPI(lifespan=lifespan)
    app.middleware("http")(timed)
    app.include_router(books)
    return CancelOnDisconnect(app)
