"""One inspector: what is told goes into the recording, and what has changed goes to the pages."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup

from microasgi.exceptions import HTTPException
from microasgi.inspector.page.beats import Beats
from microasgi.inspector.page.feed import Feed
from microasgi.inspector.page.pages import News, Page, Pages
from microasgi.inspector.page.recording import Entry, Recording
from microasgi.inspector.page.sheet import Sheet
from microasgi.inspector.page.standing import Standing, standing, workers
from microasgi.inspector.page.visits import Asked, Visit, Visits, ways
from microasgi.inspector.reasons import Seen
from microasgi.inspector.strangers import with_departure
from microasgi.inspector.told import Cut, Shown, in_order, shown

LOOK = 0.05
"""Seconds between two looks at what has come."""

AGAIN = 1.0
"""Seconds after which a request that goes on is shown anew: its bar grows."""


@dataclass(frozen=True)
class Subject:
    """The app that is looked at.

    target: as it was named; loop: its event loop's name; server: what serves it.
    paths: its routes, to be offered, each a (method, path), that to begin with first.
    phases, stages: the server's and the framework's own tables, to be drawn.
    terms: what is hidden, in a few words.
    """

    target: str
    loop: str
    server: str
    paths: list[tuple[str, str]]
    phases: dict[str, Any]
    stages: list[tuple[str, str]]
    terms: str
    cuts: Callable[[], tuple[Cut, Cut]]


@dataclass(eq=False)
class Session:
    """What there is of one inspector.

    feed: the tap's end in the app's threads.
    compares: the other server, if there is one to compare with.
    address, beats: of the app, once it accepts.
    """

    subject: Subject
    compares: str | None = None
    feed: Feed = field(default_factory=Feed)
    recording: Recording = field(default_factory=Recording)
    pages: Pages = field(default_factory=Pages)
    address: tuple[str, int] | None = None
    beats: Beats | None = None
    _visits_of: dict[int, Visit] = field(default_factory=dict)  # by entry
    _unmet: list[Visit] = field(default_factory=list)  # those whose connection isn't known yet
    _running: set[int] = field(default_factory=set)
    _is_blocked: bool = False
    _threads: dict[int, list[Standing]] = field(default_factory=dict)  # where they stood, by entry
    _tasks: TaskGroup | None = None

    def __post_init__(self) -> None:
        self.visits = Visits(lambda: self._ready()[1], self.subject.cuts, self._visit_changed)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look at what comes, as long as the block lasts."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._look_for_ever)
            yield
            tasks.cancel_scope.cancel()

    def accepts(self, host: str, port: int, beats: Beats | None) -> None:
        """The app can be asked. Called in its own loop."""
        self.beats = beats
        self.address = (host, port)

    def hello(self) -> News:
        """What a page has to know first."""
        subject = self.subject
        host, port = self._ready()
        return {
            "kind": "hello",
            "target": subject.target,
            "loop": subject.loop,
            "address": f"{host}:{port}",
            "paths": subject.paths,
            "ways": ways(),
            "phases": subject.phases,
            "stages": subject.stages,
            "terms": subject.terms,
            "compares": self.compares,
        }

    def open(self, asked: Asked) -> Visit:
        """Make a request.

        :raises HTTPException: 429, there are too many; 503, the app doesn't accept yet
        """
        self._ready()
        assert self._tasks is not None
        visit = self.visits.open(self._tasks, asked)
        self._unmet.append(visit)
        return visit

    def introduce(self, page: Page) -> None:
        """Tell a page that has just been opened of what is remembered already."""
        for id in self.recording.entries:
            page.tell(("request", id), self._news_of(id))
        for visit in self.visits.going_on.values():
            page.tell(("visit", visit.number), _news_of_visit(visit, "on its way"))

    def sheet(self, id: int) -> Sheet:
        """A request that is remembered.

        :raises HTTPException: 404, it isn't
        """
        try:
            return self._sheet(self.recording.entries[id])
        except KeyError:
            raise HTTPException(404, f"request {id} is forgotten, or never was") from None

    def asked(self, id: int) -> Asked | None:
        """What was asked for, if it was asked for here."""
        visit = self._visits_of.get(id)
        return None if visit is None else visit.asked

    def seen(self, sheet: Sheet) -> Seen:
        """What was seen from outside while this happened, with its times."""
        silences = [] if self.beats is None else self.beats.silences()
        blocked = [silence.shown(sheet.began) for silence in silences]
        if sheet.now is not None:
            self._threads[sheet.id] = workers()
        threads = self._threads.get(sheet.id, [])
        files = [file for place in [*threads, *(silence.place for silence in silences)] if place is not None for file in place.files]
        return Seen(blocked, [place.at for place in threads], files)

    def _ready(self) -> tuple[str, int]:
        if self.address is None:
            raise HTTPException(503, "the app doesn't accept connections yet")
        return self.address

    async def _look_for_ever(self) -> None:
        turn = 0
        while True:
            await anyio.sleep(LOOK)
            turn += 1
            self._take()
            self._meet()
            self._look_at_the_loop()
            if turn % int(AGAIN / LOOK) == 0:
                for id in self._running:
                    self._changed(id)

    def _take(self) -> None:
        events, left_out = self.feed.take()
        if left_out:
            self.pages.leave_out(left_out)
        changed: dict[int, Entry] = {}
        for event in events:
            entry = self.recording.put(shown(event))
            if entry is not None:
                changed[entry.id] = entry
        for entry in self.recording.forget():
            changed.pop(entry.id, None)
            self._forget(entry)
        for id, entry in changed.items():
            (self._running.discard if _is_over(entry) else self._running.add)(id)
            self._changed(id)

    def _forget(self, entry: Entry) -> None:
        self._running.discard(entry.id)
        self._visits_of.pop(entry.id, None)
        self._threads.pop(entry.id, None)
        self.pages.withdraw(("request", entry.id), len(entry))
        self.pages.tell(("forgotten", 0), lambda: {"kind": "forgotten", "before": next(iter(self.recording.entries))})

    def _changed(self, id: int) -> None:
        self.pages.tell(("request", id), self._news_of(id))

    def _news_of(self, id: int) -> Callable[[], News]:
        return lambda: {"kind": "request", **self._sheet(self.recording.entries[id]).summary()}

    def _meet(self) -> None:
        """Find the server's side of the connections that were made here."""
        for visit in list(self._unmet):
            entry = next((each for each in reversed(self.recording.entries.values()) if _is_of(visit, each)), None)
            if entry is not None:
                self._visits_of[entry.id] = visit
                self._unmet.remove(visit)
                self._changed(entry.id)
            elif visit.over and len(self._unmet) > 100:
                self._unmet.remove(visit)

    def _visit_changed(self, visit: Visit, words: str) -> None:
        self.pages.tell(("visit", visit.number), _news_of_visit(visit, words))
        for id, own in self._visits_of.items():
            if own is visit:
                self._changed(id)

    def _look_at_the_loop(self) -> None:
        seconds = 0.0 if self.beats is None else self.beats.blocked()
        was_blocked, self._is_blocked = self._is_blocked, bool(seconds)
        if not seconds:
            if was_blocked:
                self.pages.tell(("loop", 0), lambda: {"kind": "loop", "blocked": 0})
            return
        assert self.beats is not None
        place = standing(self.beats.thread)
        at, stack = ("", []) if place is None else (place.told, place.stack)
        self.pages.tell(("loop", 0), lambda: {"kind": "loop", "blocked": seconds, "at": at, "stack": stack})

    def _sheet(self, entry: Entry) -> Sheet:
        visit = self._visits_of.get(entry.id)
        events: list[Shown] = [*entry.told(), *visit.events] if visit is not None else with_departure(entry.told())
        began = min((event["at"] for event in events), default=0.0)
        lost = [(each.newest[0]["at"] - began, each.left_out) for each in (entry, visit and visit.events) if each and each.left_out]
        left_out = (min(at for at, _ in lost), sum(count for _, count in lost)) if lost else None
        now = None if _is_over(entry) else time.perf_counter() * 1000 - began
        return Sheet(entry.id, in_order(events), self.subject.server, now, left_out, None if visit is None else visit.number, began)


def _news_of_visit(visit: Visit, words: str) -> Callable[[], News]:
    return lambda: {"kind": "visit", "visit": visit.number, "state": "over" if visit.over else "open", "words": words}


def _is_of(visit: Visit, entry: Entry) -> bool:
    """Whether this connection is the visit's: by its port, which others may have had before."""
    return entry.peer is not None and entry.peer == visit.port and entry.events[0]["at"] >= visit.events.first[0]["at"]


def _is_over(entry: Entry) -> bool:
    """Whether neither its app nor its connection has anything to add."""
    return entry.ended or (entry.closed and not any(event["what"] == "call" for event in entry.events))
