"""What `throughput` shows: the duels, who stands where, and who is ahead of us."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.load import Workload
from benchmarks.measuring import Table
from benchmarks.parts.throughput_contest import BODIES, DUELS, FRAMEWORKS_ON_SERVERS, HELLO, OF_FRAMEWORKS, OF_SERVERS, SERVERS_ALONE, Duel
from benchmarks.sampling import SATURATED, Sample, Samples, cost, identifier, rate, shown_ratio
from benchmarks.stacks import EVERY, SERVERS, Stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS = "#0072b2"
THEIRS = "#bbbbbb"


def flow(sample: Sample) -> float:
    """Megabytes a second."""
    return sample.flow


def cost_of_gigabyte(sample: Sample) -> float:
    """CPU time of a gigabyte, in seconds."""
    return sample.cost_of_gigabyte


def named(stack: Stack, *, loop: bool = True) -> str:
    """Shorter than its name, where all around it is bare ASGI or all of it has a framework."""
    without = SERVERS[stack.server].name if stack.framework == "bare" else stack.name.removesuffix(f", {stack.loop}")
    return f"{without}, {stack.loop}" if loop else without


def duels(samples: Samples) -> list[tuple[Duel, list[float], list[float]]]:
    """Those that were tried, with the ratios of requests a second and of CPU time in each round; ours as a share of theirs."""
    tried = {each.stack for each in samples.all}
    named = [(duel, identifier(duel.ours), identifier(duel.theirs)) for duel in DUELS]
    return [
        (duel, samples.ratios(ours, theirs, HELLO.name, rate), samples.ratios(ours, theirs, HELLO.name, cost))
        for duel, ours, theirs in named
        if {ours, theirs} <= tried
    ]


def of_duels(samples: Samples) -> Table:
    """The pairs that took turns."""
    rows = []
    for duel, rates, costs in duels(samples):
        names = identifier(duel.ours), identifier(duel.theirs)
        each = [_cell(samples, name, HELLO, rate, cost) for name in names]
        rows.append((duel.what, duel.opponent, *each, shown_ratio(rates), shown_ratio(costs), str(len(rates))))
    columns = ("hello-world", "against", "ours, requests/s / µs", "theirs", "ratio of requests/s", "ratio of CPU time", "rounds")
    note = (
        f"{HELLO.connections} kept connections; µs of CPU time of the server's process and its children for each request. Ratios are ours"
        " to theirs, taken within each round, in which the load goes from one to the next and back: the median, and the smallest and"
        " the largest of the rounds."
    )
    return Table("Side by side", columns, rows, f"{note}{_about_limits(samples, [HELLO])}{samples.disturbance()}")


def of_servers(samples: Samples) -> Table:
    """Servers, with no framework on them."""
    workloads = [workload for workload in OF_SERVERS if workload not in BODIES]
    return _of_requests("Servers: bare ASGI", samples, SERVERS_ALONE, workloads)


def of_frameworks(samples: Samples) -> Table:
    """Frameworks on servers."""
    return _of_requests("Frameworks", samples, FRAMEWORKS_ON_SERVERS, OF_FRAMEWORKS)


def of_bodies(samples: Samples) -> Table:
    """Large bodies, in both directions."""
    rows = _rows(samples, SERVERS_ALONE + FRAMEWORKS_ON_SERVERS, BODIES, flow, cost_of_gigabyte)
    columns = ["MB/s / s of CPU time for a GB", *(f"{each.name}, {each.connections} connections" for each in BODIES)]
    note = (
        "One turn for each. A stream comes in pieces of 64 KiB. The bytes of unfinished responses are counted, too, but not those of"
        " unfinished uploads."
    )
    return Table("Large bodies", columns, rows, f"{note}{_about_limits(samples, BODIES)}")


def _of_requests(title: str, samples: Samples, stacks: Sequence[Stack], workloads: Sequence[Workload]) -> Table:
    rows = _rows(samples, stacks, workloads, rate, cost)
    note = (
        "One turn for each (a plain hello of those that stand side by side above: the median of their rounds): this shows where each"
        f" stands, not percents. {HELLO.connections} connections where nothing else is said; with 1,000, the figures hold their opening."
    )
    return Table(
        title, ["requests/s / µs of CPU time", *(each.name for each in workloads)], rows, f"{note}{_about_limits(samples, workloads)}"
    )


def _rows(
    samples: Samples,
    stacks: Sequence[Stack],
    workloads: Sequence[Workload],
    value: Callable[[Sample], float],
    price: Callable[[Sample], float],
) -> list[list[str]]:
    found = []
    for stack in stacks:
        cells = [_cell(samples, identifier(stack), workload, value, price) for workload in workloads]
        if any(cells):
            found.append([named(stack), *cells])
    return found


def _cell(samples: Samples, name: str, workload: Workload, value: Callable[[Sample], float], price: Callable[[Sample], float]) -> str:
    """`10,836 / 92`; nothing if it wasn't tried."""
    amount, paid = samples.median(name, workload.name, value), samples.median(name, workload.name, price)
    if amount is None or paid is None:
        return "failed" if samples.failed(name, workload.name) else ""
    return f"{'≥ ' if samples.saturated(name, workload.name) else ''}{amount:,.0f} / {paid:,.{0 if paid >= 10 else 2}f}"


