"""What a deployment adds: TLS, a second process, a proxy in front, connections that aren't kept. Does the promise hold, and what is paid?

The departures are in `deployment_leaving`. Prices and races are taken side by side, as those of `throughput` are.
"""

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import pricing
from benchmarks.load import Workload, find_wrk
from benchmarks.measuring import Data, Part, Run, Table, Target
from benchmarks.parts import deployment_leaving as leaving
from benchmarks.parts.throughput_contest import HELLO, STREAM
from benchmarks.pricing import Pair, Price
from benchmarks.report import section, verdict
from benchmarks.sampling import Samples, identifier, plain, rate, shown_ratio
from benchmarks.stacks import ASYNCIO, Stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROUNDS = 5

SECONDS = 1.6
"""Of load on each in a round: so long that the handshakes of its connections hardly count."""

SHARED = Workload("hello, 64 connections", connections=64)
"""For two workers, each of which has as many then as one has elsewhere."""

ONCE = Workload("hello, a connection for each", headers=(("Connection", "close"),))


@dataclass(frozen=True)
class Race(Pair):
    """
    at_least: ours is to answer so many times their requests a second.
    """

    at_least: float


_PRICES: list[tuple[str, str, Workload, float]] = [
    ("microasgi-tls", "uvicorn-httptools-tls", HELLO, 0.8),
    ("microasgi-tls", "uvicorn-httptools-tls", STREAM, 1.0),
    ("microasgi", "uvicorn-httptools", ONCE, 1.0),
    ("microasgi-workers", "microasgi", SHARED, 1.05),
]
"""Ours, theirs, what is asked of a bare ASGI app there, and how much ours may be, on either loop."""

PRICES = [
    Price(Stack("bare", ours, loop), Stack("bare", theirs, loop), workload, at_most)
    for ours, theirs, workload, at_most in _PRICES
    for loop in ASYNCIO
]

RACES = [
    Race(Stack(ours, "microasgi-workers", loop), Stack(theirs, "uvicorn-httptools-workers", loop), SHARED, 1.0)
    for ours, theirs in (("bare", "bare"), ("microasgi", "starlette"))
    for loop in ASYNCIO
]
"""Two workers each: the second pair with the promise, which a bare app has none of."""


def measure(run: Run) -> Data:
    """The departures, then prices and races."""
    wrk = find_wrk(run.progress)
    rounds, seconds = (1, 0.3) if run.quick else (ROUNDS, SECONDS)
    heats = [heat for heat in pricing.heats(run, [*PRICES, *RACES]) if wrk or not heat[1].needs_wrk]
    run.progress.total(leaving.steps(run) + len(heats) * (run.rounds or rounds))
    departures = leaving.measure(run)
    return {"departures": departures, "samples": plain(pricing.measure(run, heats, rounds, seconds, wrk))}


def tables(data: Data) -> list[Table]:
    """The departures, the prices, the races, and what failed."""
    samples = Samples(data)
    found = [leaving.everything(data["departures"]), pricing.table(PRICES, samples), _races(samples)]
    if failures := samples.failures():
        found.append(Table("What failed", ("stack", "workload", "why"), failures))
    return found


def _tried(samples: Samples) -> list[tuple[Race, list[float]]]:
    found = [(race, pricing.ratios(race, samples, rate)) for race in RACES]
    return [(race, ratios) for race, ratios in found if ratios is not None]


def _races(samples: Samples) -> Table:
    rows = []
    for race, ratios in _tried(samples):
        rates = [samples.median(identifier(stack), race.workload.name, rate) for stack in (race.ours, race.theirs)]
        shown = ["failed" if rate is None else f"{rate:,.0f}" for rate in rates]
        rows.append((race.what, race.opponent, *shown, shown_ratio(ratios), f"{race.at_least:g}", str(len(ratios))))
    note = (
        "Two worker processes of each server, and wrk in one thread, which takes its share of the same cores. Where uvicorn's workers on"
        " asyncio answer a few hundred: it writes head and body apart, and its listening socket (0.54) doesn't name TCP as its protocol,"
        " by which asyncio would know to set TCP_NODELAY; so each answer waits for the client's acknowledgement."
    )
    columns = ("asked", "against", "ours, requests/s", "theirs", "ratio", "at least", "rounds")
    return Table("Two workers", columns, rows, f"{note}{samples.disturbance()}")


def targets(data: Data) -> list[Target]:
    """All of them."""
    samples = Samples(data)
    races = [
        Target(
            f"requests/s, {race.what}, as a multiple of {race.opponent}",
            f"at least {race.at_least:.2f}",
            shown_ratio(ratios),
            bool(ratios) and median(ratios) >= race.at_least,
        )
        for race, ratios in _tried(samples)
    ]
    return [*leaving.targets(data["departures"]), *pricing.targets(PRICES, samples), *races]


def figures(data: Data) -> "dict[str, Figure]":
    """The departures."""
    from benchmarks.parts.deployment_figure import draw

    return {"deployment": draw(data["departures"])}


def page(data: Data) -> str:
    """The departures, loop by loop in the picture, and the rest in tables."""
    samples = Samples(data)
    lines = [
        "![How long after its client a handler ended, for each departure](results/deployment.svg)",
        "",
        *section(leaving.by_carrier(data["departures"])),
        "",
        *section(pricing.table(PRICES, samples)),
        "",
        *section(_races(samples)),
        "",
        verdict(targets(data)),
    ]
    return "\n".join(lines)


PART = Part(
    "deployment",
    "Does the promise hold over TLS, over a unix socket and behind proxies, and what do TLS, workers and new connections cost?",
    measure,
    tables,
    targets,
    figures,
    page,
)
