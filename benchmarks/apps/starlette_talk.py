"""The app's WebSockets in Starlette."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from benchmarks.apps import work

_members: set[WebSocket] = set()


async def echo(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws.iter_bytes():
        await ws.send_bytes(message)


async def room(ws: WebSocket) -> None:
    await ws.accept()
    _members.add(ws)
    try:
        async for message in ws.iter_bytes():
            for member in list(_members):
                await member.send_bytes(message)
    finally:
        _members.discard(ws)


def _asked(ws: WebSocket) -> tuple[str, float]:
    return ws.query_params.get("token", ""), float(ws.query_params.get("seconds", "600"))


async def sleeps(ws: WebSocket) -> None:
    await ws.accept()
    await work.sleeps(*_asked(ws))


async def receives(ws: WebSocket) -> None:
    await ws.accept()
    await work.receives(_asked(ws)[0], ws.receive_text)


async def floods(ws: WebSocket) -> None:
    await ws.accept()
    await work.floods(*_asked(ws), ws.send_bytes)


async def pushes(ws: WebSocket) -> None:
    await ws.accept()
    await work.pushes(*_asked(ws), ws.send_bytes)


def _calm(handler: Callable[[WebSocket], Awaitable[None]]) -> Callable[[WebSocket], Awaitable[None]]:
    """The same, whose end by a departure isn't logged as an error: that costs more than what is measured."""

    async def calm(ws: WebSocket) -> None:
        with suppress(WebSocketDisconnect):
            await handler(ws)

    return calm


talk = [WebSocketRoute(f"/{handler.__name__}", _calm(handler)) for handler in (echo, room, sleeps, receives, floods, pushes)]
