"""The benchmarks' part `disconnect`: its clients leave as they should, and what it tells is what its data say."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.clients.leaving import ENDED_BEFORE, LEFT_OPEN, NOT_BEGUN, RAN_ON, STREAM, WAYS, Guest, Sample, depart, outcome
from benchmarks.measuring import Data
from benchmarks.parts.disconnect import FRAMEWORKS, PART, SERVERS, claim, few, page, stacks
from benchmarks.parts.disconnect_matrix import EIGHT, Cell, State, brief, listed, rows
from benchmarks.running import running
from benchmarks.stacks import Stack

on_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the benchmarks read /proc, which only Linux has")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that a test plays itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def _arrived(listener: socket.socket, way: str) -> tuple[Guest, socket.socket]:
    """A client that has sent what the kernel takes, and the server's end."""
    guest = Guest.arrive(listener.getsockname()[1], way, "token", 1)
    server = listener.accept()[0]
    server.settimeout(10)
    while guest.push():
        pass
    return guest, server


def _rest(server: socket.socket) -> bytes:
    received = b""
    while data := server.recv(65536):
        received += data
    return received


def test_a_client_that_has_not_read_everything_still_leaves_with_fin(listener: socket.socket) -> None:
    """A FIN is a FIN, though an answer lies unread."""
    guest, server = _arrived(listener, STREAM)
    with closing(server):
        server.sendall(b"HTTP/1.1 200 OK\r\n\r\ntick\n")
        guest.leave()
        assert _rest(server).startswith(b"GET /ticks?token=token&seconds=1 HTTP/1.1\r\n")


def test_a_reset_is_a_reset(listener: socket.socket) -> None:
    """The client that leaves with RST is not taken for one that has finished sending."""
    guest, server = _arrived(listener, "RST")
    with closing(server):
        guest.leave()
        with pytest.raises(ConnectionResetError):
            _rest(server)


def test_a_half_closed_client_still_listens(listener: socket.socket) -> None:
    """Who shuts only its sending side keeps the other one."""
    guest, server = _arrived(listener, "half-close")
    with closing(server), closing(guest.sock):
        guest.leave()
        _rest(server)
        server.sendall(b"still here?")
        guest.sock.setblocking(True)
        assert guest.sock.recv(100) == b"still here?"


def test_nobody_waits_for_a_server_that_does_not_read(listener: socket.socket) -> None:
    """As much of a large body is sent as the kernel takes, and the client can leave all the same."""
    guest, server = _arrived(listener, "4 of 8 MB unread")
    with closing(server):
        before = time.monotonic()
        guest.leave()
        assert guest.left is not None
        assert guest.left >= before


@on_linux
@pytest.mark.parametrize(("framework", "stops"), [("microasgi", True), ("starlette", False)])
def test_a_handler_that_stops_is_told_from_one_that_runs_on(framework: str, stops: bool) -> None:
    """Every way to leave gives a time where the handler stops, and the word where it doesn't."""
    with running(Stack(framework, "microasgi", "asyncio")) as server:
        found = depart(server.port, 1, 1.0, 0.5)
    assert list(found["ways"]) == list(WAYS)
    for name in EIGHT:
        assert [isinstance(sample, float) for sample in found["ways"][name]] == [stops], name


def _note(how: str, ended: float | None, **more: float) -> dict[str, Any]:
    return {"began": 1.0, "ended": ended, "how": how, **more}


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (None, NOT_BEGUN),
        (_note("stopped", 10.0025), 2.5),
        (_note("finished", 15.0), RAN_ON),
        (_note("finished", 9.0), ENDED_BEFORE),
        (_note("stopped", 9.0), ENDED_BEFORE),
        (_note("running", None), RAN_ON),
        (_note("running", None, ticked=19.99), RAN_ON),
        (_note("running", None, ticked=10.0), LEFT_OPEN),
    ],
)
def test_a_note_tells_what_became_of_the_handler(note: dict[str, Any] | None, expected: Sample) -> None:
    """The client left at 10 and looked at 20: what the note says in between decides."""
    assert outcome(note, left=10.0, looked=20.0) == expected


@pytest.mark.parametrize(
    ("samples", "state", "short", "long"),
    [
        ((0.31, 0.42, 12.3), State.STOPPED, "0.4", "0.4 (12)"),
        ((0.3, 0.4, 1600.0), State.LATE, "1.6 s", "0.4 (1.6 s)"),
        ((0.3, RAN_ON, 0.4), State.RAN_ON, "\N{MULTIPLICATION SIGN}", "ran on (1 of 3)"),
        ((RAN_ON, RAN_ON), State.RAN_ON, "\N{MULTIPLICATION SIGN}", "ran on"),
        ((NOT_BEGUN, NOT_BEGUN), State.NOT_BEGUN, "\N{EN DASH}", "not begun"),
        ((NOT_BEGUN, 0.3), State.STOPPED, "0.3", "0.3 (0.3)"),
        ((LEFT_OPEN, 0.3), State.LEFT_OPEN, "…", "left open (1 of 2)"),
    ],
)
def test_a_cell_is_as_bad_as_its_worst_client(samples: tuple[Sample, ...], state: State, short: str, long: str) -> None:
    """One handler of three that runs on makes the cell red; one that never began is nothing against it."""
    cell = Cell(samples)
    assert (cell.state, cell.short, cell.long) == (state, short, long)


