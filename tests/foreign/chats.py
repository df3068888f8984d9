"""A chat in each of the frameworks that have WebSockets, as their documentation writes one, with what becomes of it in a list.

Each answers what it is told, in capitals. Told `sleep`, it waits for something else than its client. At the end it notes `bye`, in the way
in which its users clean up: `except`, `finally`, a method that is called, an event.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from tests.foreign.frameworks import django_app
from tests.websocket_client import HANDSHAKE

Log = list[str]


@contextmanager
def stopped(log: Log) -> Iterator[None]:
    """Note what a handler that sleeps meets."""
    log.append("sleeps")
    try:
        yield
    except anyio.get_cancelled_exc_class():
        log.append("stopped")
        raise


def starlette(log: Log) -> Any:
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    async def chat(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                text = await ws.receive_text()
                if text == "sleep":
                    with stopped(log):
                        await anyio.sleep(30)
                await ws.send_text(text.upper())
        except WebSocketDisconnect:
            await anyio.sleep(0.01)
            log.append("bye")

    return Starlette(routes=[WebSocketRoute("/chat", chat)])


def fastapi(log: Log) -> Any:
    from fastapi import Depends, FastAPI, WebSocket

    app = FastAPI()

    async def member() -> AsyncIterator[str]:
        try:
            yield "eve"
        finally:
            await anyio.sleep(0.01)
            log.append("bye")

    @app.websocket("/chat")
    async def chat(websocket: WebSocket, name: str = Depends(member)) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            if text == "sleep":
                with stopped(log):
                    await anyio.sleep(30)
            await websocket.send_text(text.upper())

    return app


def quart(log: Log) -> Any:
    import quart

    app = quart.Quart(__name__)

    @app.websocket("/chat")
    async def chat() -> None:
        try:
            while True:
                text = await quart.websocket.receive()
                if text == "sleep":
                    with stopped(log):
                        await anyio.sleep(30)
                await quart.websocket.send(str(text).upper())
        finally:
            await anyio.sleep(0.01)
            log.append("bye")

    return app


def channels(log: Log) -> Any:
    django_app()  # which sets Django up
    from channels.generic.websocket import AsyncWebsocketConsumer  # type: ignore[import-untyped]

    class Chat(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def receive(self, text_data: str) -> None:
            if text_data == "sleep":
                with stopped(log):
                    await anyio.sleep(30)
            await self.send(text_data.upper())

        async def disconnect(self, code: int) -> None:
            await anyio.sleep(0.01)
            log.append("bye")

    return Chat.as_asgi()


def socketio(log: Log) -> Any:
    import socketio

    server = socketio.AsyncServer(async_mode="asgi")

    @server.event  # type: ignore[untyped-decorator]
    async def shout(sid: str, text: str) -> str:
        return text.upper()

    @server.event  # type: ignore[untyped-decorator]
    async def disconnect(sid: str, reason: str) -> None:
        await anyio.sleep(0.01)
        log.append("bye")

    return socketio.ASGIApp(server)


def graphql(log: Log) -> Any:
    import strawberry
    from strawberry.asgi import GraphQL

    @strawberry.type
    class Query:
        hello: str = "hello"

    async def shouted(text: str) -> AsyncIterator[str]:
        try:
            yield text.upper()
            await anyio.sleep(30)
        finally:
            await anyio.sleep(0.01)
            log.append("bye")

    @strawberry.type
    class Subscription:
        shout = strawberry.subscription(resolver=shouted)

    return GraphQL(strawberry.Schema(Query, subscription=Subscription))


@dataclass(frozen=True)
class Chat:
    """One of them, and how to talk with it.

    handshake: what the client asks for.
    said: what it says, each with what is answered.
    sleeps: whether it can be told to sleep.
    """

    make: Callable[[Log], Any]
    handshake: bytes = HANDSHAKE
    said: tuple[tuple[str, str], ...] = (("hello", "HELLO"),)
    sleeps: bool = True


SUBSCRIBE = '{"id":"1","type":"subscribe","payload":{"query":"subscription { shout(text: \\"hello\\") }"}}'

CHATS = {
    "starlette": Chat(starlette),
    "fastapi": Chat(fastapi),
    "quart": Chat(quart),
    "channels": Chat(channels),
    "socketio": Chat(
        socketio,
        HANDSHAKE.replace(b"/chat?room=1", b"/socket.io/?EIO=4&transport=websocket"),
        (("", "0{"), ("40", "40{"), ('420["shout","hello"]', '430["HELLO"]')),
        sleeps=False,
    ),
    "strawberry": Chat(
        graphql,
        HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n",
        (('{"type":"connection_init"}', '{"type":"connection_ack"}'), (SUBSCRIBE, '{"id":"1","type":"next","payload"')),
        sleeps=False,
    ),
}
"""By the name of the package."""
