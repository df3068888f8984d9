"""Events for other programs: as JSON, and for Perfetto's viewer (ui.perfetto.dev), chrome://tracing and VizTracer's.

The second is Chrome's Trace Event Format: a lane is a thread, an event an instant in it, a state (the handler waits, cleans up) a slice,
and the news of a departure one flow of arrows from the client's `close()` to the await that raises.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from microasgi.inspector.ladder import fitted
from microasgi.inspector.timeline import Row, timeline
from microasgi.inspector.told import VERSION, Shown
from microasgi.inspector.wording import HEADINGS

PROCESS = 1
SHORTEST = 1
"""Microseconds that an instant lasts as the end of an arrow: a flow binds to slices."""


def as_json(events: Iterable[Shown]) -> str:
    """`{"version": 1, "events": […]}`, with an event a line."""
    lines = ",\n".join(json.dumps(event) for event in events)
    return f'{{"version": {VERSION}, "events": [\n{lines}\n]}}\n'


def as_perfetto(events: Sequence[Shown], title: str) -> str:
    """Chrome's Trace Event Format; times are in microseconds.

    :param title: what the process is called
    """
    rows = list(timeline(events, fold=False).happened())
    told = [*_names(title), *_instants(rows), *_slices(rows), *_flow([row for row in rows if row.hot])]
    lines = ",\n".join(json.dumps(event) for event in told)
    return f'{{"displayTimeUnit": "ms", "traceEvents": [\n{lines}\n]}}\n'


def _names(title: str) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "pid": PROCESS, "tid": 0, "name": "process_name", "args": {"name": title}}
    for lane, heading in enumerate(HEADINGS, 1):
        yield {"ph": "M", "pid": PROCESS, "tid": lane, "name": "thread_name", "args": {"name": heading}}
        yield {"ph": "M", "pid": PROCESS, "tid": lane, "name": "thread_sort_index", "args": {"sort_index": lane}}


def _at(row: Row) -> dict[str, Any]:
    return {"pid": PROCESS, "tid": row.to + 1, "ts": row.t * 1000}


def _instants(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """What is no news: an instant. What is: a slice, as short as can be, for the arrows to end at."""
    for row in rows:
        shape = {"ph": "X", "dur": SHORTEST} if row.hot else {"ph": "i", "s": "t"}
        args = {"why": row.why, **({"source": row.source} if row.source else {})}
        yield {**shape, **_at(row), "name": fitted(row.label, 80), "cat": "news" if row.hot else row.what[0], "args": args}


def _slices(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The handler's states, each as long as it lasts."""
    state, began = "", 0.0
    for row in rows:
        now = row.state.handler
        if now == state and row is not rows[-1]:
            continue
        if state not in ("", "ended") and row.t > began:
            slice_ = {"ph": "X", "pid": PROCESS, "tid": len(HEADINGS), "ts": began * 1000, "dur": (row.t - began) * 1000}
            yield {**slice_, "name": f"the handler {state}" if state != "cancelled" else "the handler is cancelled", "cat": "state"}
        state, began = now, row.t


def _flow(news: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The arrows of the news, from its first row to its last."""
    for index, row in enumerate(news):
        phase = "s" if index == 0 else "f" if index == len(news) - 1 else "t"
        end = {"bp": "e"} if phase == "f" else {}
        yield {"ph": phase, "id": 1, **_at(row), "name": "the news", "cat": "news", **end}
