"""How much a server or a framework answers: wrk against one process, hello-worlds, small bodies and large ones.

Duels have several rounds: those with a target, and those that a reader asks for first. Every stack gets one turn with every
workload beside that, which shows where it stands, not percents.
"""

from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import pricing
from benchmarks.limits import allowed_connections
from benchmarks.load import find_wrk
from benchmarks.measuring import Data, Part, Run, Table, Target
from benchmarks.parts import throughput_prices as prices
from benchmarks.parts.throughput_contest import CROWD, DUELS, FRAMEWORKS_ON_SERVERS, HELLO, SERVERS_ALONE, workloads
from benchmarks.parts.throughput_standings import (
    ahead,
    duels,
    figure_of_hello,
    named,
    of_bodies,
    of_duels,
    of_frameworks,
    of_servers,
    of_those_ahead,
)
from benchmarks.report import section, verdict
from benchmarks.sampling import Sample, Samples, identifier, plain, shown_ratio, take_heat, take_turn
from benchmarks.stacks import EVERY, Stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROUNDS = 3
"""Of the duels."""

SECONDS = 0.8
"""Of load in each turn of a duel, …"""

SECONDS_OF_EACH = 0.4
"""… and for each workload of the single turns. wrk measures the time, so that it needn't be whole."""


def measure(run: Run) -> Data:
    """The duels, the prices, then everything once."""
    allowed = allowed_connections(run, CROWD.connections)
    wrk = find_wrk(run.progress)
    rounds, rounds_of_prices, seconds, seconds_of_each = (
        (1, 1, 0.3, 0.2) if run.quick else (ROUNDS, prices.ROUNDS, SECONDS, SECONDS_OF_EACH)
    )
    fighters, everybody = _contestants(run)
    heats = [list(heat) for _, heat in groupby(fighters, lambda stack: (stack.framework == "bare", stack.loop))]
    priced = prices.heats(run)
    run.progress.total(len(heats) * (run.rounds or rounds) + len(priced) * (run.rounds or rounds_of_prices) + len(everybody))
    samples: list[Sample] = []
    for number, heat in run.turns(heats, rounds):
        with run.step(f"round {number + 1}: {' against '.join(named(stack) for stack in heat)}"):
            samples += take_heat(heat, number, [HELLO], seconds, wrk)
    of_prices = list(pricing.measure(run, priced, rounds_of_prices, seconds, wrk))
    for stack in everybody:
        possible = [each for each in workloads(stack) if each.connections <= allowed and (wrk or not each.needs_wrk)]
        asked = [each for each in possible if each is not HELLO or stack not in fighters]
        with run.step(f"{len(asked)} workloads: {stack.name}"):
            samples += take_turn(stack, 0, asked, seconds_of_each, wrk)
    return {"samples": plain(samples), "prices": plain(of_prices), "wrk": wrk is not None}


def _contestants(run: Run) -> tuple[list[Stack], list[Stack]]:
    """Those of the duels, opponents side by side as DUELS has them, and all that get a single turn."""
    fighters = list(dict.fromkeys(stack for duel in DUELS for stack in (duel.ours, duel.theirs)))
    everybody = SERVERS_ALONE + FRAMEWORKS_ON_SERVERS
    if run.quick:
        fighters, everybody = fighters[:2], [SERVERS_ALONE[0], FRAMEWORKS_ON_SERVERS[0]]
    installed = run.installed(dict.fromkeys(fighters + everybody))
    return [stack for stack in fighters if stack in installed], [stack for stack in everybody if stack in installed]


def tables(data: Data) -> list[Table]:
    """The duels, the prices, who stands where, and what failed."""
    samples, of_prices = Samples(data), prices.samples(data)
    found = [of_duels(samples), *([prices.table(data)] if of_prices.all else [])]
    found += [of_servers(samples), of_frameworks(samples), of_bodies(samples), of_those_ahead(samples)]
    if failures := [*samples.failures(), *of_prices.failures()]:
        found.append(Table("What failed", ("stack", "workload", "why"), failures))
    return found


def targets(data: Data) -> list[Target]:
    """Those of the duels, and of the prices."""
    samples, found = Samples(data), []
    for duel, rates, costs in duels(samples):
        if duel.at_least is not None:
            what = f"requests/s of a hello-world, {duel.what}, as a multiple of {duel.opponent}"
            told = f"{shown_ratio(rates)}; CPU time {shown_ratio(costs)}"
            if samples.saturated(identifier(duel.ours), HELLO.name):
                told += "; the load generator was our limit"
            found.append(Target(what, f"at least {duel.at_least:g}", told, bool(rates) and median(rates) >= duel.at_least))
    return found + prices.targets(data)


def figures(data: Data) -> "dict[str, Figure]":
    """The hello-worlds."""
    return {"throughput": figure_of_hello(Samples(data))}


def page(data: Data) -> str:
    """The duels, and who is ahead of us."""
    samples = Samples(data)
    generator = "wrk" if data["wrk"] else "our own generator, for lack of wrk"
    lines = [
        *section(of_duels(samples)),
        "",
        f"Asked by {generator}, in one thread; one worker of each server. {verdict(targets(data))}".strip(),
        "",
        *([line, ""] if (line := prices.line(data)) else []),
        "Ahead of us with a hello-world, in requests a second as a multiple of ours on the same loop:",
        "",
        f"* servers of bare ASGI: {_ahead(samples, SERVERS_ALONE)}",
        f"* frameworks: {_ahead(samples, FRAMEWORKS_ON_SERVERS)}",
        "",
        "More servers, frameworks and workloads are in [results/throughput.md](results/throughput.md).",
    ]
    return "\n".join(lines)


def claim(data: Data) -> str:
    """The duels, as multiples."""
    found: dict[str, list[str]] = {}
    for duel, rates, _ in duels(Samples(data)):
        found.setdefault(duel.what, []).append(f"{f'{median(rates):.2f}' if rates else 'failed'} times {duel.opponent}")
    told = "; ".join(f"{what}, {', '.join(opponents)}" for what, opponents in found.items())
    return f"**How much it answers.** Requests a second of a hello-world, beside others on the same loop: {told}."


def _ahead(samples: Samples, stacks: list[Stack]) -> str:
    """`on uvloop granian 1.63, uvicorn httptools 1.34`, loop by loop; or that there is nobody."""
    found = {loop: [f"{named(stack, loop=False)} {more:.2f}" for stack, more, _ in ahead(samples, HELLO, loop, stacks)] for loop in EVERY}
    return "; ".join(f"on {loop} {', '.join(who)}" for loop, who in found.items() if who) or "nobody"


PART = Part(
    "throughput",
    "How much does it answer, and at what price? Requests a second, and CPU time for each, beside what people use.",
    measure,
    tables,
    targets,
    figures,
    page,
    claim,
)
