"""What an app's messages amount to, and what they hold (ASGI WebSocket spec)."""

from microasgi_server.asgi import Message
from microasgi_server.errors import AppError
from microasgi_server.websocket.states import ACCEPT, BODY, CLOSE, DENIAL, LAST_BODY, SEND, Step

_STEPS = {"websocket.accept": ACCEPT, "websocket.send": SEND, "websocket.close": CLOSE, "websocket.http.response.start": DENIAL}

BYTES = (bytes, bytearray, memoryview)  # a union would be made anew each time


def step_of(message: Message) -> Step:
    """What it amounts to.

    :raises AppError: a WebSocket has no such message
    """
    kind = message.get("type")
    if kind == "websocket.http.response.body":
        return BODY if message.get("more_body", False) else LAST_BODY
    step = _STEPS.get(str(kind))
    if step is None:
        raise AppError(f"a WebSocket has no message of type {kind!r}")
    return step


def content_of(message: Message) -> str | bytes:
    """What a `websocket.send` has: exactly one of two.

    :raises AppError: it has both, or neither
    """
    text, data = message.get("text"), message.get("bytes")
    if isinstance(text, str) and data is None:
        return text
    if isinstance(data, BYTES) and text is None:
        return bytes(data)
    raise AppError("a websocket.send has text, a str, or bytes, and not both")
