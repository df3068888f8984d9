"""What else handlers hold when their clients leave: SQLite, a download from elsewhere, a Redis connection, a file.

What was found out: aiosqlite runs a statement in a thread and doesn't stop it; the handler ends, and is rolled back, when the statement
has ended. redis-py closes a connection that it was cancelled on in the middle of a reply, rather than give it to the next command with
that reply in it. httpx and anyio's files need a short shielded cleanup of their own, and have it, on every loop.
"""

import secrets
import socket
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import httpx
import pytest
import redis.asyncio
from anyio.abc import SocketAttribute, SocketStream
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from microasgi import Request, Router, StreamingResponse
from tests.harness import GET, PATIENCE, Sleeper, access_lines, eventually, loud_lines, serving, within
from tests.needs import path_of

pytestmark = pytest.mark.anyio

ASYNCIO_LOOPS = pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)
"""For libraries that don't know trio."""


# SQLAlchemy + aiosqlite.


@ASYNCIO_LOOPS
@pytest.mark.parametrize("place", ["between the writes", "in the last write"])
async def test_sqlite_rolls_back(tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture) -> None:
    """A transaction whose client leaves is rolled back, another writer can begin at once, and the pool of one connection serves again."""
    path = tmp_path / "test.db"
    with sqlite3.connect(path) as own:
        own.execute("create table notes (number int)")
    own.close()
    # A statement that takes a while, for want of a sleep; the file is locked while it writes.
    slow = (
        "insert into notes with recursive counting(n) as (select 1 union all select n + 1 from counting where n < 300000) "
        "select n from counting"
    )
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", pool_size=1, max_overflow=0)
    sleeper, routes = Sleeper(), Router()

    @routes.get("/")
    async def handler(request: Request) -> None:
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(text("insert into notes values (1)"))
            if place == "between the writes":
                await sleeper.sleep()
            sleeper.begun.set()
            try:
                await session.execute(text(slow))
            finally:
                sleeper.ended.set()

    try:
        async with serving(routes) as served:
            async with await served.connect() as client:
                await client.send(GET)
                await within(sleeper.begun)
            await within(sleeper.ended)
            await eventually(lambda: access_lines(caplog))
            assert ' HTTP/1.1" 499 ' in access_lines(caplog)[0]

            async def write_and_count() -> int:
                async with AsyncSession(engine) as session, session.begin():
                    await session.execute(text("insert into notes values (-1)"))
                    return (await session.execute(text("select count(*) from notes where number > 0"))).scalar_one()  # type: ignore[no-any-return]

            with anyio.fail_after(PATIENCE):
                assert await write_and_count() == 0
    finally:
        await engine.dispose()
    with sqlite3.connect(path) as own:
        assert own.execute("select number from notes").fetchall() == [(-1,)]
    own.close()
    assert loud_lines(caplog) == []


# httpx.


