"""Every error of the server, sorted by whose fault it is.

ServerError
├── ClientDisconnected   nobody's: the client left (also an OSError, as the ASGI spec asks)
├── AppError             the app's: a message that can't be sent, or not now
├── Refusal              the client's: a request that won't be served
├── StartupError         the operator's: the server can't start
│   ├── OptionError      options that can't be used, or not together
│   └── TargetError      what is to be served can't be
└── ShutdownError        the app's: it was served, but its lifespan failed
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ServerError(Exception):
    """The root of this package's errors."""


class ClientDisconnected(ServerError, OSError):
    """Raised by `send()` when the client is gone, to those who asked to be told (ASGI HTTP spec 2.4, Disconnected Client)."""


class AppError(ServerError):
    """The app sent a message that HTTP or ASGI doesn't allow here. Raised by `send()` in the app."""


class Refusal(ServerError):
    """The request can't be served: answer with `status`, then close.

    :param status: the HTTP status to answer with, 400 to 599
    :param reason: one sentence for the client and the log
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class StartupError(ServerError):
    """The server can't start: the address can't be bound, the loop isn't installed, or the app's lifespan failed."""


class OptionError(StartupError):
    """An option can't be used as it is. Its text has the names of `Config`, for a command to say as its own; values are in quotes."""


class TargetError(StartupError):
    """What is to be served can't be: it isn't there, can't be imported or is no app. `__cause__` is what the app's own code raised."""


class ShutdownError(ServerError):
    """The server has stopped, but the app's lifespan failed: while serving, in its shutdown, or by taking too long for it."""


@contextmanager
def single_error() -> Iterator[None]:
    """Take a single error out of the groups that task groups have put around it: callers ask for StartupError, not for groups."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from None
