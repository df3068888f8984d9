"""The parts `websockets` and `goodbyes`, and their clients. No number is checked."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from microasgi_server.websocket.frames import Frames
from microasgi_server.websocket.spans import unmasked

from benchmarks.clients.frames import BINARY, CLOSE, COMPRESSED, GOING_AWAY, PING, answered, goodbye, said, take_upgrade
from benchmarks.clients.leaving import NOT_BEGUN, RAN_ON, Sample
from benchmarks.clients.parting import GOODBYE, HANDLERS, SILENCE, WAYS, part
from benchmarks.clients.remote import remote
from benchmarks.clients.talkers import Talkers
from benchmarks.errors import BenchmarkError
from benchmarks.parts import goodbyes
from benchmarks.parts.websockets_tables import SIZES, figures, page, tables, targets
from benchmarks.processes import forget_peak, peak_bytes, resident_bytes
from benchmarks.running import running
from benchmarks.stacks import Stack
from tests.benchmarks.harness import listening

on_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the benchmarks read /proc, which only Linux has")

UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


# The clients.


@pytest.mark.parametrize("size", [0, 16, 125, 126, 65_535, 65_536])
def test_frames_are_those_of_the_protocol(size: int) -> None:
    """What a client says is read, and what it expects is what a server says."""
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert Frames(1 << 20, "", 0).receive(said(BINARY, payload)) == [payload]
    assert answered(BINARY, payload) == unmasked(BINARY, payload)
    assert said(BINARY, payload, COMPRESSED)[0] == 0xC2


def test_an_answer_that_is_no_upgrade_is_an_error() -> None:
    """Also the end of the connection; and what follows a 101 is left for who reads frames."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(UPGRADE + b"\x82\x00")
        assert take_upgrade(ours) == UPGRADE
        assert ours.recv(10) == b"\x82\x00"
        theirs.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        with pytest.raises(BenchmarkError, match="403"):
            take_upgrade(ours)
        theirs.close()
        with pytest.raises(BenchmarkError, match="closed"):
            take_upgrade(ours)


@on_linux
@pytest.mark.parametrize("framework", ["bare", "microasgi", "starlette"])
def test_every_app_talks_alike(framework: str) -> None:
    """Echoes come back, and what one says is heard by all."""
    with running(Stack(framework, "microasgi", "asyncio")) as server, remote("talkers", server.port) as client:
        for size, connections in SIZES.values():
            messages, _, _ = client.ask("echo", size=size, connections=connections, seconds=0.0)
            assert messages == connections
        client.ask("open", count=60, target="/room")
        assert len(client.ask("broadcast", times=2)) == 2
        assert len(client.ask("leave", goodbye=True)) == 60
        assert server.said() == ""


@on_linux
def test_a_handler_that_hears_of_it_is_told_from_one_that_does_not() -> None:
    """Who sleeps hears of nothing in Starlette, and nobody of silence: here nobody is asked for a sign of life within the time."""
    with running(Stack("starlette", "microasgi", "asyncio"), gracefully=False) as server:
        found = part(server.port, 1, 1.5, 0.6)
    assert {handler: list(cells) for handler, cells in found.items()} == {handler: list(WAYS) for handler in HANDLERS}
    stopped = {(handler, way) for handler, cells in found.items() for way, samples in cells.items() if not isinstance(samples[0], str)}
    assert stopped == {(handler, way) for handler in HANDLERS for way in WAYS if handler != "sleeps" and way != SILENCE}


def test_a_wrong_echo_is_not_counted() -> None:
    """Nor another message in the room."""

    def serve(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(UPGRADE)
        while sock.recv(65536):
            sock.sendall(answered(BINARY, b"not what it was!"))

    with listening(serve) as port:
        talkers = Talkers(port)
        with pytest.raises(BenchmarkError, match="no echo"):
            talkers.echo(16, 1, 1.0)
        talkers.open(1, "/room")
        with pytest.raises(BenchmarkError, match="not what was said"):
            talkers.broadcast(1)
        talkers.leave(goodbye=False)


@on_linux
def test_a_bomb_goes_off_small_and_its_cost_is_seen() -> None:
    """A server with a limit refuses it, one without takes it; and the most memory in between is told."""
    with running(Stack("bare", "microasgi-limited", "asyncio"), options=f"deflate=12 message={2**20}") as server:
        talkers = Talkers(server.port)
        assert (talkers.bomb(0), talkers.bomb(2)) == (10, CLOSE)
    before = resident_bytes(os.getpid())
    forget_peak(os.getpid())
    del [bytearray(os.urandom(1)) * 50_000_000][:]
    assert peak_bytes(os.getpid()) > before + 20_000_000
    forget_peak(os.getpid())
    assert peak_bytes(os.getpid()) < before + 20_000_000
    assert Frames(1 << 20, "", 0).receive(goodbye(GOING_AWAY) + said(PING))  # a goodbye is one


# The part.

OURS, THEIRS = "bare/microasgi/asyncio", "bare/uvicorn-websockets/asyncio"


def _data(**changes: Any) -> Any:
    def sample(stack: str, size: str, cpu: float) -> dict[str, Any]:
        return {"stack": stack, "workload": size, "round": 0, "requests": 1000, "seconds": 1.0, "moved": 1, "cpu": cpu, "busy": 0.5}

    def crowd(stack: str, idle: int) -> dict[str, Any]:
        left = {"never": 0, "median": 20.0, "p99": 30.0, "longest": 31.0}
        lefts = {"goodbye": left, "FIN": {"never": 7}}
        return {"stack": stack, "round": 0, "idle": idle, "heard": 1000, "cpu": 0.01, "took": [0.03], "left": lefts}

    bomb = {"stack": "bare/microasgi-limited/asyncio", "grown": 3_900_000, "refused": True}
    data = {
        "quick": False, "stacks": [OURS, THEIRS], "crowd": 1000, "failures": [],
        "samples": [sample(name, size, cpu) for size in SIZES for name, cpu in ((OURS, 0.018), (THEIRS, 0.02))],
        "crowds": [crowd(OURS, 6900), crowd(THEIRS, 10_000)],
        "bombs": [{**bomb, "what": "limit of 1 MiB"}, {**bomb, "what": "default limit"}],
    }  # fmt: skip
    return {**data, **changes}


def test_the_targets_are_met_by_who_costs_less() -> None:
    """A small message and an idle WebSocket beside uvicorn's, on each loop that was measured, and bombs."""
    met = [target for target in targets(_data()) if target.met]
    assert [target.measured for target in met] == ["0.90 (0.90 to 0.90)"] * 2 + ["0.69 (0.69 to 0.69)"] + ["3.9"] * 2
    assert [target.measured for target in targets(_data()) if not target.met] == ["failed"] * 3  # uvloop's


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"samples": []}, 2),
        ({"crowds": []}, 1),
        ({"bombs": [{**_data()["bombs"][0], "grown": 4_100_000}]}, 1),
        ({"bombs": [{**_data()["bombs"][0], "refused": False}]}, 1),
        ({"bombs": [{"stack": "bare/microasgi-limited/asyncio", "what": "default limit", "failure": "it broke"}]}, 1),
    ],
)
def test_a_target_is_missed_by_who_costs_more_or_fails(changes: dict[str, Any], missed: int) -> None:
    """What wasn't measured isn't met."""
    assert len([target for target in targets(_data(**changes)) if not target.met and "uvloop" not in target.what]) == missed


