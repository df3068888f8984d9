"""A WebSocket's handshake in the words of HTTP, for who knows requests and responses: middleware functions, and exception handlers.

    the app sends                  they see
    websocket.accept               the start of a response, with the status 101
    websocket.close, before that   a whole one, with the status 403
    websocket.http.response.…      http.response.…
    what is behind the accept      nothing: it passes as it is

What they answer themselves refuses the WebSocket; only the app can accept it.
"""

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.requests import Request

SWITCHING_PROTOCOLS, FORBIDDEN = 101, 403


def as_request(scope: Scope, receive: Receive) -> Request:
    """The handshake: a GET without a body (RFC 6455 §4.1)."""
    request = Request({**scope, "type": "http", "method": "GET"}, receive)
    request._progress.kept_body = b""
    return request


def denying(scope: Scope, send: Send) -> Send:
    """`send()` for a response instead of the WebSocket. Where the server can't send one, it is the 403 that a close is."""
    whole = "websocket.http.response" in scope.get("extensions", {})

    async def deny(message: Message) -> None:
        if whole:
            await send({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})

    return deny


class Handshake:
    """One WebSocket's, between its server and what is around the app.

    request: for whoever asks.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.request = as_request(scope, receive)
        self._receive = receive
        self._send = send
        self._deny = denying(scope, send)
        self._connect: Message | None = None  # as it was taken, which must be before there is an answer

    def told(self, app: ASGIApp) -> ASGIApp:
        """The app, as one that answers with a response. Who calls it may have put something into the scope."""

        async def answering(scope: Scope, _: Receive, send: Send) -> None:
            own = {key: value for key, value in scope.items() if key != "method"}
            await app({**own, "type": "websocket"}, self._from_its_beginning(), _in_words_of_http(send))

        return answering

    def _from_its_beginning(self) -> Receive:
        """`receive()` for an app that may not be the first that is called: it is told of the WebSocket as well."""
        asked = False

        async def receive() -> Message:
            nonlocal asked
            first, asked = not asked, True
            return self._connect if first and self._connect is not None else await self.receive()

        return receive

    async def receive(self) -> Message:
        """What comes: the `websocket.connect` first."""
        message = await self._receive()
        self._connect = self._connect or message
        return message

    async def send(self, message: Message) -> None:
        """What is around the app answers with this; and what the app sends when it has accepted passes here.

        :raises RuntimeError: it accepts what the app hasn't, or refuses with the app's own acceptance
        """
        if message["type"].startswith("websocket."):
            await self._send(message)
            return
        if message["type"] != "http.response.start":
            await self._deny(message)
            return
        accepted, accepts = "subprotocol" in message, message["status"] == SWITCHING_PROTOCOLS
        if accepted and accepts:
            await self._send({"type": "websocket.accept", "subprotocol": message["subprotocol"], "headers": message["headers"]})
            return
        if accepted or accepts:
            raise RuntimeError(
                "a WebSocket is accepted by its handler, with the status 101 that call_next returns: to refuse it, return another response"
            )
        if self._connect is None:
            await self.receive()
        await self._deny(message)


def _in_words_of_http(send: Send) -> Send:
    """`send()` for an app that answers a handshake, of which somebody around it knows only requests and responses."""
    accepted = False

    async def tell(message: Message) -> None:
        nonlocal accepted
        kind = message["type"]
        if kind == "websocket.accept":
            accepted = True
            start = {"type": "http.response.start", "status": SWITCHING_PROTOCOLS, "headers": message.get("headers") or []}
            await send({**start, "subprotocol": message.get("subprotocol")})
        elif kind == "websocket.close" and not accepted:
            await send({"type": "http.response.start", "status": FORBIDDEN, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({**message, "type": kind.removeprefix("websocket.")} if kind.startswith("websocket.http.") else message)

    return tell
