"""Connections over TLS: what is different for who speaks HTTP in there. Subclasses, as in `observers.py`: without TLS nobody pays for it.

a transport's bytes ──► TLSTransport ──► SecuredConnection ──► SecuredCall ──► scope["scheme"], scope["extensions"]["tls"]
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from microasgi_server import logs
from microasgi_server.call import Call
from microasgi_server.certificates import Certificates
from microasgi_server.config import Config
from microasgi_server.connection import Connection
from microasgi_server.deadlines import Wait
from microasgi_server.errors import Refusal
from microasgi_server.exchange import Exchange
from microasgi_server.noted import noted
from microasgi_server.observers import traced
from microasgi_server.running import Connected, RunningServer
from microasgi_server.transports import Served, Transport
from microasgi_server.transports.tls import TLSTransport

SCHEMES = {"http": "https", "ws": "wss"}
"""Of a scope, without TLS and with it."""


class SecuredCall(Call):
    """A call whose app sees that the connection is encrypted, and how (ASGI TLS extension)."""

    __slots__ = ()

    def __init__(self, connection: Connected, exchange: Exchange) -> None:
        super().__init__(connection, exchange)
        scope, transport = self.scope, connection.transport
        scope["scheme"] = SCHEMES[scope["scheme"]]
        scope["extensions"]["tls"] = transport.tls.copy()  # type: ignore[attr-defined]  # it is a TLSTransport


class SecuredConnection(Connection):
    """A connection that begins with a handshake."""

    __slots__ = ()

    call_class = SecuredCall

    def __init__(self, running: RunningServer, transport: Transport) -> None:
        super().__init__(running, transport)
        self.wait_for(Wait.HANDSHAKE)

    def before(self, data: bytes) -> bytes:
        """See `transports.tls.Secured`."""
        return data

    def secured(self) -> None:
        """See `transports.tls.Secured`."""
        self.wait_for(Wait.FIRST_BYTE)

    def refuse_plaintext(self) -> None:
        """See `transports.tls.Secured`. What came is most likely HTTP: it is answered in that."""
        self.refuse(Refusal(400, "this port speaks TLS: use https:// here (RFC 9110 §4.2.2)"))


def connections(
    config: Config, chosen: type[Connection] | None, certificates: Certificates | None
) -> tuple[Callable[[RunningServer, Transport], Served], str]:
    """What is made for every connection, by the options and the log's level, and the scheme: without certificates nothing is encrypted.

    :param chosen: what it is made of, if that is chosen already
    """
    base = chosen or (traced() if logs.logger.isEnabledFor(logs.TRACE) else Connection)
    if certificates is None:
        return noted(base, config), "http"
    return _in_sessions(noted(_secured(base), config), certificates), "https"


def _secured(base: type[Connection]) -> type[Connection]:
    """The class of such connections over TLS. What proxies say is heard above it: they may know of another scheme."""
    call_class = type(f"Secured{base.call_class.__name__}", (SecuredCall, base.call_class), {"__slots__": ()})
    return type(f"Secured{base.__name__}", (SecuredConnection, base), {"__slots__": (), "call_class": call_class})


def _in_sessions(connection_class: Any, certificates: Certificates) -> Callable[[RunningServer, Transport], Served]:
    """What makes a TLS session for every connection, and in it such a connection."""

    def begin(running: RunningServer, transport: Transport) -> TLSTransport:
        return TLSTransport(certificates.identity, transport, partial(connection_class, running))

    return begin
