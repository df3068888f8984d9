"""How long after its client left does a handler end, if many leave at once? And what do the others notice of it?

    crowd     open N, ask for /wait ............ close, close, close ...
    server                                       |--stopping--> ended      each handler notes when
    prober    GET / every 2 ms ... calm .......|......... during ........|

All clocks are `time.monotonic()`, one for all processes. A handler's stopping is counted from its own client's close: the last of
10,000 closes comes a good while after the first, and how long the closing took is told.
"""

import os
import time
from collections.abc import Sequence

from benchmarks.clients.prober import Probe
from benchmarks.clients.remote import Remote, remote
from benchmarks.errors import BenchmarkError
from benchmarks.limits import allowed_connections
from benchmarks.measuring import Data, Part, Run, percentile
from benchmarks.parts.latency_tables import MANY, claim, figures, page, tables, targets
from benchmarks.processes import open_files
from benchmarks.running import Running, notes, running
from benchmarks.stacks import Stack

STACKS = [
    *(Stack("microasgi", "microasgi", loop) for loop in ("asyncio", "uvloop", "trio")),
    Stack("starlette-cancelled", "uvicorn-h11", "asyncio"),
    Stack("starlette-cancelled", "uvicorn-httptools", "uvloop"),
    Stack("quart", "hypercorn", "asyncio"),
    Stack("django", "uvicorn-h11", "asyncio"),
    Stack("aiohttp-cancelling", "aiohttp", "asyncio"),
    Stack("sanic", "sanic", "uvloop"),
]
"""Those that stop a handler when its client has left. The part `disconnect` tells who doesn't."""

LEAVING = [(1, "FIN", 6), (100, "FIN", 3), (1_000, "FIN", 2), (1_000, "RST", 1), (10_000, "FIN", 1)]
"""How many leave at once, by what, and how often that is measured."""

QUICK = [(20, "FIN", 1), (100, "RST", 1)]

AT_MOST = {"django": 1_000}
"""How many leave frameworks that can't bear more: with 10,000 requests waiting, Django answered nobody for half a minute in a trial."""

CALM = {1: 0.1, 100: 0.1, 1_000: 0.3, 10_000: 0.5}
"""Seconds of probing before they leave, by how many at most they are."""

WATCH = 10.0
"""Seconds of probing from then on, at most."""

LEAST = 0.1
"""Seconds after the first close that count as `during`, even if all handlers ended sooner."""

DEADLINE = 20.0
"""Seconds until all handlers must have begun, and until one that hasn't ended counts as never stopped."""


def measure(run: Run) -> Data:
    """One turn is one server, on which clients leave in growing numbers."""
    plan = QUICK if run.quick else LEAVING
    allowed = allowed_connections(run, max(count for count, _, _ in plan))
    plan = [(count, how, times) for count, how, times in plan if count <= allowed]
    stacks = run.installed(STACKS[::3] if run.quick else STACKS)
    rounds = run.rounds or 1
    run.progress.total(sum(count <= AT_MOST.get(stack.framework, count) for stack in stacks for count, _, _ in plan) * rounds)
    samples: list[Data] = []
    logs: dict[str, str] = {}
    failures: dict[str, str] = {}
    for _, stack in run.turns(stacks, rounds):
        try:
            with running(stack) as server, remote("crowd", server.port) as crowd, remote("prober", server.port) as prober:
                at_start = len(server.said())
                for count, how, times in plan:
                    if count > AT_MOST.get(stack.framework, count):
                        continue
                    with run.step(f"{stack.name}: {count} leave by {how}"):
                        for _ in range(times):
                            departure = _departure(server, crowd, prober, count, how)
                            samples.append({"stack": stack.name, "how": how, "count": count, **departure})
                logs[stack.name] = (logs.get(stack.name, "") + server.said()[at_start:])[:500]
        except BenchmarkError as error:  # a result, too, and no reason to lose the others'
            failures[stack.name] = str(error)[:500]
    return {
        "stacks": [stack.name for stack in stacks],
        "ours": [stack.name for stack in stacks if stack.server == "microasgi"],
        "deadline": DEADLINE,
        "least": LEAST,
        "at_most": {stack.name: AT_MOST[stack.framework] for stack in stacks if stack.framework in AT_MOST},
        "samples": samples,
        "logs": logs,
        "failures": failures,
    }


