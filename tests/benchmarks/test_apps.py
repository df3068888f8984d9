"""The benchmarks' apps: the same service in every framework."""

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.apps import work
from benchmarks.running import Running, running
from benchmarks.stacks import FRAMEWORKS, SERVERS, Stack

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the benchmarks read /proc, which only Linux has")


def _stack(framework: str) -> Stack:
    """A framework on its own server, or on ours if it has none."""
    own = FRAMEWORKS[framework].server or (framework if framework in SERVERS else "microasgi")
    return Stack(framework, own, "asyncio")


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Running]]:
    """Every framework's app, each in a process of its own: Django and Sanic don't allow two in one."""
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        started = dict(pool.map(lambda name: (name, stack.enter_context(running(_stack(name)))), FRAMEWORKS))
        yield started
        for server in started.values():
            os.killpg(server.pid, signal.SIGKILL)  # all at once; one by one and gracefully takes seconds


def _ask(server: Running, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, target, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_app_answers_alike(servers: dict[str, Running], framework: str) -> None:
    """Each route has the same answer in every framework, and takes a body of 8 MB."""
    server, large = servers[framework], bytes(8_000_000)
    assert _ask(server, "GET", "/users/me/items/3") == (200, b"me 3")
    assert _ask(server, "GET", "/once") == (200, b"once")
    assert _ask(server, "POST", "/read", large) == (200, b"8000000")
    assert _ask(server, "POST", "/receive", large) == (200, b"8000000")
    assert _ask(server, "GET", "/stream/2") == (200, work.PIECE * work.PIECES * 2)
    assert _ask(server, "GET", "/slot") == (200, b"done")
    assert _ask(server, "GET", "/query")[0] == 500  # no database is here, but the route is
    assert _ask(server, "GET", "/nowhere")[0] == 404
    status, body = _ask(server, "GET", "/json")
    assert (status, json.loads(body)) == (200, work.MESSAGE)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_app_notes_what_its_handlers_do(servers: dict[str, Running], framework: str) -> None:
    """A handler's token leads to its note: how it ended, and for a stream when it last made something."""
    server = servers[framework]
    assert _ask(server, "GET", "/wait?token=got&seconds=0.01") == (200, b"waited")
    assert _ask(server, "POST", "/wait?token=posted&seconds=0.01", b"never looked at") == (200, b"waited")
    assert _ask(server, "GET", "/slot?token=worked") == (200, b"done")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(b"GET /ticks?token=ticked HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        received = b""
        while received.count(b"tick\n") < 2:
            received += sock.recv(65536)
        notes = json.loads(_ask(server, "GET", "/notes")[1])["notes"]
    assert {token: note["how"] for token, note in notes.items()} == {
        "got": "finished",
        "posted": "finished",
        "worked": "finished",
        "ticked": "running",
    }
    assert notes["got"]["ended"] - notes["got"]["began"] >= 0.01
    assert notes["worked"]["worked"] >= work.SLOT_SECONDS
    assert notes["ticked"]["ticked"] >= notes["ticked"]["began"]
