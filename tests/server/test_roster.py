"""Who works, decided without a process and without a clock: time is what the tests say it is."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from microasgi_server.workers.roster import CLEARING, DYING, LASTING, PACE, PAUSES, TRIES, Loss, Order, Roster, State, Worker


class Shift:
    """A roster over time.

    given: every order so far, with the worker's number and the time.
    """

    def __init__(self, wanted: int = 2, **options: Any) -> None:
        self.roster = Roster(wanted, **options)
        self.now = 0.0
        self.given: list[tuple[Order, int, float]] = []

    def look(self, later: float = 0.0) -> list[tuple[Order, Worker]]:
        """What is to be done, so many seconds later."""
        self.now += later
        orders = list(self.roster.orders(self.now))
        self.given += [(order, worker.number, self.now) for order, worker in orders]
        return orders

    def begun(self) -> "Shift":
        """The same, when all have started for the first time."""
        self.look()
        self.start_all()
        return self

    def start_all(self) -> None:
        for worker in self.of(State.STARTING):
            self.roster.started(worker, self.now)

    def lose(self, worker: Worker) -> Loss:
        return self.roster.gone(worker, self.now)

    def of(self, state: State) -> list[Worker]:
        return [worker for worker in self.roster.workers if worker.state is state]

    def serving(self) -> list[int]:
        return sorted(worker.number for worker in self.of(State.SERVING))

    def orders(self) -> list[tuple[Order, int]]:
        """What is to be done now, without whom exactly."""
        return [(order, worker.number) for order, worker in self.look()]


def test_at_first_all_start_at_once() -> None:
    """Nobody is served yet whom that could disturb."""
    shift = Shift(3)
    assert shift.orders() == [(Order.START, 1), (Order.START, 2), (Order.START, 3)]
    assert shift.orders() == []
    assert not shift.roster.settled
    shift.start_all()
    assert (shift.roster.complete, shift.roster.settled) == (True, True)


def test_who_does_not_last_is_replaced_later_each_time() -> None:
    """The first time it is at once; a worker that has lasted makes the rest forgotten."""
    shift = Shift(1).begun()
    for pause in [*PAUSES, PAUSES[-1]]:
        assert shift.lose(shift.of(State.SERVING)[0]) is Loss.REPLACED
        assert shift.roster.pause(1, shift.now) == pytest.approx(pause)
        if pause:
            assert not shift.look(pause - 0.01)
            shift.now += 0.02
        assert shift.orders() == [(Order.START, 1)]
        shift.start_all()
    shift.now += LASTING
    shift.lose(shift.of(State.SERVING)[0])
    assert shift.orders() == [(Order.START, 1)]


def test_those_lost_together_come_back_one_by_one() -> None:
    """The next starts when the one before serves, or has taken too long for it."""
    shift = Shift(3).begun()
    shift.now = LASTING
    for worker in shift.of(State.SERVING)[:]:
        assert shift.lose(worker) is Loss.REPLACED
    assert shift.orders() == [(Order.START, 1)]
    assert not shift.look(PACE - 0.1)
    assert [number for _, number in [(o, w.number) for o, w in shift.look(0.2)]] == [2]
    shift.start_all()
    assert shift.orders() == [(Order.START, 3)]


def test_a_successor_serves_before_its_predecessor_goes() -> None:
    """Whoever renews all has as many that serve as before, at each moment."""
    shift = Shift(3).begun()
    shift.roster.renew()
    for number in (1, 2, 3):
        assert shift.orders() == ([(Order.STOP, number - 1)] if number > 1 else []) + [(Order.START, number)]
        assert len(shift.serving()) == 3
        shift.start_all()
    assert shift.orders() == [(Order.STOP, 3)]
    for worker in shift.of(State.LEAVING):
        assert shift.lose(worker) is Loss.EXPECTED
    assert shift.roster.settled
    assert shift.orders() == []


def test_where_the_new_code_fails_the_old_stays() -> None:
    """A successor that can't start ends the renewal, and nobody has gone for it."""
    shift = Shift(2).begun()
    shift.roster.renew()
    shift.look()
    assert shift.lose(shift.of(State.STARTING)[0]) is Loss.STAYS
    assert shift.orders() == []
    assert shift.roster.settled


