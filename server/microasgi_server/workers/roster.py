"""Who works: which worker starts, which goes, and when. Decides, and does nothing: no process and no clock is known here.

A worker has a place, its number. Whoever is to replace it has the same one, and starts before it goes:

    STARTING ──► SERVING ──► LEAVING ──► gone
        │           └──► HUNG ──────────► gone
        └───────────────────────────────► gone

    place 2 is free, or who is there retires          START, one at a time, later each time that it was in vain
    the successor serves, or the place is given up    STOP
    its loop hasn't turned for too long               DUMP, and KILL a moment later
    it was told to go, and doesn't                    KILL
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto

PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before a worker is replaced that didn't last: the first time, the second in a row, and so on."""

TRIES = 3
"""Times in a row that a place was filled in vain, after which one more is the end of all, if nobody serves. What a machine is short of for
a moment is no reason for that; of what lasts, whoever has started the supervisor may know more."""

LASTING = 10.0
"""Seconds after which a worker that serves has lasted."""

PACE = 5.0
"""Seconds that a worker has for itself to start in, before the next may: all at once take the machine from those that serve."""

DYING = 1.0
"""Seconds in which a hung worker may say where it stands."""

CLEARING = 1.0
"""Seconds that those who are told to go have before others start in their places, while developing: both might want the same things."""


class State(Enum):
    """How far a worker is."""

    STARTING = auto()
    """It imports the app, and the app starts up."""
    SERVING = auto()
    LEAVING = auto()
    """It was told to go."""
    HUNG = auto()
    """Its loop doesn't turn, and it is killed for that."""


class Order(IntEnum):
    """What is to be done about a worker. Later ones are stronger."""

    START = auto()
    STOP = auto()
    """It finishes its requests."""
    STOP_NOW = auto()
    """It cancels them."""
    DUMP = auto()
    """It writes down where it stands."""
    KILL = auto()


class Loss(Enum):
    """What it means that a worker has ended."""

    EXPECTED = auto()
    REPLACED = auto()
    """Another will start."""
    STAYS = auto()
    """It was to replace one, which serves on, and so do all others that were to be replaced."""
    WAITS = auto()
    """Another will start when the code has changed."""
    FATAL = auto()
    """It couldn't start, at first, or again and again while no other serves: all is over."""


@dataclass(eq=False)
class Worker:
    """One worker. Times are those of whoever asks for orders.

    number: its place, from 1 on.
    since: when it came into its state.
    heard: when its loop was last known to turn.
    retiring: whether another is to take its place.
    told: the strongest order that it was given.
    due: when it is killed unless it has ended.
    """

    number: int
    since: float
    state: State = State.STARTING
    heard: float = 0.0
    retiring: bool = False
    told: Order = Order.START
    due: float = math.inf

    def becomes(self, state: State, now: float) -> None:
        self.state, self.since = state, now


