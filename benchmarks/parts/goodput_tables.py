"""What `goodput` tells: tables, targets and paragraphs for the READMEs, all out of its data, and true whatever that is."""

from collections.abc import Iterator
from statistics import mean, median

from benchmarks.apps import work
from benchmarks.measuring import Data, Table, Target, spread
from benchmarks.parts.goodput_accounts import doubts, recovery
from benchmarks.report import grid
from benchmarks.stacks import Stack

OURS = Stack("microasgi", "microasgi", "asyncio")

EXPECTED = 75
"""Answers a second after the burst, of 80 asked for: the least that a trial before this benchmark saw where handlers stop."""


def tables(data: Data) -> list[Table]:
    """One for each variant, and one that tells whether to believe them."""
    columns = (
        "stack",
        f"answers/s from second {data['after']} on",
        "recovered after",
        "clients served",
        "slot-s for nobody",
        "slot-s used",
        "failed",
        "still running for nobody",
        "CPU",
    )
    found = []
    for variant in data["variants"]:
        rows = [_row(data, variant, stack) for stack in variant["stacks"]]
        found.append(Table(f"Goodput with {variant['variant']}", columns, rows, _note(data, variant)))
    return [*found, _machine(data)]


def _row(data: Data, variant: Data, stack: Data) -> tuple[str, ...]:
    since = recovery(stack["answered"], data)
    return (
        stack["stack"],
        spread(_later(data, stack), "{:.0f}"),
        "never" if since is None else f"{since - data['burst'][1]:.0f} s",
        f"{stack['served'] / variant['clients']:.0%}",
        f"{sum(stack['nobody']):.1f}",
        f"{stack['used']:.1f}",
        str(stack["failed"]),
        str(stack["queued"]),
        f"{stack['cpu'] / data['seconds']:.0%}",
    )


def _later(data: Data, stack: Data) -> list[int]:
    """Answers in each second since it should be over."""
    answered: list[int] = stack["answered"]
    return answered[data["after"] :]


def _note(data: Data, variant: Data) -> str:
    words = [
        "Answers that came before their client left, by the second: median (worst to best);",
        f"{data['capacity']:.0f} are possible, {data['rate']:.0f} asked for.",
        "Recovered: from the burst's end until each second, to the last, had answers for half of the clients.",
        "For nobody: the client had left, or left before the answer arrived. CPU: of one core.",
    ]
    return " ".join(words + _doubts(variant))


def _doubts(variant: Data) -> list[str]:
    return [f"**Not to be trusted with {variant['variant']}: {reason}.**" for reason in doubts(variant, work.SLOT_SECONDS)]


def _machine(data: Data) -> Table:
    columns = (
        "variant",
        "clients came late: p99",
        "max",
        "CPU of the clients",
        "machine busy: mean",
        "worst second",
        "100 ms of work: mean",
        "p99",
    )
    rows = [
        (
            variant["variant"],
            f"{1000 * variant['lag']['p99']:.1f} ms",
            f"{1000 * variant['lag']['max']:.1f} ms",
            f"{variant['client_cpu']:.0%}",
            f"{mean(variant['machine']):.0%}",
            f"{max(variant['machine']):.0%}",
            *(f"{1000 * max(stack['work'][name] for stack in variant['stacks']):.0f} ms" for name in ("mean", "p99")),
        )
        for variant in data["variants"]
    ]
    note = "All stacks run at once; this is whether the machine can carry that. CPU: of one core; machine: of all. Work: the worst stack's."
    return Table("Did clients and machine keep up?", columns, rows, note)


def targets(data: Data) -> list[Target]:
    """What the trial saw."""
    return [
        Target(
            f"answers a second from second {data['after']} on, {stack['stack']}, {variant['variant']}",
            f"at least {EXPECTED} (median)",
            spread(_later(data, stack), "{:.0f}"),
            median(_later(data, stack)) >= EXPECTED,
        )
        for variant in data["variants"]
        for stack in variant["stacks"]
        if stack["stack"] == OURS.name
    ]


def page(data: Data) -> str:
    """The picture, what is to be seen in it, and the numbers of the first variant."""
    first = data["variants"][0]
    rows = [(_short(stack), *cells) for stack, *cells in (_row(data, first, stack) for stack in first["stacks"])]
    shown = [(stack, answers, served, f"{nobody} of {used}") for stack, answers, _, served, nobody, used, *_ in rows]
    columns = ("stack", f"answers/s from second {data['after']} on", "clients served", "slot-seconds for nobody")
    text = [_setting(data), *_seen(data), *(doubt for variant in data["variants"] for doubt in _doubts(variant))]
    about = [
        f"With {first['variant']}; answers by the second, median (worst to best). On asyncio where nothing else is said.",
        f"All stacks ran side by side with the same clients, of which 99% came at most {1000 * first['lag']['p99']:.1f} ms late.",
    ]
    return "\n".join([_picture("results"), "", " ".join(text), "", *grid(columns, shown), "", " ".join(about)])


def claim(data: Data) -> str:
    """The picture, and what is to be seen in its first variant."""
    return "\n".join([_picture("benchmarks/results"), "", f"**A burst of clients.** {_setting(data)} {next(_seen(data))}"])


def _picture(folder: str) -> str:
    return f"![Answers in time, and work for clients that left, by the second and by the stack]({folder}/goodput.svg)"


def _setting(data: Data) -> str:
    """What was tried, and why."""
    begin, end = data["burst"]
    return (
        f"A service whose work needs one of {data['slots']} slots for {1000 * work.SLOT_SECONDS:.0f} ms can answer"
        f" {data['capacity']:.0f} clients a second. {data['rate']:.0f} a second come, and {data['burst_rate']:.0f} between seconds"
        f" {begin:g} and {end:g}; each leaves if it has no answer after 0.2 to 0.8 s."
    )


def _seen(data: Data) -> Iterator[str]:
    """A sentence for the variants in which the same stacks did well, and one about the waste in the first variant."""
    alike: dict[tuple[str, ...], list[Data]] = {}
    for variant in data["variants"]:
        well = [each["stack"] for each in variant["stacks"] if median(_later(data, each)) >= EXPECTED]
        alike.setdefault(tuple(well), []).append(variant)
    for names, variants in alike.items():
        where = ", and with ".join(variant["variant"] for variant in variants)
        did = "; ".join(_short(name) for name in names) or "no stack"
        poor = [median(_later(data, each)) for variant in variants for each in variant["stacks"] if each["stack"] not in names]
        others = f" The best {'of the others ' if names else ''}had {max(poor):.0f}." if poor else ""
        yield f"With {where}, at least {EXPECTED} answers a second after the burst (median) came from: {did}.{others}"
    first = data["variants"][0]
    wasted = sorted((sum(each["nobody"]) / each["used"], _short(each["stack"])) for each in first["stacks"] if each["used"])
    if len(wasted) > 1:
        (least, thrifty), (most, wasteful) = wasted[0], wasted[-1]
        takers = f"{most:.0%} of {wasteful}'s slot time, and {least:.0%} of {thrifty}'s"
        yield f"With {first['variant']}, clients that got no answer took {takers}."


def _short(name: str) -> str:
    return name.removesuffix(", asyncio")
