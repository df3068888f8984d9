"""`goodput` counts rightly: its clients come and leave as planned, and its sums and sentences are true."""

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from benchmarks.clients.patience import Arrival, Clients, Outcome, Phase, Plan, arrivals, judge, send
from benchmarks.errors import BenchmarkError
from benchmarks.measuring import Data
from benchmarks.parts.goodput import STACKS
from benchmarks.parts.goodput_accounts import account, doubts, per_second, recovery
from benchmarks.parts.goodput_figure import figure
from benchmarks.parts.goodput_tables import OURS, claim, page, tables, targets
from benchmarks.postgres import running_postgres

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone"


def test_the_same_clients_come_to_every_stack_and_in_every_variant() -> None:
    """The same seed gives the same times and first patiences, whether clients come again or not."""
    once, twice = (arrivals(10, 80, (2, 4), 300, visits) for visits in (1, 2))
    assert [(each.at, each.patiences[0]) for each in once] == [(each.at, each.patiences[0]) for each in twice]
    assert {len(each.patiences) for each in once} == {1}
    assert {len(each.patiences) for each in twice} == {2}
    assert once != arrivals(10, 80, (2, 4), 300, 1, seed=2)


def test_more_clients_come_in_the_burst() -> None:
    """Clients come in order, as many a second as the rate of that second says, give or take chance; their patience is a human's."""
    found = arrivals(100, 1, (20, 40), 300)
    times = [each.at for each in found]
    assert times == sorted(times)
    inside = sum(20 <= moment < 40 for moment in times)
    assert abs(inside - 20 * 300) < 5 * (20 * 300) ** 0.5
    assert abs(len(times) - inside - 80) < 5 * 80**0.5
    assert all(0.2 <= each.patiences[0] <= 0.8 for each in found)


@pytest.mark.parametrize(
    ("received", "ended", "phase"),
    [
        (b"", False, Phase.ASKING),
        (b"HTTP/1.1 200 OK\r\nx-done: done\r\n\r\n", False, Phase.ASKING),
        (ANSWER[:-1], False, Phase.ASKING),
        (ANSWER, False, Phase.ANSWERED),
        (ANSWER, True, Phase.ANSWERED),
        (b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\n"done"\r\n', False, Phase.ANSWERED),
        (ANSWER[:-1], True, Phase.FAILED),
        (b"", True, Phase.FAILED),
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\ndone", False, Phase.FAILED),
    ],
)
def test_an_answer_is_a_whole_200(received: bytes, ended: bool, phase: Phase) -> None:
    """Only a 200 with the whole body is an answer; however it is framed."""
    assert judge(received, ended) is phase


class Server:
    """Answers clients whose number is even, drops number 1 at once, and lets the others wait until they leave."""

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.left: list[str] = []
        """The tokens of those who closed their connections without an answer."""
        self._listener = listener

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=[connection]).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            target = connection.recv(65536).split()[1].decode()
            token = parse_qs(urlsplit(target).query)["token"][0]
            client = int(token.partition(".")[0])
            if client % 2 == 0:
                connection.sendall(ANSWER)
            elif client != 1:
                assert connection.recv(1) == b""
                self.left.append(token)


@contextmanager
def server() -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run = Server(listener)
        thread = threading.Thread(target=run.serve)
        thread.start()
        try:
            yield run
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def test_clients_are_answered_or_leave_when_their_patience_ends() -> None:
    """A client that is not answered leaves by closing when its patience ends, and asks once more then, if that was planned."""
    crowd = [Arrival(0.0, (0.2,)), Arrival(0.0, (0.2, 0.2)), Arrival(0.01, (0.3, 0.1)), Arrival(0.02, (0.1, 0.05))]
    with server() as there:
        result = Clients(Plan([there.port], "/slot", 0.0, crowd)).run()
    found = {visit.token: visit for visit in result.visits}
    assert {token: visit.phase for token, visit in found.items()} == {
        "0.0": "answered",
        "1.0": "failed",
        "2.0": "answered",
        "3.0": "left",
        "3.1": "left",
    }
    assert there.left == ["3.0", "3.1"]
    for visit in found.values():
        assert visit.due <= visit.began <= visit.ended
    for token, patience in ("3.0", 0.1), ("3.1", 0.05):
        assert found[token].ended - found[token].began >= patience
    assert found["3.1"].due == pytest.approx(found["3.0"].began + 0.1)
    assert found["3.0"].due == pytest.approx(result.zero[0] + 0.02)


