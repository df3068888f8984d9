"""How many clients get their answer in time, when for two seconds more of them come than can be served?

    capacity   ten slots, 100 ms of work each: 100 answers a second, with a semaphore in the process or in PostgreSQL
    load       80 clients a second for 30 s, 300 from second 2 to 4; each leaves after 0.2 to 0.8 s, or asks once more

All stacks run side by side, each with the same clients, two seconds apart, so that no two bursts meet. That is fair as long as the
machine keeps up, which is measured, too: how late the clients came, how busy the cores were, and how long 100 ms of work took.
"""

import http.client
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median

from benchmarks.apps import work
from benchmarks.clients import patience
from benchmarks.errors import BenchmarkError
from benchmarks.measuring import Data, Part, Run, percentile
from benchmarks.parts.goodput_accounts import account, per_second
from benchmarks.parts.goodput_figure import figure
from benchmarks.parts.goodput_tables import OURS, claim, page, tables, targets
from benchmarks.postgres import PACKAGES, running_postgres
from benchmarks.processes import cpu_seconds, machine_seconds
from benchmarks.running import Running, get, notes, running
from benchmarks.stacks import Stack, missing_packages

POST = Stack("starlette", "uvicorn-h11", "asyncio")
"""What the post measured."""

STACKS = [
    POST,
    Stack("fastapi", "uvicorn-httptools", "uvloop"),  # what most people run
    Stack("aiohttp", "aiohttp", "asyncio"),
    Stack("aiohttp-cancelling", "aiohttp", "asyncio"),
    Stack("quart", "hypercorn", "asyncio"),
    Stack("starlette-cancelled", "uvicorn-h11", "asyncio"),
    OURS,
]

POOLED = [each for each in STACKS if each.framework not in ("fastapi", "aiohttp", "quart")]
"""Those that PostgreSQL is asked by. To cancel a query takes it a connection and a process more: for all stacks, two cores are too few."""

RATE = 80.0
BURST_RATE = 300.0
"""Clients a second."""


@dataclass(frozen=True)
class Scenario:
    """When what happens, in seconds.

    seconds: that clients come for.
    burst: from when to when more of them come.
    after: the second from which on it should be over: the last of the burst's clients has left.
    stagger: between the beginnings of two stacks.
    """

    seconds: int = 30
    burst: tuple[float, float] = (2.0, 4.0)
    after: int = 6
    stagger: float = 2.0


QUICK = Scenario(seconds=2, burst=(0.2, 0.6), after=1, stagger=0.3)


@dataclass(frozen=True)
class Variant:
    """What the slots are, and how often a client asks.

    name: as tables show it.
    """

    name: str
    path: str
    visits: int


SEMAPHORE = Variant("a semaphore", "/slot", 1)
RETRYING = Variant("a semaphore and clients that retry once", "/slot", 2)
POSTGRES = Variant("a pool of ten PostgreSQL connections", "/query", 1)


def measure(run: Run) -> Data:
    """Variant after variant, all stacks at once in each."""
    scenario = QUICK if run.quick else Scenario()
    stacks = run.installed([POST, OURS] if run.quick else STACKS)
    variants = [RETRYING, POSTGRES] if run.quick else [SEMAPHORE, RETRYING, POSTGRES]
    if missing := missing_packages(PACKAGES):
        run.progress.missing(POSTGRES.name, f"pip install {' '.join(missing)}")
        variants.remove(POSTGRES)
    run.progress.total(len(variants))
    measured = []
    for variant in variants:
        chosen = [stack for stack in stacks if variant is not POSTGRES or stack in POOLED]
        with run.step(f"{variant.name}: {len(chosen)} stacks side by side"), _environment(variant) as environment:
            measured.append(_measure(scenario, variant, chosen, environment))
    return {
        **asdict(scenario),
        "rate": RATE,
        "burst_rate": BURST_RATE,
        "slots": work.SLOTS,
        "capacity": work.SLOTS / work.SLOT_SECONDS,
        "variants": measured,
    }


@contextmanager
def _environment(variant: Variant) -> Iterator[Mapping[str, str]]:
    if variant is not POSTGRES:
        yield {}
        return
    with running_postgres() as address:
        yield {work.DSN: address}


def _measure(scenario: Scenario, variant: Variant, stacks: Sequence[Stack], environment: Mapping[str, str]) -> Data:
    arrivals = patience.arrivals(scenario.seconds, RATE, scenario.burst, BURST_RATE, variant.visits)
    with ExitStack() as lifetimes:
        # Asked to end, they would go on with what nobody waits for, for up to half a minute.
        servers = [lifetimes.enter_context(running(stack, environment, gracefully=False)) for stack in stacks]
        for server in servers:
            with _answering(server):
                get(server.port, f"{variant.path}?token=")  # opens the pool
        used = [cpu_seconds(server.pid) for server in servers]
        machine = [machine_seconds()]
        plan = patience.Plan([server.port for server in servers], variant.path, scenario.stagger, arrivals)
        outcomes = patience.send(plan, lambda: machine.append(machine_seconds()))
        used = [cpu_seconds(server.pid) - before for server, before in zip(servers, used, strict=True)]
        noted = []
        for server in servers:
            with _answering(server):
                noted.append(notes(server.port)["notes"])
    accounts = []
    for number, stack in enumerate(stacks):
        visits = [visit for visit in outcomes.visits if visit.server == number]
        accounts.append(
            {"stack": stack.name, **account(visits, noted[number], outcomes.zero[number], scenario.seconds), "cpu": used[number]}
        )
    lags = [visit.began - visit.due for visit in outcomes.visits]
    return {
        "variant": variant.name,
        "clients": len(arrivals),
        "offered": per_second([arrival.at for arrival in arrivals], scenario.seconds),
        "lag": {"p50": round(median(lags), 5), "p99": round(percentile(lags, 0.99), 5), "max": round(max(lags), 5)},
        "client_cpu": round(outcomes.cpu, 3),
        "machine": [round((busy - before) / (now - then), 2) for (before, then), (busy, now) in pairwise(machine) if now > then],
        "stacks": accounts,
    }


@contextmanager
def _answering(server: Running) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise BenchmarkError(f"{server.stack.name} doesn't answer: {error!r}; it said: {server.said() or 'nothing'}") from None


PART = Part(
    "goodput",
    "When for two seconds more clients come than can be served, how many get their answer in time, then and later?",
    measure,
    tables,
    targets,
    lambda data: {"goodput": figure(data)},
    page,
    claim,
)
