"""What is shown of the part `websockets`."""

from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import Data, Table, Target
from benchmarks.report import section, verdict
from benchmarks.sampling import Samples, cost, identified, identifier, rate, shown_ratio
from benchmarks.stacks import ASYNCIO, Stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {"16 B": (16, 32), "1 KiB": (1024, 32), "64 KiB": (64 * 1024, 4), "1 MiB": (1024 * 1024, 2)}
"""Messages: bytes, and WebSockets in which one is on its way at any time."""

SMALL = ("16 B", "1 KiB")
"""Those that have a target: …"""

CPU = 0.9
"""… the share of uvicorn's CPU time that ours may take for one."""

IDLE = 0.7
"""The share of uvicorn's memory that ours may take for an idle WebSocket."""

BOMB = 128
"""Megabytes that a bomb inflates to."""

BOMBS = {"default limit": 40.0, "limit of 1 MiB": 4.0}
"""Megabytes by which it may make ours grow. The default limit is 16 MiB, which zlib grows up to by copying."""

PEER = "uvicorn-websockets"
OURS, THEIRS = "#0072B2", "#999999"  # Okabe and Ito's, which everybody can tell apart


def tables(data: Data) -> list[Table]:
    """Messages, ratios, crowds, bombs, and what failed."""
    found = [of_messages(data), of_ratios(data), of_crowds(data), of_departures(data), of_bombs(data)]
    if failures := [*Samples(data).failures(), *data["failures"]]:
        found.append(Table("What failed", ("stack", "what", "why"), failures))
    return found


def of_messages(data: Data) -> Table:
    """Every stack, every size."""
    samples = Samples(data)
    rows = []
    for name in data["stacks"]:
        costs = [(samples.median(name, size, rate), samples.median(name, size, cost)) for size in SIZES]
        cells = ["failed" if each is None or paid is None else f"{each:,.0f} / {paid:,.{0 if paid >= 100 else 1}f}" for each, paid in costs]
        rows.append([identified(name).name, *cells])
    return Table(
        "A message there and back",
        ["messages/s / µs of CPU time", *SIZES],
        rows,
        f"One on its way in each of {', '.join(f'{count} WebSockets ({size})' for size, (_, count) in SIZES.items())}; medians of rounds."
        " Of the smaller ones the client is mostly the limit: what counts is the CPU time of the server.",
    )


def duels(data: Data) -> Iterator[tuple[Stack, Stack]]:
    """Ours, and who does the same on the same loop."""
    for name in data["stacks"]:
        theirs = identified(name)
        if theirs.server != "microasgi" and theirs.framework in ("bare", "starlette"):
            ours = Stack("bare" if theirs.framework == "bare" else "microasgi", "microasgi", theirs.loop)
            if identifier(ours) in data["stacks"]:
                yield ours, theirs


def of_ratios(data: Data) -> Table:
    """What a message costs us, as a share of what it costs others."""
    samples = Samples(data)
    rows = []
    for ours, theirs in duels(data):
        ratios = [samples.ratios(identifier(ours), identifier(theirs), size, cost) for size in SIZES]
        rows.append([f"{ours.name}, to {theirs.name}", *map(shown_ratio, ratios)])
    note = "CPU time of a message. A ratio is taken within each round: the median, and the smallest and the largest of the rounds."
    return Table("Side by side", ["", *SIZES], rows, f"{note}{samples.disturbance()}")


def crowds(data: Data, name: str) -> list[dict[str, Any]]:
    """A stack's, round by round."""
    return [each for each in data["crowds"] if each["stack"] == name]


def of_crowds(data: Data) -> Table:
    """An idle WebSocket, and a message to all."""
    rows = []
    for name in data["stacks"]:
        rounds = crowds(data, name)
        if rounds:
            paid = [each["cpu"] / each["heard"] * 1e6 for each in rounds]
            took = [median(each["took"]) * 1000 for each in rounds]
            rows.append([identified(name).name, f"{median(idle(rounds)):.1f}", f"{median(paid):.1f}", f"{median(took):.0f}"])
    return Table(
        f"{data['crowd']:,} WebSockets",
        ["", "an idle one, KiB", "a message to all, µs of CPU time for each", "ms until the last has it"],
        rows,
        "In the server's process: what the system keeps for a connection is the same for all. Each handler waits for a message; one that"
        " gets one sends it to all, one after the other.",
    )


def idle(rounds: list[dict[str, Any]]) -> list[float]:
    """KiB for an idle WebSocket."""
    return [each["idle"] / 1024 for each in rounds]


