"""The load and what is counted meanwhile: right, or an error. No number is checked."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import stacks
from benchmarks.errors import BenchmarkError
from benchmarks.load import Workload, find_wrk, parse, put_load
from benchmarks.processes import cpu_seconds, resident_bytes, tree
from benchmarks.running import running
from benchmarks.sampling import Sample, Samples, plain, take_heat, take_turn
from benchmarks.stacks import Stack
from tests.benchmarks.harness import Told, listening
from tests.needs import needs_program

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the benchmarks read /proc, which only Linux has")

WRK = shutil.which("wrk")
GENERATORS = [pytest.param(WRK, marks=needs_program("wrk"), id="wrk"), pytest.param(None, id="built-in")]

BARE = Stack("bare", "microasgi", "asyncio")
HELLO = Workload("hello", connections=4)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


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


REPORT = b"""Requests/sec:   8629.63
Transfer/sec:      1.37MB

{"requests": 26755, "seconds": 3.1, "received": 4445962, "refused": 0, "broken": 267}
"""


def test_a_generators_report_is_read() -> None:
    """Requests, time and bytes come from a report's last line; connections that a server closed between two responses are no failure."""
    result = parse(REPORT, 1.55)
    assert (result.requests, result.seconds, result.received, result.busy) == (26755, 3.1, 4445962, 0.5)


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (REPORT.replace(b'"refused": 0', b'"refused": 7'), "7 of 26755 answers were no success"),
        (REPORT.replace(b'"broken": 267', b'"broken": 268'), "268 connections failed, beside 26755 answers"),
        (b"unable to connect to 127.0.0.1:1 Connection refused\n", "can't be read: 'unable to connect"),
        (b"[1]", "can't be read"),
        (b"", "can't be read: ''"),
    ],
)
def test_failures_in_a_generators_report_are_errors(report: bytes, why: str) -> None:
    """A load with failures in it measures nothing: it is an error that says what failed."""
    with pytest.raises(BenchmarkError, match=why):
        parse(report, 1.0)