@pytest.mark.parametrize("served", [0, 1])
def test_who_cannot_start_at_first_ends_all(served: int) -> None:
    """As long as the places were never all filled, one that can't start is nobody's bad luck."""
    shift = Shift(2)
    shift.look()
    for worker in shift.of(State.STARTING)[:served]:
        shift.roster.started(worker, 0.0)
    assert shift.lose(shift.of(State.STARTING)[0]) is Loss.FATAL
    assert shift.orders() == [(Order.STOP, 1 if served else 2)]
    shift.lose(shift.of(State.LEAVING)[0])
    assert shift.roster.over


@pytest.mark.parametrize("developing", [False, True])
def test_who_is_asked_to_end_while_it_starts_is_replaced_once(developing: bool) -> None:
    """All processes may be asked at once, and the supervisor hear it last; an app that asks itself to end is as one that can't start."""
    shift = Shift(1, developing=developing)
    shift.look()
    (worker,) = shift.of(State.STARTING)
    assert shift.roster.gone(worker, shift.now, asked=True) is Loss.REPLACED
    assert shift.orders() == [(Order.START, 1)]
    (worker,) = shift.of(State.STARTING)
    assert shift.roster.gone(worker, shift.now, asked=True) is (Loss.WAITS if developing else Loss.FATAL)


def test_who_cannot_start_later_is_tried_again_while_another_serves() -> None:
    """When none does it is tried three times, for there may be something missing for a moment; then all is over: no loop without end."""
    shift = Shift(2).begun()
    first, second = shift.of(State.SERVING)
    shift.lose(first)
    for pause in PAUSES[: TRIES + 2]:
        shift.look(pause)
        assert shift.lose(shift.of(State.STARTING)[0]) is Loss.REPLACED
    shift.look(PAUSES[TRIES + 2])
    shift.lose(second)
    assert shift.lose(shift.of(State.STARTING)[0]) is Loss.FATAL


def test_a_short_want_is_not_the_end() -> None:
    """Where nobody serves, and nobody can for some seconds, the places are filled when it is over."""
    shift = Shift(2).begun()
    for worker in shift.of(State.SERVING)[:]:
        shift.lose(worker)
    for pause in PAUSES[1:TRIES]:
        shift.look()
        for worker in shift.of(State.STARTING)[:]:
            assert shift.lose(worker) is Loss.REPLACED
        shift.look(pause)
    for _ in range(2):
        shift.look(PAUSES[TRIES])
        shift.start_all()
    assert shift.serving() == [1, 2]


def test_a_loop_that_does_not_turn_is_looked_at_and_killed() -> None:
    """First it may say where it stands; meanwhile a successor starts."""
    shift = Shift(2, timeout=30).begun()
    busy, idle = shift.of(State.SERVING)
    shift.now = 30
    shift.roster.heard(idle, 30)
    assert shift.orders() == []
    assert [(o, w) for o, w in shift.look(0.1)] == [(Order.DUMP, busy)]
    assert [(o, w.number) for o, w in shift.look()] == [(Order.START, 1)]
    assert [(o, w) for o, w in shift.look(DYING)] == [(Order.KILL, busy)]
    assert shift.lose(busy) is Loss.REPLACED
    assert shift.orders() == []


def test_time_in_which_nobody_could_be_heard_does_not_count() -> None:
    """A supervisor that was stopped itself kills nobody for that."""
    shift = Shift(2, timeout=30).begun()
    shift.now = 1000
    shift.roster.excuse(1000)
    assert shift.orders() == []


def test_the_end_is_asked_for_up_to_three_times() -> None:
    """Gracefully, at once, and whatever they do."""
    shift = Shift(2).begun()
    for order in (Order.STOP, Order.STOP_NOW, Order.KILL):
        assert shift.roster.end() is order
        assert shift.orders() == [(order, 1), (order, 2)]
    assert shift.roster.end() is Order.KILL
    assert shift.orders() == []
    for worker in shift.roster.workers[:]:
        assert shift.lose(worker) is Loss.EXPECTED
    assert shift.roster.over


@pytest.mark.parametrize(("times", "due"), [(1, 20.0), (2, 5.0)])
def test_who_does_not_go_is_killed(times: int, due: float) -> None:
    """What a worker promises about its own end isn't taken on trust."""
    shift = Shift(1, patience=20.0, haste=5.0).begun()
    for _ in range(times):
        shift.roster.end()
        shift.look()
    assert not shift.look(due - 0.1)
    assert [order for order, _ in shift.look(0.2)] == [Order.KILL]


