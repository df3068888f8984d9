"""What does a server keep in memory: for connections that nobody uses, for clients that don't keep up, and for those who have left?

Memory is what of the server's process and its descendants is in RAM. It doesn't mind how busy the machine is: several servers are
measured side by side, each with a client of its own. Each question gets fresh servers.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.clients.remote import Remote, remote
from benchmarks.errors import BenchmarkError
from benchmarks.limits import allowed_connections
from benchmarks.measuring import Data, Part, Run
from benchmarks.parts.memory_tables import claim, figures, page, tables, targets
from benchmarks.processes import resident_bytes
from benchmarks.running import Running, notes, running
from benchmarks.stacks import Stack

OURS = [Stack("bare", "microasgi", loop) for loop in ("asyncio", "uvloop", "trio")]
STACKS = [
    *OURS,
    Stack("bare", "uvicorn-h11", "asyncio"),
    Stack("bare", "uvicorn-h11", "uvloop"),
    Stack("bare", "uvicorn-httptools", "uvloop"),
    Stack("bare", "hypercorn", "asyncio"),
    Stack("bare", "hypercorn", "trio"),
    Stack("bare", "granian", "asyncio"),
]
"""Servers, with the smallest app around: a framework's memory is its own."""

QUICK_STACKS = [OURS[0], Stack("bare", "uvicorn-h11", "asyncio")]

LEAKING = [Stack("microasgi", "microasgi", loop) for loop in ("asyncio", "uvloop", "trio")]
"""Those that promise to stop a handler, and so to keep nothing of it."""

IDLE, QUICK_IDLE = 10_000, 200
"""Connections to keep open."""

SLOW, QUICK_SLOW = 250, 20
"""Megabytes that the slow clients ask for, or send."""

SLOW_SECONDS, QUICK_SLOW_SECONDS = 3.0, 0.5

MANY, QUICK_MANY = 100_000, 1_000
"""Requests, and clients who leave."""

STEPS = 5
"""How often the memory is looked at meanwhile."""

BUSY, WAITING = 3, 10
"""Servers side by side: with a busy client, or with one that mostly waits."""

FIRST = 500
"""Connections that come and go before the first look: they cost what is needed only once."""

SETTLING, QUICK_SETTLING = 0.5, 0.1
"""Seconds that memory gets to settle."""

Curve = list[tuple[int, int]]
"""Memory after so many: (so many, bytes)."""


class Bench:
    """Servers side by side, each with its client. One that fails is noted, and leaves; the others go on."""

    def __init__(self, settling: float, failures: dict[str, str]) -> None:
        self._settling = settling
        self._failures = failures
        self.servers: dict[Stack, tuple[Running, Remote]] = {}

    @contextmanager
    def failing(self, stack: Stack) -> Iterator[None]:
        try:
            yield
        except BenchmarkError as error:
            self._failures[stack.name] = str(error)[:500]
            self.servers.pop(stack, None)

    def all(self, command: str, **arguments: Any) -> dict[Stack, Any]:
        """Every client does the same at the same time: what they answer."""
        answers = {}
        for _, client in self.servers.values():
            client.tell(command, **arguments)
        for stack, (_, client) in list(self.servers.items()):
            with self.failing(stack):
                answers[stack] = client.answer()
        return answers

    def warm_up(self) -> None:
        self.all("open", count=FIRST)
        self.all("leave")

    def resident(self) -> dict[Stack, int]:
        """Their memory, when it has settled."""
        time.sleep(self._settling)
        return {stack: resident_bytes(server.pid) for stack, (server, _) in self.servers.items()}


@contextmanager
def _bench(run: Run, stacks: Sequence[Stack], client: str, failures: dict[str, str]) -> Iterator[Bench]:
    with ExitStack() as exits:
        bench = Bench(QUICK_SETTLING if run.quick else SETTLING, failures)
        for stack in stacks:
            with bench.failing(stack):
                server = exits.enter_context(running(stack))
                bench.servers[stack] = server, exits.enter_context(remote(client, server.port, server.pid))
        yield bench