@pytest.mark.parametrize("wrk", GENERATORS)
def test_every_generator_asks_what_the_workload_says(wrk: str | None) -> None:
    """Method, target, headers and body are the workload's, and the body is whole."""
    requests = []

    def serve(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            while not data.endswith(b"\r\n\r\n" + b"x" * 10_000) and (more := sock.recv(65536)):
                data += more
            requests.append(data)
            sock.sendall(OK)

    workload = Workload(
        "POST", "/read?a=b", connections=1, headers=(("Accept", 'text/html;q=0.9, "x"'), ("Cookie", "a=1; b=2")), body=10_000
    )
    with listening(serve) as port:
        assert put_load(port, workload, 0.3, wrk).requests > 0
    head, body = requests[0].split(b"\r\n\r\n")
    first, *headers = head.decode().split("\r\n")
    assert first == "POST /read?a=b HTTP/1.1"
    assert {'Accept: text/html;q=0.9, "x"', "Cookie: a=1; b=2", "Content-Length: 10000"} <= set(headers)
    assert body == b"x" * 10_000


@pytest.mark.parametrize("wrk", GENERATORS)
def test_a_new_connection_is_taken_where_one_ends(wrk: str | None) -> None:
    """A server may close a connection between two responses: every generator goes on with another."""
    accepted = 0

    def serve(sock: socket.socket) -> None:
        nonlocal accepted
        accepted += 1
        for _ in range(200):
            if sock.recv(65536):
                sock.sendall(OK)

    with listening(serve) as port:
        result = put_load(port, replace(HELLO, connections=1), 0.5, wrk)
    assert accepted > 1
    assert result.requests >= 200 * (accepted - 2)


def test_a_wrong_answer_stops_the_load() -> None:
    """A response that isn't a 200 is an error with its words, not a number."""
    with (
        listening(lambda sock: sock.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")) as port,
        pytest.raises(BenchmarkError, match="500 Internal Server Error"),
    ):
        put_load(port, HELLO, 0.3, None)


def test_a_missing_wrk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without wrk, what can't be measured is named, with the command that gets it."""
    told = Told()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_wrk(told) is None
    assert [remedy for _, remedy in told.absent] == ["apt-get install wrk"]


def test_a_workload_that_fails_is_a_result_and_the_others_go_on() -> None:
    """What a server refuses is told in its sample; the workload behind it is measured all the same, and the server is gone at the end."""
    before = set(tree(os.getpid()))
    refused, measured = take_turn(BARE, 0, [replace(HELLO, name="refused", target="/nothing"), HELLO], 0.3, WRK)
    assert (refused.workload, refused.requests) == ("refused", 0)
    assert "no success" in refused.failure or "404" in refused.failure
    assert (measured.workload, measured.failure) == ("hello", "")
    assert measured.requests > 0
    assert measured.cpu > 0
    assert set(tree(os.getpid())) <= before


def test_a_heat_measures_all_that_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stacks side by side each have one sample, of the load there and back; one that doesn't start has failed, and only that one."""
    monkeypatch.setitem(stacks.FRAMEWORKS, "starlette", replace(stacks.FRAMEWORKS["starlette"], app="starlette:no_such_app"))
    heat = [BARE, Stack("starlette", "microasgi", "asyncio"), Stack("microasgi", "microasgi", "asyncio")]
    first, broken, last = take_heat(heat, 3, [HELLO], 0.4, WRK)
    assert [sample.stack.partition("/")[0] for sample in (first, broken, last)] == ["bare", "starlette", "microasgi"]
    assert "no_such_app" in broken.failure
    for sample in (first, last):
        assert (sample.failure, sample.round) == ("", 3)
        assert sample.requests > 0
        assert sample.seconds > 0.39


def test_a_stack_that_does_not_start_has_failed_at_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """All its workloads tell why, in the server's own words."""
    monkeypatch.setitem(stacks.FRAMEWORKS, "bare", replace(stacks.FRAMEWORKS["bare"], app="bare:no_such_app"))
    samples = take_turn(BARE, 0, [HELLO, replace(HELLO, name="other")], 0.3, None)
    assert [sample.workload for sample in samples] == ["hello", "other"]
    assert all("no_such_app" in sample.failure for sample in samples)


def test_a_ratio_needs_both_in_the_same_round() -> None:
    """Ratios are taken within rounds; one in which either failed has none, and a failure in every round is a failure."""
    fast, slow = "bare/microasgi/asyncio", "bare/uvicorn-h11/asyncio"
    samples = Samples(
        {
            "samples": plain(
                [
                    Sample(fast, "hello", 0, 200, 1.0, 1, 1.0, 0.5),
                    Sample(slow, "hello", 0, 100, 1.0, 1, 1.0, 0.95),
                    Sample(slow, "hello", 1, 100, 1.0, 1, 1.0, 0.95),
                    Sample(fast, "hello", 1, failure="it was\nill"),
                    Sample(fast, "hello", 2, 300, 1.0, 1, 1.0, 0.5),
                    Sample(fast, "JSON", 0, failure="it was\nill"),
                ]
            )
        }
    )
    assert samples.ratios(fast, slow, "hello", lambda sample: sample.rate) == [2.0]
    assert samples.median(fast, "hello", lambda sample: sample.rate) == 250
    assert (samples.failed(fast, "hello"), samples.failed(fast, "JSON"), samples.failed(slow, "JSON")) == (False, True, False)
    assert (samples.saturated(fast, "hello"), samples.saturated(slow, "hello")) == (False, True)
    assert samples.failures() == [
        ("bare ASGI on microasgi, asyncio", "hello", "it was ill"),
        ("bare ASGI on microasgi, asyncio", "JSON", "it was ill"),
    ]


@pytest.mark.parametrize("wrk", GENERATORS)
def test_both_generators_count(wrk: str | None) -> None:
    """Either generator gets answers of a real server, and tells how many in how long and how much of it was its own work."""
    with running(BARE) as server:
        result = put_load(server.port, HELLO, 0.4, wrk)
    assert result.requests > 10
    assert result.received > 100 * result.requests
    assert 0.3 < result.seconds < 10
    assert result.busy > 0
