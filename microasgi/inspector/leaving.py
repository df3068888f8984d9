"""The ways in which a client can leave: a table.

Each is made of four choices: what it sends, whether it reads what it is sent, when it leaves, and how.
"""

from dataclasses import dataclass
from enum import Enum, auto


class Sends(Enum):
    """How much of its request goes out."""

    ALL = auto()
    HALF_A_HEAD = auto()
    HALF_A_BODY = auto()
    A_LONG_BODY = auto()
    TWO_REQUESTS = auto()


class Leaves(Enum):
    """When it leaves."""

    IN_TIME = auto()
    """After so many seconds, or when it has its answer, if that comes first."""
    BEFORE_THE_LAST_BYTE = auto()
    """With the answer's last byte still in its kernel."""
    WITH_ITS_ANSWER = auto()
    """So many seconds after it has all of it."""
    NEVER = auto()
    """It asks the server to close the connection, and waits for that."""


class Ending(Enum):
    """How it leaves."""

    FIN = auto()
    """`close()`: a FIN goes out behind everything that is still to be sent; a RST in its place, if something came that it has not read."""
    RST = auto()
    """`close()` with SO_LINGER at 0: a RST, and what is unsent is lost."""
    HALF = auto()
    """`shutdown(SHUT_WR)`: a FIN, too, but it goes on reading (RFC 9112 §9.6)."""
    GOODBYE = auto()
    """A WebSocket's close frame with 1001, then as FIN (RFC 6455 §7.1.1)."""


@dataclass(frozen=True)
class Way:
    """A way to leave.

    means: as a help ends "the client leaves …".
    """

    means: str
    ending: Ending = Ending.FIN
    leaves: Leaves = Leaves.IN_TIME
    sends: Sends = Sends.ALL
    reads: bool = True


WAYS: dict[str, Way] = {
    "fin": Way("by closing its connection"),
    "rst": Way("by a reset", Ending.RST),
    "half-close": Way("by shutting its sending side only", Ending.HALF),
    "in-head": Way("in the middle of its request's head", sends=Sends.HALF_A_HEAD),
    "in-body": Way("in the middle of its request's body", sends=Sends.HALF_A_BODY),
    "behind-body": Way("behind a body of --size bytes that it has sent", sends=Sends.A_LONG_BODY),
    "behind-request": Way("behind a second request that it has sent (pipelined)", sends=Sends.TWO_REQUESTS),
    "not-reading": Way("having read nothing of what it was sent", reads=False),
    "before-last-byte": Way("with the response's last byte still to be read", leaves=Leaves.BEFORE_THE_LAST_BYTE),
    "after": Way("once it has its response", leaves=Leaves.WITH_ITS_ANSWER),
    "goodbye": Way("with a close frame, which only WebSockets have", Ending.GOODBYE),
    "stay": Way("not at all: it waits for the server to close", leaves=Leaves.NEVER),
}