def test_times_are_brief() -> None:
    """As few digits as tell something, and seconds have their unit."""
    assert [brief(each) for each in (0.04, 0.44, 9.94, 9.96, 999.4, 999.6, 3000.2)] == ["0.0", "0.4", "9.9", "10", "999", "1.0 s", "3.0 s"]


def _data(**samples: Sample) -> Data:
    """Some stacks, by `framework_server_loop`, each with the same sample in all of the ways."""
    found = []
    for name, sample in samples.items():
        framework, server, loop = name.split("_")
        found.append(
            {"framework": framework, "server": server, "loop": loop, "ways": {way: [sample] for way in WAYS}, "next": [1.0], "lag": 0.1}
        )
    return {"clients": 1, "seconds": 5.0, "stacks": found}


ALWAYS: Data = _data(microasgi_microasgi_asyncio=0.4, quart_daphne_asyncio=0.5)
MIXED: Data = _data(
    microasgi_microasgi_trio=0.4, starlette_microasgi_asyncio=RAN_ON, starlette_daphne_asyncio=3000.0, django_daphne_asyncio=NOT_BEGUN
)
MIXED["stacks"][0]["ways"]["pipelined request"] = [RAN_ON]
MIXED["stacks"][3]["ways"]["FIN"] = [0.2]


def test_the_overview_counts_only_handlers_that_have_begun() -> None:
    """Stopped ways stand against those in which the handler began, and late ones are told apart."""
    assert [row.score for row in rows(ALWAYS)] == ["8/8 · 0.4 ms", "8/8 · 0.5 ms"]
    assert [row.score for row in rows(MIXED)] == ["7/8 · 0.4 ms", "0/8", "0/8, 8 late", "1/1 · 0.2 ms"]


def test_the_target_is_missed_if_one_way_is_not_seen() -> None:
    """Our framework on our server must stop in all of the eight ways, on each loop that was measured."""
    assert [(target.met, target.measured) for target in PART.targets(ALWAYS)] == [(True, "8 of 8, after at most 0.4 ms")]
    assert [(target.met, target.measured) for target in PART.targets(MIXED)] == [(False, "7 of 8, after at most 0.4 ms")]


def test_the_page_says_what_the_data_say() -> None:
    """Each sentence names the stacks for which it is true, or none."""
    always, mixed = page(ALWAYS), page(MIXED)
    assert "* **In all eight ways** the handler stops with microasgi on microasgi; Quart on daphne." in always
    assert "* **In none of the eight** with none." in always
    assert "in all eight with microasgi on microasgi; Quart on daphne. It stops in none with none." in claim(ALWAYS)
    assert "* **In all eight ways** the handler stops with none." in mixed
    assert "in some of the eight it doesn't, with Django on daphne." in mixed
    assert "after its client left, with Starlette on daphne." in mixed
    assert "* **In none of the eight** with Starlette on microasgi." in mixed
    assert "(results/disconnect.svg)" in mixed


def test_stacks_are_named_by_framework_and_server() -> None:
    """Frameworks of the same servers share them, `every server` stands for all, and loops are told where some are missing."""
    every = ("microasgi_asyncio", "microasgi_trio", "daphne_asyncio", "granian_uvloop", "hypercorn_asyncio")
    matrix = rows(_data(**{f"{name}_{each}": 1.0 for name in ("starlette", "fastapi") for each in every}, aiohttp_aiohttp_asyncio=1.0))
    assert listed(matrix, matrix) == "Starlette and FastAPI on every server; aiohttp on its own server"
    assert listed(matrix[:4], matrix) == "Starlette on every server but hypercorn"
    assert listed(matrix[:2], matrix) == "Starlette on microasgi"
    assert listed(matrix[1:4], matrix) == "Starlette on microasgi (trio), daphne and granian"
    assert listed([], matrix) == "none"


def test_every_framework_is_on_every_server_that_it_runs_on() -> None:
    """Trio only has those who are written for it, and aiohttp only its own server."""
    every = list(stacks())
    assert {stack.framework for stack in every} == set(FRAMEWORKS)
    assert {(stack.server, stack.loop) for stack in every} == set(SERVERS)
    assert {stack.framework for stack in every if stack.loop == "trio"}.isdisjoint({"quart", "django", "blacksheep", "sanic", "aiohttp"})
    assert [stack.server for stack in every if stack.framework == "aiohttp"] == ["aiohttp"]


def test_a_quick_run_has_each_framework_and_each_server() -> None:
    """Few stacks are enough for that."""
    chosen = few(list(stacks()))
    assert {stack.framework for stack in chosen} == set(FRAMEWORKS)
    assert {stack.server for stack in chosen} == {server for server, _ in SERVERS}
    assert len(chosen) <= len(FRAMEWORKS) + 1


def test_the_picture_has_every_stack_and_every_cell() -> None:
    """What is in the data is written into the picture."""
    written = [text.get_text() for text in PART.figures(MIXED)["disconnect"].axes[0].texts]
    assert {"microasgi", "Starlette", "Django", "microasgi, trio", "daphne, asyncio", *WAYS} <= set(written)
    assert written.count("\N{MULTIPLICATION SIGN}") == 1 + len(WAYS) + 1  # the last is the legend's
    assert written.count("3.0 s") == len(WAYS)
