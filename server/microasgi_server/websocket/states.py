"""How a conversation moves: a phase, what the app sends or what comes from the client, the next phase.

                     accept                close
    CONNECTING ────────────────► OPEN ────────────────► CLOSING ──► DONE      the app's part is over: nothing cancels it
        │ │                       │ │                                 ▲
        │ └─► DENYING ─► DENIED ──┼─┼─────────────────────────────────┘       an HTTP response instead
        │                         │ │ a goodbye
        │ vanished                │ └─────────► ENDING                        the app has something of the client's left
        └─────────────────────────┴───────────► GONE                          it has nothing: who runs, runs for nobody

A goodbye, from either side, leads to ENDING if the app still has messages untaken or one in hand, else to GONE.
"""

from enum import Enum, auto


class Phase(Enum):
    """How far a conversation has come."""

    __hash__ = object.__hash__  # as http1.phases.Phase's

    CONNECTING = auto()
    """The app has yet to accept or deny."""
    DENYING = auto()
    """The head of its denial is here, and held back until the first of the body."""
    DENIED = auto()
    """The head is on the wire."""
    OPEN = auto()
    """Both may speak."""
    ENDING = auto()
    """A close frame has come from the client, or gone out as the server stops; the app may finish what it has of the client's. What becomes
    of the socket, which is being closed, means nothing any more."""
    CLOSING = auto()
    """The app has said goodbye. The client's is still to come; what else it says is dropped."""
    DONE = auto()
    """Nothing is left to be said: the client can't disconnect any more."""
    GONE = auto()
    """The client has left, and nothing of it is left."""


class Hand(Enum):
    """What an app has of the client's, beside what it hasn't taken."""

    __hash__ = object.__hash__

    EMPTY = auto()
    """Nothing."""
    MESSAGE = auto()
    """One that it has taken, and neither answered nor come back from for more."""
    ANSWERED = auto()
    """One to which the newest `send()` is the answer: as long as that is under way."""


class Step(Enum):
    """What an app's message amounts to."""

    __hash__ = object.__hash__

    ACCEPT = auto()
    SEND = auto()
    CLOSE = auto()
    DENIAL = auto()
    BODY = auto()
    LAST_BODY = auto()


class Arrival(Enum):
    """What comes from the client, or from the clock."""

    __hash__ = object.__hash__

    GOODBYE = auto()
    """A close frame, while the app has nothing of the client's left."""
    EARLY_GOODBYE = auto()
    """A close frame, while it has."""
    VANISHED = auto()
    """The socket has ended, the client is silent, or it has broken a rule."""


CONNECTING, DENYING, DENIED, OPEN, ENDING, CLOSING, DONE, GONE = Phase  # as in http1/phases.py
ACCEPT, SEND, CLOSE, DENIAL, BODY, LAST_BODY = Step
GOODBYE, EARLY_GOODBYE, VANISHED = Arrival

TRANSITIONS: dict[Phase, dict[Step, Phase]] = {
    CONNECTING: {ACCEPT: OPEN, CLOSE: DONE, DENIAL: DENYING},
    DENYING: {BODY: DENIED, LAST_BODY: DONE},
    DENIED: {BODY: DENIED, LAST_BODY: DONE},
    OPEN: {SEND: OPEN, CLOSE: CLOSING},
    ENDING: {},
    CLOSING: {},
    DONE: {},
    GONE: {},
}

ARRIVALS: dict[Phase, dict[Arrival, Phase]] = {
    CONNECTING: {VANISHED: GONE},
    DENYING: {VANISHED: GONE},
    DENIED: {VANISHED: GONE},
    OPEN: {GOODBYE: GONE, EARLY_GOODBYE: ENDING, VANISHED: GONE},
    ENDING: {},
    CLOSING: {GOODBYE: DONE, VANISHED: DONE},
    DONE: {},
    GONE: {},
}
