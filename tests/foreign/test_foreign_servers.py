"""Our Router, and our `CancelOnDisconnect` around other frameworks' apps, on other people's servers.

Each server is a program of its own, as its users would start it. Which departures it reports to its apps is in `SERVERS`: what it
doesn't tell, nobody can act on.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest

from tests.harness import PATIENCE, Client, Departure, Response
from tests.needs import demand_package

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).parents[2]

APPS = ("router", "starlette", "fastapi")

SOON = 1.0
"""Seconds within which a handler must have stopped after its client left."""


@dataclass(frozen=True)
class Kind:
    """A foreign server.

    command: how it is started.
    blind: the departures that it does not tell its apps of, by their names in `DEPARTURES`.
    eager: whether it sends `100 Continue` before the app has asked for the body.
    """

    command: str
    blind: frozenset[str]
    eager: bool = False


UNREAD = frozenset({"200 KB unread", "4 of 8 MB unread"})
"""Every one of them stops reading when enough of a body waits for the app, and a socket that isn't read tells nothing."""

BEHIND = frozenset({"pipelined request", "stray byte"})
"""These stop reading at the first byte behind the request; uvicorn with httptools only at a whole request."""

SERVERS = {
    "uvicorn-h11": Kind("uvicorn {app} --port {port} --lifespan off --http h11", UNREAD),
    "uvicorn-httptools": Kind("uvicorn {app} --port {port} --lifespan off --http httptools", UNREAD | {"pipelined request"}),
    "hypercorn-asyncio": Kind("hypercorn {app} --bind 127.0.0.1:{port} --workers 0 --worker-class asyncio", UNREAD | BEHIND, eager=True),
    "hypercorn-trio": Kind("hypercorn {app} --bind 127.0.0.1:{port} --workers 0 --worker-class trio", UNREAD | BEHIND, eager=True),
    "granian": Kind("granian {app} --interface asgi --port {port} --workers 1", UNREAD | BEHIND),
}


@dataclass
class ForeignServer:
    """One that runs."""

    kind: Kind
    port: int

    def connect(self) -> Client:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        sock.setblocking(False)
        return Client(sock)

    async def ask(self, request: bytes) -> Response:
        """One request on a connection of its own."""
        async with self.connect() as client:
            await client.send(request)
            with anyio.fail_after(PATIENCE):
                return await client.response()

    async def notes(self) -> dict[str, list[str]]:
        """What the handlers have noted, by token."""
        answer = await self.ask(head("GET", "/notes"))
        return json.loads(answer.body)  # type: ignore[no-any-return]

    async def until_noted(self, condition: Callable[[dict[str, list[str]]], bool], within: float = PATIENCE) -> dict[str, list[str]]:
        """Look until the notes are so, or the time is over; the notes as they are then."""
        deadline = time.monotonic() + within
        while True:
            notes = await self.notes()
            if condition(notes) or time.monotonic() > deadline:
                return notes
            await anyio.sleep(0.01)


