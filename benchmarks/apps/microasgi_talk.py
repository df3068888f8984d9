"""The app's WebSockets in microasgi."""

from benchmarks.apps import work
from microasgi import Router, WebSocket

talk = Router()
_members: set[WebSocket] = set()


@talk.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        await ws.send_bytes(message)  # type: ignore[arg-type]  # the clients send nothing else


@talk.websocket("/room")
async def room(ws: WebSocket) -> None:
    await ws.accept()
    _members.add(ws)
    try:
        async for message in ws:
            for member in list(_members):
                await member.send_bytes(message)  # type: ignore[arg-type]
    finally:
        _members.discard(ws)


def _asked(ws: WebSocket) -> tuple[str, float]:
    return ws.query_params.get("token", ""), float(ws.query_params.get("seconds", "600"))


@talk.websocket("/sleeps")
async def sleeps(ws: WebSocket) -> None:
    await ws.accept()
    await work.sleeps(*_asked(ws))


@talk.websocket("/receives")
async def receives(ws: WebSocket) -> None:
    await ws.accept()
    await work.receives(_asked(ws)[0], ws.receive_text)


@talk.websocket("/floods")
async def floods(ws: WebSocket) -> None:
    await ws.accept()
    await work.floods(*_asked(ws), ws.send_bytes)


@talk.websocket("/pushes")
async def pushes(ws: WebSocket) -> None:
    await ws.accept()
    await work.pushes(*_asked(ws), ws.send_bytes)