def test_clients_whom_nobody_lets_in_fail() -> None:
    """A refused connection is a failed visit, not an error of the clients' process; each server's clients have their own beginning."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    seconds: list[None] = []
    result = send(Plan([port, port], "/slot", 0.1, [Arrival(0.0, (0.2,))]), lambda: seconds.append(None))
    assert [(visit.server, visit.phase) for visit in result.visits] == [(0, "failed"), (1, "failed")]
    assert result.zero[1] - result.zero[0] == pytest.approx(0.1)
    assert seconds


def test_a_clients_process_that_fails_is_an_error() -> None:
    """What the clients' process can't do is told as an error, not as an empty result."""
    with pytest.raises(BenchmarkError, match="exit code 1"):
        send(Plan([70_000], "/slot", 0.0, [Arrival(0.0, (0.2,))]), lambda: None)


def visit(token: str, phase: Phase, ended: float) -> Outcome:
    """One to the first server, that came at time 100."""
    return Outcome(0, token, 100.0, 100.0, ended, phase.value)


def note(ended: float | None, how: str, worked: float | None = None) -> dict[str, Any]:
    """A handler's, that began at time 100."""
    return {"began": 100.0, "ended": ended, "how": how, **({} if worked is None else {"worked": worked})}


def test_work_is_for_nobody_if_its_client_had_no_answer() -> None:
    """Slot time counts for nobody if the client left before, while, or just after it was worked, and only within the seconds measured."""
    visits = [
        visit("0.0", Phase.ANSWERED, 100.5),
        visit("1.0", Phase.LEFT, 100.4),  # its handler worked on, to the end
        visit("2.0", Phase.LEFT, 100.4),  # its handler was stopped at work
        visit("3.0", Phase.LEFT, 100.4),  # its handler had ended, but the answer was still on its way
        visit("4.0", Phase.LEFT, 100.4),  # its handler was stopped before it had a slot
        visit("5.0", Phase.LEFT, 100.4),  # its handler waits to this day
        visit("6.0", Phase.LEFT, 100.4),  # its handler worked when all was over
        visit("7.0", Phase.LEFT, 100.4),
        visit("7.1", Phase.ANSWERED, 101.2),  # at the second attempt
        visit("8.0", Phase.FAILED, 100.1),  # never reached its handler
    ]
    notes: Mapping[str, Mapping[str, Any]] = {
        "0.0": note(100.5, "finished", 0.1),
        "1.0": note(101.5, "finished", 0.1),
        "2.0": note(100.4, "stopped", 0.05),
        "3.0": note(100.39, "finished", 0.1),
        "4.0": note(100.4, "stopped"),
        "5.0": note(None, "running"),
        "6.0": note(102.1, "finished", 0.1),
        "7.0": note(100.4, "stopped", 0.02),
        "7.1": note(101.2, "finished", 0.1),
    }
    result = account(visits, notes, zero=100.0, seconds=2)
    assert result["answered"] == [1, 1]
    assert result["nobody"] == [pytest.approx(0.17), pytest.approx(0.1)]
    assert result["used"] == pytest.approx(0.5, abs=0.06)  # 0.47, to one place
    assert (result["served"], result["failed"], result["queued"]) == (2, 1, 2)
    assert result["work"] == {"mean": 0.1, "p99": 0.1}


def test_seconds_begin_at_their_number() -> None:
    """A moment belongs to the second that it is in; what is before or after all seconds isn't counted."""
    assert per_second([-0.1, 0.0, 0.999, 1.0, 2.5, 3.0], 3) == [2, 1, 1]


@pytest.mark.parametrize(
    ("answered", "since"),
    [
        ([80, 80, 80, 80], 2),
        ([0, 0, 80, 80], 2),
        ([80, 80, 39, 40], 3),
        ([80, 80, 80, 39], None),
    ],
)
def test_who_has_recovered_stays_so(answered: list[int], since: int | None) -> None:
    """A stack has recovered when each later second has answers for half of the clients, and not before the burst has ended."""
    assert recovery(answered, {"burst": [0.5, 1.5], "rate": 80.0}) == since


