"""Chats of other frameworks within `CancelOnDisconnect`: Starlette, FastAPI, Quart, Django Channels, python-socketio, strawberry's GraphQL.

What is shown is why a handler that waits in `receive()` is told there, even of a disappearance, and cancelled only if it goes on: where
these frameworks' users clean up is behind that message. Cancelled at once, Starlette's `except WebSocketDisconnect` and Channels'
`disconnect` would never run, and a chat would keep its dead members.
"""

from typing import Any

import pytest

from microasgi import CancelOnDisconnect
from tests.conftest import LOOPS
from tests.foreign.servers import SERVERS
from tests.harness import access_lines, eventually, loud_lines, serving
from tests.needs import demand_package
from tests.websocket_client import TEXT, Talker, frame, goodbye, talk

demand_package("channels")
demand_package("socketio")
demand_package("strawberry")

from tests.foreign.chats import CHATS, Chat  # noqa: E402

pytestmark = pytest.mark.anyio

on_asyncio = pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"], indirect=True)
"""They are written for asyncio."""

on_servers = pytest.mark.parametrize(
    ("anyio_backend", "server"),
    [(LOOPS["asyncio"], "ours"), (LOOPS["uvloop"], "ours"), (LOOPS["asyncio"], "uvicorn")],
    ids=["ours, asyncio", "ours, uvloop", "uvicorn"],
    indirect=["anyio_backend"],
)


async def speak(chat: Chat, client: Talker) -> None:
    """Say what there is to say, and hear the answers."""
    for said, answer in chat.said:
        if said:
            await client.send(frame(TEXT, said.encode()))
        opcode, payload = await client.receive()
        assert (opcode, payload.decode().replace(" ", "")[: len(answer)]) == (TEXT, answer)


@on_servers
@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("how", ["close", "RST"])
async def test_it_speaks_and_says_goodbye_as_its_users_know_it(server: str, name: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whichever way the client leaves, its own cleanup runs, at once, and may await; nothing is logged."""
    chat, log = CHATS[name], list[str]()
    app = CancelOnDisconnect(chat.make(log), cleanup_grace=30)
    async with SERVERS[server](app) as served, await talk(served, handshake=chat.handshake) as client:
        await speak(chat, client)
        if how == "close":
            await client.send(goodbye())
        else:
            client.leave("RST")
        await eventually(lambda: log)
    assert log == ["bye"]
    assert loud_lines(caplog) == []


@on_asyncio
@pytest.mark.parametrize("name", [name for name, chat in CHATS.items() if chat.sleeps])
async def test_it_stops_where_it_waits_for_something_else(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A client that vanishes while its handler doesn't listen stops it at once. `finally` runs, and what only follows a message doesn't."""
    told_by_messages = name in ("starlette", "channels")
    chat, log = CHATS[name], list[str]()
    app = CancelOnDisconnect(chat.make(log), cleanup_grace=30)
    async with serving(app) as served, await talk(served, handshake=chat.handshake) as client:
        await speak(chat, client)
        await client.send("sleep")
        await eventually(lambda: log)
        client.leave("RST")
        await eventually(lambda: access_lines(caplog))
    assert log == ["sleeps", "stopped", *([] if told_by_messages else ["bye"])]
    assert loud_lines(caplog) == []


@on_asyncio
async def test_socketios_own_client_polls_and_then_upgrades(caplog: pytest.LogCaptureFixture) -> None:
    """Long polls first, a WebSocket beside them, and over to that: the same session, calls with answers, and a goodbye."""
    import socketio

    log: list[str] = []
    app = CancelOnDisconnect(CHATS["socketio"].make(log))
    async with serving(app) as served:
        client: Any = socketio.AsyncClient(reconnection=False)
        await client.connect(served.address)
        assert client.transport() == "websocket"
        assert await client.call("shout", "hello", timeout=5) == "HELLO"
        await client.disconnect()
        await eventually(lambda: log)
    assert log == ["bye"]
    polled, upgraded = access_lines(caplog)
    assert "transport=polling" in polled
    assert "transport=websocket" in upgraded
    assert " 101 " in upgraded
    assert loud_lines(caplog) == []