def _about_limits(samples: Samples, workloads: Sequence[Workload]) -> str:
    names = {workload.name for workload in workloads}
    if not any(samples.saturated(each.stack, each.workload) for each in samples.all if each.workload in names):
        return ""
    return f" ≥: the load generator used more than {SATURATED:.0%} of its core, so that the server could have done more."


def ahead(samples: Samples, workload: Workload, loop: str, stacks: Sequence[Stack]) -> list[tuple[Stack, float, float]]:
    """Who did more than ours on the same loop, the fastest first: with their throughput and their CPU time as multiples of ours."""
    value, price = (flow, cost_of_gigabyte) if workload in BODIES else (rate, cost)
    ours = identifier(Stack(stacks[0].framework, "microasgi", loop))
    found = []
    for stack in stacks:
        if stack.loop == loop:
            more, dearer = (_multiple(samples, identifier(stack), ours, workload, each) for each in (value, price))
            if more is not None and dearer is not None and more > 1:
                found.append((stack, more, dearer))
    return sorted(found, key=lambda each: -each[1])


def _multiple(samples: Samples, theirs: str, ours: str, workload: Workload, value: Callable[[Sample], float]) -> float | None:
    """Their value as a multiple of ours: within rounds, where both have had several."""
    ratios = samples.ratios(theirs, ours, workload.name, value)
    if len(ratios) > 1:
        return median(ratios)
    their_value, our_value = samples.median(theirs, workload.name, value), samples.median(ours, workload.name, value)
    return None if their_value is None or not our_value else their_value / our_value


def of_those_ahead(samples: Samples) -> Table:
    """Where we aren't the fastest."""
    rows = []
    for kind, stacks, workloads in (("bare", SERVERS_ALONE, OF_SERVERS), ("routed", FRAMEWORKS_ON_SERVERS, [*OF_FRAMEWORKS, *BODIES])):
        for workload in workloads:
            for loop in EVERY:
                who = [
                    f"{named(stack, loop=False)} {more:.2f} ({price:.2f})" for stack, more, price in ahead(samples, workload, loop, stacks)
                ]
                if who:
                    rows.append((f"{kind}: {workload.name}", loop, "; ".join(who)))
    note = (
        "Throughput as a multiple of ours, and in brackets their CPU time as a multiple of ours. Of all else that was measured, nobody was"
        " ahead of us."
    )
    return Table("Ahead of us on the same loop", ("", "loop", "who"), rows or [("nobody", "", "")], note)


def figure_of_hello(samples: Samples) -> "Figure":
    """Hello-world on every stack."""
    from matplotlib.figure import Figure

    panels = (("bare ASGI", SERVERS_ALONE), ("with a framework", FRAMEWORKS_ON_SERVERS))
    bars = [(title, _bars(samples, stacks)) for title, stacks in panels]
    heights = [max(1, len(each)) for _, each in bars]
    figure = Figure(figsize=(10, 1.6 + 0.32 * sum(heights)), layout="constrained")
    for axes, (title, each) in zip(figure.subplots(2, 1, height_ratios=heights, sharex=True), bars, strict=True):
        names, values, colours = [name for name, _, _ in each], [value for _, value, _ in each], [colour for _, _, colour in each]
        axes.barh(names, values, color=colours)
        for place, value in enumerate(values):
            axes.annotate(f"{value:,.0f}", (value, place), (3, 0), textcoords="offset points", va="center", fontsize=10)
        axes.margins(x=0.08, y=0.01)
        axes.invert_yaxis()
        axes.tick_params(axis="y", labelsize=10)
        axes.set_title(f"{title}, {HELLO.connections} connections", loc="left", fontsize=12)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("requests a second for a hello-world, one worker (blue: our server)", fontsize=11)
    return figure


def _bars(samples: Samples, stacks: Sequence[Stack]) -> list[tuple[str, float, str]]:
    """Name, requests a second and colour, the fastest first."""
    found = [(stack, samples.median(identifier(stack), HELLO.name, rate)) for stack in stacks]
    return sorted(
        ((named(stack), value, OURS if stack.server == "microasgi" else THEIRS) for stack, value in found if value is not None),
        key=lambda bar: -bar[1],
    )