def measured(*medians: Sequence[int], lag: float = 0.001, work: float = 0.1) -> Data:
    """Data in which the stacks have answered that many a second, in one variant after the other."""
    return {
        "seconds": 4,
        "burst": [1.0, 2.0],
        "after": 2,
        "rate": 80.0,
        "burst_rate": 300.0,
        "slots": 10,
        "capacity": 100.0,
        "variants": [
            {
                "variant": f"variant {number}",
                "clients": 400,
                "offered": [80] * 4,
                "lag": {"p50": lag, "p99": lag, "max": lag},
                "client_cpu": 0.1,
                "machine": [0.5],
                "stacks": [
                    {
                        "stack": stack.name,
                        "answered": [median] * 4,
                        "nobody": [(100 - median) / 10] * 4,
                        "served": 4 * median,
                        "failed": 0,
                        "used": 40.0,
                        "queued": 0,
                        "work": {"mean": work, "p99": work},
                        "cpu": 1.0,
                    }
                    for stack, median in zip([OURS, *STACKS], row, strict=False)
                ],
            }
            for number, row in enumerate(medians)
        ],
    }


def test_the_page_says_who_did_well() -> None:
    """The sentences name those who kept up, variants that went alike together, whoever that is."""
    ours, post = "microasgi on microasgi", "Starlette on uvicorn h11"
    text = page(measured([80, 0], [79, 3], [80, 76], [10, 20]))
    good = "at least 75 answers a second after the burst (median) came from"
    assert f"With variant 0, and with variant 1, {good}: {ours}. The best of the others had 3. With variant 2" in text
    assert f"With variant 2, {good}: {ours}; {post}. With variant 3" in text
    assert f"With variant 3, {good}: no stack. The best had 20. With variant 0" in text
    assert f"With variant 0, clients that got no answer took 100% of {post}'s slot time, and 20% of {ours}'s." in text
    assert f"| {post} | 0 (0 to 0) | 0% | 40.0 of 40.0 |" in text
    assert "Not to be trusted" not in text
    assert claim(measured([80, 0], [79, 3])).endswith(f"{good}: {ours}. The best of the others had 3.")


def test_a_machine_that_did_not_keep_up_is_told() -> None:
    """Clients that came late, and work that took longer than it should on most stacks, are said beside the result."""
    assert doubts(measured([80])["variants"][0], 0.1) == []
    for poor in measured([80], lag=0.03), measured([80], work=0.12):
        (reason,) = doubts(poor["variants"][0], 0.1)
        assert f"**Not to be trusted with variant 0: {reason}.**" in page(poor)
        assert f"**Not to be trusted with variant 0: {reason}.**" in tables(poor)[0].note


def test_every_variant_has_its_table_column_and_target() -> None:
    """Tables, target and picture show each variant and each stack of it."""
    data = measured([80, 0], [70, 0], [80])
    first, second, third, machine = tables(data)
    assert [row[0] for row in first.rows] == [row[0] for row in second.rows] == [OURS.name, STACKS[0].name]
    assert [row[2] for row in first.rows] == ["0 s", "never"]
    assert [row[0] for row in machine.rows] == ["variant 0", "variant 1", "variant 2"]
    assert all(len(row) == len(table.columns) for table in (first, second, third, machine) for row in table.rows)
    assert [target.met for target in targets(data)] == [True, False, True]
    cells = figure(data).axes
    assert [bool(cell.get_title(loc="left")) for cell in cells] == [True, True, True, True, True, False]  # the last wasn't measured


def test_postgres_runs_as_long_as_its_block() -> None:
    """A PostgreSQL that answers is there in the block; afterwards neither its process nor its directory is."""
    with running_postgres() as address:
        with psycopg.connect(address) as connection:
            (most,) = connection.execute("show max_connections").fetchone() or [0]
        directory = Path(parse_qs(urlsplit(address).query)["host"][0])
        command = Path("/proc", (directory / "postmaster.pid").read_text().split()[0], "cmdline")
        assert command.read_bytes()
    assert int(most) >= 20 * len(STACKS)
    assert not directory.exists()
    assert not command.exists() or not command.read_bytes()  # an orphan's name may stay; it is init that should remove it
