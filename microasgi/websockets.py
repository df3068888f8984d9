"""A WebSocket, as a handler sees it.

    @routes.websocket("/chat/{room}")
    async def chat(ws: WebSocket) -> None:
        await ws.accept()                # raise HTTPException(403) instead: the client gets it as a response
        async for message in ws:         # str or bytes; ends when the client says goodbye
            await ws.send_json({"got": message})
        # to return closes with 1000, to raise with 1011

The names are Starlette's where the thing is the same.
"""

import json
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from microasgi.addresses import URL, Address
from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.checks import encode_headers
from microasgi.datastructures import Headers, QueryParams, State
from microasgi.exceptions import WebSocketDisconnect, WebSocketException
from microasgi.handshakes import as_request, denying
from microasgi.promise.conversation import Conversation
from microasgi.promise.visit import VISIT
from microasgi.returns import respond

UNSUPPORTED, INVALID = 1003, 1007
"""RFC 6455 §7.4.1: a kind of data that isn't taken here, and data that isn't what it should be."""


class Stage(Enum):
    """How far a handler has come with its WebSocket."""

    NEW = auto()
    """It has been told of nothing."""
    CONNECTING = auto()
    """It has yet to accept, or to refuse."""
    REFUSED = auto()
    """It has refused, or the client has left before."""
    OPEN = auto()
    """It has accepted."""
    CLOSED = auto()
    """It, or its client, has ended it."""


NEW, CONNECTING, REFUSED, OPEN, CLOSED = Stage


