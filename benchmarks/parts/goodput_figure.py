"""The picture of `goodput`: a row for each stack, a column for each variant, and in each cell what its slots did, second by second."""

from textwrap import fill
from typing import TYPE_CHECKING

from benchmarks.measuring import Data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind people can tell apart.
ANSWERED = "#0072B2"
NOBODY = "#E69F00"
OFFERED = "#444444"
BURST = "#DDDDDD"

WIDTH = 10.0
"""Inches. The README shows it 800 pixels wide: 10 points are 11 pixels then."""

ROW, REST = 0.95, 1.3
"""Inches: a row's height, and that of all that stands above and below the rows."""

SMALL, NORMAL = 9, 10
"""Points."""

TOP = 1.25
"""Where the scale ends, as a share of the capacity. The burst goes beyond: it is shaded."""


def figure(data: Data) -> "Figure":
    """Answers in time, and the slots' time for nobody on top of them, in the same unit: the answers that it would have been enough for."""
    from matplotlib.figure import Figure

    variants = data["variants"]
    names = [stack["stack"] for stack in variants[0]["stacks"]]
    drawn = Figure(figsize=(WIDTH, REST + ROW * len(names)), layout="constrained")
    cells = drawn.subplots(len(names), len(variants), sharex=True, sharey=True, squeeze=False)
    for column, variant in enumerate(variants):
        stacks = {stack["stack"]: stack for stack in variant["stacks"]}
        for row, name in enumerate(names):
            if name in stacks:
                _cell(cells[row][column], data, variant, stacks[name])
            else:
                cells[row][column].set_axis_off()
                cells[row][column].text(0.5, 0.5, "not measured", transform=cells[row][column].transAxes, ha="center", fontsize=SMALL)
        cells[0][column].annotate(
            fill(variant["variant"], 26),
            (0.5, 1),
            (0, 20),
            "axes fraction",
            "offset points",
            ha="center",
            va="bottom",
            fontsize=NORMAL,
            fontweight="bold",
        )
        cells[-1][column].set_xlabel("seconds", fontsize=SMALL)
    for row, name in enumerate(names):
        cells[row][0].set_ylabel(_wrapped(name), rotation=0, ha="right", va="center", fontsize=NORMAL)
    handles, labels = cells[0][0].get_legend_handles_labels()
    drawn.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), fontsize=SMALL, frameon=False, columnspacing=1.2, handlelength=1.4
    )
    return drawn


def _cell(axes: "Axes", data: Data, variant: Data, stack: Data) -> None:
    edges = range(data["seconds"] + 1)
    nobody = [seconds * data["capacity"] / data["slots"] for seconds in stack["nobody"]]
    total = [answered + lost for answered, lost in zip(stack["answered"], nobody, strict=True)]
    axes.axvspan(*data["burst"], color=BURST, linewidth=0, zorder=0, label=f"burst: {data['burst_rate']:.0f}/s")
    axes.stairs(variant["offered"], edges, color=OFFERED, linewidth=0.8, zorder=3, label="clients that come/s")
    axes.axhline(data["capacity"], color="black", linewidth=0.9, linestyle="--", label="capacity")
    axes.stairs(stack["answered"], edges, fill=True, color=ANSWERED, zorder=1, label="answers in time/s")
    axes.stairs(total, edges, baseline=stack["answered"], fill=True, color=NOBODY, zorder=1, label="work for clients that left")
    axes.set_ylim(0, TOP * data["capacity"])
    axes.set_xlim(0, data["seconds"])
    axes.tick_params(labelsize=SMALL)
    served = f"{stack['served'] / variant['clients']:.0%} served; {sum(stack['nobody']):.0f} slot-s for nobody"
    axes.set_title(served, fontsize=SMALL, loc="left", pad=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _wrapped(name: str) -> str:
    return name.removesuffix(", asyncio").replace(", ", ",\n").replace(" in ", "\nin ").replace(" on ", "\non ")