def test_there_may_be_more_or_fewer_but_one() -> None:
    """The last place stays."""
    shift = Shift(1).begun()
    assert shift.roster.resize(1)
    assert shift.orders() == [(Order.START, 2)]
    shift.start_all()
    assert shift.roster.resize(-1)
    assert shift.orders() == [(Order.STOP, 2)]
    assert not shift.roster.resize(-1)
    assert shift.serving() == [1]


def test_who_is_worn_is_replaced_and_not_too_often() -> None:
    """A worker that is worn from its beginning must not be replaced again and again without a pause."""
    shift = Shift(1).begun()
    for pause in PAUSES[:3]:
        assert shift.roster.worn(shift.of(State.SERVING)[-1], shift.now)
        assert not shift.roster.worn(shift.of(State.SERVING)[-1], shift.now)
        assert shift.roster.pause(1, shift.now) == pytest.approx(pause)
        shift.look(pause)
        shift.start_all()
        assert [order for order, _ in shift.look()] == [Order.STOP]


@pytest.mark.parametrize("goes", [True, False])
def test_while_developing_the_old_goes_first(goes: bool) -> None:
    """It is stopped at once, and has a second until the new one starts."""
    shift = Shift(1, developing=True).begun()
    shift.roster.renew()
    assert [order for order, _ in shift.look()] == [Order.STOP_NOW]
    assert shift.orders() == []
    if goes:
        shift.lose(shift.of(State.LEAVING)[0])
    else:
        shift.now += CLEARING
    assert shift.orders() == [(Order.START, 1)]


def test_while_developing_what_cannot_start_waits_for_other_code() -> None:
    """A syntax error is no reason to end, and none to try again either."""
    shift = Shift(1, developing=True)
    shift.look()
    assert shift.lose(shift.of(State.STARTING)[0]) is Loss.WAITS
    assert not shift.look(1000)
    shift.roster.renew()
    assert shift.orders() == [(Order.START, 1)]


def test_who_has_not_begun_to_serve_is_only_told_to_stop() -> None:
    """There is nothing that would have to be cancelled."""
    shift = Shift(1, developing=True)
    shift.look()
    shift.roster.renew()
    assert shift.orders() == [(Order.STOP, 1)]


EVENTS = ["start", "lose serving", "lose starting", "lose leaving", "renew", "more", "fewer", "worn", "wait"]


def happen(shift: Shift, event: str) -> None:
    """One of them, as far as it is possible now."""
    states = {"lose serving": State.SERVING, "lose starting": State.STARTING, "lose leaving": State.LEAVING}
    if event in states:
        for worker in shift.of(states[event])[:1]:
            shift.lose(worker)
    elif event == "start":
        shift.start_all()
    elif event == "worn":
        for worker in shift.of(State.SERVING)[:1]:
            shift.roster.worn(worker, shift.now)
    elif event == "wait":
        shift.now += 1.0
    elif event == "renew":
        shift.roster.renew()
    else:
        shift.roster.resize(1 if event == "more" else -1)


def calm(shift: Shift) -> Iterator[None]:
    """From now on all goes well: who starts serves, and who is told to go goes."""
    for _ in range(100):
        shift.look(1.0)
        shift.start_all()
        for worker in shift.of(State.LEAVING):
            shift.lose(worker)
        yield


@given(st.integers(1, 4), st.booleans(), st.lists(st.sampled_from(EVENTS), max_size=30))
def test_whatever_happens_all_places_are_filled_in_the_end(wanted: int, developing: bool, events: list[str]) -> None:
    """After any events, and then none, each place has one worker that serves, or all is over; nobody is told to go who needn't."""
    shift = Shift(wanted, developing=developing).begun()
    for event in events:
        happen(shift, event)
        shift.look()
    if developing:
        shift.roster.renew()
    for _ in calm(shift):
        if shift.roster.over or shift.roster.settled:
            break
    assert shift.roster.over or shift.serving() == list(range(1, shift.roster.wanted + 1))
    told = len(shift.given)
    shift.look()
    assert len(shift.given) == told