def test_the_page_says_what_the_data_say() -> None:
    """Messages side by side, idle WebSockets, broadcasts, departures and bombs."""
    told = page(_data())
    assert "| bare ASGI on microasgi, asyncio, to bare ASGI on uvicorn websockets, asyncio | 0.90 (0.90 to 0.90) |" in told
    assert "| bare ASGI on microasgi, asyncio | 6.7 | 10.0 | 30 |" in told
    assert "| for a message | 20 / 30 / 31 | 7 never |" in told
    assert "| limit of 1 MiB | 3.9 | refused |" in told
    assert set(figures(_data())) == {"websockets"}


def test_what_failed_is_shown_as_failed() -> None:
    """Where a result is missing the cell says so, and the reason is told."""
    shown = tables(_data(samples=[], failures=[["theirs", "16 B", "it broke"]]))
    assert list(shown[0].rows[0])[1:] == ["failed"] * len(SIZES)
    assert list(shown[-1].rows) == [["theirs", "16 B", "it broke"]]


# The part `goodbyes`.


def matrix(**samples: Sample) -> Any:
    """Stacks by `framework_server_loop`, each with one sample everywhere, and a second more for silence."""
    stacks = []
    for name, sample in samples.items():
        framework, server, loop = name.replace("ours", "microasgi-limited").split("_")
        ways = {way: [sample + 4900 * (way == SILENCE) if isinstance(sample, float) else sample] for way in WAYS}
        stacks.append({"framework": framework, "server": server, "loop": loop, "cells": {handler: {**ways} for handler in HANDLERS}})
    return {"clients": 1, "seconds": 8.0, "stacks": stacks}


def test_a_handler_stops_in_time_or_it_does_not() -> None:
    """Who falls silent may be missed later than who says goodbye; one of sixteen that runs on is a target that is missed."""
    data = matrix(microasgi_ours_asyncio=0.4, microasgi_ours_trio=0.4, starlette_granian_asyncio=RAN_ON)
    data["stacks"][1]["cells"]["sleeps"][GOODBYE] = [1001.0]
    assert [(target.met, target.measured) for target in goodbyes.targets(data)] == [(True, "16 of 16"), (False, "15 of 16")]
    overview, ours, starlettes = goodbyes.tables(data)
    assert [list(row) for row in overview.rows] == [
        ["microasgi", "16/16", "15/16", ""],
        ["Starlette", "", "", "0/16"],
        ["Starlette in CancelOnDisconnect", "", "", ""],
    ]
    assert list(ours.rows[3]) == ["receives", SILENCE, "4.9 s", "4.9 s"]
    assert list(starlettes.rows[0]) == ["receives", GOODBYE, RAN_ON]
    assert goodbyes.page(data).count("| receives | silence |") == 2
    written = [text.get_text() for text in goodbyes.figures(data)["goodbyes"].axes[0].texts]
    assert {*HANDLERS, "4.9 s", "0.4", "1.0 s", "\N{MULTIPLICATION SIGN}"} == set(written)


@pytest.mark.parametrize(
    ("samples", "told"),
    [([0.4, 0.6], "0.5"), ([0.4, RAN_ON], "ran on (1 of 2)"), ([RAN_ON, RAN_ON], RAN_ON), ([NOT_BEGUN, RAN_ON], "ran on (1 of 2)")],
)
def test_a_cell_tells_the_worst(samples: list[Sample], told: str) -> None:
    """A handler that runs on before one that has never begun."""
    assert goodbyes._told(samples) == told
