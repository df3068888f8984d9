"""The access log in a format of the operator's choice, and what is left out of it."""

import logging
from collections.abc import Callable, Collection
from typing import Any

from microasgi_server import identity, logs
from microasgi_server.access_fields import USUAL, parsed
from microasgi_server.config import Config
from microasgi_server.exchange import Address, Exchange

Write = Callable[[Address, Exchange, float], object]
"""Writes one request's line: with the client's address, the exchange, and the seconds that it took."""

_Value = Callable[[Address, Exchange, float], object]


def _field(name: bytes) -> _Value:
    """A field of the request, as far as its exchange keeps them (`noted.py`)."""
    return lambda client, exchange, seconds: request.field(name) if hasattr(request := request_of(exchange), "field") else None


def request_of(exchange: Exchange) -> Any:
    """What knows the request's fields: of a WebSocket, its handshake's exchange."""
    return getattr(exchange, "request", exchange)


def _written(exchange: Exchange) -> int | None:
    """Bytes of the response, where they are counted. A WebSocket has none once it is open."""
    return None if exchange.close_code else getattr(request_of(exchange), "written", None)


def _target(exchange: Exchange) -> str:
    return exchange.line.split(" ", 2)[1]


VALUES: dict[str, _Value] = {
    "client": lambda client, exchange, seconds: logs.address(client),
    "line": lambda client, exchange, seconds: exchange.line,
    "method": lambda client, exchange, seconds: exchange.line.partition(" ")[0],
    "path": lambda client, exchange, seconds: _target(exchange).partition("?")[0],
    "target": lambda client, exchange, seconds: _target(exchange),
    "status": lambda client, exchange, seconds: exchange.status,
    "duration": lambda client, exchange, seconds: round(seconds, 3),
    "bytes": lambda client, exchange, seconds: _written(exchange),
    "outcome": lambda client, exchange, seconds: logs.outcome(exchange) if exchange.gone else None,
    "close_code": lambda client, exchange, seconds: exchange.close_code or None,
    "request_id": lambda client, exchange, seconds: getattr(request_of(exchange), "request_id", None),
    "worker": lambda client, exchange, seconds: identity.worker,
    "user_agent": _field(b"user-agent"),
    "referer": _field(b"referer"),
}
"""What each of `FIELDS` is."""


def writer(config: Config) -> Write | None:
    """What writes the access log as these options want it; None, if nobody reads it."""
    if not config.access_log or not logs.access_logger.isEnabledFor(logging.INFO):
        return None
    write = _formatted(config.access_log_format) if config.access_log_format else logs.access
    write = _of_clients(write) if config.proxy_headers else write
    return _but_quiet(write, frozenset(config.access_log_quiet)) if config.access_log_quiet else write


def _formatted(chosen: str) -> Write:
    parts = parsed(chosen)
    names = [name for _, name in parts if name]
    # Percent formats are logging's own: the text is joined when a handler asks for it, and tools that group lines see one pattern.
    pattern = "".join([text.replace("%", "%%") + ("%s" if name else "") for text, name in parts])

    def write(client: Address, exchange: Exchange, seconds: float) -> None:
        values = {name: VALUES[name](client, exchange, seconds) for name in names}
        logs.access_logger.info(pattern, *[shown(name, values[name]) for name in names], extra={"access": values})

    return write


def shown(name: str, value: object) -> str:
    """A value in a line of text. What a client sent stays one word in quotes, and one line."""
    if value is None or value == "":
        return "-"
    if name == "duration":
        return f"{value:.3f}"
    return str(value).encode("unicode_escape").decode("ascii").replace('"', '\\"')


def _of_clients(write: Write) -> Write:
    """Has the client in the line for which a proxy speaks, where one does."""
    return lambda client, exchange, seconds: write(getattr(exchange, "client", client), exchange, seconds)


def _but_quiet(write: Write, paths: Collection[str]) -> Write:
    """Leaves out the requests for these paths that went well: what asks every second whether the app is there."""

    def write_others(client: Address, exchange: Exchange, seconds: float) -> None:
        if exchange.status >= 400 or exchange.gone or _target(exchange).partition("?")[0] not in paths:
            write(client, exchange, seconds)

    return write_others


def usual(chosen: str) -> str:
    """The format, or the usual one where every line is to have fields: in JSON."""
    return chosen or USUAL + " {close_code} {outcome}"


def fields_of(record: Any) -> dict[str, Any]:
    """The fields of a line of the access log, without those that its request doesn't have."""
    return {name: value for name, value in getattr(record, "access", {}).items() if value is not None}