def of_departures(data: Data) -> Table:
    """How long handlers went on when all their clients left at once."""
    rows = []
    for name in data["stacks"]:
        rounds = crowds(data, name)
        if rounds:
            waits = "for a message" if identified(name).framework in ("bare", "starlette") else "for something else"
            rows.append([identified(name).name, waits, *(_departed([each["left"][how] for each in rounds]) for how in ("goodbye", "FIN"))])
    return Table(
        f"{data['crowd']:,} leave at once: from a client's departure to its handler's end, ms: median / p99 / longest",
        ["", "the handler waits", "goodbye (close frame)", "FIN without one"],
        rows,
        "Medians of the rounds. A handler that waits for something else than its client doesn't end at all, but with the promise: see"
        " `goodbyes`.",
    )


def _departed(found: list[dict[str, float]]) -> str:
    never = max(each["never"] for each in found)
    if never:
        return f"{never:,} never"
    return " / ".join(f"{median(each[what] for each in found):.0f}" for what in ("median", "p99", "longest"))


def of_bombs(data: Data) -> Table:
    """What a message costs that was small until it was inflated."""
    rows = [[identified(each["stack"]).name, each["what"], *_bombed(each)] for each in data["bombs"]]
    note = "The most that the process had in RAM, compared with what it had before. Compression is off by default in ours, and was on here."
    return Table(f"A bomb: 130 KB that inflate to {BOMB} MiB", ["", "", "memory grew by, MB", "the message was"], rows, note)


def _bombed(bomb: dict[str, Any]) -> tuple[str, str]:
    if "failure" in bomb:
        return "failed", bomb["failure"]
    return f"{bomb['grown'] / 1e6:.1f}", "refused" if bomb["refused"] else "taken"


def targets(data: Data) -> list[Target]:
    """Ours: a small message and an idle WebSocket beside uvicorn's, and bombs."""
    if data["quick"]:
        return []
    samples, found = Samples(data), []
    for loop in ASYNCIO:
        ours, theirs = identifier(Stack("bare", "microasgi", loop)), identifier(Stack("bare", PEER, loop))
        for size in SMALL:
            ratios = samples.ratios(ours, theirs, size, cost)
            what = f"CPU time of a message of {size}, bare ASGI, {loop}, as a share of uvicorn's"
            found.append(Target(what, f"at most {CPU:g}", shown_ratio(ratios), bool(ratios) and median(ratios) <= CPU))
        shares = [one / other for one, other in zip(idle(crowds(data, ours)), idle(crowds(data, theirs)), strict=False)]
        what = f"memory of an idle WebSocket, bare ASGI, {loop}, as a share of uvicorn's"
        found.append(Target(what, f"at most {IDLE:g}", shown_ratio(shares), bool(shares) and median(shares) <= IDLE))
    for bomb in data["bombs"]:
        if identified(bomb["stack"]).server == "microasgi-limited":
            wanted, (grown, _) = BOMBS[bomb["what"]], _bombed(bomb)
            met = grown != "failed" and float(grown) <= wanted and bomb["refused"]
            found.append(Target(f"a bomb of {BOMB} MiB, {bomb['what']}: memory grew by, MB", f"at most {wanted:g}", grown, met))
    return found


def figures(data: Data) -> "dict[str, Figure]":
    """`websockets`: what a small message and an idle WebSocket cost."""
    from matplotlib.figure import Figure

    samples = Samples(data)
    size = SMALL[0]
    costs = {name: samples.median(name, size, cost) or 0.0 for name in data["stacks"]}
    kept = {name: median(idle(crowds(data, name))) for name in data["stacks"] if crowds(data, name)}
    figure = Figure(figsize=(13, 1 + 0.28 * len(data["stacks"])), layout="constrained", facecolor="white")
    panels = ((costs, f"A message of {size} there and back, µs of CPU time"), (kept, f"An idle WebSocket, KiB (of {data['crowd']:,})"))
    for axes, (values, title) in zip(figure.subplots(1, 2), panels, strict=True):
        colours = [OURS if identified(name).server == "microasgi" else THEIRS for name in values]
        shown = axes.barh([identified(name).name for name in values], list(values.values()), color=colours)
        axes.bar_label(shown, fmt="%.1f", padding=3, fontsize=9)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.tick_params(labelsize=9)
        axes.set_title(title, fontsize=12)
        axes.spines[["top", "right"]].set_visible(False)
    return {"websockets": figure}


def page(data: Data) -> str:
    """Everything but the messages themselves, and whether ours met the targets."""
    lines = [
        f"![What a small message and an idle WebSocket cost, in {len(data['stacks'])} stacks](results/websockets.svg)",
        "",
    ]
    for table in (of_ratios(data), of_crowds(data), of_departures(data), of_bombs(data)):
        lines += [*section(table), ""]
    lines.append(f"What a message costs each of them is in [results/websockets.md](results/websockets.md). {verdict(targets(data))}")
    return "\n".join(lines).strip()
