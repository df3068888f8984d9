"""The codes that say why a conversation ends (RFC 6455 §7.4), and who may say which."""

from dataclasses import dataclass
from enum import IntEnum

from microasgi_server.errors import AppError

REASON = 123
"""Bytes of a reason: a control frame has 125 (RFC 6455 §5.5), and the code takes two."""


class Code(IntEnum):
    """Those that the server itself has a use for."""

    NORMAL = 1000
    NO_STATUS = 1005
    """Never sent: the close frame had no code."""
    ABNORMAL = 1006
    """Never sent: there was no close frame."""
    INVALID = 1007
    """Text that isn't UTF-8."""
    FAILED = 1011
    """The app has raised; or the client doesn't answer any more."""
    RESTART = 1012
    """The server stops. Clients come back: to this one, or to the next."""


@dataclass(frozen=True)
class Close:
    """The end of a conversation, as one side has it.

    broken: whether we say so, since the client has broken a rule, and not the client.
    """

    code: int
    reason: str = ""
    broken: bool = False


def check_close(code: object, reason: object) -> Close:
    """What an app wants to close with.

    :raises AppError: no close frame can say that
    """
    if not isinstance(code, int) or not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise AppError(f"a close code is 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 §7.4), not {code!r}")
    if not isinstance(reason, str) or len(reason.encode()) > REASON:
        raise AppError(f"a close reason is a text of at most {REASON} bytes (RFC 6455 §5.5), not {reason!r}")
    return Close(code, reason)
