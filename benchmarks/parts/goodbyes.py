"""What `disconnect` is for requests, for WebSockets: four handlers, and four ways to leave each.

Where a server can ask silent clients whether they are there, it does so here after two seconds, and waits two more.
"""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.clients.leaving import ENDED_BEFORE, NOT_BEGUN, RAN_ON, Sample
from benchmarks.clients.parting import HANDLERS, SILENCE, WAYS, part
from benchmarks.measuring import Data, Part, Run, Table, Target
from benchmarks.parts.disconnect_groups import side_by_side
from benchmarks.parts.disconnect_matrix import brief
from benchmarks.report import section
from benchmarks.stacks import EVERY, FRAMEWORKS, SERVERS, Stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CASES = [(handler, way) for handler in HANDLERS for way in WAYS]

APPS = ("microasgi", "starlette", "starlette-cancelled")

PINGS = {
    "microasgi-limited": "ping=2 pong=2",
    "uvicorn-websockets": "--ws-ping-interval 2 --ws-ping-timeout 2",
    "uvicorn-wsproto": "--ws-ping-interval 2 --ws-ping-timeout 2",
    "hypercorn": "--websocket-ping-interval 2",
    "granian": "",  # it doesn't ask
    "daphne": "--ping-interval 2 --ping-timeout 2",
}
"""Each server, and how it is told to ask."""

SILENT = 4000.0
"""Milliseconds in which a client that says nothing is to be found out, by those options, and …"""

PROMPT = 1000.0
"""… so many more for any departure: what comes later is late."""

COLOURS = {True: ("#7fcdb0", "black"), False: ("#d0482c", "white")}
"""Of a cell in time, and of others, as in the picture of `disconnect`."""

SIGNS = {RAN_ON: "\N{MULTIPLICATION SIGN}", NOT_BEGUN: "\N{EN DASH}"}

CLIENTS = 2
"""For each handler and way."""

SECONDS = 8.0
"""That a handler takes if nothing stops it."""

PATIENCE = 3.0
"""Seconds that clients wait for all the handlers to begin."""

TOGETHER = 8
"""Stacks that run at a time."""


def stacks() -> Iterator[Stack]:
    """The three apps on every server."""
    for app in APPS:
        for server in PINGS:
            for loop in EVERY if server.startswith("microasgi") else ("asyncio",):
                yield Stack(app, server, loop)


def measure(run: Run) -> Data:
    """Let clients leave every stack in every way."""
    clients, seconds, patience = (1, 1.0, 0.4) if run.quick else (CLIENTS, SECONDS, PATIENCE)
    chosen = run.installed(list(stacks())[:1] if run.quick else stacks())
    found = side_by_side(run, chosen, TOGETHER, lambda port: {"cells": part(port, clients, seconds, patience)}, PINGS)
    return {"clients": clients, "seconds": seconds, "stacks": found}


def _server(each: dict[str, Any]) -> str:
    return f"{SERVERS[each['server']].name}, {each['loop']}"


def _is_prompt(way: str, samples: Sequence[Sample]) -> bool:
    return all(not isinstance(each, str) and each <= PROMPT + SILENT * (way == SILENCE) for each in samples)


def _told(samples: Sequence[Sample]) -> str:
    """The median, or the worst that happened, and to how many if not to all."""
    words = [each for each in samples if isinstance(each, str)]
    if not words:
        return brief(median(float(each) for each in samples))
    worst = next((each for each in words if each not in (NOT_BEGUN, ENDED_BEFORE)), words[0])
    return worst if words.count(worst) == len(samples) else f"{worst} ({words.count(worst)} of {len(samples)})"


def _prompt_cases(each: dict[str, Any]) -> int:
    return sum(_is_prompt(way, samples) for cells in each["cells"].values() for way, samples in cells.items())


def tables(data: Data) -> list[Table]:
    """How many of the sixteen each stack notices, and how long each takes."""
    return [_overview(data), *_by_app(data, APPS)]


