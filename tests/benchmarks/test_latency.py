"""The part `latency` and its clients: whose clock counts, what a prober must not hide, what comes of a failure. No number is checked."""

import json
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from benchmarks.clients.messages import body, is_whole
from benchmarks.clients.remote import Remote, remote
from benchmarks.errors import BenchmarkError
from benchmarks.limits import SPARE, allowed_connections
from benchmarks.measuring import Run
from benchmarks.parts.latency import _evaluated
from benchmarks.parts.latency_tables import MANY, MOST, claim, figures, page, tables, targets
from benchmarks.processes import open_files
from benchmarks.running import Running, get, running
from benchmarks.stacks import Stack
from tests.benchmarks.harness import Told, listening, within

STACK = Stack("microasgi", "microasgi", "asyncio")


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(STACK) as server:
        yield server


@pytest.fixture
def crowd(server: Running) -> Iterator[Remote]:
    with remote("crowd", server.port) as crowd:
        yield crowd


def _noted(server: Running) -> Any:
    return json.loads(get(server.port, "/notes"))


@pytest.mark.parametrize("reset", [False, True])
def test_a_handler_ends_after_the_moment_at_which_its_client_left(server: Running, crowd: Remote, reset: bool) -> None:
    """Client and handler share a clock: each handler began before its client's close, and ended after it."""
    prefix = f"left-{reset}"
    crowd.ask("arrive", count=70, prefix=prefix)  # more than come at once
    tokens = [f"{prefix}-{number}" for number in range(70)]
    assert within(5, lambda: all(token in _noted(server)["notes"] for token in tokens))
    moments = crowd.ask("leave", reset=reset)
    assert len(moments) == 70
    assert within(5, lambda: all(_noted(server)["notes"][token]["ended"] for token in tokens))
    notes = _noted(server)["notes"]
    for token, moment in zip(tokens, moments, strict=True):
        assert notes[token]["began"] < moment < notes[token]["ended"]
        assert notes[token]["how"] == "stopped"


def test_a_crowd_stays_until_it_is_told_to_leave(server: Running, crowd: Remote) -> None:
    """Connections are kept open when they have had their answer, and are gone after `leave`."""
    before = open_files(server.pid)
    crowd.ask("open", count=100)
    assert crowd.ask("kept") == 100
    assert open_files(server.pid) >= before + 99
    crowd.ask("leave")
    assert within(5, lambda: open_files(server.pid) <= before + 1)


def test_a_crowd_that_nobody_answers_says_so() -> None:
    """A server that hangs up instead of answering is an error, told in one sentence."""
    with socket.create_server(("127.0.0.1", 0)) as listener, remote("crowd", listener.getsockname()[1]) as crowd:
        crowd.tell("open", count=1)
        listener.accept()[0].close()
        with pytest.raises(BenchmarkError, match=r"^open: (the server closed a connection instead of answering|.*reset by peer)"):
            crowd.answer()


def test_a_client_that_dies_is_reported_with_its_last_words() -> None:
    """A remote client that ends is an error with the last line of what it said, not a hang."""
    with remote("crowd", "no-port") as crowd, pytest.raises(BenchmarkError, match=r"a client has died: ValueError: .*no-port"):
        crowd.ask("open", count=1)


def test_a_client_ends_with_its_block() -> None:
    """A remote client is gone when its block has ended, be it in the middle of something."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with remote("crowd", listener.getsockname()[1]) as crowd:
            crowd.tell("open", count=1)
            sock, _ = listener.accept()
        with sock:
            sock.settimeout(5)
            while data := sock.recv(1000):
                assert data.startswith(b"GET / ")


def test_requests_that_fall_due_in_a_standstill_are_all_late() -> None:
    """A prober counts from when a request was due: a standstill of 100 ms is dozens of late requests, not one."""

    enough = threading.Event()

    def serve(sock: socket.socket) -> None:
        for number in count(1):
            if not sock.recv(1000):
                return
            if number == 3:
                time.sleep(0.1)
            if number == 100:
                enough.set()
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    with listening(serve) as port, remote("prober", port) as prober:
        prober.tell("probe")
        assert enough.wait(10)
        prober.tell("stop")
        late = [answered - due for due, answered, _ in prober.answer() if answered - due > 0.02]
    assert len(late) >= 30
    assert max(late) >= 0.09


def test_what_is_kept_of_a_departure() -> None:
    """Stopping counts from each client's own close; a probe belongs to `calm` if it was answered before the first close."""
    probes = [(0.9, 0.902, 0.0), (0.95, 1.01, 0.001), (1.05, 1.06, 0.002), (5.0, 5.5, 0.003)]
    kept = _evaluated([1.0, 1.2, 1.3], [1.1, 1.25, None], probes)
    assert kept["stopping"] == [50, 100]
    assert kept["closing"] == 300
    assert kept["lasted"] == 250
    assert kept["calm"] == [2, 2, 2]
    assert kept["during"] == [10, 60, 60]  # the last one was due long after
    assert kept["lag"] == 2


