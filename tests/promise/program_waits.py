"""What random programs wait for, by its name in them."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel


async def _receive() -> None:
    send, receive = anyio.create_memory_object_stream[None]()
    with send, receive:
        await receive.receive()


async def _acquire() -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()


WAITS: dict[str, Callable[[], Awaitable[object]]] = {
    "sleep": lambda: asyncio.sleep(100),
    "event": lambda: asyncio.Event().wait(),
    "anyio event": lambda: anyio.Event().wait(),
    "stream": _receive,
    "queue": lambda: asyncio.Queue[None]().get(),
    "lock": _acquire,
    "yield": lambda: asyncio.sleep(0),
    "checkpoint": anyio.lowlevel.checkpoint,
    "sleep soon": lambda: asyncio.sleep(0.0005),
}
