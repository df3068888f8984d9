"""The experiment that this project began with, for every stack: does the handler stop when its client leaves?

Some stacks are started at a time, and their clients leave when all of them run. Clients mostly wait, so that stacks hardly disturb
each other; starting disturbs, and is over by then.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from benchmarks.clients.leaving import STREAM, WAYS, depart
from benchmarks.measuring import Data, Part, Run, Table, Target
from benchmarks.parts.disconnect_groups import side_by_side
from benchmarks.parts.disconnect_matrix import EIGHT, Row, State, brief, by_framework, listed, rows
from benchmarks.report import section
from benchmarks.stacks import EVERY, Stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAMEWORKS = (
    "microasgi",
    "starlette",
    "starlette-cancelled",
    "fastapi",
    "fastapi-cancelled",
    "litestar",
    "blacksheep",
    "quart",
    "django",
    "sanic",
    "aiohttp",
    "aiohttp-cancelling",
)

SERVERS = (
    ("microasgi", "asyncio"),
    ("microasgi", "uvloop"),
    ("microasgi", "trio"),
    ("uvicorn-h11", "asyncio"),
    ("uvicorn-httptools", "uvloop"),
    ("hypercorn", "asyncio"),
    ("hypercorn", "trio"),
    ("granian", "uvloop"),  # what it takes by itself, where uvloop is installed; …
    ("daphne", "asyncio"),
    ("gunicorn", "uvloop"),  # … so does this one, …
    ("aiohttp", "asyncio"),
    ("sanic", "uvloop"),  # … and this one brings it
)

CLIENTS = 3
"""For each way to leave."""

SECONDS = 5.0
"""That a handler takes if nothing stops it: longer than gunicorn waits (3 s after the client left) before it cancels an app."""

PATIENCE = 1.0
"""Seconds that clients wait for all the handlers to begin."""

TOGETHER = 10
"""Stacks that run at a time."""


def stacks() -> Iterator[Stack]:
    """Every framework on every server that it can run on."""
    for framework in FRAMEWORKS:
        for server, loop in SERVERS:
            try:
                yield Stack(framework, server, loop)
            except ValueError:  # these don't go together
                continue


def few(every: Sequence[Stack]) -> list[Stack]:
    """Some of them that have every framework and every server."""
    chosen: list[Stack] = []
    for wanted in (2, 1):  # first those that bring both
        for stack in every:
            new = (stack.framework not in {each.framework for each in chosen}) + (stack.server not in {each.server for each in chosen})
            if new >= wanted:
                chosen.append(stack)
    return chosen


def measure(run: Run) -> Data:
    """Let clients leave every stack in every way."""
    every = run.installed(few(list(stacks())) if run.quick else stacks())
    clients, seconds, patience = (1, 1.2, 0.4) if run.quick else (CLIENTS, SECONDS, PATIENCE)
    found = side_by_side(run, every, len(every) if run.quick else TOGETHER, lambda port: depart(port, clients, seconds, patience))
    return {"clients": clients, "seconds": seconds, "stacks": found}


def tables(data: Data) -> list[Table]:
    """The overview, and everything."""
    matrix = rows(data)
    return [_overview(matrix), _everything(data, matrix)]


def _overview(matrix: list[Row]) -> Table:
    places = list(dict.fromkeys(row.where for row in matrix if not row.where.startswith("its own")))
    lines = []
    for name, some in by_framework(matrix).items():
        scores = {row.where: row.score for row in some}
        own = [row.score for row in some if row.where not in places]
        lines.append([name, *(scores.get(place, "") for place in places), *(own or [""])])
    return Table(
        "In how many of the eight ways does the handler stop, and how long after its client left?",
        ["framework", *places, "its own server"],
        lines,
        "Of the ways in which the handler had begun: a framework or server that takes the whole body first doesn't call it when the client"
        " leaves in the middle of that. The time is the median of the ways in which it stopped; what stops later than a second is late."
        " An empty cell: they don't run together.",
    )


def _everything(data: Data, matrix: list[Row]) -> Table:
    lag = max((each["lag"] for each in data["stacks"]), default=0.0)
    asked = max((len(row.next) for row in matrix), default=0)
    return Table(
        "Every stack, every way to leave",
        ["stack", *WAYS, "next request"],
        [[row.stack.name, *(row.cells[name].long for name in WAYS), brief(max(row.next))] for row in matrix],
        f"Milliseconds from the client's close to the handler's end: the median of {data['clients']} clients (and the maximum)."
        f" A handler that nothing stops takes {data['seconds']:g} s: it “{State.RAN_ON.value}”. “{State.NOT_BEGUN.value}”: the app never"
        f" called it, but waited for the rest of the body. “{State.ENDED_BEFORE.value}”: it had ended before its client left."
        f" “{State.LEFT_OPEN.value}”: nobody asks a stream for more, and nobody closes it: its cleanup waits for the garbage collector."
        f" {STREAM.capitalize()}: FIN in the middle of a response without an end. Next request: the slowest of {asked},"
        f" each on a new connection, right after the departures; the client itself was at most {brief(lag)} ms late.",
    )


def targets(data: Data) -> list[Target]:
    """Our framework on our server stops its handlers always."""
    ours = {row.stack.loop: row for row in rows(data) if (row.stack.framework, row.stack.server) == ("microasgi", "microasgi")}
    return [_always(loop, ours[loop]) for loop in EVERY if loop in ours]


def _always(loop: str, row: Row) -> Target:
    latest = [max(cell.milliseconds) for name, cell in row.cells.items() if name in EIGHT and cell.milliseconds]
    measured = f"{len(row.ways(State.STOPPED))} of {len(EIGHT)}" + (f", after at most {brief(max(latest))} ms" if latest else "")
    return Target(f"microasgi on microasgi, {loop}: ways to leave that stop the handler", f"all {len(EIGHT)}", measured, row.stops_always)


def figures(data: Data) -> "dict[str, Figure]":
    """The matrix as a picture."""
    from benchmarks.parts.disconnect_figure import draw

    return {"disconnect": draw(rows(data))}


def page(data: Data) -> str:
    """The picture, the overview, and what it says in words."""
    matrix = rows(data)
    overview = _overview(matrix)
    always = [row for row in matrix if row.stops_always]
    begun = [row for row in matrix if row.ways(State.NOT_BEGUN) and row.ways(State.STOPPED) and not _runs_on(row)]
    late = [row for row in matrix if row.ways(State.LATE)]
    never = [row for row in matrix if not row.ways(State.STOPPED, State.LATE)]
    unread = [row for row in matrix if row.cells[EIGHT[-1]].state is State.STOPPED]
    return "\n".join(
        [
            f"![Which handlers stop when their client leaves, in {len(matrix)} stacks](results/disconnect.svg)",
            "",
            *section(overview),
            "",
            f"* **In all eight ways** the handler stops with {listed(always, matrix)}.",
            f"* **Wherever it begins**, and in some of the eight it doesn't, with {listed(begun, matrix)}.",
            f"* **Behind 4 MB of a body of 8 MB that the handler doesn't read** it stops with {listed(unread, matrix)}.",
            f"* **Late**, more than a second after its client left, with {listed(late, matrix)}.",
            f"* **In none of the eight** with {listed(never, matrix)}.",
        ]
    )


def claim(data: Data) -> str:
    """Who stops always, and who never."""
    matrix = rows(data)
    always = listed([row for row in matrix if row.stops_always], matrix)
    never = listed([row for row in matrix if not row.ways(State.STOPPED, State.LATE)], matrix)
    return (
        "**Who stops.** We let clients leave in eight ways. Of"
        f" {len(matrix)} stacks (a framework on a server and an event loop), the handler stops in all eight with {always}. It stops in"
        f" none with {never}."
    )


def _runs_on(row: Row) -> bool:
    return bool(row.ways(State.RAN_ON, State.LEFT_OPEN, State.LATE, State.ENDED_BEFORE))


PART = Part(
    "disconnect",
    "Does the handler stop when its client leaves, and how long after that?",
    measure,
    tables,
    targets,
    figures,
    page,
    claim,
)
