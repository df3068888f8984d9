"""What is shown of the part `latency`."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import Data, Table, Target, percentile, spread
from benchmarks.report import section, verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY, MOST = 1_000, 10_000
"""That the targets are about: …"""

P99 = 50.0
"""… milliseconds for 99 of 100 handlers, if MANY leave, …"""

LASTED = 2_000.0
"""… and for all, from the first close, if MOST leave."""


def tables(data: Data) -> list[Table]:
    """How long handlers went on, and how long others were kept waiting, by stack and by how many left."""
    columns = _departures(data)
    heads = ["", *(f"{count:,}" + (" by RST" if how == "RST" else "") for count, how in columns)]
    found = [
        Table(
            "From a client's close to its handler's end, in ms: median / p99 / longest",
            heads,
            [[stack, *(_shown(data, stack, column, _stopping) for column in columns)] for stack in data["stacks"]],
            "So many clients wait for an answer and close at once (FIN, where nothing else is said). Each handler's time counts from "
            f"its own client's close. A handler that has not ended after {data['deadline']:.0f} s counts as never stopped. *Not tried*: in "
            "a trial it answered nobody for half a minute then.",
        ),
        Table(
            "From the first close to the last handler's end, in ms (of that, until the last close)",
            heads,
            [[stack, *(_shown(data, stack, column, _lasting) for column in columns)] for stack in data["stacks"]],
            "The client closes one connection after the other: what it needs for that itself, beside a busy server, is in parentheses.",
        ),
        Table(
            "How long another client waits for `GET /` meanwhile, in ms: p99 / worst (before: p99 / worst)",
            heads,
            [[stack, *(_shown(data, stack, column, _waiting) for column in columns)] for stack in data["stacks"]],
            "Asked every 2 ms on a kept connection, and counted from the moment at which it was due; from the first close until the last "
            f"handler's end, at least {data['least'] * 1000:.0f} ms. The prober's own lateness is in it: at worst {_lag(data):.1f} ms.",
        ),
    ]
    said = [[stack, text] for stack, text in (*data["failures"].items(), *data["logs"].items()) if text]
    return found + ([Table("What failed, or was logged", ["", "said"], said)] if said else [])


def _departures(data: Data) -> list[tuple[int, str]]:
    return list(dict.fromkeys((sample["count"], sample["how"]) for sample in data["samples"]))


def _of(data: Data, stack: str, count: int, how: str) -> list[Data]:
    return [each for each in data["samples"] if (each["stack"], each["count"], each["how"]) == (stack, count, how)]


def _shown(data: Data, stack: str, column: tuple[int, str], show: Callable[[Sequence[Data]], str]) -> str:
    if samples := _of(data, stack, *column):
        return show(samples)
    return "not tried" if column[0] > data["at_most"].get(stack, column[0]) else "failed"


def _pooled(samples: Sequence[Data]) -> list[float]:
    return sorted(value for sample in samples for value in sample["stopping"])


def _stopping(samples: Sequence[Data]) -> str:
    never = sum(sample["left"] for sample in samples)
    pooled = _pooled(samples)
    shown = " / ".join(f"{percentile(pooled, share):.1f}" for share in (0.5, 0.99, 1.0)) if pooled else ""
    return f"{shown} ({never} never)".strip() if never else shown


def _lasting(samples: Sequence[Data]) -> str:
    lasted, closing = (median(sample[key] for sample in samples) for key in ("lasted", "closing"))
    return f"{lasted:.1f} ({closing:.1f})" if not any(sample["left"] for sample in samples) else f"never ({closing:.1f})"


def _waiting(samples: Sequence[Data]) -> str:
    """Of several departures the median p99, and the worst of all."""
    shown = []
    for key in ("during", "calm"):
        found = [sample[key] for sample in samples if sample[key]]
        shown.append(f"{median(p99 for _, p99, _ in found):.1f} / {max(worst for *_, worst in found):.1f}" if found else "none")
    return f"{shown[0]} ({shown[1]})"


def _lag(data: Data) -> float:
    lag: float = max((sample["lag"] for sample in data["samples"]), default=0.0)
    return lag


def targets(data: Data) -> list[Target]:
    """Ours, on each loop. In a --quick run nobody leaves in such numbers: nothing is met or missed."""
    found = []
    counts = {sample["count"] for sample in data["samples"]}
    for stack in data["ours"]:
        clean = not data["failures"].get(stack) and not data["logs"].get(stack)
        many, most = _of(data, stack, MANY, "FIN"), _of(data, stack, MOST, "FIN")
        if MANY in counts:
            found.append(
                _target(
                    f"{stack}: {MANY:,} leave at once, p99 in ms",
                    P99,
                    [percentile(each["stopping"], 0.99) for each in many if each["stopping"]],
                    many,
                )
            )
        if MOST in counts:
            what = f"{stack}: {MOST:,} leave at once, all ended, in ms"
            found.append(_target(what, LASTED, [each["lasted"] for each in most], most))
            found.append(Target(f"{stack}: errors in the log", "none", "none" if clean else "some", clean))
    return found


def _target(what: str, most: float, values: Sequence[float], samples: Sequence[Data]) -> Target:
    left = sum(sample["left"] for sample in samples)
    measured = (spread(values) if values else "failed") + (f", {left} never" if left else "")
    return Target(what, f"at most {most:.0f}", measured, bool(values) and not left and median(values) <= most)


def page(data: Data) -> str:
    """How long handlers went on, and whether ours met the targets."""
    stopping, *_ = tables(data)
    return "\n".join([*section(stopping), "", verdict(targets(data))]).strip()


def claim(data: Data) -> str:
    """How long our handlers go on where many leave."""
    found = []
    for stack in data["ours"]:
        pooled = _pooled(_of(data, stack, MANY, "FIN"))
        found.append(f"{stack.rpartition(' ')[2]} {f'{percentile(pooled, 0.99):.0f} ms' if pooled else 'failed'}")
    return (
        f"**How fast.** When {MANY:,} clients leave at once, 99 % of the handlers have ended so long after their own client's close:"
        f" {', '.join(found)}."
    )


def figures(data: Data) -> "dict[str, Figure]":
    """`latency`: a panel for each number of clients, a line for each stack, from the median to the longest."""
    from matplotlib.figure import Figure

    columns = [column for column in _departures(data) if column[1] == "FIN"]
    figure = Figure(figsize=(3.4 * len(columns) + 2.5, 0.42 * len(data["stacks"]) + 1.6), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(columns), sharex=True, sharey=True, squeeze=False)[0]
    for panel, column in zip(panels, columns, strict=True):
        for row, stack in enumerate(data["stacks"]):
            _draw(panel, row, _pooled(_of(data, stack, *column)), "#0072B2" if stack in data["ours"] else "#D55E00")
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:,g}")
        panel.margins(y=0.08)
        panel.set_title(f"{column[0]:,} leave" if column[0] > 1 else "1 leaves", fontsize=13)
        panel.grid(axis="x", color="#dddddd")
        panel.tick_params(labelsize=11)
        panel.set_xlabel("ms", fontsize=11)
    panels[0].set_yticks(range(len(data["stacks"])), data["stacks"])
    panels[0].invert_yaxis()
    figure.suptitle("From the client's close to the handler's end: ● median, ┃ p99, line to the longest (log scale)", fontsize=13)
    return {"latency": figure}


def _draw(panel: Any, row: int, pooled: Sequence[float], color: str) -> None:
    if not pooled:
        return
    middle, high, longest = (percentile(pooled, share) for share in (0.5, 0.99, 1.0))
    panel.plot([middle, longest], [row, row], color=color, linewidth=1.5)
    panel.plot([middle], [row], "o", color=color, markersize=7)
    panel.plot([high], [row], "|", color=color, markersize=13, markeredgewidth=2.5)
