"""What becomes of every request and every refusal: it is counted, and written to the logs.

Counting costs an addition for each request; what only departures and refusals change is looked up when they happen.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable

from microasgi_server import logs
from microasgi_server.access import Write
from microasgi_server.errors import Refusal
from microasgi_server.exchange import Address, Exchange

_KIND = re.compile(r"\((\w+)\)$")
_NAME = re.compile(r"(?<=the field )\S+")

_CHOSEN = re.compile(r"^([34])\d{3}$")
"""Close codes that clients choose freely (RFC 6455 §7.4.2): two thousand, which are counted by the thousand."""

REASONS = 100
"""Different reasons for refusals that are counted apart: they are the server's own sentences, but for a name in a few of them."""

OTHER_REASONS = "another reason"


class Journal:
    """One server's, from its start on.

    statuses: complete responses, by status.
    departures: requests whose client left, by how: `FIN`, `RST`, `close_notify`, a WebSocket's close code, with `3xxx` and `4xxx` for those
        that anybody may choose, or the reason in full.
    interrupted: requests that ended before their response did for another reason: the server stopped, the app failed, the body was none.
    cancelled: of the departures and interruptions, those that cancelled something.
    cancelled_seconds: what those had taken when they ended, their cleanup included.
    refusals: what wasn't served, by status and reason.
    """

    def __init__(self, write: Write | None, clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock
        self.statuses: defaultdict[int, int] = defaultdict(int)
        self.departures: Counter[str] = Counter()
        self.interrupted = 0
        self.cancelled = 0
        self.cancelled_seconds = 0.0
        self.refusals: Counter[tuple[int, str]] = Counter()

    def completed(self, client: Address, exchange: Exchange, began: float) -> None:
        """The last byte of a response is handed over.

        :param began: when the request began, by the clock
        """
        self.statuses[exchange.status] += 1
        if self._write is not None:
            self._write(client, exchange, self._clock() - began)

    def left(self, client: Address, exchange: Exchange, began: float) -> None:
        """The call for a client that has left has ended."""
        seconds = self._clock() - began
        if exchange.left:
            kind = _KIND.search(exchange.why_gone)
            self.departures[_CHOSEN.sub(r"\1xxx", kind[1]) if kind else exchange.why_gone] += 1
        else:
            self.interrupted += 1
        if exchange.cancelled:
            self.cancelled += 1
            self.cancelled_seconds += seconds
        if self._write is not None:
            self._write(client, exchange, seconds)

    def refused(self, client: Address, refusal: Refusal) -> None:
        """What came isn't served."""
        key = refusal.status, _NAME.sub("…", refusal.reason)
        self.refusals[key if key in self.refusals or len(self.refusals) < REASONS else (refusal.status, OTHER_REASONS)] += 1
        logs.refused(client, refusal)
