"""What a connection may be waited for, how long, and what follows when that was too long."""

from enum import Enum, auto

from microasgi_server.config import Config

NEVER = float("inf")


class Wait(Enum):
    """What the server waits for."""

    __hash__ = object.__hash__  # as http1.phases.Phase's

    HANDSHAKE = auto()
    """The end of TLS's."""
    FIRST_BYTE = auto()
    """Of the first request; its head's time runs from here."""
    HEAD = auto()
    """The end of a request's head."""
    BODY = auto()
    """More of a body that the app asks for: as long as nothing comes."""
    APP = auto()
    """The app: it may take as long as it likes."""
    NEXT_REQUEST = auto()
    """Nothing is going on."""
    UNWANTED_BODY = auto()
    """The rest of a body, behind its response: at its end the next request can begin."""
    TAKING = auto()
    """The client is to take what is written, so that the app can write more, or the next request begin: as long as it takes nothing."""
    PONG = auto()
    """A WebSocket's client, asked by a ping, says something."""
    READING = auto()
    """The client is to read the last response, though it may still be sending."""
    FLUSHING = auto()
    """The client is to take what is unsent before the connection closes."""


class Consequence(Enum):
    """What follows when it took too long."""

    CLOSE = auto()
    """The connection closes: nobody has asked for anything."""
    REFUSE = auto()
    """The client learns that it was too slow (RFC 9110 §15.5.9)."""
    HANG_UP = auto()
    """It counts as gone."""
    ABORT = auto()
    """It is given up, whatever is unsent."""


Deadlines = dict[Wait, tuple[float, Consequence]]


def deadlines(config: Config) -> Deadlines:
    """For everything that is waited for: how many seconds, and what then."""
    limits = config.limits
    return {
        Wait.HANDSHAKE: (config.timeout_handshake, Consequence.ABORT),
        Wait.FIRST_BYTE: (config.timeout_header, Consequence.CLOSE),
        Wait.HEAD: (config.timeout_header, Consequence.REFUSE),
        Wait.BODY: (config.timeout_body, Consequence.REFUSE),
        Wait.APP: (NEVER, Consequence.CLOSE),
        Wait.NEXT_REQUEST: (config.timeout_keep_alive, Consequence.CLOSE),
        Wait.UNWANTED_BODY: (config.timeout_body, Consequence.CLOSE),
        Wait.TAKING: (config.timeout_write, Consequence.HANG_UP),
        Wait.PONG: (limits.pong, Consequence.HANG_UP),
        Wait.READING: (limits.linger, Consequence.ABORT),
        Wait.FLUSHING: (limits.flush, Consequence.ABORT),
    }
