"""A WebSocket, told aloud: how the conversation moves. Its messages are the app's, which `connections.py` tells."""

from functools import cache
from typing import Any

from microasgi_server.taps.told import ToldPresence, told
from microasgi_server.websocket.session import Session
from microasgi_server.websocket.states import TRANSITIONS, Arrival, Phase

ROWS = {(old, new): step.name for old, steps in TRANSITIONS.items() for step, new in steps.items() if old is not new}


def _row(session: "TappedSession", old: Phase, new: Phase) -> dict[str, Any]:
    return {"row": session.arrival or ROWS[old, new]}


class TappedSession(ToldPresence, Session):
    """A session that tells of its phases, with the row of the tables that each has taken.

    arrival: what moves it, if it isn't a message of the app's.
    """

    arrival = ""
    phase: Any = told("phase", _row)

    def _arrive(self, arrival: Arrival) -> None:
        self.arrival = arrival.name
        super()._arrive(arrival)
        self.arrival = ""

    def fail(self) -> bytes | None:
        self.arrival = "returns" if self._returned else "fails"
        data = super().fail()
        self.arrival = ""
        return data


@cache
def session_class(base: type[Session]) -> type[Session]:
    """The class of sessions that tell, and are otherwise `base`."""
    return TappedSession if base is Session else type(base.__name__, (TappedSession, base), {})
