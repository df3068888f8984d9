"""The matrix of the part `disconnect` as a picture, in two columns of frameworks."""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.clients.leaving import WAYS
from benchmarks.parts.disconnect_matrix import EIGHT, SIGNS, Row, State, by_framework

COLOURS = {
    State.STOPPED: ("#7fcdb0", "black"),
    State.LATE: ("#f0e442", "black"),
    State.LEFT_OPEN: ("#f0b442", "black"),
    State.RAN_ON: ("#d0482c", "white"),
    State.NOT_BEGUN: ("#dcdcdc", "black"),
    State.ENDED_BEFORE: ("#b9b3e3", "black"),
}
"""The cell's and its text's. Told apart also by who can't see green or red: one is light, the other dark, and what is in them differs."""

MEANINGS = {
    State.STOPPED: "stopped, milliseconds after its client had left",
    State.LATE: "stopped later than a second after",
    State.LEFT_OPEN: "is neither asked for more nor closed: its cleanup waits for the garbage collector",
    State.RAN_ON: "ran on to its end, for nobody",
    State.NOT_BEGUN: "has never begun: the app waited for the whole body",
    State.ENDED_BEFORE: "ended before its client left",
}

LABEL = 4.3
"""The width of a stack's name, in cells."""

ACROSS = LABEL + len(WAYS) + 1.1
"""A column of frameworks with the space behind it, in cells."""

HEADINGS = 3.6
"""Rows above the first, for the names of the ways, which are written aslant."""

CELL = 0.37, 0.205
"""A cell's width and height, in inches."""


def draw(rows: list[Row]) -> Figure:
    """The picture: a row for each stack, below its framework; a cell for each way to leave."""
    columns = _columns(by_framework(rows))
    height = max(sum(1 + len(some) for some in column.values()) for column in columns)
    used = [state for state in COLOURS if any(cell.state is state for row in rows for cell in row.cells.values())]
    width, below = ACROSS * len(columns), 1.0 + len(used)
    figure = Figure(figsize=(width * CELL[0], (HEADINGS + height + below) * CELL[1]), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height + below, -HEADINGS)
    axes.axis("off")
    for number, column in enumerate(columns):
        _draw_column(axes, ACROSS * number, column)
    for number, state in enumerate(used):
        _draw_cell(axes, 0.1, height + 0.7 + number, *COLOURS[state], SIGNS.get(state, "1.2 s" if state is State.LATE else "0.4"))
        axes.text(1.3, height + 1.2 + number, f"the handler {MEANINGS[state]}", va="center", fontsize=8.5)
    return figure


def _columns(frameworks: dict[str, list[Row]]) -> list[dict[str, list[Row]]]:
    """The frameworks in two columns of about the same height; in one, if there are few."""
    height = sum(1 + len(some) for some in frameworks.values())
    columns: list[dict[str, list[Row]]] = [{}]
    above = 0
    for name, some in frameworks.items():
        if len(columns) == 1 and columns[0] and height > 20 and above + (1 + len(some)) / 2 > height / 2:
            columns.append({})
        columns[-1][name] = some
        above += 1 + len(some)
    return columns


def _draw_column(axes: Any, left: float, frameworks: dict[str, list[Row]]) -> None:
    for number, name in enumerate(WAYS):
        axes.text(_place(left, number) + 0.35, -0.1, name, rotation=50, rotation_mode="anchor", fontsize=8.5)
    top = 0
    for name, some in frameworks.items():
        axes.text(left + 0.1, top + 0.55, name, va="center", fontsize=9, fontweight="bold")
        for number, row in enumerate(some, top + 1):
            _draw_row(axes, left, number, row)
        top += 1 + len(some)


def _draw_row(axes: Any, left: float, top: float, row: Row) -> None:
    axes.text(left + LABEL - 0.15, top + 0.52, row.where, ha="right", va="center", fontsize=8)
    for number, name in enumerate(WAYS):
        cell = row.cells[name]
        _draw_cell(axes, _place(left, number), top, *COLOURS[cell.state], cell.short)


def _draw_cell(axes: Any, left: float, top: float, colour: str, ink: str, text: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((left + 0.03, top + 0.05), 0.94, 0.9, facecolor=colour))
    axes.text(left + 0.5, top + 0.53, text, ha="center", va="center", fontsize=8, color=ink)


def _place(left: float, number: int) -> float:
    """Where a way's cells begin. The stream's stand apart from the eight."""
    return left + LABEL + number + (0.15 if number >= len(EIGHT) else 0)
