"""What a WebSocket costs a server: messages there and back, idle connections, a message to a thousand clients, a thousand that leave.

For messages, the servers of a loop run side by side, and take turns within each round. Each crowd has a fresh server: what a large message
has left free would be room for idle connections.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from statistics import median
from typing import Any

from benchmarks.clients.frames import CLOSE
from benchmarks.clients.remote import Remote, remote
from benchmarks.errors import BenchmarkError
from benchmarks.limits import allowed_connections
from benchmarks.measuring import Data, Part, Run, percentile
from benchmarks.parts.websockets_tables import BOMB, SIZES, figures, page, tables, targets
from benchmarks.processes import cpu_seconds, forget_peak, machine_seconds, peak_bytes, resident_bytes
from benchmarks.running import Running, notes, running
from benchmarks.sampling import Sample, identifier, plain, there_and_back
from benchmarks.stacks import ASYNCIO, Stack

STACKS = [
    *(
        Stack(framework, server, loop)
        for loop in ASYNCIO
        for framework, server in (
            ("bare", "microasgi"),
            ("bare", "uvicorn-websockets"),
            ("bare", "uvicorn-wsproto"),
            ("bare", "hypercorn"),
            ("bare", "granian"),
            ("microasgi", "microasgi"),
            ("starlette", "uvicorn-websockets"),
            ("starlette-cancelled", "uvicorn-websockets"),
        )
    ),
    *(Stack(framework, server, "trio") for framework, server in (("bare", "microasgi"), ("bare", "hypercorn"), ("microasgi", "microasgi"))),
]

STOPPING = ("microasgi", "starlette-cancelled")
"""Apps that stop a handler which sleeps; of the others, handlers leave that wait for a message."""

BOMBED = [
    ("default limit", Stack("bare", "microasgi-limited", "asyncio"), "deflate=12"),
    ("limit of 1 MiB", Stack("bare", "microasgi-limited", "asyncio"), f"deflate=12 message={2**20}"),
    ("default limit", Stack("bare", "uvicorn-websockets", "asyncio"), ""),
    ("limit of 1 MiB", Stack("bare", "uvicorn-websockets", "asyncio"), f"--ws-max-size {2**20}"),
    ("default limit", Stack("bare", "uvicorn-wsproto", "asyncio"), ""),
    ("default limit", Stack("bare", "hypercorn", "asyncio"), ""),
]
"""All of them compress by default but ours, and granian, which can't."""

FIRST = 100
"""WebSockets before the first look at the memory: they need what is needed only once."""

