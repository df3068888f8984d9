"""Who wants to see what happens puts a subclass where the class is used: nobody else pays for it.

    RunningServer.connection_class ──► Connection.call_class ──► Call.app, receive, send
                                                └─ protocol_class ──► Protocol.exchange_class ──► Exchange

`taps` has one of each, which tell all that happens. `--log-level trace` writes some of it to the log: a line for each event of a
connection and for each message of an app.
"""

from collections import Counter
from typing import Any

from microasgi_server.connection import Connection
from microasgi_server.logs import TRACE, address, logger
from microasgi_server.taps import Event, Redaction, tapped


class Trace:
    """A tap that writes lines to the log, each with its client's address."""

    def __init__(self) -> None:
        self._clients: dict[int, str] = {}  # by connection
        self._lasting: Counter[int] = Counter()  # of each: the socket, if it is open, and the calls that run

    def __call__(self, event: Event) -> None:
        facts = event.facts
        match event.lane, event.what:
            case "wire", "open":
                self._begin(event, facts["client"])
                self._write(event, "connection made")
            case "wire", "lost":
                self._write(event, "connection lost")
                self._end(event)
            case "asgi", "call":
                self._begin(event, facts["scope"]["client"])  # as a proxy has it
                self._write(event, f"started scope={_sizes_only(facts['scope'])}")
            case "asgi", "end":
                self._write(event, f"raised {facts['error'].partition(':')[0]}" if "error" in facts else "completed")
                self._end(event)
            case "asgi", ("receive" | "send") if "dropped" not in facts:
                self._write(event, f"{event.what} {_sizes_only(facts['message'])}")
            case "core", "left":
                what = "cancelled" if facts["cancelled"] else "client left"
                self._write(event, f"{what} after {facts['seconds']:.3f} s: {facts['why']}")

    def _begin(self, event: Event, client: Any) -> None:
        self._clients[event.connection] = address(client)
        self._lasting[event.connection] += 1

    def _end(self, event: Event) -> None:
        self._lasting[event.connection] -= 1
        if not self._lasting[event.connection]:
            del self._clients[event.connection], self._lasting[event.connection]

    def _write(self, event: Event, text: str) -> None:
        # Of a request that had not begun when its socket was lost, only the log of refusals and departures knows whose it was.
        logger.log(TRACE, "%s - %s", self._clients.get(event.connection, "somebody who has left"), text)


def traced() -> type[Connection]:
    """The class of connections that are traced. Of bodies there is nothing to see but their size."""
    return tapped(Connection, Trace(), Redaction(bodies=False))


def _sizes_only(message: Any) -> Any:
    """A message or scope to show: bodies by size, and no header's value."""
    if not isinstance(message, dict):
        return message
    return {key: "<...>" if key == "headers" else _size_of(value) for key, value in message.items()}


def _size_of(value: Any) -> Any:
    if isinstance(value, dict) and "size" in value:
        return f"<{value['size']} {'characters' if 'text' in value else 'bytes'}>"
    return value
