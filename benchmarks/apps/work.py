"""What the handlers do, the same in every framework, and the notes that they make of it.

Times are `time.monotonic()`, which on Linux is one clock for all processes: a client's times can be compared with them.
"""

import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel

TOKEN = os.environ.get("BENCHMARK_TOKEN", "hello").encode()
"""What `GET /` answers: only the run that started this server knows it."""

DSN = "BENCHMARK_DSN"
"""The environment variable with PostgreSQL's address, where there is one."""

MESSAGE = {"message": "hello", "numbers": list(range(10)), "nested": {"true": True, "none": None}}

PIECE = bytes(64 * 1024)
PIECES = 16
"""Pieces of a megabyte."""

SLOTS = 10
"""That the service has, …"""

SLOT_SECONDS = 0.1
"""… and how long a request needs one: SLOTS / SLOT_SECONDS requests a second are all that can be answered."""

_notes: dict[str, dict[str, Any]] = {}
_counts = {"began": 0, "finished": 0, "stopped": 0}


@contextmanager
def noted(token: str) -> Iterator[dict[str, Any]]:
    """Note when a handler began and ended, and whether it went to its end (`finished`) or was cancelled (`stopped`).

    Without a token it is only counted, so that a hundred thousand requests leave nothing behind.
    """
    note: dict[str, Any] = {"began": time.monotonic(), "ended": None, "how": "running"}
    if token:
        _notes[token] = note
    _counts["began"] += 1
    try:
        yield note
    except BaseException:
        note["how"] = "stopped"
        raise
    else:
        note["how"] = "finished"
    finally:
        note["ended"] = time.monotonic()
        _counts[note["how"]] += 1


def notes() -> dict[str, Any]:
    """{"notes": {token: {"began": s, "ended": s or None, "how": …, "worked": s, if it had a slot; "ticked": s}}, "counts": {…}}."""
    return {"notes": _notes, "counts": _counts}


async def once() -> str:
    """A handler that waits for something, as for a fast cache."""
    await anyio.sleep(0.0001)
    return "once"


async def wait(token: str, seconds: str) -> str:
    """A handler that takes its time."""
    with noted(token):
        await anyio.sleep(float(seconds or 10))
    return "waited"


async def ticks(token: str) -> AsyncGenerator[bytes]:
    """A body without an end. What nobody takes any more may yet wait for its end: `ticked` is when it was last asked for a piece."""
    with noted(token) as note:
        while True:
            note["ticked"] = time.monotonic()
            yield b"tick\n"
            await anyio.sleep(0.01)


async def stream(megabytes: int) -> AsyncGenerator[bytes]:
    """A large body."""
    for _ in range(megabytes * PIECES):
        yield PIECE


FLOOD = 400
"""Pieces that a WebSocket is flooded with: 25 MB, which is more than the system keeps for a client that takes nothing."""


async def sleeps(token: str, seconds: float) -> None:
    """Somebody in a WebSocket who doesn't touch it."""
    with noted(token):
        await anyio.sleep(seconds)


async def receives(token: str, receive: Callable[[], Awaitable[object]]) -> None:
    """Somebody who waits for what the client says, and hears of its departure by an exception."""
    with noted(token):
        while True:
            await receive()


async def floods(token: str, seconds: float, send: Callable[[bytes], Awaitable[None]]) -> None:
    """Somebody who says more than the client takes."""
    end = time.monotonic() + seconds
    with noted(token):
        for _ in range(FLOOD):
            await send(PIECE)
        await anyio.sleep(end - time.monotonic())


async def pushes(token: str, seconds: float, send: Callable[[bytes], Awaitable[None]]) -> None:
    """Somebody who says something now and then."""
    end = time.monotonic() + seconds
    with noted(token):
        while time.monotonic() < end:
            await send(b"tick")
            await anyio.sleep(0.05)


_slots: anyio.Semaphore | None = None


async def slot(token: str) -> str:
    """Work that needs one of ten slots for a tenth of a second."""
    global _slots
    if _slots is None:  # not before the loop runs
        _slots = anyio.Semaphore(SLOTS)
    with noted(token) as note:
        async with _slots:
            with _clocked(note):
                await anyio.sleep(SLOT_SECONDS)
    return "done"


_pool: Any = None
_opening: anyio.Lock | None = None


async def query(token: str) -> str:
    """The same in PostgreSQL. asyncio only: asyncpg knows no other."""
    with noted(token) as note:
        pool = await _connected()
        async with pool.acquire() as connection:
            with _clocked(note):
                await connection.execute("select pg_sleep($1)", SLOT_SECONDS)
    return "done"


async def _connected() -> Any:
    import asyncpg

    global _pool, _opening
    if _opening is None:
        _opening = anyio.Lock()
    async with _opening:
        if _pool is None:
            _pool = await asyncpg.create_pool(os.environ[DSN], min_size=SLOTS, max_size=SLOTS)
    return _pool


@contextmanager
def _clocked(note: dict[str, Any]) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        note["worked"] = time.monotonic() - began
