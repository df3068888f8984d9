"""A day in the life of a server with workers, in a few seconds, or in ten minutes: everything goes wrong, and nobody gets a wrong byte."""

import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.conftest import LOOPS
from tests.deployment.configurations import free_ports
from tests.deployment.faults import Faults, children, memory
from tests.deployment.fronts import get
from tests.deployment.load import Broken, Load
from tests.framework.test_cli import environment
from tests.harness import Served, eventually
from tests.needs import ROOT
from tests.server.test_workers import lives

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc, and sets others' limits")]

PATIENCE = 30.0
"""Seconds after which a server that is left alone should have come to rest."""

GROWTH = 16 * 1024 * 1024
"""Bytes that a process may take more after a while, whatever the while is."""


def start(command: list[str], file: Path) -> "subprocess.Popen[bytes]":
    """Start a process whose log is this file."""
    with file.open("ab") as log:
        return subprocess.Popen(command, env=environment(), stdout=log, stderr=log)


@asynccontextmanager
async def two_workers(folder: Path) -> AsyncIterator[tuple[Served, "subprocess.Popen[bytes]"]]:
    """`serve --workers 2` for `mixed.py`, which ends in order with the block. Its log is a file."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "microasgi", "serve", "tests.deployment.mixed:routes", "--app-dir", str(ROOT)]
    options = ["--port", str(port), "--workers", "2"]
    process = start([*command, *options], folder / "log")
    served = Served(f"http://127.0.0.1:{port}", anyio.Event(), anyio.Event())
    try:
        await until_all_serve(served, process.pid, idle=True)
        yield served, process
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: process.poll() is not None, PATIENCE)
    finally:
        process.kill()  # its workers die with it
        process.wait()


async def until_all_serve(served: Served, supervisor: int, *, idle: bool) -> None:
    """Wait until two workers are there, and answer; where `idle`, that they have nothing to do."""
    deadline = time.monotonic() + PATIENCE
    while len(workers := children(supervisor)) != 2 or {*workers} != {pid async for pid in answering(served, idle=idle)}:
        assert time.monotonic() < deadline, f"of {workers} not all serve"
        await anyio.sleep(0.05)


async def answering(served: Served, *, idle: bool) -> AsyncIterator[int]:
    """Some workers, each as often as it was met."""
    for _ in range(16):
        try:
            async with await served.connect() as client:
                now = json.loads((await get(client, "/now")).body)
        except (OSError, ValueError):  # they have yet to start
            return
        if not idle or not (now["calls"] or now["connections"]):
            yield now["pid"]


class Life:
    """A server's, with all that happens to it.

    processes: the supervisor, and a worker that lives through the second half.
    growth: bytes by which each of them grew in that.
    """

    def __init__(self, served: Served, supervisor: int, seed: int) -> None:
        self.load = Load(served, seed)
        self.faults = Faults(served, supervisor, random.Random(seed))
        self.growth: list[int] = []
        self._served = served

    async def run(self, seconds: float, pace: float) -> None:
        """Two halves of so many seconds together, with a fault every `pace` seconds. In the first half every worker is replaced."""
        supervisor = self.faults.supervisor
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.load.run)
            await self._suffer(seconds / 2, pace)
            await until_all_serve(self._served, supervisor, idle=False)
            spared = children(supervisor)[0]
            self.faults.spare(spared)
            await anyio.sleep(seconds / 10)  # it takes what it needs for such a load
            before = [memory(pid) for pid in (supervisor, spared)]
            await self._suffer(seconds / 2, pace)
            self.growth = [memory(pid) - less for pid, less in zip((supervisor, spared), before, strict=True)]
            tasks.cancel_scope.cancel()
        await until_all_serve(self._served, supervisor, idle=True)

    async def _suffer(self, seconds: float, pace: float) -> None:
        with anyio.move_on_after(seconds):
            await self.faults.run(pace)

    def unexplained(self) -> list[Broken]:
        """What broke although no worker was killed. On a kept connection a request may have met the server's goodbye (RFC 9112 §9.3.1)."""
        faults = self.faults
        return [
            broken
            for broken in self.load.broken
            if not faults.was_killed(broken.connected, broken.ended)
            and not (broken.used and faults.closes_idle_ones(broken.connected, broken.ended))
        ]


EXPECTED = (
    r"ERROR: Worker \d+ .*(was ended by SIGKILL|Too many open files)",
    r"ERROR: Worker \d+ .*was ended by SIGABRT .*in new_event_loop",  # uvloop's own way to say that there are no descriptors
    r"WARNING \[worker \d+\]: Can't accept connections for now: Too many open files",
    r"WARNING( \[worker \d+\])?: \d+ line\(s\) of this log came late, or not at all: File too large",
)
"""What the log may say above info."""


def surprises(log: str) -> list[str]:
    """What else it says."""
    loud = [line for line in log.splitlines() if not line.startswith("INFO")]
    return [line for line in loud if not any(re.match(pattern, line) for pattern in EXPECTED)]


@pytest.fixture(
    params=[
        pytest.param(2.4, marks=pytest.mark.timeout(180)),  # beside much else the workers may take long to start
        pytest.param(None, marks=[pytest.mark.slow, pytest.mark.timeout(0)]),
    ],
    ids=["seconds", "minutes"],
)
def seconds(request: pytest.FixtureRequest) -> float:
    """How long it lasts: a moment, or what `--fault-seconds` says."""
    return float(request.param or request.config.getoption("--fault-seconds"))


@pytest.mark.parametrize("anyio_backend", [LOOPS["uvloop"]], ids=[""])
async def test_whatever_happens_everybody_gets_what_is_right(seconds: float, anyio_backend: Any, tmp_path: Path) -> None:
    """While processes and clients die or stand still, disk and descriptors run out, and workers are replaced, every byte is right.

    No exchange is stuck, nobody but a killed worker's clients loses anything; memory doesn't grow, and in the end nothing is left.
    """
    seed = random.randrange(1000)
    print(f"seed {seed}")
    async with two_workers(tmp_path) as (served, process):
        life = Life(served, process.pid, seed)
        await life.run(seconds, pace=min(1.0, seconds / 16))
        last = children(process.pid)
    print(life.load.done, f"{len(life.load.broken)} broken, {len(life.faults.kills)} kills, growth {life.growth}")
    assert process.returncode == 0
    assert not any(map(lives, last))
    with socket.create_server(("127.0.0.1", served.port)):
        pass
    assert life.load.wrong == life.load.stuck == life.faults.damage == []
    assert not (unexplained := life.unexplained()), unexplained
    assert max(life.growth) < GROWTH
    assert surprises((tmp_path / "log").read_text(errors="replace")) == []
    assert all(life.load.done[kind] for kind in ("bytes", "stream", "upload", "departure", "conversation"))
