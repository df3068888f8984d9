"""`pytest --tapped`: the same tests, with every server that they start in this process tapped, and everything followed.

Nothing may come of that but events. What is tapped is what a test would see otherwise; only `RING` knows.
"""

from typing import Any

import microasgi_server.server
from microasgi_server import Config
from microasgi_server.call import Call
from microasgi_server.connection import Connection
from microasgi_server.logs import TRACE, logger
from microasgi_server.secured import connections
from microasgi_server.taps import Event, Ring, tapped
from microasgi_server.taps.connections import TappedConnection

from microasgi.promise import delivery
from microasgi.watching import watch
from microasgi.watching.following import Followed
from microasgi.watching.members import Members, follow_children, present

RING = Ring()


class WatchedCall(Call):
    """A call that is followed; `stats` and others know an app by what it is, so that isn't changed."""

    async def run(self) -> None:
        self.app = watch(self.app)
        await super().run()


def tap_everything() -> None:
    """From now on, in this process."""
    server: Any = microasgi_server.server
    server.connections = _tapped_connections
    blocks: Any = delivery.Block
    blocks.start = _following(blocks.start)


def _tapped_connections(config: Config, chosen: type[Connection] | None, certificates: Any) -> Any:
    base = chosen or Connection
    if issubclass(base, TappedConnection) or (chosen is None and logger.isEnabledFor(TRACE)):  # it has a tap
        return connections(config, chosen, certificates)
    made = tapped(base, RING)
    made.call_class = type(made.call_class.__name__, (WatchedCall, made.call_class), {})
    return connections(config, made, certificates)


def _following(start: Any) -> Any:
    """As `Block.start`, for whoever begins a block by himself: what runs in it is followed as a request is."""

    def start_followed(block: Any, call: Any, *attach: Any) -> Any:
        if present.get() is not None:  # in a request, which is followed already
            return start(block, call, *attach)
        follow_children()
        return start(block, Followed(call, Members(_tell).own()), *attach)

    return start_followed


def _tell(lane: str, what: str, source: Any, facts: dict[str, Any]) -> None:
    RING(Event(0.0, 0, 0, lane, what, source, facts))
