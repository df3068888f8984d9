"""Who wants to see what happens puts a subclass where the class is used: nobody else pays for it.

    RunningServer.connection_class ──► Connection.call_class ──► Call.app, receive, send
                                                └─ protocol_class ──► Protocol.exchange_class ──► Exchange

`--log-level trace` is one: a line for each event of a connection and for each message of an app.
"""

from typing import Any

from microasgi_server.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi_server.call import Call
from microasgi_server.connection import Connection
from microasgi_server.exchange import Address
from microasgi_server.logs import TRACE, address, logger
from microasgi_server.running import RunningServer
from microasgi_server.transports import Transport


class TracedCall(Call):
    """A call whose scope and messages are logged, but for those that nobody gets."""

    __slots__ = ()

    async def run(self) -> None:
        self.app = _traced(self.app, self._connection.transport.client)
        await super().run()

    async def receive(self) -> Message:
        message = await super().receive()
        trace(self._connection.transport.client, f"receive {_sizes_only(message)}")
        return message

    async def send(self, message: Message) -> None:
        exchange = self.exchange
        if not exchange.gone or exchange.attended:
            trace(self._connection.transport.client, f"send {_sizes_only(message)}")
        await super().send(message)


class TracedConnection(Connection):
    """A connection whose beginning, end and departures are logged."""

    __slots__ = ()

    call_class = TracedCall

    def __init__(self, running: RunningServer, transport: Transport) -> None:
        super().__init__(running, transport)
        trace(transport.client, "connection made")

    def _abandon(self, call: Call) -> None:
        exchange = call.exchange
        what = "cancelled" if exchange.cancelled else "client left"
        trace(self.transport.client, f"{what} after {self.running.clock() - call.began:.3f} s: {exchange.why_gone}")
        super()._abandon(call)

    def lost(self, why: str) -> None:
        super().lost(why)
        trace(self.transport.client, "connection lost")


def _traced(app: ASGIApp, client: Address) -> ASGIApp:
    """The same app, with a line for its beginning and one for its end."""

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        trace(client, f"started scope={_sizes_only(scope)}")
        try:
            await app(scope, receive, send)
        except BaseException as error:
            trace(client, f"raised {type(error).__name__}")
            raise
        trace(client, "completed")

    return traced


def trace(client: Address, text: str) -> None:
    """One event of a connection."""
    logger.log(TRACE, "%s - %s", address(client), text)


def _sizes_only(values: Message | Scope) -> dict[str, Any]:
    """A message or scope to show: bodies by size, header values hidden, and of the state, which is the app's own, the keys."""
    shown: dict[str, Any] = {}
    for key, value in values.items():
        if key in ("body", "text", "bytes") and value is not None:
            shown[key] = f"<{len(value)} {'characters' if key == 'text' else 'bytes'}>"
        elif key == "headers":
            shown[key] = "<...>"
        elif key in ("extensions", "state"):
            shown[key] = list(value)
        else:
            shown[key] = value
    return shown
