"""The lane of a client that isn't ours (a browser, curl): of it nothing is known but what the server noticed."""

from collections.abc import Sequence

from microasgi.inspector.told import Shown
from microasgi.inspector.wording import is_reset

_NOTICES = {("wire", "FIN"), ("wire", "lost"), ("core", "hang_up")}


def with_departure(events: Sequence[Shown]) -> list[Shown]:
    """A stranger's events, which are in order, with its leaving in front of whatever tells of it first; the same ones, if it stays.

    `hang_up` says that it counts as gone: a FIN alone may be a client's that shuts its sending side only.
    """
    kinds = [(event["lane"], event["what"]) for event in events]
    if ("core", "hang_up") not in kinds:
        return list(events)
    known = kinds.index(("core", "hang_up"))
    first = next(index for index, kind in enumerate(kinds) if kind in _NOTICES)
    why = str(events[known]["facts"].get("why") or "")
    way = "RST" if is_reset(why) else "FIN" if "FIN" in why else "leave"
    leaves: Shown = {**events[first], "lane": "client", "what": "close", "source": None, "facts": {"way": way}}
    return [*events[:first], leaves, *events[first:]]
