"""A thousand clients leave in the middle of their queries: the database is at rest a second later, and the pool is whole.

On our own server, and on uvicorn with a FastAPI app inside `CancelOnDisconnect`; by requests and by WebSockets. The suite does it with a
hundred clients for each driver, and with fewer for some by WebSockets; `pytest -m slow tests/foreign/test_thousand.py -s` does it with a
thousand, and prints what it measured.
"""

import json
import math
import os
import re
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import anyio
import pytest
from anyio import to_thread

from microasgi import Request, Router, WebSocket
from tests.foreign.reports import SIZE, Reports
from tests.harness import Client, Departure, Response, loud_lines, serving
from tests.postgres import STACKS, Postgres
from tests.websocket_client import HANDSHAKE, goodbye

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).parents[2]

SOON = 1.0
"""Seconds after the last departure within which the database must be at rest. On a busy machine the best of a few attempts counts."""

ATTEMPTS = 3

FORGOTTEN = 4.0
"""Seconds after which a query that still runs has been forgotten: it would take 30, and the grace is 5. In any attempt, unless …"""

GIVEN_UP = 2.0
"""… its handler went on for so many seconds after the departure: so long SQLAlchemy lets asyncpg cancel a query and close. Behind that
asyncpg drops its request to cancel, even unsent, and PostgreSQL doesn't notice that the connection is closed. The machine had no time, and
the attempt doesn't count. (At a load of 18 requests took 0.2 s mostly, and up to 3.9 s.) Who is told wrongly ends at once.
"""

AT_ONCE = 100
"""Clients that are connected at the same time: as many as there are connections in the pool are in their queries, the others wait."""

SLOW = [pytest.mark.slow, pytest.mark.timeout(900)]
HOW_MANY = [100, pytest.param(1000, marks=SLOW)]

FEW = 2 * SIZE
"""The least with which each connection of the pool is used again."""

TALKING = [("sqlalchemy-asyncpg", FEW), ("psycopg_pool", FEW), *(pytest.param(stack, 1000, marks=SLOW) for stack in STACKS)]
"""Stacks, and how many clients leave each by WebSockets."""

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@dataclass(frozen=True)
class Figures:
    """What was measured.

    rest: seconds from the last departure until the database was at rest.
    """

    rest: float
    text: str


class Overloaded(Exception):
    """A driver has given up."""


Way = Departure | Literal["goodbye"]


