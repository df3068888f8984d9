"""ASGI's WebSockets without a framework."""

from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from benchmarks.apps import work

_members: set[Any] = set()


class Left(Exception):
    """The client has: what frameworks say by an exception of their own."""


async def talk(scope: Any, receive: Any, send: Any) -> None:
    """A WebSocket of each route."""
    await receive()
    await send({"type": "websocket.accept"})
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    token, seconds = query.get("token", ""), float(query.get("seconds", 600))

    async def say(data: bytes) -> None:
        await send({"type": "websocket.send", "bytes": data})

    match scope["path"]:
        case "/echo":
            while (message := await receive())["type"] == "websocket.receive":
                await send({**message, "type": "websocket.send"})
        case "/room":
            await _room(receive, send)
        case "/sleeps":
            await work.sleeps(token, seconds)
        case "/receives":
            with suppress(Left):
                await work.receives(token, lambda: _heard(receive))
        case "/floods":
            await work.floods(token, seconds, say)
        case "/pushes":
            await work.pushes(token, seconds, say)


async def _room(receive: Any, send: Any) -> None:
    """What one of its members says, all hear."""
    _members.add(send)
    try:
        while (message := await receive())["type"] == "websocket.receive":
            message = {**message, "type": "websocket.send"}
            for member in list(_members):
                await member(message)
    finally:
        _members.discard(send)


async def _heard(receive: Any) -> None:
    if (await receive())["type"] == "websocket.disconnect":
        raise Left