def head(method: str, target: str, *fields: str) -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *fields, "", ""]).encode()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _secret_at(port: int) -> object:
    """What whoever listens at `port` says it is; None if nobody does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            sock.sendall(head("GET", "/secret", "Connection: close"))
            answer = b""
            while data := sock.recv(4096):
                answer += data
        return json.loads(answer.rpartition(b"\r\n\r\n")[2])
    except (OSError, ValueError):
        return None


@pytest.fixture(scope="module", params=list(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignServer]:
    """A foreign server, as a process group of its own: some have worker processes, which must not outlive the test."""
    kind, port, secret = SERVERS[request.param], _free_port(), secrets.token_hex()
    for package in (kind.command.split()[0], "fastapi"):
        demand_package(package)
    log = tmp_path_factory.mktemp("servers") / f"{request.param}.log"
    command = [sys.executable, "-m", *kind.command.format(app="tests.foreign.apps:app", port=port).split()]
    environment = {**os.environ, "TEST_SECRET": secret}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output, start_new_session=True) as process,
    ):
        try:
            deadline = time.monotonic() + 30
            while _secret_at(port) != secret:  # somebody else may have been given the port meanwhile
                assert process.poll() is None, f"{request.param} ended:\n{log.read_text()}"
                assert time.monotonic() < deadline, f"{request.param} doesn't answer:\n{log.read_text()}"
                time.sleep(0.05)
            yield ForeignServer(kind, port)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def anyio_backend() -> str:
    """Only the client runs here, and one loop is enough for it."""
    return "asyncio"


@pytest.fixture
def token() -> str:
    """What a handler makes its notes under."""
    return secrets.token_hex(8)


@pytest.mark.parametrize("app", APPS)
async def test_a_request_is_answered(server: ForeignServer, app: str) -> None:
    """A request is routed and answered as on our own server, below the prefix that is in its root_path."""
    answer = await server.ask(head("GET", f"/{app}/hello/you"))
    assert (answer.status, json.loads(answer.body), answer.complete) == (200, {"hello": "you", "root": f"/{app}"}, True)
    assert (await server.ask(head("GET", f"/{app}/nowhere"))).status == 404


@pytest.mark.parametrize("app", APPS)
async def test_a_body_arrives_whole(server: ForeignServer, app: str) -> None:
    """Nothing of a body is lost or reordered on its way through the pump, though it is larger than the pump reads ahead."""
    body = b"".join(b"%7d\n" % number for number in range(40_000))
    async with server.connect() as client:
        await client.send(head("POST", f"/{app}/echo", f"Content-Length: {len(body)}"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.send, body)
            with anyio.fail_after(PATIENCE):
                answer = await client.response()
    assert (answer.status, answer.body == body) == (200, True)


@pytest.mark.parametrize("app", APPS)
async def test_a_split_body_arrives_whole(server: ForeignServer, app: str) -> None:
    """A small body that comes in pieces, each chunk in several, is the same body."""
    async with server.connect() as client:
        await client.send(head("POST", f"/{app}/echo", "Transfer-Encoding: chunked"))
        for piece in (b"5\r\nhel", b"lo\r\n1\r\n", b" \r\n", b"5\r\nworld\r\n0\r\n", b"\r\n"):
            await client.send(piece)
            await server.notes()  # a round trip, so that the server has had the time to see the piece alone
        with anyio.fail_after(PATIENCE):
            answer = await client.response()
    assert (answer.status, answer.body) == (200, b"hello world")


@pytest.mark.parametrize("app", APPS)
async def test_a_body_is_read_in_pieces(server: ForeignServer, app: str) -> None:
    """A handler that reads a large body piece by piece gets every byte of it."""
    body = b"x" * 1_000_000
    async with server.connect() as client:
        await client.send(head("POST", f"/{app}/count", f"Content-Length: {len(body)}") + body)
        with anyio.fail_after(PATIENCE):
            answer = await client.response()
    assert answer.body == b"1000000"


@pytest.mark.parametrize("app", APPS)
async def test_a_response_is_streamed(server: ForeignServer, app: str) -> None:
    """A body that is made piece by piece arrives whole, and the connection serves the next request."""
    async with server.connect() as client:
        for _ in range(2):
            await client.send(head("GET", f"/{app}/stream"))
            with anyio.fail_after(PATIENCE):
                answer = await client.response()
            assert (answer.status, answer.body, answer.complete) == (200, b"one two three", True)


@pytest.mark.parametrize("app", APPS)
async def test_the_continue_is_left_to_the_app(server: ForeignServer, app: str, token: str) -> None:
    """The pump doesn't ask for a body whose client waits for `100 Continue` before the handler does."""
    async with server.connect() as client:
        await client.send(head("POST", f"/{app}/late?token={token}", "Content-Length: 5", "Expect: 100-continue"))
        notes = await server.until_noted(lambda notes: token in notes)
        assert notes[token] == ["began"]
        with anyio.move_on_after(0.1) as limit:
            early = await client.receive()
        assert limit.cancelled_caught is not server.kind.eager
        if server.kind.eager:
            assert early.startswith(b"HTTP/1.1 100")
        await server.ask(head("GET", f"/go/{token}"))
        if not server.kind.eager:
            with anyio.fail_after(PATIENCE):
                assert (await client.receive()).startswith(b"HTTP/1.1 100")
        await client.send(b"hello")
        with anyio.fail_after(PATIENCE):
            answer = await client.response()
    assert (answer.status, answer.body) == (200, b"hello")