@dataclass
class Crowd:
    """Clients of one service, each with one request.

    prefix: of the service's paths.
    name: of its connections, in pg_stat_activity.
    ended_at: when each report's handler has ended.
    overloaded: whether a driver may have given up in an attempt, which it says in the log.
    """

    port: int
    prefix: str
    postgres: Postgres
    name: str
    ended_at: Callable[[], Awaitable[dict[int, float]]]
    overloaded: bool = False

    def connect(self) -> Client:
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.setblocking(False)
        return Client(sock)

    async def get(self, path: str) -> Response:
        """One request, on a connection of its own."""
        async with self.connect() as client:
            await client.send(f"GET {self.prefix}{path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
            return await client.response()

    ways: ClassVar[Sequence[Way]] = ("FIN", "RST", "half-close")

    def request(self, number: int) -> bytes:
        """What a client asks for that wants this report."""
        return f"GET {self.prefix}/report/{number} HTTP/1.1\r\nHost: test\r\n\r\n".encode()

    async def leave(self, client: Client, way: Way) -> None:
        """Have one leave."""
        assert way != "goodbye"
        client.leave(way)

    async def leave_in_mid_query(self, how_many: int) -> Figures:
        """Have so many clients come, and each leave when it is in its query; check that nothing is left."""
        clients: list[Client] = []
        left_at: dict[int, float] = {}
        seconds: dict[int, float] = {}  # from each departure to the end of the query
        began = time.monotonic()
        try:
            with anyio.fail_after(10 + how_many / 4):
                while len(left_at) < how_many:
                    while len(clients) < min(how_many, len(left_at) + AT_ONCE):
                        client = self.connect()
                        await client.send(self.request(len(clients)))
                        clients.append(client)
                    running = await self._numbers(self.postgres.active)
                    for number in left_at.keys() - running - seconds.keys():
                        seconds[number] = time.monotonic() - left_at[number]
                    for number in await self._numbers(self.postgres.asleep) - left_at.keys():
                        left_at[number] = time.monotonic()
                        await self.leave(clients[number], self.ways[number % 3])
                    await anyio.sleep(0.005)
            last = time.monotonic()
            await self._be_quiet(left_at)
            rest = time.monotonic() - last
            self.overloaded = self.overloaded or await self._longest(left_at) >= GIVEN_UP
        finally:
            for client in clients:
                client.sock.close()
        return Figures(
            rest,
            f"{how_many} left in {last - began:.1f} s; from a departure to the end of its query "
            f"{statistics.median(seconds.values()) * 1000:.0f} ms (median), {max(seconds.values()) * 1000:.0f} ms (longest); "
            f"all at rest {rest * 1000:.0f} ms after the last",
        )

    async def _numbers(self, ask: Callable[[str], list[str]]) -> set[int]:
        """The numbers of the reports of which so is told: asked in a thread, since here the server and the drivers have their loop."""
        return {int(number) for query in await to_thread.run_sync(ask, self.name) for number in re.findall(r"/\* (\d+) \*/", query)}

    async def _be_quiet(self, left_at: dict[int, float]) -> None:
        """:raises Overloaded: it isn't, and only where drivers have given up"""
        try:
            await self.postgres.wait_quiet(self.name, FORGOTTEN)
        except AssertionError as error:
            ended_at = await self.ended_at()
            took = {number: ended_at.get(number, math.inf) - left_at[number] for number in await self._numbers(self.postgres.active)}
            if not took or min(took.values()) < GIVEN_UP:
                raise AssertionError(f"{error}; seconds from a departure to the handler's end: {took}") from None
            self.postgres.ask(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s and state = 'active'", self.name
            )
            raise Overloaded(f"a driver gave up: {error}") from None

    async def _longest(self, left_at: dict[int, float]) -> float:
        """Wait until all handlers have ended: seconds from a departure to that, at most."""
        with anyio.fail_after(30):
            while True:
                ended_at = await self.ended_at()
                took = [ended_at.get(number, 0.0) - moment for number, moment in left_at.items()]
                if min(took) >= 0:
                    return max(took)
                await anyio.sleep(0.02)

    async def soon_at_rest(self, how_many: int) -> tuple[int, str]:
        """Do it until the database is at rest in time, or give up. Returns how many have left, and the figures of the last attempt."""
        seen: list[str] = []
        for attempt in range(1, ATTEMPTS + 1):
            try:
                figures = await self.leave_in_mid_query(how_many)
            except Overloaded as error:
                self.overloaded = True
                seen.append(str(error))
                continue
            if figures.rest < SOON:
                return attempt * how_many, figures.text
            seen.append(figures.text)
        raise AssertionError(f"not once in {ATTEMPTS} attempts at rest within {SOON} s: {seen}")

    async def are_served_together(self) -> None:
        """As many requests as the pool has connections are served at the same time."""
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await self.get("/together")).status)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for _ in range(SIZE):
                    tasks.start_soon(ask)
        assert statuses == SIZE * [200]
        await self.postgres.wait_quiet(self.name, SOON)


class TalkingCrowd(Crowd):
    """The same, but each opens a WebSocket, whose handler has nothing of the client's in hand."""

    ways = ("FIN", "RST", "goodbye")

    def request(self, number: int) -> bytes:
        return HANDSHAKE.replace(b"/chat?room=1", f"{self.prefix}/report/{number}".encode())

    async def leave(self, client: Client, way: Way) -> None:
        if way == "goodbye":
            await client.send(goodbye(1001))
        elif way == "FIN":
            await client.receive()  # the handshake's answer: to close with bytes unread is to reset
            client.leave("FIN")
        else:
            client.leave(way)


@pytest.mark.parametrize("how_many", HOW_MANY)
@pytest.mark.parametrize("stack", list(STACKS))
async def test_on_our_server(postgres: Postgres, stack: str, how_many: int, caplog: pytest.LogCaptureFixture, record_property: Any) -> None:
    """Clients leave in mid-query: a second later nothing runs or is open, the pool serves its full size, and the log is calm."""
    crowd = await leaving_us(Crowd, postgres, stack, how_many, record_property)
    assert crowd.overloaded or loud_lines(caplog) == []


@pytest.mark.parametrize(("stack", "how_many"), TALKING)
async def test_by_websockets_on_our_server(
    postgres: Postgres, stack: str, how_many: int, caplog: pytest.LogCaptureFixture, record_property: Any
) -> None:
    """The same, where the handler is a WebSocket's; some clients say goodbye."""
    crowd = await leaving_us(TalkingCrowd, postgres, stack, how_many, record_property)
    assert crowd.overloaded or loud_lines(caplog) == []


