"""Who wants to know more of a request than its line and its status: an id, what was written, what its head says.

Subclasses, as in `observers.py`: nobody else pays for it.

    X-Request-ID: 4711 ──► IdentifiedExchange ──► scope["state"]["request_id"], the response's X-Request-ID, also that of a 101
                                  │
                           IdentifiedCall ──────► request_id.get(), in whatever the app does and logs for this request
"""

import re
from collections.abc import Callable
from contextvars import ContextVar
from secrets import token_hex
from typing import Any

from microasgi_server.access import request_of
from microasgi_server.access_fields import parsed
from microasgi_server.asgi import Message, Scope
from microasgi_server.call import Call
from microasgi_server.config import Config
from microasgi_server.connection import Connection
from microasgi_server.exchange import Address
from microasgi_server.http1.exchange import Exchange
from microasgi_server.http1.fields import Field, validated_field
from microasgi_server.http1.limits import Limits
from microasgi_server.http1.protocol import Protocol
from microasgi_server.http1.request_head import Head
from microasgi_server.proxies.connections import behind_proxies
from microasgi_server.websocket.protocol import UpgradingProtocol

request_id: ContextVar[str | None] = ContextVar("microasgi_server.request_id", default=None)
"""The id of the request that the running task works for, where there are ids; None elsewhere. For logs, and for requests to others."""

NAME = b"x-request-id"

_ID = re.compile(rb"[!-~]{1,128}")
"""What is taken over from a client: visible ASCII, and not too much of it, for it goes into logs and into other services' requests."""


class NotedExchange(Exchange):
    """An exchange that counts what is written for it, and tells its request's fields."""

    written = 0

    def send(self, message: Message) -> bytes:
        data = super().send(message)
        self.written += len(data)
        return data

    def field(self, name: bytes) -> str | None:
        """The first of the request's fields of this name, in lower case."""
        value = next((value for own, value in self.head.fields if own == name), None)
        return None if value is None else value.decode("latin-1")


class IdentifiedExchange(NotedExchange):
    """An exchange whose request has an id, which its response carries, too, unless the app gives it one of its own.

    request_id: the client's, if it has sent one that will do; else a new one.
    """

    def __init__(self, head: Head, identity: Callable[[], list[Field]], limits: Limits) -> None:
        super().__init__(head, identity, limits)
        given = [value for name, value in head.fields if name == NAME]
        self.request_id = given[0].decode() if len(given) == 1 and _ID.fullmatch(given[0]) else token_hex(16)

    def scope(self, client: Address, server: tuple[str, int | None] | None, root_path: str, state: dict[str, Any]) -> Scope:
        return super().scope(client, server, root_path, {**state, "request_id": self.request_id})

    def _start(self, message: Message) -> bytes:
        headers = list(message.get("headers", ()))
        if not any(bytes(name).lower() == NAME for name, _ in headers):
            message = {**message, "headers": [*headers, (NAME, self.request_id.encode())]}
        return super()._start(message)


class NotedProtocol(Protocol):
    """A protocol that counts a refusal as written for the request that it refuses."""

    __slots__ = ()

    def refuse(self, status: int, reason: str) -> bytes:
        data = super().refuse(status, reason)
        if self.exchange is not None:
            request_of(self.exchange).written += len(data)
        return data


class IdentifiedProtocol(UpgradingProtocol):
    """A protocol whose answers to handshakes carry the request's id, too, unless the app gives them one of its own."""

    __slots__ = ()

    def _fields_of(self, exchange: Exchange) -> list[Field]:
        fields = super()._fields_of(exchange)
        return [*fields, validated_field(NAME, exchange.request_id.encode())] if isinstance(exchange, IdentifiedExchange) else fields


class IdentifiedCall(Call):
    """A call in whose context `request_id` is its exchange's."""

    __slots__ = ()

    async def run(self) -> None:
        request_id.set(getattr(request_of(self.exchange), "request_id", None))
        await super().run()


def noted(base: type[Connection], config: Config) -> type[Connection]:
    """The class of connections that knows as much of its requests as these options ask for: `base` itself, if that is nothing more."""
    base = behind_proxies(base, config)
    parts = parsed(config.access_log_format)
    identified = config.request_id or "request_id" in [name for _, name in parts]
    protocol = base.protocol_class
    if not (identified or parts) or not issubclass(protocol, Protocol):
        return base
    exchange: type[Exchange] = IdentifiedExchange if identified else NotedExchange
    mixins = [NotedProtocol, *([IdentifiedProtocol] if identified and issubclass(protocol, UpgradingProtocol) else [])]
    changed: dict[str, Any] = {"protocol_class": _mixed(protocol, *mixins, exchange_class=_mixed(protocol.exchange_class, exchange))}
    if identified:
        changed["call_class"] = _mixed(base.call_class, IdentifiedCall)
    changed_class: type[Connection] = _mixed(base, **changed)
    return changed_class


def _mixed(base: type[Any], *mixins: type[Any], **attributes: Any) -> Any:
    """A subclass of `base` with what these add to its parent's."""
    return type(f"Noted{base.__name__}", (*mixins, base), {"__slots__": (), **attributes})
