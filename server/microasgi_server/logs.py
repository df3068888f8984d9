"""What the server writes to its logs, each kind of line in one place.

`microasgi_server`: refusals at info, an app's faults at error, and at level TRACE the conversation.
`microasgi_server.access`: one line a request, at info.

Whatever a client sent is escaped: a log line is one line.
"""

import logging

from microasgi_server.asgi import Scope
from microasgi_server.errors import ClientDisconnected, Refusal
from microasgi_server.exchange import Address, Exchange
from microasgi_server.extensions import Allowance

TRACE = 5
"""The level below DEBUG at which every message is logged."""

logging.addLevelName(TRACE, "TRACE")

logger = logging.getLogger("microasgi_server")
access_logger = logging.getLogger("microasgi_server.access")


def address(client: Address) -> str:
    """An address as a log shows it. The port is 0 where only a proxy knows it."""
    if client is None:
        return "unix"
    host, port = client
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def outcome(exchange: Exchange) -> str:
    """What the client's leaving did, and why it counts as gone."""
    if exchange.cancelled:
        return f"cancelled: {exchange.why_gone}"
    return f"client left: {exchange.why_gone}" if exchange.left else exchange.why_gone


def access(client: Address, exchange: Exchange, seconds: float) -> None:
    """One request, when its response is complete or, with status 499 as in nginx, when it ended after its client.

    A WebSocket has one, too, at its end: with status 101, and the code that it was closed with behind the time.
    """
    code = f" {exchange.close_code:d}" if exchange.close_code else ""
    outcome_ = f" {outcome(exchange)}" if exchange.gone else ""
    access_logger.info('%s - "%s" %d %.3fs%s%s', address(client), exchange.line, exchange.status, seconds, code, outcome_)


def refused(client: Address, refusal: Refusal) -> None:
    """A request that wasn't served, and why. Of what came there is at most a field's name in it."""
    logger.info("%s - refused with %d: %s", address(client), refusal.status, refusal.reason)


def no_session(client: Address, reason: str) -> None:
    """A client with which there is no TLS session, and why."""
    logger.info("%s - no TLS session: %s", address(client), reason)


def request_line(exchange: Exchange) -> str:
    """The request without its version."""
    return exchange.line.rpartition(" ")[0]


def app_failed(exchange: Exchange, error: BaseException) -> None:
    """The app raised: with its traceback, for this one is a bug of somebody's."""
    logger.error("The app raised an exception for %s", request_line(exchange), exc_info=error)


def call_failed(exchange: Exchange, error: Exception) -> None:
    """The app could not even be called: with its traceback, which leads to whoever makes the loop's tasks."""
    logger.error("No task could be made for %s", request_line(exchange), exc_info=error)


def app_unfinished(exchange: Exchange, scope: Scope) -> None:
    """The app returned too early: its own fault, unless it was told that the server stops, or has told of a limit of its own."""
    limits: Allowance = (scope.get("extensions") or {}).get("microasgi.limits", {})
    level = logging.INFO if exchange.stopping or limits.get("late", False) else logging.ERROR
    logger.log(level, "The app returned without completing its response for %s", request_line(exchange))


def is_disconnect(error: BaseException) -> bool:
    """Whether an app that raises `error` after its client left only passes on what `send()` raised, or `receive()` said.

    Task groups wrap it in groups. Starlette and others translate it to an exception of their own, named after it.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(is_disconnect(inner) for inner in error.exceptions)
    if isinstance(error, ClientDisconnected):
        return True
    name = type(error).__name__
    return name.startswith(("ClientDisconnect", "WebSocketDisconnect")) or (
        "Disconnect" in name and isinstance(error.__context__, ClientDisconnected)
    )