def _departure(server: Running, crowd: Remote, prober: Remote, count: int, how: str) -> Data:
    """:raises BenchmarkError: not all handlers have begun"""
    prefix = os.urandom(4).hex()
    arriving = crowd.ask("arrive", count=count, prefix=prefix)
    tokens = [f"{prefix}-{number}" for number in range(count)]
    if late := _until(server.port, tokens, "began"):
        raise BenchmarkError(f"{late} of {count} handlers haven't begun after {DEADLINE:.0f} s")
    files = open_files(server.pid)
    prober.tell("probe")
    time.sleep(_by_size(CALM, count))
    closed = crowd.ask("leave", reset=how == "RST")
    _watch(server, files - count)
    prober.tell("stop")
    probes = prober.answer()
    left = _until(server.port, tokens, "ended")
    noted = notes(server.port)["notes"]
    return {"arriving": round(arriving, 2), "left": left, **_evaluated(closed, [noted[token]["ended"] for token in tokens], probes)}


def _watch(server: Running, files: int) -> None:
    """Let the prober go on until the server has closed all but so many files, and the prober's: a look that costs it nothing."""
    deadline = time.monotonic() + WATCH
    while open_files(server.pid) > files + 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(LEAST)


def _by_size(seconds: dict[int, float], count: int) -> float:
    return next(value for size, value in seconds.items() if count <= size)


def _until(port: int, tokens: Sequence[str], what: str) -> int:
    """Wait until all of them have noted it, and tell how many haven't when the patience ends."""
    deadline = time.monotonic() + DEADLINE
    while True:
        noted = notes(port)["notes"]
        left = sum(noted.get(token, {}).get(what) is None for token in tokens)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02 if len(tokens) < MANY else 0.2)


def _evaluated(closed: Sequence[float], ended: Sequence[float | None], probes: Sequence[Probe]) -> Data:
    """What is kept of a departure, in milliseconds.

    stopping: of each handler, from its client's close to its end; if there are many, at every hundredth.
    closing: from the first close to the last.
    lasted: from the first close to the last end.
    calm, during: the prober's response times, [median, p99, worst].
    lag: how much too late the prober itself was, at worst, during.
    """
    stopping = [(end - close) * 1000 for close, end in zip(closed, ended, strict=True) if end is not None]
    last = max((end for end in ended if end is not None), default=closed[-1])
    until = max(last, closed[0] + LEAST)
    calm = [(answered - due) * 1000 for due, answered, _ in probes if answered < closed[0]]
    during = [((answered - due) * 1000, lag * 1000) for due, answered, lag in probes if answered >= closed[0] and due <= until]
    return {
        "stopping": _hundredths(stopping),
        "closing": round((closed[-1] - closed[0]) * 1000, 2),
        "lasted": round((last - closed[0]) * 1000, 2),
        "calm": _summary(calm),
        "during": _summary([took for took, _ in during]),
        "lag": round(max((lag for _, lag in during), default=0.0), 2),
    }


def _hundredths(samples: Sequence[float]) -> list[float]:
    ordered = sorted(samples)
    if len(ordered) > 101:
        ordered = [ordered[round(share * (len(ordered) - 1) / 100)] for share in range(101)]
    return [round(sample, 3) for sample in ordered]


def _summary(samples: Sequence[float]) -> list[float] | None:
    if not samples:
        return None
    return [round(percentile(samples, share), 2) for share in (0.5, 0.99, 1.0)]


PART = Part(
    "latency",
    "How long after its client has left does a handler end, if many leave at once, and what do others notice of it?",
    measure,
    tables,
    targets,
    figures,
    page,
    claim,
)
