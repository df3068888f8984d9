"""How far the cancellation of a call has come: a table, along which `Block._move` (delivery.py) moves it, and nobody else."""

from enum import Enum


class Stage(Enum):
    """How far the cancellation has come."""

    __hash__ = object.__hash__  # Enum's own is written in Python

    OPEN = "nobody has cancelled the block"
    CALLED = "it is cancelled, but the call can't be told yet: it is shielded, or it isn't waiting"
    SENT = "the call's task is cancelled, and what it waits for hasn't ended yet"
    HEARD = "an exception came out of the await: the call knows"
    OVER = "the call has ended"


OPEN, CALLED, SENT, HEARD, OVER = Stage  # in Python 3.11, `Stage.OPEN` costs five times as much

TRANSITIONS: dict[Stage, set[Stage]] = {
    OPEN: {CALLED},  # a call that nobody cancels ends as it is
    CALLED: {SENT, HEARD, OVER},  # HEARD: from its thread, or from a scope that was cancelled at the same time
    SENT: {HEARD, CALLED},  # CALLED: what it waited for has swallowed the cancellation
    HEARD: {SENT, OVER},  # SENT: a group had other errors in its place
    OVER: set(),
}
