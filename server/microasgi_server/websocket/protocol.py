"""HTTP/1.1 that becomes a WebSocket where a client asks for it."""

import logging
from functools import lru_cache
from typing import Any

from microasgi_server.errors import Refusal
from microasgi_server.exchange import Next
from microasgi_server.http1.exchange import Exchange
from microasgi_server.http1.fields import Field
from microasgi_server.http1.protocol import Protocol
from microasgi_server.websocket.handshake import UPGRADE_REQUIRED, read_handshake, version_required
from microasgi_server.websocket.states import CLOSING

logger = logging.getLogger("microasgi_server")


class Endless:
    """What follows a handshake: to the framing of HTTP it is a body that never ends (`http1.body.Body`)."""

    complete = False

    def read(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""


_ENDLESS = Endless()


class UpgradingProtocol(Protocol):
    """One connection's side of HTTP/1.1, until a WebSocket takes its place for good."""

    __slots__ = ()

    exchange: Any

    def _upgrade(self, exchange: Exchange) -> None:
        handshake = read_handshake(exchange.head)
        if handshake is None:
            return
        session_class = self._session_class()
        if session_class is None:
            return
        if self._behind:
            raise Refusal(400, "a client waits for the answer to its handshake before it sends more (RFC 6455 §4.1)")
        self.exchange = session_class(exchange, handshake, self._fields_of(exchange), self._limits)
        self._body = _ENDLESS

    def _session_class(self) -> Any:
        """What makes sessions. None where the package `websockets` is missing."""
        return _session_class()

    def _fields_of(self, exchange: Exchange) -> list[Field]:
        """What the answer to a handshake has beside the app's own fields, unless they are among those."""
        return self._identity()

    def _unfinished(self, exchange: Any) -> Next:
        if self._body is not _ENDLESS:
            return super()._unfinished(exchange)
        return Next.DRAIN if exchange.phase is CLOSING and not exchange.closing else Next.LINGER

    def refuse(self, status: int, reason: str) -> bytes:
        if self._body is _ENDLESS:
            return bytes(self.exchange.refuse(status, reason))
        return version_required(self._identity(), reason) if status == UPGRADE_REQUIRED else super().refuse(status, reason)


@lru_cache(maxsize=1)
def _session_class() -> Any:
    """Without the package `websockets` nobody is upgraded (RFC 9110 §7.8), and it is said once."""
    try:
        from microasgi_server.websocket.session import Session
    except ImportError:
        logger.warning("a client asks for a WebSocket, which needs the package websockets: pip install 'microasgi[websockets]'")
        return None
    except OSError as error:  # the first in a process that has no descriptors left to read the code with: the next may fare better
        raise Refusal(503, f"no WebSocket can be had for now: {error.strerror}") from error
    return Session