PATIENCE = 10.0
"""Seconds in which handlers hear that their clients have left, or never will."""


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    seconds: of each size, in each round.
    crowd: WebSockets that are idle, that hear of something, that leave.
    broadcasts: in each round.
    megabytes: of the bomb, when inflated.
    settling: seconds that memory gets to settle.
    """

    rounds: int = 3
    seconds: float = 0.6
    crowd: int = 1000
    broadcasts: int = 6
    megabytes: int = BOMB
    settling: float = 0.3


QUICK = Extent(rounds=1, seconds=0.04, crowd=20, broadcasts=2, megabytes=8, settling=0.02)

Hall = dict[Stack, tuple[Running, Remote]]


def measure(run: Run) -> Data:
    """Messages, crowds, bombs, in this order."""
    extent = QUICK if run.quick else Extent()
    stacks = run.installed(STACKS[:1] if run.quick else STACKS)
    bombed = [each for each in (BOMBED[1:2] if run.quick else BOMBED) if each[1] in run.installed([each[1]])]
    # Who has just left may still be there when the next come.
    crowd = min(extent.crowd, allowed_connections(run, 2 * (FIRST + extent.crowd)) // 2 - FIRST)
    heats = [list(heat) for _, heat in groupby(stacks, lambda stack: stack.loop)]
    run.progress.total((len(heats) + len(stacks)) * (run.rounds or extent.rounds) + len(bombed))
    data: Data = {
        "quick": run.quick,
        "stacks": [identifier(stack) for stack in stacks],
        "crowd": crowd,
        "samples": [],
        "crowds": [],
        "bombs": [],
        "failures": [],
    }
    for number, heat in run.turns(heats, extent.rounds):
        with run.step(f"round {number + 1}, messages: {heat[0].loop}"), _hall(heat, data["failures"]) as hall:
            data["samples"] += plain(_echoes(hall, number, extent))
        for stack in heat:
            with (
                run.step(f"round {number + 1}, a crowd: {stack.name}"),
                _failing(stack, "crowd", data["failures"]),
                running(stack, gracefully=False) as server,
                remote("talkers", server.port) as client,
            ):
                data["crowds"].append({"round": number, **_crowded(server, client, crowd, extent)})
    for what, stack, options in bombed:
        with run.step(f"a bomb: {stack.name}, {what}"):
            data["bombs"].append({"stack": identifier(stack), "what": what, **_bombed(stack, options, extent)})
    return data


@contextmanager
def _failing(stack: Stack, what: str, failures: list[Any]) -> Iterator[None]:
    """A failure is noted, and the others go on."""
    try:
        yield
    except BenchmarkError as error:
        failures.append([stack.name, what, " ".join(str(error)[:300].split())])


@contextmanager
def _hall(stacks: Sequence[Stack], failures: list[Any]) -> Iterator[Hall]:
    """Servers side by side, each with its clients."""
    with ExitStack() as block:
        hall: Hall = {}
        for stack in stacks:
            with _failing(stack, "start", failures):
                server = block.enter_context(running(stack, gracefully=False))
                hall[stack] = server, block.enter_context(remote("talkers", server.port))
        yield hall


def _echoes(hall: Hall, number: int, extent: Extent) -> Iterator[Sample]:
    """Each size on all servers."""
    for name in SIZES:
        echo = partial(_echo, hall, number, name)
        for stack in hall:
            echo(stack, extent.seconds / 4)  # to warm up
        yield from there_and_back(list(hall), echo, extent.seconds)


def _echo(hall: Hall, number: int, name: str, stack: Stack, seconds: float) -> Sample:
    server, client = hall[stack]
    size, connections = SIZES[name]
    before, (machine_before, _) = cpu_seconds(server.pid), machine_seconds()
    try:
        messages, took, busy = client.ask("echo", size=size, connections=connections, seconds=seconds)
    except BenchmarkError as error:
        return Sample(identifier(stack), name, number, failure=str(error)[:300])
    used, (machine_after, _) = cpu_seconds(server.pid) - before, machine_seconds()
    others = max(0.0, (machine_after - machine_before - used - busy) / took)
    return Sample(identifier(stack), name, number, messages, took, messages * size, used, busy / took, others)


def _crowded(server: Running, client: Remote, crowd: int, extent: Extent) -> dict[str, Any]:
    """Bytes for an idle WebSocket, CPU time and durations of broadcasts, and how handlers have heard of departures.

    All of that before anybody has been silent for so long that it is asked for a sign of life.
    """
    client.ask("open", count=FIRST, target="/room")
    time.sleep(extent.settling)
    before = resident_bytes(server.pid)
    client.ask("open", count=crowd, target="/room")
    time.sleep(extent.settling)
    idle = round((resident_bytes(server.pid) - before) / crowd)
    client.ask("broadcast", times=1)  # to warm up
    used = cpu_seconds(server.pid)
    took = client.ask("broadcast", times=extent.broadcasts)
    used = cpu_seconds(server.pid) - used
    client.ask("leave", goodbye=True)
    return {
        "stack": identifier(server.stack),
        "idle": idle,
        "heard": extent.broadcasts * (crowd + FIRST),
        "cpu": round(used, 4),
        "took": [round(each, 4) for each in took],
        "left": {how: _left(server, client, crowd, how) for how in ("goodbye", "FIN")},
    }


def _left(server: Running, client: Remote, crowd: int, how: str) -> dict[str, float]:
    """Milliseconds from a client's departure until its handler has ended, and how many never did."""
    client.ask("open", count=crowd, target="/sleeps" if server.stack.framework in STOPPING else "/receives", tokens=how)
    moments: list[float] = client.ask("leave", goodbye=how == "goodbye")
    deadline = time.monotonic() + PATIENCE
    while True:
        noted = notes(server.port)["notes"]
        ends = [noted.get(f"{how}-{number}", {}).get("ended") for number in range(crowd)]
        if None not in ends or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    passed = [(end - moment) * 1000 for end, moment in zip(ends, moments, strict=True) if end is not None]
    if not passed:
        return {"never": crowd}
    times = {"median": median(passed), "p99": percentile(passed, 0.99), "longest": max(passed)}
    return {"never": crowd - len(passed), **{name: round(figure, 1) for name, figure in times.items()}}


def _bombed(stack: Stack, options: str, extent: Extent) -> dict[str, Any]:
    """By how many bytes the server grew at most, and whether it refused the message."""
    try:
        with running(stack, options=options, gracefully=False) as server, remote("talkers", server.port) as client:
            client.ask("bomb", megabytes=0)  # what compression needs only once
            time.sleep(extent.settling)
            before = resident_bytes(server.pid)
            forget_peak(server.pid)
            opcode = client.ask("bomb", megabytes=extent.megabytes)
            return {"grown": max(0, peak_bytes(server.pid) - before), "refused": opcode == CLOSE}
    except BenchmarkError as error:
        return {"failure": str(error)[:300]}


PART = Part(
    "websockets",
    "What does a WebSocket cost: a message, an idle connection, a thousand of them at once?",
    measure,
    tables,
    targets,
    figures,
    page,
)
