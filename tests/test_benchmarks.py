"""The benchmarks work: they start what they measure, notice what isn't theirs, and leave nothing behind. No number is checked."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from benchmarks.apps import protected, unprotected
from benchmarks.contestants import Contestant, ours, running
from benchmarks.errors import BenchmarkError
from benchmarks.load import parse_wrk, put_load, response_size
from benchmarks.parts import PARTS, Part, idle_connections
from benchmarks.processes import cpu_seconds, resident_bytes, tree
from tests.harness import GET, serving

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the benchmarks read /proc, which only Linux has"),
]

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_part_prints_its_ratios_and_leaves_no_process(part: Part) -> None:
    """`python -m benchmarks PART --quick` prints the circumstances, every contestant and every ratio, and its servers are gone."""
    before = set(tree(os.getpid()))
    command = [sys.executable, "-m", "benchmarks", part.name, "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=55)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Python \d+\.\d+\.\d+, Linux \S+ on \S+, \d+ cores", done.stdout)
    assert re.search(r"microasgi \S+, anyio \S+, h11 \S+, uvloop \S+, trio \S+, uvicorn \S+, hypercorn \S+", done.stdout)
    for contestant in part.contestants:
        assert re.search(rf"^  {re.escape(contestant.name)} +-?\d+\.\d {part.unit}  \(", done.stdout, re.MULTILINE), contestant.name
    for pair in part.pairs:
        line = f"  {pair.first.name} / {pair.second.name}: "
        assert re.search(
            rf"^{re.escape(line)}\S+ \(\S+ to \S+\), target at most {pair.target:.2f}: (met|MISSED)$", done.stdout, re.MULTILINE
        )
    assert set(tree(os.getpid())) <= before


def test_an_unknown_part_is_refused() -> None:
    """A part that doesn't exist is a wrong command, and the message says so."""
    command = [sys.executable, "-m", "benchmarks", "helo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=55)
    assert done.returncode == 2
    assert "there is no part 'helo'" in done.stderr


def test_a_server_runs_as_long_as_its_block() -> None:
    """A contestant has answered before its block begins, and is gone when it has ended."""
    with running(ours("hello", "asyncio")) as server:
        assert tree(server.pid)
        with idle_connections(server.port, 3):
            assert resident_bytes(server.pid) > 1_000_000
    assert tree(server.pid) == []


def test_a_server_that_cannot_start_is_told_with_its_own_words() -> None:
    """A contestant that ends at once is an error that shows what it said."""
    broken = Contestant("a broken one", "microasgi", "microasgi serve benchmarks.apps:no_such_app --port {port}")
    with pytest.raises(BenchmarkError, match=r"a broken one doesn't answer .* no attribute 'no_such_app'"), running(broken):
        pass


def test_a_stranger_on_the_port_is_not_measured() -> None:
    """A server whose answer isn't this run's own token is refused: it may have been there before, or be something else."""
    stranger = Contestant("a stranger", "microasgi", "http.server {port} --bind 127.0.0.1 --directory benchmarks")
    with pytest.raises(BenchmarkError, match=r"a stranger doesn't answer on port .* as it should"), running(stranger):
        pass


@pytest.fixture
def hog() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that idles, with a child that burns CPU time and holds memory, and that says when it has."""
    burn = "data = bytearray(b'x' * 50_000_000)\nwhile time.process_time() < 0.5: pass\n"
    child = f"import sys, time\n{burn}print('burnt', flush=True)\nsys.stdin.read()"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == b"burnt\n"
        yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


def test_children_count(hog: "subprocess.Popen[bytes]") -> None:
    """CPU time and memory are those of a process and of all that descend from it."""
    assert len(tree(hog.pid)) == 2
    assert 0.5 <= cpu_seconds(hog.pid) < 5
    assert resident_bytes(hog.pid) > 50_000_000
    assert cpu_seconds(2**22 + 1) == 0  # no such process


async def test_both_routers_of_the_protection_part_answer_alike() -> None:
    """The router without the promise answers as the one with it, and only the latter has subscribed to the disconnect."""
    for app in (protected, unprotected):
        async with serving(app) as served, await served.connect() as client:
            await client.send(GET)
            response = await client.response()
        assert (response.status, response.body) == (200, b"hello")


WRK = """Running 3s test @ http://127.0.0.1:8000/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.71ms  592.19us  12.90ms   91.12%
    Req/Sec     8.68k   590.54     9.33k    83.87%
  26755 requests in 3.10s, 4.24MB read
{failures}Requests/sec:   8629.63
Transfer/sec:      1.37MB
"""


def test_wrks_report_is_read() -> None:
    """The number of requests and the time come from wrk's report."""
    result = parse_wrk(WRK.format(failures=""))
    assert (result.requests, result.seconds) == (26755, 3.10)


@pytest.mark.parametrize("failure", ["Non-2xx or 3xx responses: 7", "Socket errors: connect 0, read 3, write 0, timeout 0"])
def test_failures_in_wrks_report_are_errors(failure: str) -> None:
    """A load with failures in it measures nothing: it is an error, with wrk's words."""
    with pytest.raises(BenchmarkError, match=failure):
        parse_wrk(WRK.format(failures=f"  {failure}\n"))
    with pytest.raises(BenchmarkError, match="can't be read"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_and_the_built_in_generator_both_count() -> None:
    """Either generator gets answers, and tells how many in how long."""
    with running(ours("hello", "asyncio")) as server:
        for wrk in (shutil.which("wrk"), None):
            result = put_load(server.port, 4, 1.0, wrk)
            assert result.requests > 10
            assert 0.9 < result.seconds < 10


def test_the_built_in_generator_takes_a_new_connection_where_one_ends() -> None:
    """A server may close a connection between two responses: the generator goes on with another."""
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    accepted = 0

    def serve(listener: socket.socket) -> None:
        nonlocal accepted
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:
                return
            accepted += 1
            with sock, suppress(ConnectionError):
                for _ in range(3):
                    if sock.recv(65536):
                        sock.sendall(response)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        result = put_load(listener.getsockname()[1], 1, 0.3, None)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert accepted > 1
    assert result.requests >= 3 * (accepted - 2)


def test_a_wrong_answer_stops_the_load() -> None:
    """A response that isn't a 200 with a length is an error, not a number."""
    assert response_size(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel") == 43
    assert response_size(b"HTTP/1.1 200 OK\r\ncontent-len") is None
    for data in (b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        with pytest.raises(BenchmarkError, match="not the expected response"):
            response_size(data)


def test_a_connection_that_the_server_closes_is_not_idle() -> None:
    """Memory of connections that were closed meanwhile means nothing: that is an error."""
    impatient = Contestant("impatient", "microasgi", "microasgi serve benchmarks.apps:hello --timeout-keep-alive 0.1 --port {port}")
    with running(impatient) as server, ExitStack() as stack:
        sockets = stack.enter_context(idle_connections(server.port, 2))
        assert [sock.recv(1) for sock in sockets] == [b"", b""]
        with pytest.raises(BenchmarkError, match="closed connections that were to stay idle"):
            stack.close()