async def leaving_us(crowds: type[Crowd], postgres: Postgres, stack: str, how_many: int, record_property: Any) -> Crowd:
    """Have a crowd of clients leave our server."""
    name = f"test_{secrets.token_hex(6)}"
    try:
        async with STACKS[stack](postgres.port, SIZE, name) as pool:
            reports, routes = Reports(pool), Router()

            @routes.get("/report/{number:int}")
            async def report(request: Request) -> None:
                await reports.report(request.path_params["number"])

            @routes.websocket("/report/{number:int}")
            async def talked_report(ws: WebSocket) -> None:
                await ws.accept()
                await reports.report(ws.path_params["number"])

            @routes.get("/together")
            async def together(request: Request) -> str:
                await reports.together()
                return "all here"

            async def ended_at() -> dict[int, float]:
                return reports.ended_at

            async with serving(routes) as served:
                crowd = crowds(served.port, "", postgres, name, ended_at)
                departures, figures = await crowd.soon_at_rest(how_many)
                await crowd.are_served_together()
            assert (reports.began, reports.ended, reports.cancelled) == (departures, departures, departures)
    finally:
        postgres.terminate(name)
    record_property("figures", figures)
    print(f"\n{stack}: {figures}")
    return crowd


# On uvicorn.


@dataclass
class Uvicorn:
    """One that runs `tests.foreign.reports`.

    name: what its pools call themselves, behind their stacks.
    loop: its event loop.
    log: all it has printed.
    """

    port: int
    name: str
    loop: str
    log: Path


@pytest.fixture(scope="module", params=LOOPS)
def uvicorn(request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Uvicorn]:
    """A process of its own, killed at the end."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    name, log = secrets.token_hex(6), tmp_path_factory.mktemp("uvicorn") / "log"
    command = [sys.executable, "-m", "uvicorn", "tests.foreign.reports:app", "--port", str(port), "--loop", request.param]
    environment = {**os.environ, "TEST_SECRET": name, "TEST_POSTGRES": str(postgres.port)}
    with log.open("wb") as output, subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output) as process:
        try:
            deadline = time.monotonic() + 30
            while _secret_at(port) != name:  # somebody else may have been given the port meanwhile
                assert process.poll() is None, f"uvicorn ended:\n{log.read_text()}"
                assert time.monotonic() < deadline, f"uvicorn doesn't answer:\n{log.read_text()}"
                time.sleep(0.05)
            yield Uvicorn(port, name, request.param, log)
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        finally:
            process.kill()


def _secret_at(port: int) -> object:
    """What whoever listens at `port` says it is; None if nobody does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(b"GET /secret HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := sock.recv(4096):
                answer += data
        return json.loads(answer.rpartition(b"\r\n\r\n")[2])
    except (OSError, ValueError):
        return None


@pytest.mark.parametrize("how_many", HOW_MANY)
@pytest.mark.parametrize("stack", list(STACKS))
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # of the clients
async def test_on_uvicorn(uvicorn: Uvicorn, postgres: Postgres, stack: str, how_many: int, record_property: Any) -> None:
    """The same with a FastAPI app on uvicorn, inside CancelOnDisconnect."""
    await leaving_uvicorn(Crowd, uvicorn, postgres, stack, how_many, record_property)


@pytest.mark.parametrize(("stack", "how_many"), TALKING)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_by_websockets_on_uvicorn(uvicorn: Uvicorn, postgres: Postgres, stack: str, how_many: int, record_property: Any) -> None:
    """The same again, by FastAPI's WebSockets."""
    await leaving_uvicorn(TalkingCrowd, uvicorn, postgres, stack, how_many, record_property)


async def leaving_uvicorn(
    crowds: type[Crowd], uvicorn: Uvicorn, postgres: Postgres, stack: str, how_many: int, record_property: Any
) -> None:
    """Have a crowd of clients leave uvicorn."""

    async def ended_at() -> dict[int, float]:
        return {int(number): moment for number, moment in json.loads((await crowd.get("/ended")).body).items()}

    crowd = crowds(uvicorn.port, f"/{stack}", postgres, f"{stack}-{uvicorn.name}", ended_at)
    heard = uvicorn.log.stat().st_size
    before = json.loads((await crowd.get("/counts")).body)
    departures, figures = await crowd.soon_at_rest(how_many)
    await crowd.are_served_together()
    after = json.loads((await crowd.get("/counts")).body)
    assert [now - then for now, then in zip(after, before, strict=True)] == [departures, departures, departures]
    loud = [line for line in uvicorn.log.read_bytes()[heard:].decode().splitlines() if not line.startswith("INFO:")]
    assert crowd.overloaded or loud == []
    record_property("figures", figures)
    print(f"\n{stack} on uvicorn with {uvicorn.loop}: {figures}")