def test_many_samples_are_kept_at_every_hundredth() -> None:
    """Of 10,000 handlers 101 times are kept, the shortest and the longest among them."""
    kept = _evaluated([0.0] * 10_000, [number / 1000 for number in range(10_000)], [])["stopping"]
    assert len(kept) == 101
    assert (kept[0], kept[50], kept[99], kept[100]) == (0, 5000, 9899, 9999)


def _data(**changes: Any) -> Any:
    sample = {
        "stack": "ours", "how": "FIN", "left": 0, "stopping": [1.0, 2.0], "closing": 1.0, "lasted": 3.0,
        "calm": [1, 1, 1], "during": [2, 2, 2], "lag": 0.1, "arriving": 1,
    }  # fmt: skip
    samples = [{**sample, "count": count, **changes.pop("sample", {})} for count in (MANY, MOST)]
    data = {
        "stacks": ["ours", "theirs"],
        "ours": ["ours"],
        "deadline": 20,
        "least": 0.1,
        "at_most": {"modest": MANY},
        "samples": samples,
        "logs": {},
        "failures": {},
    }
    return {**data, **changes}


def test_the_targets_are_met_by_handlers_that_end_in_time() -> None:
    """Every handler in time and an empty log meet the targets."""
    assert [target.met for target in targets(_data())] == [True, True, True]


@pytest.mark.parametrize(
    "changes",
    [
        {"sample": {"left": 1}},
        {"sample": {"stopping": [60.0, 3000.0]}},
        {"logs": {"ours": "ERROR: it broke"}},
        {"failures": {"ours": "it broke"}},
    ],
)
def test_a_target_is_missed_by_whoever_is_late_never_ends_or_complains(changes: dict[str, Any]) -> None:
    """One handler that never ends, a late one, a line in the log or a failure: a target is missed."""
    assert not all(target.met for target in targets(_data(**changes)))


def test_a_stack_that_failed_is_shown_as_failed() -> None:
    """A stack without samples is a row of `failed`, with its reason in the last table; one that wasn't tried is shown as that."""
    data = _data(stacks=["ours", "theirs", "modest"], failures={"theirs": "it broke"})
    shown = tables(data)
    for table in shown[:3]:
        assert [list(row) for row in table.rows[1:]] == [["theirs", "failed", "failed"], ["modest", "failed", "not tried"]]
    assert ["theirs", "it broke"] in [list(row) for row in shown[-1].rows]
    assert set(figures(data)) == {"latency"}


def test_the_page_tells_a_missed_target() -> None:
    """Its page has every stack's times, and says which targets were missed, and by what."""
    assert "| ours | 1.0 / 2.0 / 2.0 | 1.0 / 2.0 / 2.0 |" in page(_data())
    assert page(_data()).endswith("Targets met: 3 of 3.")
    assert claim(_data()).endswith(": ours 2 ms.")
    assert "Targets met: 2 of 3. Missed: ours: errors in the log: some, wanted none." in page(_data(logs={"ours": "ERROR"}))


def test_when_a_response_is_whole() -> None:
    """A response is whole at its length, or at the last chunk, not before."""
    for whole in (
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ):
        assert is_whole(whole)
        assert not any(is_whole(whole[:size]) for size in range(len(whole)))
    assert body(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello") == b"hello"


@pytest.mark.parametrize("head", [b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"])
def test_what_is_no_answer(head: bytes) -> None:
    """Anything but a 200 whose end can be seen is refused."""
    with pytest.raises(BenchmarkError, match="not the expected response"):
        is_whole(head)


def test_connections_beyond_the_limit_are_reported() -> None:
    """Where fewer open files are allowed than wanted, as many connections are made as may be, and the remedy is told."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    child = os.fork()  # a hard limit can't be raised again
    if not child:
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, 1000))
        told = Told()
        as_told = allowed_connections(Run(told), 5000) == 1000 - SPARE and "ulimit -n 5300" in told.absent[0][1]
        os._exit(0 if as_told and resource.getrlimit(resource.RLIMIT_NOFILE) == (1000, 1000) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
