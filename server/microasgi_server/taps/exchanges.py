"""The core, told aloud: requests as they begin, and how their responses move."""

from collections.abc import Callable
from typing import Any, cast

from microasgi_server.http1.exchange import Exchange
from microasgi_server.http1.phases import GONE, TRANSITIONS, Phase
from microasgi_server.http1.protocol import Protocol
from microasgi_server.taps.events import Teller
from microasgi_server.taps.told import Noticed, ToldPresence, told

ROWS = {(old, new): step.name for old, steps in TRANSITIONS.items() for step, new in steps.items() if old is not new}
"""Which row of the table leads from a phase to another."""


def _row(_: object, old: Phase, new: Phase) -> dict[str, Any]:
    return {"row": ROWS.get((old, new), "leaves" if new is GONE else "fails")}


class TappedExchange(ToldPresence, Exchange):
    """An exchange that tells of its phases, with the row of the table that each has taken."""

    phase: Any = told("phase", _row)


def _begins(protocol: "TappedProtocol", _: object, new: Any) -> None:
    """An exchange becomes the protocol's, before it can do anything; or there is none any more."""
    protocol.next_response()
    if new is None:
        return
    if not isinstance(new, Exchange):  # a session, which has the request that asked for it
        new.tell = new.request.tell
        return
    protocol.tell.request = protocol.begun = protocol.begun + 1
    tell = protocol.tell.of(protocol.begun)
    cast(TappedExchange, new).tell = tell
    tell("core", "head", {"line": tell.redaction.line(new.line), "fields": tell.redaction.fields(new.head.fields)})


class TappedProtocol(Protocol):
    """A protocol that tells of every request's head.

    tell: of the connection.
    begun: how many requests have been.
    next_response: called where the next that is written may be a response's head.
    """

    tell: Teller
    begun = 0
    next_response: Callable[[], None] = staticmethod(lambda: None)

    exchange: Any = Noticed(_begins)

    def _session_class(self) -> Any:
        base = super()._session_class()  # type: ignore[misc]
        if base is None:
            return None
        from microasgi_server.taps.sessions import session_class  # which needs the package `websockets`

        return session_class(base)
