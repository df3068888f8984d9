"""What the probing app does with WebSockets."""

import anyio

from microasgi.asgi import Receive, Scope, Send
from microasgi.lint.probes.behaviours import BEHAVIOURS, WHILE, Noting, behaviour

__all__ = ["BEHAVIOURS"]


@behaviour
async def converse(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Accept late, note what comes, and send it back."""
    note("connect", got=(await receive())["type"], offered=list(scope.get("subprotocols", ())))
    await anyio.sleep(WHILE)
    note("accepting")
    await send({"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-accepted", b"yes")]})
    note("accepted")
    while (message := await receive())["type"] == "websocket.receive":
        text, data = message.get("text"), message.get("bytes")
        note("heard", text=text, data=data.decode("latin-1") if data is not None else None)
        await send({"type": "websocket.send", **({"text": text} if text is not None else {"bytes": data})})
    note("left", code=message.get("code"), reason=message.get("reason"))


@behaviour
async def deny(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Close instead of accepting."""
    await receive()
    await send({"type": "websocket.close"})


@behaviour
async def answer_instead(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Answer with a response, if that is offered."""
    offered = "websocket.http.response" in (scope.get("extensions") or {})
    note("offered", is_so=offered)
    await receive()
    if not offered:
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.http.response.start", "status": 418, "headers": [(b"content-length", b"3")]})
    await send({"type": "websocket.http.response.body", "body": b"tea"})


@behaviour
async def close(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Accept, and close with a code of its own."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4001, "reason": "enough"})


@behaviour
async def fail_open(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Accept, and raise."""
    await receive()
    await send({"type": "websocket.accept"})
    raise ValueError("on purpose, with a WebSocket open")
