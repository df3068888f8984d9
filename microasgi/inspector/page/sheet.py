"""A request as the page shows it: the rows of its timeline, with what the page says beside them."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microasgi.inspector.client import Request
from microasgi.inspector.course import CLIENT_CLOSED_REQUEST, SOON, files_of
from microasgi.inspector.page.visits import Asked
from microasgi.inspector.reasons import Seen, reasons
from microasgi.inspector.summary import Story, clock, span, story, summary
from microasgi.inspector.timeline import excerpt, timeline
from microasgi.inspector.told import Shown

SWITCHING_PROTOCOLS = 101

SILENCE = 100.0
"""Milliseconds after which a request that goes on says so."""

ROOM = 0.25
"""The share of the bar in which words have room."""

_PLACE = re.compile(r"([\w.-]+\.py):(\d+)")

Bar = tuple[float, float, str, str]

_HANDLER = {"works": "running", "waits": "waiting", "cancelled": "cancelled", "ended": "over"}
_LEFT = {"FIN": "closed: FIN", "RST": "reset: RST", "half": "half-closed: FIN", "leave": "left"}


@dataclass(frozen=True)
class Sheet:
    """A request, to be shown.

    events: in order, with times in milliseconds from the first.
    now: the time, counted like theirs, if the request goes on; None: it has ended.
    left_out: where events were forgotten: when, and how many.
    visit: its number, if it was made here.
    began: when, in milliseconds by `time.perf_counter()`.
    """

    id: int
    events: Sequence[Shown]
    server: str
    now: float | None = None
    left_out: tuple[float, int] | None = None
    visit: int | None = None
    began: float = 0.0

    def summary(self) -> dict[str, Any]:
        """What the list shows of it."""
        told = story(self._so_far())
        return {
            "id": self.id,
            "short": self.title(),
            "status": SWITCHING_PROTOCOLS if self._has_accepted() else _status(told, self.now),
            "how": _how(told, self.now),
            "bars": _bars(told),
            "total": told.last,
            "left": told.left,
            "running": self.now is not None,
            "ours": self.visit is not None,
        }

    def whole(self, seen: Seen) -> dict[str, Any]:
        """All of it."""
        events = self._so_far()
        told = story(events)
        why = reasons(events, told, seen)
        rows = self._with_forgotten(self._rows(told, seen))
        if self.now is not None and self.now - self.events[-1]["at"] >= SILENCE:
            rows.append(self._until_now(told, self.now))
        return {
            **self.summary(),
            "title": self.title(),
            "sum": summary(events) if self.now is None or told.left is not None else _goes_on(told),
            "reasons": why,
            "meant": any((event["lane"], event["what"]) == ("handler", "policy") for event in events),
            "places": self._places([*why, *(row.get("at", "") for row in rows)], seen),
            "rows": rows,
            "focus": _focus(rows),
            "server": self.server,
            "alt": _alt(told, told.last),
        }

    def _so_far(self) -> Sequence[Shown]:
        """The events; of what goes on, the present is the last."""
        if self.now is None:
            return self.events
        present = {"at": self.now, "connection": 0, "request": 0, "lane": "core", "what": "now", "source": None, "facts": {}}
        return [*self.events, present]

    def title(self) -> str:
        """The request's method and path."""
        found = self._head()
        return f"{found.method} {found.path}" if found is not None else "no whole request"

    def request(self) -> Request:
        """The request, as far as it was told: its secrets aren't in it, nor its body."""
        return self._head() or Request("GET", "/")

    def asked(self) -> Asked:
        """What would make such a request once more."""
        told = story(self.events)
        way = {"RST": "rst", "half": "half-close"}.get(told.way, "fin")
        return Asked(self.request(), way, None if told.left is None else told.left / 1000)

    def received(self) -> bytes:
        """What the client was sent, as far as it was told."""
        pieces = [event["facts"]["data"] for event in self.events if (event["lane"], event["what"]) == ("wire", "out")]
        return b"".join(bytes.fromhex(piece["bytes"]) for piece in pieces)

    def _head(self) -> Request | None:
        for event in self.events:
            facts: dict[str, Any] = event["facts"]
            match event["lane"], event["what"]:
                case "core", "head":
                    method, _, rest = str(facts["line"]).partition(" ")
                    return Request(method, rest.rpartition(" ")[0] or rest, tuple(map(tuple, facts.get("fields", ()))))
                case "asgi", "call":
                    scope = facts["scope"]
                    query = scope.get("query_string")
                    return Request(str(scope.get("method", "WEBSOCKET")), f"{scope['path']}{'?' + query if query else ''}")
        return None

    def _has_accepted(self) -> bool:
        """Whether it is a WebSocket, and open, or was: whatever becomes of that, its handshake has its status."""
        sent = (event["facts"]["message"] for event in self.events if (event["lane"], event["what"]) == ("asgi", "send"))
        return any(isinstance(message, dict) and message.get("type") == "websocket.accept" for message in sent)

    def _places(self, texts: Sequence[str], seen: Seen) -> dict[str, Any]:
        """The code around each place that these name, as `shop.py:30`: of files only that the app was seen in."""
        files = {**files_of(self.events), **{Path(path).name: path for path in seen.files}}
        found = [(name, number) for text in texts for name, number in _PLACE.findall(text) if name in files]
        code = {f"{name}:{number}": excerpt(f"{files[name]}:{number}") or {} for name, number in found}
        return {place: {**each, "path": _importable(each["path"])} for place, each in code.items()}

    def _rows(self, told: Story, seen: Seen) -> list[dict[str, Any]]:
        before: dict[str, Any] = {}
        rows, step = [], None
        for line in timeline(self.events).rows:
            row = line.shown()
            if "state" in row:
                step = _step(row) or step
                row["src"] = row["src"] and {**row["src"], "path": _importable(row["src"]["path"])}
                before = row["state"]
                row["state"] = {**row["state"], "handler": self._handler(row["state"], row["t"], told), "last": step}
            else:
                row["at"] = _meanwhile(row, before, seen)
                row["fold"] = f"… {row['fold']:,} events like these, in {span(row['gap'])}" if "fold" in row else None
            rows.append(row)
        return rows

    def _handler(self, state: dict[str, Any], t: float, told: Story) -> str:
        doing = _HANDLER.get(state["handler"], "")
        if doing not in ("running", "waiting"):
            return doing
        if told.heard is not None and t > told.heard:
            return "nobody" if told.swallowed else "cleanup"
        if told.left is not None and t >= told.left and not told.is_complete:
            known = told.last if told.heard is None else told.heard
            return "nobody" if known - told.left > SOON else doing
        return doing

    def _with_forgotten(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self.left_out is None:
            return rows
        at, count = self.left_out
        place = next((index for index, row in enumerate(rows) if row["t"] >= at), len(rows))
        return [*rows[:place], {"t": at, "gap": 0, "fold": f"{count:,} events left out"}, *rows[place:]]

    def _until_now(self, told: Story, now: float) -> dict[str, Any]:
        last = self.events[-1]["at"]
        late = told.late is not None and told.late > SOON
        return {"t": last, "gap": now - last, "late": late, "fold": None, "note": "of work for nobody, so far" if late else "so far"}


def _goes_on(told: Story) -> str:
    """The sentence of a request whose client is there."""
    if told.called is None:
        return "Its head isn't whole yet."
    if told.done is not None:
        return f"The response, {told.status}, was complete at {clock(told.done)}; the app has not returned yet."
    return f"The client is there; the handler {'waits at ' + told.at if told.at else 'is at work'}."


def _status(told: Story, now: float | None) -> int | None:
    """As the access log has it; None, if there is none yet, or there was no request."""
    if told.refused or told.called is None:
        return told.refused or None
    before_the_news = told.done is not None and (told.noticed is None or told.done < told.noticed)
    if told.left is not None and not before_the_news:
        return CLIENT_CLOSED_REQUEST
    return told.status or (None if now is not None else CLIENT_CLOSED_REQUEST)


def _how(told: Story, now: float | None) -> str:
    if told.refused:
        return "refused by the server"
    if told.left is not None and not told.is_complete:
        words = _LEFT.get(told.way, "left")
        if told.called is None:
            return f"{words}, no whole request"
        if told.heard is not None:
            if told.swallowed:
                return f"{words} · swallowed it, {'still' if now is not None else 'was'} at work"
            return f"{words} · told after {span(told.heard - told.left)}"
        return f"{words} · {'still' if now is not None else 'was'} at work"
    if now is not None:
        return "goes on"
    return "stayed to the end" if told.is_complete else "ended without a response"


def _bars(told: Story) -> list[Bar]:
    """What the handler did, on a scale of time."""
    if told.called is None:
        return []
    over = told.last if told.over is None else told.over
    if told.left is None or told.is_complete:
        return [(told.called, over, "b-run", "the handler works")]
    known = over if told.heard is None else told.heard
    if known - told.left > SOON:
        bars = [(told.called, told.left, "b-wait", ""), (told.left, known, "b-late", f"{span(known - told.left)} of work for nobody")]
    else:
        bars = [(told.called, known, "b-wait", "the handler waits" if known - told.called > ROOM * over else "")]
    if told.heard is None:
        return bars
    behind = ("b-late", f"{span(over - known)} of work for nobody: swallowed") if told.swallowed else ("b-clean", "")
    return [*bars, (known, over, *behind)]


def _meanwhile(gap: dict[str, Any], state: dict[str, Any], seen: Seen) -> str:
    """Where the handler is while nothing happens: where it waits, or where the loop stood in which it computes."""
    if state.get("handler") == "waits":
        return str(state["at"])
    if state.get("handler") not in ("works", "cancelled"):
        return ""
    during = [(each.during(gap["t"], gap["t"] + gap["gap"]), each.at) for each in seen.blocked if each.at]
    longest, at = max(during, default=(0.0, ""))
    return at if longest > 0 else ""


def _importable(path: str) -> str:
    """A file's path from where Python found it: `microasgi/promise/delivery.py`, wherever that is installed."""
    roots = [root for root in sys.path if root and Path(path).is_relative_to(root)]
    return Path(path).relative_to(max(roots, key=len)).as_posix() if roots else path


def _step(row: dict[str, Any]) -> list[str] | None:
    """The step along the table of phases that this row is, if it is one: from, to."""
    found = re.fullmatch(r"phase (\w+) → (\w+)", row["label"])
    return [found[1], found[2]] if found else None


def _focus(rows: Sequence[dict[str, Any]]) -> int:
    """The row to begin with: where the news arrives, else the first."""
    hot = [index for index, row in enumerate(rows) if row.get("hot")]
    raised = [index for index in hot if rows[index]["to"] == 4]
    return (raised or hot or [0])[-1]


def _alt(told: Story, total: float) -> str:
    """The bar of times, in words."""
    if told.called is None:
        return "No handler was called."
    until = f"The handler was at work from {clock(told.called)} to {clock(total if told.over is None else told.over)}"
    return f"{until}; the client left at {clock(told.left)}." if told.left is not None else f"{until}; the client did not leave."
