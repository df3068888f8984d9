"""Clients whose machine or network is gone, without FIN or RST: a link is cut between two network namespaces."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from microasgi_server import Config, Limits
from microasgi_server.transports.peers import peer_options, why_lost

from microasgi import Router, WebSocket
from tests.conftest import LOOPS
from tests.harness import access_lines, eventually, loud_lines, serving
from tests.needs import path_of
from tests.websocket_client import HANDSHAKE

pytestmark = pytest.mark.anyio

NAME = f"dead{os.getpid() % 100_000}"
NET = 4 * (os.getpid() % 64)  # a network of its own for each run of the tests on this machine, as far as there are
HERE, THERE = f"198.51.100.{NET + 1}", f"198.51.100.{NET + 2}"  # TEST-NET-2, RFC 5737

CLIENT = """
import socket, sys
waiting, told, streaming = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(3)]
for sock, path in (waiting, "/wait"), (told, "/tell"), (streaming, "/stream"):
    sock.sendall(f"GET {path} HTTP/1.1\\r\\nHost: test\\r\\n\\r\\n".encode())
while True:
    streaming.recv(65536)
"""


TALKER = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.sendall(sys.argv[3].encode().decode("unicode_escape").encode())
while data := sock.recv(65536):
    for _ in range(data.count(b"\\x89\\x00")):
        sock.sendall(b"\\x8a\\x80" + bytes(4) + b"\\x81\\x80" + bytes(4))
"""
"""It answers each ping, and then says something empty."""


def ip(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([path_of("ip"), *arguments], capture_output=True, text=True, check=check, timeout=10)


@pytest.fixture
def link() -> Iterator[None]:
    """A network namespace at the other end of a link."""
    path_of("ip")
    try:
        if ip("netns", "add", NAME, check=False).returncode:
            pytest.skip("needs to make network namespaces; run it as root, on Linux")
        ip("link", "add", NAME, "type", "veth", "peer", "name", "peer", "netns", NAME)
        ip("address", "add", f"{HERE}/30", "dev", NAME)
        ip("link", "set", NAME, "up")
        ip("-n", NAME, "address", "add", f"{THERE}/30", "dev", "peer")
        ip("-n", NAME, "link", "set", "peer", "up")
        yield
    finally:
        ip("link", "del", NAME, check=False)
        ip("netns", "del", NAME, check=False)


@contextmanager
def client(port: int, program: str = CLIENT, *arguments: str) -> Iterator[None]:
    """The client, at the other end, as long as the block lasts."""
    command = [path_of("ip"), "netns", "exec", NAME, sys.executable, "-c", program, HERE, str(port), *arguments]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"]], ids=["asyncio"])
async def test_a_client_that_vanishes_is_noticed(link: None, caplog: pytest.LogCaptureFixture) -> None:
    """Whether the handler waits, has sent a little, or is blocked in sending: who no longer answers is gone in the stated time."""
    cut = anyio.Event()
    begun: set[str] = set()
    ended: dict[str, float] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        begun.add(path)
        try:
            await handle(path, receive, send)
        finally:
            ended[path] = anyio.current_time()

    async def handle(path: str, receive: Any, send: Any) -> None:
        if path != "/wait":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
        if path == "/stream":
            while True:
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        if path == "/tell":
            await cut.wait()
            await send({"type": "http.response.body", "body": b"second", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    limits = Limits(keepalive=(1, 1, 1), look=0.1)
    async with serving(app, host=HERE, lifespan="off", timeout_write=2, limits=limits) as served:
        with client(served.port):
            await eventually(lambda: len(begun) == 3)
            ip("-n", NAME, "link", "set", "peer", "down")
            cut.set()
            began = anyio.current_time()
            await eventually(lambda: len(ended) == 3, within=10)
    assert all(1 < at - began < 6 for at in ended.values()), (began, ended)
    lines = {line.split('"')[1].split()[1]: line for line in access_lines(caplog)}
    assert lines["/wait"].endswith("client left: the client no longer answers")
    assert lines["/tell"].endswith("client left: the client no longer answers")
    assert " 499 " in lines["/stream"]
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"]], ids=["asyncio"])
@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        (Limits(ping=0.3, pong=0.6, look=0.1), 2),
        pytest.param(Limits(), 45, marks=[pytest.mark.slow, pytest.mark.timeout(180)]),
    ],
    ids=["soon", "by default"],
)
async def test_a_websockets_client_that_vanishes_is_noticed(
    link: None, limits: Limits, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """It has answered pings until its link was cut; then its handler, which waits for something else, is cancelled in the stated time."""
    answered: list[float] = []
    ended: list[float] = []
    routes = Router()

    @routes.websocket("/chat")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        async for _ in ws:
            answered.append(anyio.current_time())
            if len(answered) == 2:
                break
        await ws.send_text("")  # nothing is in hand
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(anyio.current_time())

    async with serving(routes, host=HERE, limits=limits) as served:
        with client(served.port, TALKER, repr(HANDSHAKE)[2:-1]):
            await eventually(lambda: len(answered) == 2, within=60)
            ip("-n", NAME, "link", "set", "peer", "down")
            began = anyio.current_time()
            await eventually(lambda: ended, within=60)
    assert limits.pong < ended[0] - began < seconds
    assert access_lines(caplog)[0].endswith(f" 1006 cancelled: no answer to a ping for {limits.pong:g} s")
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_what_the_system_is_asked_for(anyio_backend: str) -> None:
    """A timeout that is switched off asks for nothing, and one too large for the system for the most it takes."""
    assert len(peer_options(Config())) > len(peer_options(Config(timeout_write=float("inf"), limits=Limits(keepalive=(0, 0, 0)))))
    assert max(value for _, _, value in peer_options(Config(timeout_write=1e9))) == 2**31 - 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_why_a_connection_is_over(anyio_backend: str) -> None:
    """A client that is silent is told from one that has reset its connection, for the log."""
    why = [why_lost(error) for error in (None, ConnectionResetError(104, "reset"), TimeoutError(110, "timed out"))]
    assert why == ["the connection was closed", "the connection was reset (RST)", "the client no longer answers"]
