"""How a response moves: a phase, a step, the next phase.

Two things the table does not hold: a client can leave in any phase, which ends all but a finished response; and an app that fails while
nothing is on the wire yet starts again with a 500.
"""

from enum import Enum, auto


class Phase(Enum):
    """How far a response has come."""

    __hash__ = object.__hash__  # Enum's own is written in Python, and the table is asked twice a message

    WAITING = auto()
    """Nothing from the app yet, except early hints."""
    STARTED = auto()
    """The head is here, and held back until the first body message: both leave in one write, and until then a failure
    can still become a clean 500."""
    STREAMING = auto()
    """The head is on the wire."""
    TRAILERS = auto()
    """The body is complete; the trailers that the head announced are not."""
    DONE = auto()
    """The last byte was handed over. From here on the client can't disconnect: it has what it came for."""
    GONE = auto()
    """The client left first."""


WAITING, STARTED, STREAMING, TRAILERS, DONE, GONE = Phase  # in Python 3.11, `Phase.DONE` costs five times as much


class Step(Enum):
    """What an app's message amounts to."""

    __hash__ = object.__hash__  # as Phase's

    HINT = auto()
    START = auto()
    BODY = auto()
    LAST_BODY = auto()
    LAST_BODY_BEFORE_TRAILERS = auto()
    TRAILERS = auto()
    LAST_TRAILERS = auto()


HINT, START, BODY, LAST_BODY, LAST_BODY_BEFORE_TRAILERS, MORE_TRAILERS, LAST_TRAILERS = Step

TRANSITIONS: dict[Phase, dict[Step, Phase]] = {
    Phase.WAITING: {
        Step.HINT: Phase.WAITING,
        Step.START: Phase.STARTED,
    },
    Phase.STARTED: {
        Step.BODY: Phase.STREAMING,
        Step.LAST_BODY: Phase.DONE,
        Step.LAST_BODY_BEFORE_TRAILERS: Phase.TRAILERS,
    },
    Phase.STREAMING: {
        Step.BODY: Phase.STREAMING,
        Step.LAST_BODY: Phase.DONE,
        Step.LAST_BODY_BEFORE_TRAILERS: Phase.TRAILERS,
    },
    Phase.TRAILERS: {
        Step.TRAILERS: Phase.TRAILERS,
        Step.LAST_TRAILERS: Phase.DONE,
    },
    Phase.DONE: {},
    Phase.GONE: {},
}
