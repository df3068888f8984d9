"""What the default costs: two handlers with the promise and without it, on our server and on uvicorn, and in the process alone.

One handler answers at once, the other waits for a tenth of a millisecond, as for a fast cache. One that gives the loop a turn without
waiting for anything (`sleep(0)`, anyio's checkpoints and threads) costs more on asyncio: that shows in process.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import delivery
from benchmarks.errors import BenchmarkError
from benchmarks.load import Workload, find_wrk
from benchmarks.measuring import Data, Part, Run, Table, Target, spread
from benchmarks.report import section
from benchmarks.running import ROOT
from benchmarks.sampling import Sample, Samples, cost, identifier, plain, shown_ratio, take_heat
from benchmarks.stacks import EVERY, SERVERS, Stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELLO = Workload("hello")
ONCE = Workload("one that waits once", "/once")
HANDLERS = [HELLO, ONCE]

AT_MOST = {HELLO.name: 2.5, ONCE.name: 5.0}
"""µs of CPU time that the promise may add to a request on our server, where a bare hello took 41 on asyncio before all this."""

SECONDS = 0.6
"""Of load on each handler in each turn, …"""

ROUNDS = 2
"""… and turns."""

SECONDS_OF_PROMISE, ROUNDS_OF_PROMISE, LAPS = 1.6, 4, 4
"""The same for what has a target. The difference is some µs, and the machine's mood changes by more than that within a second."""

LATER = 100
"""What is added to the rounds of the rest, so that they aren't taken for rounds of the promise's."""

ROUNDS_IN_PROCESS = 11

COLOURS = ("#0072b2", "#bbbbbb")
"""With it, and without."""


@dataclass(frozen=True)
class Pair:
    """What the first does and the second doesn't, on one server and loop, for one handler."""

    what: str
    first: Stack
    second: Stack
    handler: Workload

    @property
    def where(self) -> str:
        server = "our server" if self.first.server == "microasgi" else SERVERS[self.first.server].name
        return f"{server}, {self.first.loop}"


def _pairs(what: str, first: str, second: str, places: list[tuple[str, str]], handlers: Sequence[Workload] = HANDLERS) -> list[Pair]:
    return [Pair(what, Stack(first, server, loop), Stack(second, server, loop), handler) for server, loop in places for handler in handlers]


_OURS = [("microasgi", loop) for loop in EVERY]
_UVICORN = [("uvicorn-h11", "asyncio"), ("uvicorn-httptools", "uvloop")]

THE_PROMISE = "the promise, in microasgi"
PROMISE = _pairs(THE_PROMISE, "microasgi", "microasgi-unprotected", _OURS)
PAIRS = [
    *PROMISE,
    *_pairs("CancelOnDisconnect around Starlette", "starlette-cancelled", "starlette", _OURS[:1]),
    *_pairs("routing, Request and Response", "microasgi-unprotected", "bare", _OURS, [HELLO]),
    *_pairs(THE_PROMISE, "microasgi", "microasgi-unprotected", _UVICORN[:1]),
    *_pairs("CancelOnDisconnect around Starlette", "starlette-cancelled", "starlette", _UVICORN),
    *_pairs("a watcher in Starlette's handler", "starlette-watched", "starlette", _UVICORN[:1]),
]


def measure(run: Run) -> Data:
    """What each costs, in heats of those that share a server and a loop."""
    wrk = find_wrk(run.progress)
    heats = [list(heat) for _, heat in groupby(run.installed(_stacks(PROMISE)), _place)]
    others = [list(heat) for _, heat in groupby(run.installed(_stacks([pair for pair in PAIRS if pair not in PROMISE])), _place)]
    seconds, laps, rounds, few = SECONDS_OF_PROMISE, LAPS, run.rounds or ROUNDS_OF_PROMISE, run.rounds or ROUNDS
    if run.quick:
        heats, others, seconds, laps, rounds = heats[:1], [], 0.3, 1, 1
    turns = [(number, heat, seconds, laps) for number, heat in run.turns(heats, rounds)]
    turns += [(number + LATER, heat, SECONDS, 1) for number, heat in run.turns(others, few)]
    run.progress.total(len(turns) + 1)
    samples: list[Sample] = []
    for number, stacks, seconds, laps in turns:
        with run.step(f"round {number % LATER + 1}: {len(stacks)} stacks on {SERVERS[stacks[0].server].name}, {stacks[0].loop}"):
            samples += take_heat(stacks, number, HANDLERS, seconds, wrk, laps)
    with run.step("the delivery of a cancellation, in process"):
        in_process = _in_process(1 if run.quick else ROUNDS_IN_PROCESS)
    return {"samples": plain(samples), "in process": in_process}


