"""The part `memory` and its clients: what counts as a leak, and clients that don't keep up. No number is checked."""

import os
import socket
import threading
from typing import Any

import pytest

from benchmarks.clients.remote import remote
from benchmarks.clients.slow import MEGABYTE, read_slowly, send_unread
from benchmarks.errors import BenchmarkError
from benchmarks.parts.memory import Bench, _check_ends
from benchmarks.parts.memory_tables import LEAK, claim, figures, leaked, page, tables, targets
from benchmarks.running import running
from benchmarks.stacks import Stack
from tests.benchmarks.harness import listening

OURS = Stack("microasgi", "microasgi", "asyncio")


def test_visitors_all_leave_a_stopped_handler() -> None:
    """As many handlers begin and are stopped as clients visit, and the check notices if it had to be one more."""
    with running(OURS) as server, remote("crowd", server.port) as crowd:
        crowd.ask("visits", count=520)  # more than a wave
        crowd.ask("requests", count=100)
        _check_ends(server.port, 520)
        with pytest.raises(BenchmarkError, match="of 521 handlers"):
            _check_ends(server.port, 521)
        assert server.said() == ""


def test_an_upload_that_is_read_goes_off_whole() -> None:
    """Of a body that the server reads, all is sent and counted, and not a byte more."""
    received = bytearray()

    def serve(sock: socket.socket) -> None:
        while data := sock.recv(1 << 20):
            received.extend(data)

    with listening(serve) as port:
        _, passed = send_unread(port, os.getpid(), 3, 1.0)
    head, _, sent = received.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % (3 * MEGABYTE) in head
    assert len(sent) == passed == 3 * MEGABYTE


def _wait(done: threading.Event) -> None:
    assert done.wait(10)


def test_an_upload_that_nobody_reads_stays_with_the_client() -> None:
    """Of a body that nobody reads, only so much is sent as the system's buffers hold."""
    done = threading.Event()
    with listening(lambda sock: _wait(done)) as port:
        _, passed = send_unread(port, os.getpid(), 250, 0.2)
        done.set()
    assert passed < 100 * MEGABYTE


def test_memory_that_grows_for_a_slow_reader_is_seen() -> None:
    """What the server's process takes while the client hardly reads is reported, and what the client has read."""
    kept = []

    def serve(sock: socket.socket) -> None:
        sock.recv(1000)
        kept.append(b"x" * 30 * MEGABYTE)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + kept[0])

    with listening(serve) as port:
        grown, passed = read_slowly(port, os.getpid(), 30, 0.3)
    assert grown > 20 * MEGABYTE
    assert 0 < passed < MEGABYTE


def test_a_reader_wants_a_body() -> None:
    """An answer other than 200 is an error, not a slow stream."""
    with listening(lambda sock: sock.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")) as port, pytest.raises(BenchmarkError, match="404"):
        read_slowly(port, os.getpid(), 1, 0.1)


def test_growth_counts_after_the_warm_up() -> None:
    """What comes with the first fifth isn't a leak; what comes later is shared by all that came later."""
    assert leaked([(0, 1000), (20, 9000), (40, 9000), (100, 9800)]) == 10
    assert leaked([(0, 1000), (20, 9000)]) is None


class _Failure(BenchmarkError):
    """That of a test."""


def test_a_stack_that_fails_leaves_the_others_alone() -> None:
    """A failure is noted under the stack's name, and the stack takes no part any more."""
    failures: dict[str, str] = {}
    bench = Bench(0, failures)
    with bench.failing(OURS):
        raise _Failure("it broke")
    assert failures == {OURS.name: "it broke"}
    assert bench.all("open", count=1) == {}


def _data(**changes: Any) -> Any:
    curve = [[0, 30 * MEGABYTE], [20_000, 40 * MEGABYTE], [100_000, 40 * MEGABYTE]]
    data = {
        "quick": False, "stacks": ["ours", "theirs"], "pairs": [["ours", "theirs"]], "connections": 100, "megabytes": 250,
        "idle": {"ours": 3000, "theirs": 6000}, "read": {"ours": [1, 2], "theirs": [1, 2]}, "send": {"ours": [1, 2]},
        "requests": {"ours": curve}, "visits": {"ours": curve}, "leaking": ["ours"], "failures": {}, "logs": {},
    }  # fmt: skip
    return {**data, **changes}


def test_the_targets_are_met_by_who_keeps_nothing() -> None:
    """Small idle connections, flat curves and an empty log meet the targets."""
    assert [target.met for target in targets(_data())] == [True] * 4


@pytest.mark.parametrize(
    "changes",
    [
        {"visits": {"ours": [[0, 0], [20_000, MEGABYTE], [100_000, MEGABYTE + 80_000 * (LEAK + 1)]]}},
        {"idle": {"ours": 6001, "theirs": 6000}},
        {"idle": {"theirs": 6000}},
        {"visits": {}},
        {"failures": {"ours": "it broke"}},
        {"logs": {"ours": "ERROR: it broke"}},
    ],
)
def test_a_target_is_missed_by_who_keeps_more_or_fails(changes: dict[str, Any]) -> None:
    """A leak, a larger connection, a failure or a line in the log: a target is missed."""
    assert not all(target.met for target in targets(_data(**changes)))


def test_the_page_tells_what_is_left_behind() -> None:
    """The page has connections, slow clients and leaks of every stack, with failures where they belong."""
    told = page(_data(requests={}))
    assert "| ours | 2.9 |" in told
    assert claim(_data(idle={"ours": 3000})).endswith(": 2.9 on ours (failed for theirs).")
    assert "in bytes for each after the first fifth: ours failed and 0.0." in told
    assert "Targets met: 3 of 4. Missed: ours: growth over the requests, bytes each: failed, wanted at most 16." in told


def test_what_failed_is_shown_as_failed() -> None:
    """Where a result is missing the cell says so, and the reason is told."""
    data = _data(failures={"theirs": "it broke"})
    shown = tables(data)
    assert next(row for row in shown[1].rows if row[0] == "theirs")[2:] == ["failed", "failed"]
    assert list(shown[-1].rows) == [["theirs", "it broke"]]
    assert set(figures(data)) == {"memory"}
