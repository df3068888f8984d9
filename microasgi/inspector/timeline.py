"""Events in rows: what a ladder and a page show of one connection.

Three things are made of the events here, in one pass: what was known at each moment (states.py), which of them carry the news of the
departure, from the client's `close()` to the await that raises (news.py), and the silence between them (`Gap`). Rows that only repeat
what has been seen are folded then (`Fold`).
"""

import linecache
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from microasgi.inspector.course import SOON, Course, course
from microasgi.inspector.news import News, Tasks
from microasgi.inspector.states import State, following
from microasgi.inspector.told import Shown
from microasgi.inspector.wording import Spec, told

SILENCE = 100.0
"""Milliseconds after which a gap is shown as one."""

SEEN, ENOUGH = 2, 12
"""A row repeats if so many like it came before; so many such in a row are folded."""

QUIET = {("core", "input"), ("core", "left"), ("core", "waits for"), ("asgi", "receive?")}
"""What changes the state, and is no row of its own."""


MARKS = {("handler", "wait"): "◌", ("asgi", "lint"): "!"}
"""Of what is neither news nor usual."""


@dataclass(frozen=True)
class Row:
    """An event in a ladder.

    t: milliseconds from the first.
    frm, to: the lanes between which it happens, from 0, the client, to 4, the handler.
    hot: whether it carries the news of the departure.
    source: `path/file.py:123`, where in the code it happens.
    data: the bytes, as facts have them.
    """

    t: float
    frm: int
    to: int
    label: str
    why: str
    spec: Spec | None
    hot: bool
    glyph: str
    source: str | None
    data: dict[str, Any] | None
    state: State
    what: tuple[str, str]

    def shown(self) -> dict[str, Any]:
        """As plain data."""
        names = ("t", "frm", "to", "label", "why", "spec", "hot", "glyph")
        return {
            **{name: getattr(self, name) for name in names},
            "src": excerpt(self.source),
            "bytes": self.data and {"hex": self.data["bytes"], "size": self.data["size"]},
            "state": asdict(self.state),
        }


@dataclass(frozen=True)
class Gap:
    """Nothing, for so many milliseconds. late: the client had left, and the handler was still at work."""

    t: float
    gap: float
    note: str
    late: bool = False

    def shown(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Fold:
    """So many rows that only repeat others, in so many milliseconds."""

    t: float
    gap: float
    fold: int

    def shown(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


Line = Row | Gap | Fold


@dataclass(frozen=True)
class Timeline:
    """One connection's events in rows."""

    rows: Sequence[Line] = field(default_factory=list)

    def happened(self) -> Iterator[Row]:
        """The rows that are events."""
        return (row for row in self.rows if isinstance(row, Row))


def timeline(events: Iterable[Shown], *, fold: bool = True) -> Timeline:
    """The rows of these events, which are in order.

    :param fold: leave out what only repeats
    """
    rows = list(_rows(list(events)))
    return Timeline(list(_with_gaps(_folded(rows) if fold else rows)))


def _rows(events: Sequence[Shown]) -> Iterator[Row]:
    state, news, tasks = State(), News(), Tasks()
    left = next((event["at"] for event in events if (event["lane"], event["what"]) == ("client", "close")), None)
    becomes = Course() if left is None else course(events, left)
    for event in events:
        kind = event["lane"], event["what"]
        if tasks.only_turns(event):
            continue
        state = following(state, kind, event["facts"])
        hot = news.carries(kind, event["facts"], state)
        if kind in QUIET:
            continue
        words = told(tasks.placed(event))
        leaving = kind in (("client", "close"), ("wire", "FIN"), ("core", "hang_up")) or (kind == ("wire", "lost") and hot)
        glyph = "✕" if hot or leaving else MARKS.get(kind, "●")
        label, why = words.label, words.why
        if kind == ("handler", "wait") and news.heard and state.stage != "OVER":
            if becomes.swallowed:
                why = f"{why} It is for nobody: the cancellation has been delivered, and swallowed."
            else:
                label, why = label.replace("waits", "cleanup waits", 1), f"{why} It is cleanup: the cancellation has been delivered."
        if kind == ("handler", "stage") and event["facts"]["new"] == "CALLED":
            means = _called(state, becomes, event["at"], left)
            why, state = means, replace(state, means=means)
        if kind == ("asgi", "told") and becomes.policy:
            label = label.replace("is called", "cancels nothing")
            why = "Whoever subscribed is told, and lets the handler finish: so its route is meant."
        data = event["facts"].get("data")
        yield Row(event["at"], words.frm, words.to, label, why, words.spec, hot, glyph, event["source"], data, state, kind)


def _called(state: State, becomes: Course, at: float, left: float | None) -> str:
    """What it means that the cancellation is called: whether it arrives at once, and else why not."""
    if becomes.sent is not None and left is not None and left + becomes.sent - at < SOON:
        return "It is cancelled. It can be told, and is next."
    why = "it isn't waiting, but at work" if state.handler == "works" else becomes.holds
    return f"It is cancelled, but can't be told yet: {why}."


def _folded(rows: list[Row]) -> Iterator[Row | Fold]:
    """Of long runs of rows that only repeat what came before, the first and the last."""
    seen: dict[tuple[int, int, str], int] = {}
    run: list[Row] = []
    for row in rows:
        key = row.frm, row.to, re.sub(r"[\d,.]+|`.*`", "", row.label)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > SEEN and not row.hot:
            run.append(row)
            continue
        yield from _fold(run)
        run = []
        yield row
    yield from _fold(run)


def _fold(run: list[Row]) -> list[Row | Fold]:
    if len(run) < ENOUGH:
        return list(run)
    return [run[0], Fold(run[0].t, run[-1].t - run[0].t, len(run) - 2), run[-1]]


def _with_gaps(rows: Iterable[Row | Fold]) -> Iterator[Line]:
    """The rows, and the silence between them."""
    before: Row | Fold | None = None
    for row in rows:
        if isinstance(before, Row) and isinstance(row, Row) and row.t - before.t >= SILENCE:
            note, late = _silence(before.state)
            yield Gap(before.t, round(row.t - before.t, 3), note, late)
        yield row
        before = row


def _silence(state: State) -> tuple[str, bool]:
    """What goes on while nothing happens, and whether it is for nobody."""
    if state.gone and state.handler in ("works", "waits", "cancelled") and not state.done:
        return "of work for nobody", True
    return {"works": "in which the handler computes", "waits": "in which the handler waits"}.get(state.handler, ""), False


def excerpt(source: str | None) -> dict[str, Any] | None:
    """The lines of code around a place."""
    if source is None:
        return None
    path, _, number = source.rpartition(":")
    line = int(number)
    code = [[near, text.rstrip("\n")] for near in range(max(1, line - 2), line + 3) if (text := linecache.getline(path, near))]
    return {"file": Path(path).name, "path": path, "line": line, "code": code}