def measure(run: Run) -> Data:
    """Idle connections, slow clients, leaks, in this order."""
    stacks, leaking = run.installed(QUICK_STACKS if run.quick else STACKS), run.installed(LEAKING[:1] if run.quick else LEAKING)
    connections = allowed_connections(run, QUICK_IDLE if run.quick else IDLE)
    failures: dict[str, str] = {}
    logs: dict[str, str] = {}
    run.progress.total(_groups(stacks, BUSY) + 2 * _groups(stacks, WAITING) + 2 * STEPS)
    return {
        "quick": run.quick,
        "stacks": [stack.name for stack in stacks],
        "pairs": [(stack.name, peer.name) for stack in stacks for peer in stacks if _is_peer(stack, peer)],
        "connections": connections,
        "idle": _idle(run, stacks, connections, failures),
        "megabytes": QUICK_SLOW if run.quick else SLOW,
        "read": _slow(run, stacks, "read", failures),
        "send": _slow(run, stacks, "send", failures),
        "requests": _leaks(run, leaking, "requests", failures, logs),
        "visits": _leaks(run, leaking, "visits", failures, logs),
        "leaking": [stack.name for stack in leaking],
        "failures": failures,
        "logs": logs,
    }


def _is_peer(stack: Stack, peer: Stack) -> bool:
    """The one whose memory for an idle connection ours is not to exceed."""
    return (stack.server, peer.server) == ("microasgi", "uvicorn-h11") and stack.loop == peer.loop


def _groups(stacks: Sequence[Stack], width: int) -> int:
    return -(-len(stacks) // width)


def _side_by_side(run: Run, stacks: Sequence[Stack], width: int, what: str, client: str, failures: dict[str, str]) -> Iterator[Bench]:
    for begin in range(0, len(stacks), width):
        group = stacks[begin : begin + width]
        with run.step(f"{what}: {'; '.join(stack.name for stack in group)}"), _bench(run, group, client, failures) as bench:
            yield bench


def _idle(run: Run, stacks: Sequence[Stack], connections: int, failures: dict[str, str]) -> dict[str, float]:
    """Bytes for each connection that has had one answer."""
    found = {}
    for bench in _side_by_side(run, stacks, BUSY, "idle connections", "crowd", failures):
        bench.warm_up()
        before = bench.resident()
        bench.all("open", count=connections)
        after = bench.resident()
        for stack, kept in bench.all("kept").items():
            found[stack.name] = round((after[stack] - before[stack]) / connections, 1)
            if kept < connections:
                failures[stack.name] = f"it closed {connections - kept} of the connections that were to stay idle"
    return found


def _slow(run: Run, stacks: Sequence[Stack], direction: str, failures: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Bytes by which the server grew, and bytes that passed. See `slow`."""
    megabytes, seconds = (QUICK_SLOW, QUICK_SLOW_SECONDS) if run.quick else (SLOW, SLOW_SECONDS)
    found = {}
    what = {"read": "slow reader", "send": "slow uploader"}[direction]
    for bench in _side_by_side(run, stacks, WAITING, what, "slow", failures):
        for stack, (grown, passed) in bench.all(direction, megabytes=megabytes, seconds=seconds).items():
            found[stack.name] = grown, passed
    return found


def _leaks(run: Run, stacks: Sequence[Stack], what: str, failures: dict[str, str], logs: dict[str, str]) -> dict[str, Curve]:
    """`requests` or `visits`: see `crowd`."""
    size = (QUICK_MANY if run.quick else MANY) // STEPS
    with _bench(run, stacks, "crowd", failures) as bench:
        bench.warm_up()
        found = {stack.name: [(0, resident)] for stack, resident in bench.resident().items()}
        for number in range(1, STEPS + 1):
            with run.step(f"leaks: {number * size:,} {what}"):
                bench.all(what, count=size)
                for stack, resident in bench.resident().items():
                    found[stack.name].append((number * size, resident))
        for stack, (server, _) in list(bench.servers.items()):
            with bench.failing(stack):
                _check_ends(server.port, size * STEPS if what == "visits" else 0)
            logs[stack.name] = (logs.get(stack.name, "") + server.said())[:500]
    return found


def _check_ends(port: int, wanted: int) -> None:
    """
    :raises BenchmarkError: not as many handlers as clients have begun and been stopped
    """
    counts = notes(port)["counts"]
    if counts != {"began": wanted, "finished": 0, "stopped": wanted}:
        raise BenchmarkError(
            f"of {wanted} handlers {counts['began']} began, {counts['stopped']} were stopped, {counts['finished']} went on to their end"
        )


PART = Part(
    "memory",
    "What does a server keep in memory: for idle connections, for slow clients, and for those who have left?",
    measure,
    tables,
    targets,
    figures,
    page,
    claim,
)
