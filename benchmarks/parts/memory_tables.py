"""What is shown of the part `memory`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.measuring import Data, Table, Target
from benchmarks.report import section, verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAK = 16.0
"""Bytes for each client that may be left behind before we call it a leak. The smallest object that Python can forget to let go, with
the reference that holds it, takes 40: 3 MB after 80,000 clients. Less than this is what the allocators do with pages that are free but
not given back: it doesn't grow with the clients."""

MEGABYTE = 1024 * 1024

COLOURS = ("#0072B2", "#D55E00", "#009E73")
"""Okabe and Ito's, which everybody can tell apart."""


def tables(data: Data) -> list[Table]:
    """A table for each question."""
    columns = ("read", 0), ("send", 0), ("send", 1)
    found = [
        Table(
            f"An idle connection, KiB (one of {data['connections']:,}; each has had one answer)",
            ["", "KiB"],
            [[stack, f"{data['idle'][stack] / 1024:.1f}" if stack in data["idle"] else "failed"] for stack in data["stacks"]],
            "A bare ASGI app. What the system keeps for a connection isn't in it; it is the same for all.",
        ),
        Table(
            f"Clients that don't keep up: {data['megabytes']} MB, MiB",
            ["", "slow reader: memory grew by", "unread upload: memory grew by", "unread upload: the client got rid of"],
            [[stack, *(_size(data[what], stack, which) for what, which in columns)] for stack in data["stacks"]],
            "A bare ASGI app. The slow reader takes 20 KB a second of a streamed body. The upload goes to a handler that doesn't read: "
            "what the client gets rid of and the server's memory doesn't show is in the system's buffers, which our server makes as "
            "large as it may, to see through them when the client leaves.",
        ),
    ]
    for what, title in (("requests", "requests"), ("visits", "clients that left a waiting handler")):
        if curves := data[what]:
            counts = [count for count, _ in next(iter(curves.values()))]
            rows = [[stack, *(f"{resident / MEGABYTE:.1f}" for _, resident in curve), _growth(curve)] for stack, curve in curves.items()]
            heads = ["after", *(f"{count:,}" for count in counts), "growth after the first fifth, bytes each"]
            found.append(Table(f"Memory after many {title}, MiB", heads, rows))
    said = [[stack, text] for stack, text in (*data["failures"].items(), *data["logs"].items()) if text]
    return found + ([Table("What failed, or was logged", ["", "said"], said)] if said else [])


def _size(results: Mapping[str, Sequence[int]], stack: str, which: int) -> str:
    return f"{results[stack][which] / MEGABYTE:.1f}" if stack in results else "failed"


def _growth(curve: Sequence[Sequence[int]]) -> str:
    growth = leaked(curve)
    return "failed" if growth is None else f"{growth:.1f}"


def leaked(curve: Sequence[Sequence[int]]) -> float | None:
    """Bytes for each by which the memory has grown since the first look: until then it was warming up.

    curve: [(how many, bytes), ...], from none on.
    :returns: None if there weren't two looks
    """
    if len(curve) < 3:
        return None
    (first, then), (last, now) = curve[1], curve[-1]
    return (now - then) / (last - first)


def targets(data: Data) -> list[Target]:
    """Ours: idle connections against uvicorn's on the same loop; no leaks; and nothing in the log."""
    if data["quick"]:
        return []
    found = []
    idle = data["idle"]
    for stack, peer in data["pairs"]:
        measured = f"{idle[stack] / 1024:.1f} to {idle[peer] / 1024:.1f}" if stack in idle and peer in idle else "failed"
        met = measured != "failed" and idle[stack] <= idle[peer]
        found.append(Target(f"An idle connection, KiB: {stack}, to {peer}", "at most the same", measured, met))
    for stack in data["leaking"]:
        found += [_no_leak(data, stack, what) for what in ("requests", "visits")]
        clean = not data["logs"].get(stack)
        found.append(Target(f"{stack}: lines in the log", "none", "none" if clean else "some", clean))
    return found


def _no_leak(data: Data, stack: str, what: str) -> Target:
    growth = None if stack in data["failures"] else leaked(data[what].get(stack, []))
    measured = "failed" if growth is None else f"{growth:.1f}"
    return Target(f"{stack}: growth over the {what}, bytes each", f"at most {LEAK:.0f}", measured, growth is not None and growth <= LEAK)


def page(data: Data) -> str:
    """Idle connections and slow clients, what is left of those who have gone, and whether ours met the targets."""
    idle, slow, *_ = tables(data)
    left = [f"{stack} {_growth(data['requests'].get(stack, []))} and {_growth(data['visits'].get(stack, []))}" for stack in data["leaking"]]
    count = max((curve[-1][0] for curve in data["visits"].values()), default=0)
    grown = (
        f"Memory that {count:,} requests, and as many clients that leave a waiting handler, have left behind, in bytes for each after the"
        f" first fifth: {'; '.join(left)}. Less than {LEAK:.0f} is what allocators do; the smallest Python object takes more."
    )
    return "\n".join([*section(idle), "", *section(slow), "", f"{grown} {verdict(targets(data))}".strip()])


def claim(data: Data) -> str:
    """Our idle connections, and their peers'."""
    idle = data["idle"]
    found = []
    for stack, peer in data["pairs"]:
        ours, theirs = (f"{idle[each] / 1024:.1f}" if each in idle else "failed" for each in (stack, peer))
        found.append(f"{ours} on {stack.rpartition(' ')[2]} ({theirs} for {peer.removeprefix('bare ASGI on ').partition(',')[0]})")
    return f"**Memory.** KiB for an idle connection: {', '.join(found)}."


def figures(data: Data) -> "dict[str, Figure]":
    """`memory`: a bar for each server's idle connection, and beside it the memory over the number of clients that have left."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), layout="constrained", facecolor="white")
    bars, lines = figure.subplots(1, 2)
    idle = {stack: data["idle"][stack] / 1024 for stack in data["stacks"] if stack in data["idle"]}
    colours = [COLOURS[0] if " on microasgi" in stack else "#999999" for stack in idle]
    shown = bars.barh([stack.removeprefix("bare ASGI on ") for stack in idle], list(idle.values()), color=colours)
    bars.bar_label(shown, fmt="%.1f", padding=3, fontsize=11)
    bars.invert_yaxis()
    bars.set_title(f"An idle connection, KiB (of {data['connections']:,})", fontsize=13)
    bars.margins(x=0.12)
    for (stack, curve), colour in zip(data["visits"].items(), COLOURS, strict=False):
        lines.plot([count for count, _ in curve], [resident / MEGABYTE for _, resident in curve], "o-", color=colour, linewidth=2)
        lines.annotate(
            stack.rpartition(" ")[2], (curve[-1][0], curve[-1][1] / MEGABYTE), (6, 0), textcoords="offset points", va="center", fontsize=12
        )
    lines.set_ylim(bottom=0)
    lines.margins(x=0.15)
    lines.set_title("Our server's memory, MiB, after so many clients have left", fontsize=13)
    lines.xaxis.set_major_formatter("{x:,.0f}")
    lines.grid(color="#dddddd")
    for axes in (bars, lines):
        axes.tick_params(labelsize=11)
    return {"memory": figure}
