"""The part `disconnect`, for WebSockets: four handlers, and four ways to leave each.

Where a server can ask silent clients whether they are there, it does so here after two seconds, and waits two more.
"""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks.clients.leaving import ENDED_BEFORE, NOT_BEGUN, Sample
from benchmarks.clients.parting import HANDLERS, SILENCE, WAYS, part
from benchmarks.measuring import Data, Run, Table, Target
from benchmarks.parts.disconnect_groups import side_by_side
from benchmarks.parts.disconnect_matrix import brief
from benchmarks.report import section
from benchmarks.stacks import EVERY, FRAMEWORKS, SERVERS, Stack

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

CLIENTS = 2
"""For each handler and way."""

SECONDS = 8.0
"""That a handler takes if nothing stops it."""

PATIENCE = 3.0
"""Seconds that clients wait for all the handlers to begin."""


def stacks() -> Iterator[Stack]:
    """The three apps on every server."""
    for app in APPS:
        for server in PINGS:
            for loop in EVERY if server.startswith("microasgi") else ("asyncio",):
                yield Stack(app, server, loop)


def few(run: Run) -> list[Stack]:
    """One of them."""
    return run.installed([next(stacks())])


def measure(run: Run, chosen: Sequence[Stack], together: int) -> Data:
    """Let clients leave every stack in every way."""
    clients, seconds, patience = (1, 1.0, 0.4) if run.quick else (CLIENTS, SECONDS, PATIENCE)
    found = side_by_side(run, chosen, together, lambda port: {"cells": part(port, clients, seconds, patience)}, PINGS)
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


def _prompt(each: dict[str, Any]) -> int:
    return sum(_is_prompt(way, samples) for cells in each["cells"].values() for way, samples in cells.items())


def tables(data: Data) -> list[Table]:
    """How many of the sixteen each stack notices, and how long each takes."""
    return [_overview(data), *(_of_app(data, app) for app in APPS if any(each["framework"] == app for each in data["stacks"]))]


def _overview(data: Data) -> Table:
    places = list(dict.fromkeys(_server(each) for each in data["stacks"]))
    rows = []
    for app in APPS:
        scores = {_server(each): f"{_prompt(each)}/{len(HANDLERS) * len(WAYS)}" for each in data["stacks"] if each["framework"] == app}
        rows.append([FRAMEWORKS[app].name, *(scores.get(place, "") for place in places)])
    return Table(
        "WebSockets: in how many of sixteen cases does the handler stop in time?",
        ["", *places],
        rows,
        f"Four handlers, and four ways to leave each. In time is within {PROMPT / 1000:g} s of the departure. A client that only falls"
        f" silent may be missed {SILENT / 1000:g} s later: the servers that can do so ask after 2 s whether it is there, and wait for 2 s.",
    )


def _of_app(data: Data, app: str) -> Table:
    """When a handler of this app hears of it, on each server."""
    found = [each for each in data["stacks"] if each["framework"] == app]
    rows = [[handler, way, *(_told(each["cells"][handler][way]) for each in found)] for handler in HANDLERS for way in WAYS]
    return Table(
        f"WebSockets: {FRAMEWORKS[app].name}",
        ["the handler", "its client leaves by", *map(_server, found)],
        rows,
        f"Milliseconds from the departure to the handler's end, the median of {data['clients']} clients. A handler that nothing stops takes"
        f" {data['seconds']:g} s.",
    )


def targets(data: Data) -> list[Target]:
    """Our framework on our server stops its handlers always."""
    found = []
    wanted = len(HANDLERS) * len(WAYS)
    for each in data["stacks"]:
        if (each["framework"], each["server"]) == ("microasgi", "microasgi-limited"):
            prompt = _prompt(each)
            what = f"WebSockets: microasgi on {_server(each)}: handlers and ways to leave in which it stops in time"
            found.append(Target(what, f"all {wanted}", f"{prompt} of {wanted}", prompt == wanted))
    return found


def page(data: Data) -> list[str]:
    """The overview; what ours does, and what people use."""
    shown = [_overview(data), *(_of_app(data, app) for app in APPS[:2] if any(each["framework"] == app for each in data["stacks"]))]
    return [line for table in shown for line in (*section(table), "")][:-1]


def claim(data: Data) -> str:
    """How many of the sixteen, at best and at worst."""
    scores: dict[str, list[int]] = {}
    for each in data["stacks"]:
        ours = each["server"] == "microasgi-limited" and each["framework"] != "starlette"
        scores.setdefault("ours" if ours else each["framework"], []).append(_prompt(each))
    if not {"ours", "starlette"} <= scores.keys():
        return ""
    plain = scores["starlette"]
    return (
        " Of sixteen cases of WebSockets (four handlers, and four ways to leave each), ours stops the handler in time in at least"
        f" {min(scores['ours'])}, also Starlette's in `CancelOnDisconnect`. Starlette's alone stops in {min(plain)} to {max(plain)}, by the"
        " server."
    )
