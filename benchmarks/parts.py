"""What is compared with what, and how it is measured.

    hello        a bare ASGI app: what the server costs                                 CPU time for each request
    protection   a routed app with the promise, and the same without it                 CPU time for each request
    idle         connections that were used once and are kept                           memory for each connection

A part's contestants take turns, in rounds, and each turn starts a fresh process: where the system happens to put things in
memory moves a result by some percent. Every other round goes backwards. A pair's ratio is taken within each round, where the
machine's mood was the same, and what counts is the median of the rounds.
"""

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from benchmarks.contestants import Contestant, Server, check_installed, hypercorn, ours, running, uvicorn
from benchmarks.errors import BenchmarkError
from benchmarks.load import ask, connect, put_load
from benchmarks.processes import cpu_seconds, resident_bytes


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    rounds: turns for each contestant.
    seconds: of load in each turn.
    warm_up: seconds of load before that, which don't count.
    connections: under load, all kept alive.
    idle_connections: to keep and not use.
    settling: seconds that memory gets to settle.
    wrk: the load generator's path, or None for the built-in one.
    """

    rounds: int = 5
    seconds: float = 3.0
    warm_up: float = 1.0
    connections: int = 32
    idle_connections: int = 2000
    settling: float = 1.0
    wrk: str | None = None


@dataclass(frozen=True)
class Sample:
    """One turn of one contestant.

    cost: what the part measures, in its unit.
    throughput: requests a second, where there was load.
    """

    cost: float
    throughput: float | None = None


@dataclass(frozen=True)
class Pair:
    """Two contestants, and the most that the first may cost as a share of the second."""

    first: Contestant
    second: Contestant
    target: float


@dataclass(frozen=True)
class Part:
    """One question.

    unit: of a sample's cost.
    measure: takes a running server and the settings.
    """

    name: str
    question: str
    unit: str
    pairs: list[Pair]
    measure: Callable[[Server, Settings], Sample]

    @property
    def contestants(self) -> list[Contestant]:
        return list(dict.fromkeys(contestant for pair in self.pairs for contestant in (pair.first, pair.second)))


def measure_load(server: Server, settings: Settings) -> Sample:
    """CPU time for each request, in microseconds."""
    put_load(server.port, settings.connections, settings.warm_up, settings.wrk)
    before = cpu_seconds(server.pid)
    result = put_load(server.port, settings.connections, settings.seconds, settings.wrk)
    used = cpu_seconds(server.pid) - before
    if not result.requests or used <= 0:
        raise BenchmarkError(f"{result.requests} requests and {used} s of CPU time are too little to measure; ask for more --seconds")
    return Sample(used / result.requests * 1e6, result.requests / result.seconds)


def measure_idle(server: Server, settings: Settings) -> Sample:
    """Memory for each idle connection that has had one answer, in KiB."""
    with idle_connections(server.port, settings.idle_connections // 20):
        pass  # the first connections cost what is needed only once
    time.sleep(settings.settling)
    before = resident_bytes(server.pid)
    with idle_connections(server.port, settings.idle_connections):
        time.sleep(settings.settling)
        after = resident_bytes(server.pid)
    return Sample((after - before) / settings.idle_connections / 1024)


@contextmanager
def idle_connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open so many connections, ask once on each, and keep them as long as the block lasts.

    :raises BenchmarkError: the server has closed one of them by the end
    """
    _allow_open_files(count + 200)
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(port)) for _ in range(count)]
        for sock in sockets:
            ask(sock)
        yield sockets
        for sock in sockets:
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.recv(1)
                raise BenchmarkError("the server closed connections that were to stay idle")


def _allow_open_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise BenchmarkError(f"{count} open files are needed, but only {hard} allowed; raise it: ulimit -n {count}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


PARTS = [
    Part(
        "hello",
        "What does the server cost? A bare ASGI app, CPU time for each request",
        "µs",
        [
            Pair(ours("hello", "asyncio"), uvicorn("asyncio"), 0.90),
            Pair(ours("hello", "uvloop"), uvicorn("uvloop"), 0.90),
            Pair(ours("hello", "trio"), hypercorn("trio"), 0.25),
        ],
        measure_load,
    ),
    Part(
        "protection",
        "What does the promise cost? A routed hello-world with it and without, CPU time for each request",
        "µs",
        [Pair(ours("protected", loop), ours("unprotected", loop), 1.10) for loop in ("asyncio", "uvloop", "trio")],
        measure_load,
    ),
    Part(
        "idle",
        "What does a connection cost that nobody uses? Memory for each one that has had an answer",
        "KiB",
        [Pair(ours("hello", loop), uvicorn(loop), 1.00) for loop in ("asyncio", "uvloop")],
        measure_idle,
    ),
]


def run(part: Part, settings: Settings, progress: Callable[[str], None]) -> dict[Contestant, list[Sample]]:
    """Measure every contestant of a part, in turns.

    :raises BenchmarkError: something failed, so that there is no result
    """
    contestants = part.contestants
    check_installed(contestants)
    samples: dict[Contestant, list[Sample]] = {contestant: [] for contestant in contestants}
    for number in range(settings.rounds):
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            progress(f"{part.name}: round {number + 1} of {settings.rounds}: {contestant.name}")
            with running(contestant) as server:
                samples[contestant].append(part.measure(server, settings))
    return samples