@pytest.mark.parametrize("whole", [False, True], ids=["streamed", "collected"])
async def test_a_download_is_left(whole: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that downloads from an upstream, and stops, leaves the upstream, and httpx's pool of one connection serves again."""
    upstream, routes, begun, ended, endless = Router(), Router(), anyio.Event(), anyio.Event(), anyio.Event()

    @upstream.get("/endless")
    async def download(request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 1000
                    begun.set()
                    await anyio.sleep(0.001)
            finally:
                endless.set()

        return StreamingResponse(pieces())

    @upstream.get("/short")
    async def short(request: Request) -> str:
        return "short"

    async with serving(upstream) as there:
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(base_url=there.address, limits=limits, timeout=PATIENCE) as http:

            @routes.get("/")
            async def handler(request: Request) -> None:
                try:
                    if whole:
                        await http.get("/endless")
                    else:
                        async with http.stream("GET", "/endless") as response:
                            async for _ in response.aiter_bytes():
                                pass
                finally:
                    ended.set()

            async with serving(routes) as here:
                async with await here.connect() as client:
                    await client.send(GET)
                    await within(begun)
                    left_at = time.monotonic()
                await within(ended)
                await within(endless)
                assert time.monotonic() - left_at < 1
                assert (await http.get("/short")).text == "short"
    assert loud_lines(caplog) == []


# redis-py.


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real Redis of this module's own."""
    program = path_of("redis-server")
    directory = str(tmp_path_factory.mktemp("redis"))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", directory]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while not _is_redis(port, process.pid):
                assert process.poll() is None, "redis-server ended, perhaps because somebody else has been given its port meanwhile"
                assert time.monotonic() < deadline, "redis-server doesn't answer"
                time.sleep(0.01)
            yield port
        finally:
            process.kill()


def _is_redis(port: int, pid: int) -> bool:
    """Whether the Redis with this process id listens there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            sock.sendall(b"INFO server\r\n")
            return b"process_id:%d\r\n" % pid in sock.recv(65536)
    except OSError:
        return False


class Dam:
    """A pipe to Redis. Once `closed`, it lets only the first bytes of the next reply through, until it is `open`."""

    def __init__(self, port: int) -> None:
        self.closed = False
        self.holding = anyio.Event()
        self.open = anyio.Event()
        self._port = port

    async def carry(self, client: SocketStream) -> None:
        """One connection."""
        async with client, await anyio.connect_tcp("127.0.0.1", self._port) as server:
            with suppress(anyio.BrokenResourceError):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._up, client, server)
                    await self._down(server, client)
                    tasks.cancel_scope.cancel()

    async def _up(self, client: SocketStream, server: SocketStream) -> None:
        async for data in client:
            await server.send(data)
        await server.send_eof()

    async def _down(self, server: SocketStream, client: SocketStream) -> None:
        async for data in server:
            with suppress(anyio.BrokenResourceError):  # gone, but Redis doesn't know yet
                if self.closed and not self.holding.is_set():
                    await client.send(data[:3])
                    self.holding.set()
                    await self.open.wait()
                    data = data[3:]
                await client.send(data)


@asynccontextmanager
async def redis_client(port: int) -> AsyncIterator["redis.asyncio.Redis"]:
    """A client whose pool has one connection."""
    pool = redis.asyncio.BlockingConnectionPool(host="127.0.0.1", port=port, max_connections=1, timeout=PATIENCE)
    async with redis.asyncio.Redis.from_pool(pool) as client:
        yield client


@ASYNCIO_LOOPS
async def test_redis_in_mid_reply(redis_port: int, caplog: pytest.LogCaptureFixture) -> None:
    """A connection on which half a reply has come isn't used again: the next command gets its own answer."""
    sleeper, routes, dam = Sleeper(), Router(), Dam(redis_port)
    first, second = f"first-{secrets.token_hex(8)}", f"second-{secrets.token_hex(8)}"
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, dam.carry)
        async with redis_client(listener.extra(SocketAttribute.local_port)) as client:

            @routes.get("/")
            async def handler(request: Request) -> None:
                try:
                    await client.get(first)
                finally:
                    sleeper.ended.set()

            await client.set(first, "the first answer", ex=60)
            await client.set(second, "the second answer", ex=60)
            dam.closed = True
            async with serving(routes) as served:
                async with await served.connect() as visitor:
                    await visitor.send(GET)
                    await within(dam.holding)
                await within(sleeper.ended)
                dam.open.set()
                assert await client.get(second) == b"the second answer"
                assert await client.get(first) == b"the first answer"
        tasks.cancel_scope.cancel()
    assert loud_lines(caplog) == []


@ASYNCIO_LOOPS
async def test_redis_in_a_blocking_command(redis_port: int, caplog: pytest.LogCaptureFixture) -> None:
    """A command that waits in Redis ends with its request, and takes nothing that comes later."""
    routes, ended, queue = Router(), anyio.Event(), f"queue-{secrets.token_hex(8)}"
    async with redis_client(redis_port) as client:
        onlooker = redis.Redis(port=redis_port)

        @routes.get("/")
        async def handler(request: Request) -> None:
            try:
                await client.blpop([queue], timeout=30)
            finally:
                ended.set()

        def blocked() -> object:
            return onlooker.info("clients")["blocked_clients"]

        async with serving(routes) as served:
            async with await served.connect() as visitor:
                await visitor.send(GET)
                await eventually(lambda: blocked() == 1)
            await within(ended)
            await eventually(lambda: blocked() == 0)
            onlooker.rpush(queue, "for somebody else")
            assert await client.lpop(queue) == b"for somebody else"
        onlooker.close()
    assert loud_lines(caplog) == []


@ASYNCIO_LOOPS
async def test_redis_in_a_transaction(redis_port: int, caplog: pytest.LogCaptureFixture) -> None:
    """A transaction that isn't executed yet is dropped, and the next one on the same connection has nothing of it."""
    routes, sleeper, key, other = Router(), Sleeper(), f"key-{secrets.token_hex(8)}", f"other-{secrets.token_hex(8)}"
    async with redis_client(redis_port) as client, redis_client(redis_port) as onlooker:

        @routes.get("/")
        async def handler(request: Request) -> None:
            async with client.pipeline(transaction=True) as pipe:
                await pipe.watch(key)
                pipe.multi()  # type: ignore[no-untyped-call]
                pipe.set(key, "half", ex=60)
                await sleeper.sleep()
                pipe.set(other, "done", ex=60)
                await pipe.execute()

        async with serving(routes) as served:
            async with await served.connect() as visitor:
                await visitor.send(GET)
                await within(sleeper.begun)
            await within(sleeper.ended)
            await onlooker.set(key, "changed", ex=60)  # so that a watch that is left would fail the next transaction
            async with client.pipeline(transaction=True) as pipe:
                pipe.get(key)
                pipe.get(other)
                assert await pipe.execute() == [b"changed", None]
    assert loud_lines(caplog) == []


# Files.


async def test_a_file_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that a handler has open when its client leaves is closed, with what was written to it."""
    routes, sleeper, path = Router(), Sleeper(), tmp_path / "notes"
    files: list[anyio.AsyncFile[str]] = []

    @routes.get("/")
    async def handler(request: Request) -> None:
        async with await anyio.open_file(path, "w") as file:
            files.append(file)
            await file.write("written")
            await sleeper.sleep()

    async with serving(routes) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await within(sleeper.begun)
        await eventually(lambda: files[0].wrapped.closed)
    assert path.read_text() == "written"
    assert loud_lines(caplog) == []
