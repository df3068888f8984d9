"""The news of a departure: which events carry it, and where the tasks were that it reached."""

from typing import Any

from microasgi.inspector.states import State, is_turn
from microasgi.inspector.told import Shown
from microasgi.inspector.wording import is_reset


class News:
    """Follows the news of a departure from `close()` to the await that raises.

    left: whether the client has.
    travels: whether the news is on its way.
    heard: whether it has arrived in the handler.
    """

    def __init__(self) -> None:
        self.left = self.travels = self.heard = False

    def carries(self, kind: tuple[str, str], facts: dict[str, Any], state: State) -> bool:
        """Whether this event is a part of its way."""
        if kind == ("client", "close") and not self.left:
            self.left = True
            self.travels = not state.done and state.handler != "ended"
            return self.travels
        if not self.travels:
            return False
        if kind == ("handler", "thrown"):
            self.heard = True
        elif self.heard and kind in _BEHIND and not facts.get("task"):
            self.travels = False
        return self.travels and _is_news(kind, facts)


_BEHIND = {("handler", "wait"), ("handler", "go on"), ("handler", "raised"), ("handler", "returned"), ("asgi", "end")}
"""What comes once the handler has heard it."""


def _is_news(kind: tuple[str, str], facts: dict[str, Any]) -> bool:
    match kind:
        case ("core", "phase"):
            return bool(facts["new"] == "GONE")
        case ("asgi", "receive"):
            return str(facts["message"]["type"]).endswith(".disconnect")
        case ("handler", "stage"):
            return facts["new"] in ("CALLED", "SENT", "HEARD")
        case ("wire", "lost"):
            return is_reset(facts.get("why") or "")
    return kind in {("wire", "FIN"), ("core", "hang_up"), ("asgi", "told"), ("handler", "thrown"), ("asgi", "send raised")}


class Tasks:
    """Where each of the request's tasks waits, and which have only given the loop a turn."""

    def __init__(self) -> None:
        self._at: dict[int, str] = {}
        self._turning: set[int] = set()

    def only_turns(self, event: Shown) -> bool:
        """Whether a task gives the loop a turn, or goes on behind that: it waits for nothing."""
        if event["lane"] != "handler" or event["what"] not in ("wait", "go on"):
            return False
        task = event["facts"].get("task", 0)
        if event["what"] == "wait" and is_turn(event["facts"]):
            self._turning.add(task)
            return True
        turned = event["what"] == "go on" and task in self._turning
        self._turning.discard(task)
        return turned

    def placed(self, event: Shown) -> Shown:
        """The event, which says where its task waited, if it ends that."""
        facts = event["facts"]
        match event["lane"], event["what"]:
            case "handler", "wait":
                self._at[facts.get("task", 0)] = facts.get("at") or ""
            case "handler", "thrown":
                return {**event, "facts": {"at": self._at.get(facts.get("task", 0), ""), **facts}}
        return event
