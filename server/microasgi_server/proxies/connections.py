"""How this server's own connections and calls hear what proxies say. Subclasses, as in `observers.py`: nobody else pays for it."""

from typing import Any, ClassVar

from microasgi_server.call import Call
from microasgi_server.config import Config
from microasgi_server.connection import Connection
from microasgi_server.errors import Refusal
from microasgi_server.exchange import Exchange
from microasgi_server.proxies.headers import Proxies
from microasgi_server.proxies.hosts import Hosts, misdirected
from microasgi_server.proxies.preface import read_preface
from microasgi_server.proxies.trust import Trusted
from microasgi_server.running import Connected, RunningServer
from microasgi_server.transports import Transport


class ForwardedCall(Call):
    """A call whose scope, and whose line in the log, have what the request's own fields say of its client.

    proxies: who is believed.
    """

    __slots__ = ()

    proxies: ClassVar[Proxies]

    def __init__(self, connection: Connected, exchange: Exchange) -> None:
        super().__init__(connection, exchange)
        self.scope = self.proxies.seen_through(self.scope)
        seen: Any = exchange
        seen.client = self.scope["client"]  # for the log, which asks for it


class NamedCall(Call):
    """A call of the app, if the request is for one of its names, whatever the fields of proxies have made of that.

    hosts: its names.
    """

    __slots__ = ()

    hosts: ClassVar[Hosts]

    def __init__(self, connection: Connected, exchange: Exchange) -> None:
        super().__init__(connection, exchange)
        if not self.hosts.allow(self.scope):
            self.app = misdirected


class PrefacedConnection(Connection):
    """A connection whose peer, if it is believed, says by the PROXY protocol for whom it speaks, before anything else.

    Who isn't believed speaks for himself, and has no business with that.

    trusted: who is believed.
    """

    __slots__ = ("_preface",)

    trusted: ClassVar[Trusted]

    def __init__(self, running: RunningServer, transport: Transport) -> None:
        client = transport.client
        self._preface = b"" if (client[0] if client else None) in self.trusted else None  # what has come of it; None, if none is to come
        super().__init__(running, transport)

    def received(self, data: bytes) -> None:
        if rest := self.before(data):
            super().received(rest)

    def before(self, data: bytes) -> bytes:
        """Take what comes before HTTP, and before TLS, where that is spoken; gives what is behind it, nothing while it is incomplete."""
        if self._preface is None:
            return data
        held = self._preface + data
        self._preface = None
        try:
            preface = read_preface(held)
        except Refusal as refusal:
            self.refuse(refusal)
            return b""
        if preface is None:
            self._preface = held
            return b""
        if preface.client is not None:
            transport: Any = self.transport  # to whom nobody else tells otherwise
            transport.client, transport.server = preface.client, preface.server
        return held[preface.size :]


def behind_proxies(base: type[Connection], config: Config) -> type[Connection]:
    """The class of connections that hear of proxies what these options want: `base` itself, if that is nothing."""
    mixins: list[type[Any]] = []
    changed: dict[str, Any] = {}
    calls: list[type[Any]] = []
    if config.allowed_hosts:
        calls.append(_with(NamedCall, hosts=Hosts(config.allowed_hosts)))
    if config.proxy_headers:
        calls.append(_with(ForwardedCall, proxies=Proxies(config.forwarded_allow_ips, config.proxy_fields)))
    if calls:
        changed["call_class"] = _with(*calls, base.call_class)
    if config.proxy_protocol:
        mixins.append(_with(PrefacedConnection, trusted=Trusted(config.forwarded_allow_ips)))
    return _with(*mixins, base, **changed) if mixins or changed else base


def _with(*bases: type[Any], **attributes: Any) -> Any:
    """A subclass of these, with these attributes of its own."""
    return type(bases[-1].__name__, bases, {"__slots__": (), **attributes})