def _stacks(pairs: list[Pair]) -> list[Stack]:
    """All that are in them, those of one server and loop side by side."""
    return sorted({stack for pair in pairs for stack in (pair.first, pair.second)}, key=lambda stack: (*_place(stack), stack.framework))


def _place(stack: Stack) -> tuple[str, str]:
    return stack.server, stack.loop


def _in_process(rounds: int) -> Any:
    """`benchmarks.delivery`, in a process that has nothing else in memory for the garbage collector to walk through."""
    command = [sys.executable, "-m", "benchmarks.delivery", "--json", "--rounds", str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise BenchmarkError(f"benchmarks.delivery failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def tables(data: Data) -> list[Table]:
    """The pairs, every stack, and the delivery."""
    samples = Samples(data)
    return [_of_pairs(samples), _of_stacks(samples), _of_delivery(data["in process"])]


def _tried(samples: Samples) -> list[Pair]:
    """The pairs of which there is something to tell."""
    tried = {(each.stack, each.workload) for each in samples.all}
    return [pair for pair in PAIRS if {(identifier(stack), pair.handler.name) for stack in (pair.first, pair.second)} <= tried]


def _ratios(samples: Samples, pair: Pair) -> list[float]:
    return samples.ratios(identifier(pair.first), identifier(pair.second), pair.handler.name, cost)


def _more(samples: Samples, pair: Pair) -> list[float]:
    """What it costs more, in µs, in each round."""
    both = samples.paired(identifier(pair.first), identifier(pair.second), pair.handler.name)
    return [one.cost - other.cost for one, other in both]


def _costs(samples: Samples, pair: Pair) -> list[float]:
    """The medians with it and without; nothing if they never succeeded both."""
    both = samples.paired(identifier(pair.first), identifier(pair.second), pair.handler.name)
    return [median(each.cost for each in side) for side in zip(*both, strict=True)]


def _of_pairs(samples: Samples) -> Table:
    rows = []
    for pair in _tried(samples):
        costs = [f"{cost:.1f}" for cost in _costs(samples, pair)] or ["failed", "failed"]
        ratios = _ratios(samples, pair)
        more = spread(_more(samples, pair)) if ratios else "failed"
        rows.append((pair.what, pair.where, pair.handler.name, *costs, more, shown_ratio(ratios), str(len(ratios))))
    note = (
        f"`{HELLO.name}` answers at once, `{ONCE.name}` after a tenth of a millisecond; {HELLO.connections} kept connections. CPU time of"
        " the server's process and its children, user and system. A ratio is taken within each round, in which the load goes from one to"
        " the next and back; medians, and the smallest and the largest of the rounds."
    )
    columns = ("", "on", "handler", "with it, µs", "without, µs", "more, µs", "ratio", "rounds")
    return Table("What a request costs more", columns, rows, f"{note}{samples.disturbance()}")


def _of_stacks(samples: Samples) -> Table:
    rows = []
    for stack in sorted(_stacks(PAIRS), key=lambda stack: stack.server != "microasgi"):
        for handler in HANDLERS:
            if found := samples.rounds(identifier(stack), handler.name):
                costs, rates = [each.cost for each in found.values()], [each.rate for each in found.values()]
                rows.append((stack.name, handler.name, spread(costs), spread(rates, "{:,.0f}")))
    columns = ("", "handler", "µs of CPU time for a request", "requests/s")
    return Table("Each of them", columns, rows, "; ".join(": ".join(each) for each in samples.failures()))


def _of_delivery(in_process: Any) -> Table:
    rows = []
    for loop, handlers in in_process.items():
        for handler, found in handlers.items():
            bare = found["bare"]
            more = [delivery.more(found[name], bare) for name in ("delivery", "whole protection")]
            rows.append((f"{loop}, {handler}", *(spread(each) for each in (bare, *more))))
    note = "A task for each, no server and no router: `python -m benchmarks.delivery`. On Trio it isn't measured."
    return Table("A call in process, µs", ("", "a bare await", "more for the delivery", "more for the whole protection"), rows, note)


def targets(data: Data) -> list[Target]:
    """The promise on our server, and the delivery."""
    samples = Samples(data)
    found = [_of_promise(samples, pair) for pair in _tried(samples) if pair in PROMISE]
    for handler, each in data["in process"]["asyncio"].items():
        more = delivery.more(each["delivery"], each["bare"])
        what = f"CPU time of the delivery, in process, asyncio, {handler}, µs"
        found.append(Target(what, f"at most {delivery.TARGET:g}", spread(more), median(more) <= delivery.TARGET))
    return found


def _of_promise(samples: Samples, pair: Pair) -> Target:
    more, at_most = _more(samples, pair), AT_MOST[pair.handler.name]
    what = f"CPU time of a request that the promise adds, our server, {pair.first.loop}, µs: {pair.handler.name}"
    return Target(what, f"at most {at_most:g}", spread(more) if more else "failed", bool(more) and median(more) <= at_most)


def figures(data: Data) -> "dict[str, Figure]":
    """Each pair's two bars, in a panel for each handler."""
    from matplotlib.figure import Figure

    samples = Samples(data)
    tried = _tried(samples)
    names = list(dict.fromkeys(f"{pair.what}\n{pair.where}" for pair in tried))
    figure = Figure(figsize=(11, 1.6 + 0.6 * len(names)), layout="constrained")
    for axes, handler in zip(figure.subplots(1, len(HANDLERS), sharex=True, sharey=True), HANDLERS, strict=True):
        for pair in tried:
            if pair.handler == handler:
                height = names.index(f"{pair.what}\n{pair.where}")
                for cost, offset, colour in zip(_costs(samples, pair), (-0.2, 0.2), COLOURS, strict=False):  # none if it failed
                    axes.barh(height + offset, cost, 0.38, color=colour)
                    axes.annotate(f"{cost:.0f}", (cost, height + offset), (3, 0), textcoords="offset points", va="center", fontsize=10)
        axes.set_title(handler.name, fontsize=12)
        axes.margins(x=0.1, y=0.02)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("µs of CPU time for a request (median)", fontsize=11)
    axes.set_yticks(range(len(names)), names, fontsize=10)
    axes.invert_yaxis()
    bars = [axes.barh(0, 0, color=colour) for colour in COLOURS]
    figure.legend(bars, ["with it", "without it"], loc="outside upper center", ncols=2, fontsize=11, frameon=False)
    return {"overhead": figure}


def page(data: Data) -> str:
    """The pairs, and a sentence about our own server."""
    samples = Samples(data)
    verdicts = []
    for handler in HANDLERS:
        met = [_of_promise(samples, pair).met for pair in _tried(samples) if pair in PROMISE and pair.handler == handler]
        if met:
            verdicts.append(f"`{handler.name}`: met on {'every loop' if all(met) else f'{sum(met)} of {len(met)} loops'}")
    most, with_wait = AT_MOST[HELLO.name], AT_MOST[ONCE.name]
    target = f"The target, on our server: at most {most:g} µs more than without the promise, and {with_wait:g} with a wait."
    why = "Nothing is put around a handler before its client has left."
    return "\n".join([*section(_of_pairs(samples)), "", f"{why} {target} {'; '.join(verdicts)}."])


def claim(data: Data) -> str:
    """What the promise adds on our own server, loop by loop."""
    samples = Samples(data)
    found = []
    for pair in _tried(samples):
        if pair in PROMISE and pair.handler == HELLO:
            more = _more(samples, pair)
            told = f"{median(more):.1f} µs, {median(_ratios(samples, pair)):.2f} times" if more else "failed"
            found.append(f"{pair.first.loop} {told}")
    return f"**What it costs.** CPU time that the promise adds to a hello-world on our server: {'; '.join(found)}."


PART = Part(
    "overhead",
    "What does it cost that a handler stops when its client leaves? CPU time of a request, of one that never waits and of one that does.",
    measure,
    tables,
    targets,
    figures,
    page,
    claim,
)