class WebSocket:
    """One WebSocket, from the handshake to its end.

        @routes.websocket("/echo")
        async def echo(ws: WebSocket) -> None:
            await ws.accept()
            async for message in ws:
                await ws.send_json({"got": message})

    scope: the ASGI scope it was made from.
    path: decoded, with the prefix of any mount.
    path_params: what the route's path captured, converted.
    subprotocols: what the client would speak, in its order of preference.
    handshake: the request that it began with.
    close_code, close_reason: what it was closed with, by either side; None and empty, as long as the handler hasn't met the end.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.path: str = scope["path"]
        self.path_params: dict[str, Any] = scope.get("path_params", {})
        self.subprotocols: list[str] = list(scope.get("subprotocols", ()))
        self.close_code: int | None = None
        self.close_reason = ""
        self._stage = NEW
        self._receive = receive
        self._send = send
        scope.setdefault("state", {})
        self.handshake = as_request(scope, receive)

    def __repr__(self) -> str:
        return f"<WebSocket {self.path!r} {self._stage.name}{', client gone' if self.gone else ''}>"

    # The handshake.

    @property
    def headers(self) -> Headers:
        """The handshake's header fields; names in any case."""
        return self.handshake.headers

    @property
    def query_params(self) -> QueryParams:
        """The query, decoded."""
        return self.handshake.query_params

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that the client sent."""
        return self.handshake.cookies

    @property
    def client(self) -> Address | None:
        """The client's address, or None if the server doesn't know it."""
        return self.handshake.client

    @property
    def url(self) -> URL:
        """The URL the client asked for, as far as the server knows it."""
        return self.handshake.url

    @property
    def state(self) -> State:
        """The lifespan's state, copied for this WebSocket."""
        return self.handshake.state

    async def accept(self, subprotocol: str | None = None, headers: Mapping[str, str | URL] | None = None) -> None:
        """Answer the handshake: from here on both may speak.

        :param subprotocol: one of `subprotocols`
        :param headers: more fields for the answer
        :raises WebSocketDisconnect: the client has left already
        :raises RuntimeError: it was accepted or closed before
        :raises TypeError, ValueError: a field isn't text, or can't stand in a header
        """
        if self._stage is NEW:
            await self.receive()
        if self._stage is not CONNECTING:
            raise RuntimeError(f"a WebSocket is accepted once, before anything else; this one is {self._stage.name}")
        await self.send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": encode_headers(headers)})

    # What the client says.

    async def receive(self) -> Message:
        """The next ASGI message, as it is (ASGI WebSocket spec); `websocket.disconnect` at the end, every time.

        :raises RuntimeError: it isn't accepted yet
        """
        if self._stage is CONNECTING:
            raise RuntimeError("nothing comes before the handshake is answered: await ws.accept() first")
        conversation = self._conversation
        conversation.listening += 1
        try:
            message = await self._receive()
        finally:
            conversation.listening -= 1
        if message["type"] == "websocket.connect":
            self._stage = CONNECTING
        elif message["type"] == "websocket.disconnect" and (self.pending or self.open):
            self._close(message.get("code") or 1005, message.get("reason") or "")
        return message

    async def receive_text(self) -> str:
        """The next message, which must be text: else it is closed with 1003.

        :raises WebSocketDisconnect: there is none; the client has left
        """
        message = await self._next()
        if not isinstance(message, str):
            raise WebSocketException(UNSUPPORTED, "text is expected here, not bytes")
        return message

    async def receive_bytes(self) -> bytes:
        """The next message, which must be bytes: else it is closed with 1003.

        :raises WebSocketDisconnect: there is none; the client has left
        """
        message = await self._next()
        if not isinstance(message, bytes):
            raise WebSocketException(UNSUPPORTED, "bytes are expected here, not text")
        return message

    async def receive_json(self) -> Any:
        """The next message, read as JSON: if it is none, it is closed with 1007.

        :raises WebSocketDisconnect: there is none; the client has left
        """
        message = await self._next()
        try:
            return json.loads(message)
        except (ValueError, RecursionError) as error:
            raise WebSocketException(INVALID, f"a message is not JSON: {error}"[:120]) from error

    async def _next(self) -> str | bytes:
        if self._stage is NEW:
            await self.receive()
        message = await self.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(self.close_code or 1005, self.close_reason)
        text: str | None = message.get("text")
        return text if text is not None else bytes(message["bytes"])

    def __aiter__(self) -> "WebSocket":
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self._next()
        except WebSocketDisconnect:
            raise StopAsyncIteration from None

    # What the handler says.

    async def send(self, message: Message) -> None:
        """Send an ASGI message, as it is (ASGI WebSocket spec). Under `on_disconnect="finish"` it is dropped, if the client has left.

        :raises WebSocketDisconnect: the client has left
        :raises RuntimeError: it isn't accepted yet, or was closed by the handler itself
        """
        if self.pending and not self.gone and message["type"] == "websocket.send":
            raise RuntimeError("nothing is said before the handshake is answered: await ws.accept() first")
        if not self.pending and not self.open and not self.gone:
            raise RuntimeError(f"the WebSocket is {self._stage.name}: nothing can be sent any more")
        try:
            await self._send(message)
        except OSError as error:
            if self._conversation.finishes and self.gone:
                return
            raise WebSocketDisconnect(self.close_code or 1006, self.close_reason) from error
        if message["type"] == "websocket.accept":
            self._stage = OPEN
        elif message["type"] == "websocket.close":
            self._close(message.get("code", 1000), message.get("reason") or "")

    async def send_text(self, text: str) -> None:
        """Send text. Raises as `send`."""
        await self.send({"type": "websocket.send", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes. Raises as `send`."""
        await self.send({"type": "websocket.send", "bytes": data})

    async def send_json(self, value: Any) -> None:
        """Send what `json.dumps` makes of a value, as text. Raises as `send`."""
        await self.send_text(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; before it is accepted, refuse it with 403. From here on nothing cancels the handler. Closing twice is allowed.

        :param code: 1000 to 1003, 1007 to 1014, or your own from 3000 to 4999 (RFC 6455 §7.4)
        :param reason: at most 123 bytes
        """
        if (self.pending or self.open) and not self.gone:
            await self.send({"type": "websocket.close", "code": code, "reason": reason})

    async def deny(self, response: ASGIApp) -> None:
        """Refuse the handshake with a response; where the server can't send one, with a 403."""
        if self._stage is NEW:
            await self.receive()
        if self.gone:
            return
        await respond(response, self.handshake.scope, self._receive, denying(self.scope, self._send))
        self._close(1006, "")

    # Whether the client is there.

    @property
    def pending(self) -> bool:
        """Whether the handshake waits for its answer."""
        return self._stage is NEW or self._stage is CONNECTING

    @property
    def open(self) -> bool:
        """Whether it was accepted, and nobody has ended it, as far as the handler has met the end."""
        return self._stage is OPEN

    @property
    def gone(self) -> bool:
        """Whether the client has left, as far as it is known by now. To be asked from threads, too."""
        return self._conversation.gone

    async def wait_closed(self) -> None:
        """Return when the client has left. Never takes any of its messages.

        The departure may cancel this wait, too, unless it is shielded.
        """
        await self._conversation.wait_gone()

    def _close(self, code: int, reason: str) -> None:
        self._stage = REFUSED if self.pending else CLOSED
        self.close_code, self.close_reason = code, reason

    @property
    def _conversation(self) -> Conversation:
        conversation: Conversation = self.scope[VISIT]
        return conversation