DEPARTURES: dict[str, tuple[Callable[[str], bytes], Departure]] = {
    "FIN": (lambda target: head("GET", target), "FIN"),
    "RST": (lambda target: head("GET", target), "RST"),
    "half-close": (lambda target: head("GET", target), "half-close"),
    "middle of the body": (lambda target: head("POST", target, "Content-Length: 100") + b"x" * 50, "FIN"),
    "pipelined request": (lambda target: head("GET", target) + head("GET", target), "FIN"),
    "stray byte": (lambda target: head("GET", target) + b"G", "FIN"),
    "200 KB unread": (lambda target: head("POST", target, "Content-Length: 200000") + b"x" * 200_000, "FIN"),
    "4 of 8 MB unread": (lambda target: head("POST", target, "Content-Length: 8000000") + b"x" * 4_000_000, "FIN"),
}
"""What the client sends, and how it goes then."""


async def test_the_handler_stops_when_its_client_leaves(server: ForeignServer) -> None:
    """Every departure that the server tells of stops the handler within a second, and only those do."""
    clients: dict[str, tuple[Client, Departure]] = {}
    async with AsyncExitStack() as stack:
        async with anyio.create_task_group() as tasks:
            for app in APPS:
                for name, (request, how) in DEPARTURES.items():
                    client = await stack.enter_async_context(server.connect())
                    clients[f"{app}/{name}"] = client, how
                    tasks.start_soon(client.send, request(f"/{app}/sleep?token={quote(f'{app}/{name}')}"))
            notes = await server.until_noted(lambda notes: clients.keys() <= notes.keys())
            assert {token: notes.get(token) for token in clients} == {token: ["began"] for token in clients}
            tasks.cancel_scope.cancel()  # nobody takes the 4 MB
        for client, how in clients.values():
            client.leave(how)
        expected = {token: ["began"] if token.partition("/")[2] in server.kind.blind else ["began", "stopped"] for token in clients}
        # Wait the whole second for the blind ones: a server that has learnt to see should be told apart.
        await anyio.sleep(SOON)
        notes = await server.notes()
        assert {token: notes[token] for token in clients} == expected


@pytest.mark.parametrize("app", APPS)
async def test_a_stream_stops_when_its_client_leaves(server: ForeignServer, app: str, token: str) -> None:
    """A response without an end ends when its client leaves in the middle of it."""
    async with server.connect() as client:
        await client.send(head("GET", f"/{app}/ticks?token={token}"))
        received = b""
        with anyio.fail_after(PATIENCE):
            while received.count(b"tick") < 3:
                received += await client.receive()
    notes = await server.until_noted(lambda notes: notes[token] != ["began"], SOON)
    assert notes[token] == ["began", "stopped"]


@pytest.mark.parametrize("app", APPS)
async def test_nothing_is_cancelled_after_completion(server: ForeignServer, app: str, token: str) -> None:
    """A client that leaves with the whole response in its hand doesn't stop what the response left for the background."""
    async with server.connect() as client:
        await client.send(head("GET", f"/{app}/background?token={token}"))
        with anyio.fail_after(PATIENCE):
            answer = await client.response()
        assert answer.complete
        await server.until_noted(lambda notes: token in notes)
    await server.notes()  # a round trip, so that the server has had the time to see it leave
    await server.ask(head("GET", f"/go/{token}"))
    notes = await server.until_noted(lambda notes: len(notes[token]) > 1)
    assert notes[token] == ["began", "ended"]


async def test_a_route_may_finish(server: ForeignServer, token: str) -> None:
    """A route with on_disconnect='finish' learns that its client left, and goes on to its end."""
    async with server.connect() as client:
        await client.send(head("POST", f"/router/finish?token={token}", "Content-Length: 0"))
        await server.until_noted(lambda notes: token in notes)
    notes = await server.until_noted(lambda notes: "ended" in notes[token] or "stopped" in notes[token])
    assert notes[token] == ["waiting", "left", "began", "ended"]


async def test_looking_for_the_client_eats_nothing(server: ForeignServer) -> None:
    """`is_disconnected()` leaves the body to who reads it afterwards."""
    answer = await server.ask(head("POST", "/router/look", "Content-Length: 5") + b"hello")
    assert json.loads(answer.body) == {"looks": [False] * 5, "body": "hello"}