def _by_app(data: Data, apps: Sequence[str]) -> list[Table]:
    """One for each of these that was measured."""
    measured = {each["framework"] for each in data["stacks"]}
    return [_of_app(data, app) for app in apps if app in measured]


def _overview(data: Data) -> Table:
    places = list(dict.fromkeys(_server(each) for each in data["stacks"]))
    rows = []
    for app in APPS:
        scores = {_server(each): f"{_prompt_cases(each)}/{len(CASES)}" for each in data["stacks"] if each["framework"] == app}
        rows.append([FRAMEWORKS[app].name, *(scores.get(place, "") for place in places)])
    return Table(
        "In how many of sixteen cases does the handler stop in time?",
        ["", *places],
        rows,
        f"Four handlers, and four ways to leave each. In time is within {PROMPT / 1000:g} s of the departure. A client that only falls"
        f" silent may be missed {SILENT / 1000:g} s later: the servers that can do so ask after 2 s whether it is there, and wait for 2 s.",
    )


def _of_app(data: Data, app: str) -> Table:
    """When a handler of this app hears of it, on each server."""
    found = [each for each in data["stacks"] if each["framework"] == app]
    rows = [[handler, way, *(_told(each["cells"][handler][way]) for each in found)] for handler, way in CASES]
    return Table(
        f"{FRAMEWORKS[app].name}, case by case",
        ["the handler", "its client leaves by", *map(_server, found)],
        rows,
        f"Milliseconds from the departure to the handler's end, the median of {data['clients']} clients. A handler that nothing stops takes"
        f" {data['seconds']:g} s.",
    )


def targets(data: Data) -> list[Target]:
    """Our framework on our server stops its handlers always."""
    found = []
    wanted = len(CASES)
    for each in data["stacks"]:
        if (each["framework"], each["server"]) == ("microasgi", "microasgi-limited"):
            prompt = _prompt_cases(each)
            what = f"microasgi on {_server(each)}: handlers and ways to leave in which it stops in time"
            found.append(Target(what, f"all {wanted}", f"{prompt} of {wanted}", prompt == wanted))
    return found


def figures(data: Data) -> "dict[str, Figure]":
    """The matrix as a picture: a row for each stack, a column for each case."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    found = data["stacks"]
    figure = Figure(figsize=(14, 1.7 + 0.27 * len(found)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for top, each in enumerate(found):
        for left, (way, samples) in enumerate((way, each["cells"][handler][way]) for handler, way in CASES):
            colour, ink = COLOURS[_is_prompt(way, samples)]
            axes.add_patch(Rectangle((left + 0.03, top + 0.05), 0.94, 0.9, facecolor=colour))
            axes.text(left + 0.5, top + 0.53, SIGNS.get(_told(samples), _told(samples)), ha="center", va="center", fontsize=8, color=ink)
    axes.set_xlim(0, len(CASES))
    axes.set_ylim(len(found), 0)
    axes.set_yticks(
        [top + 0.5 for top in range(len(found))], [f"{FRAMEWORKS[each['framework']].name} on {_server(each)}" for each in found]
    )
    axes.set_xticks([left + 0.5 for left in range(len(CASES))], [way for _, way in CASES])
    axes.tick_params(length=0, labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False)
    for number, handler in enumerate(HANDLERS):
        axes.text((number + 0.5) * len(WAYS), -1.3, handler, ha="center", fontsize=10, fontweight="bold")
    axes.spines[:].set_visible(False)
    return {"goodbyes": figure}


def page(data: Data) -> str:
    """The picture, the overview, and what people use beside ours."""
    shown = [_overview(data), *_by_app(data, APPS[:2])]
    picture = f"![Which WebSockets' handlers stop when their client leaves, in {len(data['stacks'])} stacks](results/goodbyes.svg)"
    return "\n".join([picture, *(line for table in shown for line in ("", *section(table)))])


PART = Part(
    "goodbyes",
    "Does a WebSocket's handler stop when its client says goodbye, vanishes or falls silent, and how long after that?",
    measure,
    tables,
    targets,
    figures,
    page,
)
