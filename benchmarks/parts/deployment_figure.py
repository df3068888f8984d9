"""Every departure of the part `deployment` as a dot: how long it took, by what carried it, on which loop."""

from matplotlib.figure import Figure

from benchmarks.measuring import Data
from benchmarks.parts.deployment_leaving import SOON
from benchmarks.stacks import EVERY

COLOURS = dict(zip(EVERY, ("#0072b2", "#009e73", "#d55e00"), strict=True))

ROW = 0.42
"""A carrier's height, in inches."""


def draw(data: Data) -> Figure:
    """Handlers that didn't end because of a departure have no dot: the table tells of them."""
    names = list(dict.fromkeys(row["carrier"] for row in data["rows"]))
    figure = Figure(figsize=(8, 1.1 + ROW * len(names)), facecolor="white")
    axes = figure.add_subplot()
    for loop, colour in COLOURS.items():
        dots = [
            (sample, names.index(row["carrier"]) + (EVERY.index(loop) - 1) * 0.22)
            for row in data["rows"]
            if row["loop"] == loop
            for samples in row["ways"].values()
            for sample in samples
            if not isinstance(sample, str)
        ]
        if dots:
            axes.plot(*zip(*dots, strict=True), "o", color=colour, markersize=3.5, alpha=0.6, markeredgewidth=0, label=loop)
    axes.axvline(SOON, color="#555555", linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlim(0.1, 2 * SOON)
    axes.set_xticks([0.1, 1, 10, SOON], ["0.1", "1", "10", f"{SOON:g}"])
    axes.set_xlabel("milliseconds from the client's leaving to the handler's end")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=len(EVERY), frameon=False)
    return figure