@dataclass
class Roster:
    """All workers.

    wanted: how many are to serve.
    timeout: seconds that a loop may take to turn; 0 is any number.
    patience, haste: seconds after which one is killed that was told to stop, gracefully or now.
    developing: who is replaced goes at once; who can't start waits for other code.
    workers: all that have not ended.
    ending: how all are to end, if they are.
    complete: whether all places were ever filled.
    """

    wanted: int
    timeout: float = 0.0
    patience: float = math.inf
    haste: float = math.inf
    developing: bool = False
    workers: list[Worker] = field(default_factory=list)
    ending: Order | None = None
    complete: bool = False
    _stuck: bool = False
    _failures: dict[int, int] = field(default_factory=dict)
    _free_from: dict[int, float] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether all have ended that are to end."""
        return self.ending is not None and not self.workers

    @property
    def settled(self) -> bool:
        """Whether nothing is under way."""
        places = sorted(worker.number for worker in self.workers if worker.state is State.SERVING and not worker.retiring)
        filled = places == list(range(1, self.wanted + 1))
        return self.ending is None and filled and len(self.workers) == self.wanted

    @property
    def rests(self) -> bool:
        """Whether nobody starts, and nobody ends for good."""
        return self.ending is None and all(worker.state is not State.STARTING for worker in self.workers)

    # What happens.

    def started(self, worker: Worker, now: float) -> None:
        """It serves."""
        worker.heard = now
        if worker.state is State.STARTING:
            worker.becomes(State.SERVING, now)
            self.complete = self.complete or all(self._serving(number) for number in range(1, self.wanted + 1))

    def heard(self, worker: Worker, now: float) -> None:
        """Its loop turns."""
        worker.heard = now

    def worn(self, worker: Worker, now: float) -> bool:
        """Replace it; whether that is news."""
        if worker.retiring or worker.state is not State.SERVING:
            return False
        worker.retiring = True
        self._postpone(worker, now)  # there may be no worker that isn't worn from the beginning
        return True

    def renew(self) -> None:
        """Replace all: the code has changed."""
        self._stuck = False
        self._failures.clear()
        self._free_from.clear()
        for worker in self.workers:
            worker.retiring = True

    def resize(self, by: int) -> bool:
        """Have one worker more or less; whether that is possible."""
        if self.wanted + by < 1:
            return False
        self.wanted += by
        return True

    def end(self) -> Order:
        """All are to go: gracefully, the second time at once, the third time whatever they do. Gives what they will be told."""
        stronger = {None: Order.STOP, Order.STOP: Order.STOP_NOW}
        self.ending = stronger.get(self.ending, Order.KILL)
        return self.ending

    def gone(self, worker: Worker, now: float, *, asked: bool = False) -> Loss:
        """It has ended, whatever it was.

        :param asked: somebody has asked its process to end. Where that is all processes at once, the next thing heard is that we are to
            end, too; so it is no failure, unless it happens twice in a row
        """
        asked = asked and not self._failures.get(worker.number)
        self.workers.remove(worker)
        if worker.state is State.LEAVING or self.ending is not None:
            return Loss.EXPECTED
        if worker.state is State.STARTING and not asked:
            if self.developing:
                self._stuck = True
                return Loss.WAITS
            if self._serving(worker.number):
                for other in self.workers:
                    other.retiring = False
                return Loss.STAYS
            hopeless = self._failures.get(worker.number, 0) >= TRIES and not any(other.state is State.SERVING for other in self.workers)
            if hopeless or not self.complete:
                self.ending = Order.STOP
                return Loss.FATAL
        self._postpone(worker, now)
        return Loss.REPLACED

    # What follows.

    def orders(self, now: float) -> Iterator[tuple[Order, Worker]]:
        """What is to be done now. It counts as done."""
        if self.ending is not None:
            for worker in self.workers:
                yield from self._dismiss(worker, self.ending, now)
        else:
            yield from self._retire(now)
            yield from self._recruit(now)
        yield from self._put_down(now)

    def pause(self, number: int, now: float) -> float:
        """Seconds before another starts in this place."""
        return max(0.0, self._free_from.get(number, now) - now)

    def excuse(self, now: float) -> None:
        """Nobody could be heard until now."""
        for worker in self.workers:
            worker.heard = now

    def _retire(self, now: float) -> Iterator[tuple[Order, Worker]]:
        for worker in self.workers:
            if worker.state not in (State.STARTING, State.SERVING):
                continue
            if self.developing and worker.retiring:
                yield from self._dismiss(worker, Order.STOP_NOW, now)
            elif (
                worker.number > self.wanted
                or (worker.retiring and worker.state is State.STARTING)
                or (worker.retiring and self._serving(worker.number, lasting=True))
            ):
                yield from self._dismiss(worker, Order.STOP, now)

    def _recruit(self, now: float) -> Iterator[tuple[Order, Worker]]:
        for number in range(1, self.wanted + 1):
            if self._may_start(number, now):
                worker = Worker(number, now)
                self.workers.append(worker)
                yield Order.START, worker

    def _may_start(self, number: int, now: float) -> bool:
        here = [worker for worker in self.workers if worker.number == number]
        if any(worker.state in (State.STARTING, State.SERVING) and not worker.retiring for worker in here):
            return False
        if self.developing:
            leaving = any(worker.state is State.LEAVING and now < worker.since + CLEARING for worker in here)
            return not (self._stuck or leaving) and self.pause(number, now) == 0
        busy = any(worker.state is State.STARTING and now < worker.since + PACE for worker in self.workers)
        return not (busy and self.complete) and self.pause(number, now) == 0

    def _put_down(self, now: float) -> Iterator[tuple[Order, Worker]]:
        for worker in self.workers:
            if self.timeout and worker.state is State.SERVING and now > worker.heard + self.timeout:
                worker.becomes(State.HUNG, now)
                worker.due = now + DYING
                yield Order.DUMP, worker
            elif now >= worker.due:
                worker.due = math.inf
                yield Order.KILL, worker

    def _dismiss(self, worker: Worker, order: Order, now: float) -> Iterator[tuple[Order, Worker]]:
        if worker.state is State.STARTING and order is Order.STOP_NOW:
            order = Order.STOP  # it has no request to wait for, and may not know the other yet
        if worker.told < order:
            worker.told = order
            if worker.state is not State.HUNG:
                worker.becomes(State.LEAVING, now)
                worker.due = now + (self.patience if order is Order.STOP else self.haste)
            yield order, worker

    def _serving(self, number: int, *, lasting: bool = False) -> bool:
        """Whether somebody serves in this place; or somebody who doesn't retire."""
        return any(w.number == number and w.state is State.SERVING and not (lasting and w.retiring) for w in self.workers)

    def _postpone(self, worker: Worker, now: float) -> None:
        """Let the place be free for a time, if who was there didn't last."""
        lasted = worker.state is not State.STARTING and now >= worker.since + LASTING
        failures = 0 if lasted else self._failures.get(worker.number, 0)
        self._free_from[worker.number] = now + (0.0 if lasted else PAUSES[min(failures, len(PAUSES) - 1)])
        self._failures[worker.number] = 0 if lasted else failures + 1
