"""What a connection may be waited for, how long, and what follows when that was too long."""

from enum import Enum

from microasgi_server.config import Config

NEVER = float("inf")


class Wait(Enum):
    """What the server waits for."""

    __hash__ = object.__hash__  # as http1.phases.Phase's

    HANDSHAKE = "the end of TLS's"
    FIRST_BYTE = "the first of the first request; its head's time runs from here"
    HEAD = "the end of a request's head"
    BODY = "more of a body that the app asks for: as long as nothing comes"
    APP = "the app: it may take as long as it likes"
    NEXT_REQUEST = "nothing is going on"
    UNWANTED_BODY = "the rest of a body, behind its response: at its end the next request can begin"
    TAKING = "the client is to take what is written, for the app to write more or the next request to begin: as long as it takes nothing"
    PONG = "a WebSocket's client, asked by a ping, says something"
    READING = "the client is to read the last response, though it may still be sending"
    FLUSHING = "the client is to take what is unsent before the connection closes"


class Consequence(Enum):
    """What follows when it took too long."""

    CLOSE = "the connection closes: nobody has asked for anything"
    REFUSE = "the client learns that it was too slow (RFC 9110 §15.5.9)"
    HANG_UP = "it counts as gone"
    ABORT = "it is given up, whatever is unsent"


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
