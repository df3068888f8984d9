"""The test client's WebSockets: what an app says, what its client does, and where it can leave."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from microasgi import HTTPException, Router, StreamingResponse, WebSocket, WebSocketDisconnect
from microasgi.testing import Client, SyncClient

pytestmark = pytest.mark.anyio

routes = Router(cleanup_grace=0.5)
saved: list[str] = []


@routes.websocket("/echo/{room}")
async def echo(ws: WebSocket) -> None:
    await ws.accept(ws.subprotocols[0] if ws.subprotocols else None, {"X-Room": ws.path_params["room"]})
    async for message in ws:
        await (ws.send_text(message) if isinstance(message, str) else ws.send_bytes(message))


@routes.websocket("/denied")
async def denied(ws: WebSocket) -> None:
    raise HTTPException(402, "first the money")


@routes.websocket("/closed")
async def closed(ws: WebSocket) -> None:
    if ws.query_params.get("late"):
        await ws.accept()
    await ws.close(3001, "enough")


@routes.websocket("/save")
async def save(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        await checkpoint()
        saved.append(str(message))


@routes.websocket("/sleep")
async def sleep(ws: WebSocket) -> None:
    await ws.accept()
    await anyio.sleep_forever()


@routes.websocket("/bug")
async def bug(ws: WebSocket) -> None:
    await ws.accept()
    await ws.receive()
    raise ValueError("a bug")


async def test_client_and_app_speak() -> None:
    """Text, bytes and JSON go both ways; the handshake's answer can be seen, and the block's end is the client's goodbye."""
    async with Client(routes).websocket("/echo/a", subprotocols=["one", "two"], say=["first"]) as ws:
        assert await ws.receive_text() == "first"
        await ws.send_text("hello")
        assert await ws.receive() == "hello"
        await ws.send_bytes(b"\xff")
        assert await ws.receive_bytes() == b"\xff"
        await ws.send_json({"a": 1})
        assert await ws.receive_json() == {"a": 1}
        assert (ws.accepted, ws.subprotocol, ws.headers["x-room"], ws.response.status_code) == (True, "one", "a", 0)
        assert repr(ws).startswith("<Conversation '/echo/a', ")


async def test_a_refusal_is_a_response() -> None:
    """An HTTPException's, or 403 for a close before it is accepted; a path without a route is a 404."""
    client = Client(routes)
    for url, status, text in [("/denied", 402, "first the money"), ("/closed", 403, ""), ("/nowhere", 404, "Not Found")]:
        async with client.websocket(url) as ws:
            with pytest.raises(WebSocketDisconnect):
                await ws.receive()
            await ws.finish()
        assert (ws.accepted, ws.response.status_code, ws.response.text) == (False, status, text)


@routes.websocket("/denied-in-pieces")
async def denied_in_pieces(ws: WebSocket) -> None:
    async def pieces() -> AsyncIterator[str]:
        for piece in ("first ", "the ", "money"):
            await checkpoint()
            yield piece

    await ws.deny(StreamingResponse(pieces(), 402))


@routes.websocket("/denied-for-ever")
async def denied_for_ever(ws: WebSocket) -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "first "
        await anyio.sleep_forever()

    await ws.deny(StreamingResponse(pieces(), 402))


@pytest.mark.parametrize("url", ["/denied", "/denied-in-pieces"])
async def test_a_refusal_is_whole_when_the_block_begins(url: str) -> None:
    """However many pieces it comes in; the last of them is there, too."""
    async with Client(routes).websocket(url) as ws:
        assert (ws.accepted, ws.response.status_code, ws.response.complete, ws.response.text) == (False, 402, True, "first the money")


async def test_a_refusal_without_an_end_can_be_left() -> None:
    """At each of its awaits: then it has one."""
    departures = Client(routes).hang_up_everywhere("/denied-for-ever", "WEBSOCKET")
    for number in (1, 2, 3):
        departure = await anext(departures)
        assert (departure.number, departure.cancelled) == (number, True)


async def test_the_apps_goodbye_and_its_failure_can_be_seen() -> None:
    """As codes by the client; what the app raises is raised where its end is waited for."""
    client = Client(routes)
    async with client.websocket("/closed?late=1") as ws:
        with pytest.raises(WebSocketDisconnect, match="enough"):
            await ws.receive()
    assert (ws.close_code, ws.close_reason) == (3001, "enough")
    async with client.websocket("/bug", say=["a"]) as ws:
        with pytest.raises(ValueError, match="a bug"):
            await ws.finish()
    assert ws.close_code == 1011


@pytest.mark.parametrize("goodbye", [True, False])
async def test_leaving_stops_a_handler_that_has_nothing_left_to_do(goodbye: bool) -> None:
    """Both ways of leaving do, and `cancelled` says so."""
    async with Client(routes).websocket("/sleep") as ws:
        await ws.hang_up(goodbye=goodbye)
    assert ws.cancelled


@pytest.mark.parametrize(("goodbye", "expected"), [(True, ["one", "two"]), (False, [])])
async def test_a_goodbye_loses_nothing_that_was_said_and_a_broken_connection_does(goodbye: bool, expected: list[str]) -> None:
    """As on a server."""
    saved.clear()
    async with Client(routes).websocket("/save", say=["one", "two"]) as ws:
        await ws.hang_up(goodbye=goodbye)
    assert saved == expected


@pytest.mark.parametrize("goodbye", [True, False])
async def test_the_client_can_leave_at_every_await(goodbye: bool) -> None:
    """A goodbye at any of them loses none of what was said before; the run in which it would have left later is the last."""
    saved.clear()
    runs: list[Any] = []
    async for departure in Client(routes).hang_up_everywhere("/save", "WEBSOCKET", say=["one", "two"], goodbye=goodbye):
        runs.append((departure.number, departure.cancelled, list(saved)))
        saved.clear()
    assert saved == ["one", "two"]
    assert [number for number, _, _ in runs] == list(range(1, len(runs) + 1))
    assert len(runs) >= 4
    if goodbye:
        assert all(texts == ["one", "two"] for _, _, texts in runs)
    else:
        assert all(cancelled for _, cancelled, _ in runs)
        assert runs[0][2] == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_plain_functions_have_websockets_too(backend: str) -> None:
    """In the same words, without `await`."""
    with SyncClient(routes, backend=backend) as client:
        with client.websocket("/echo/a", subprotocols=["one"]) as ws:
            ws.send_text("hello")
            assert ws.receive() == "hello"
            ws.send_bytes(b"a")
            assert ws.receive_bytes() == b"a"
            ws.send_json([1])
            assert ws.receive_json() == [1]
            ws.send_text("again")
            assert ws.receive_text() == "again"
            assert (ws.accepted, ws.subprotocol, ws.close_code) == (True, "one", None)
            ws.close()
        with client.websocket("/sleep") as ws:
            ws.hang_up(goodbye=True)
            assert ws.cancelled
        with client.websocket("/denied") as ws:
            ws.finish()
            assert (ws.response.status_code, repr(ws)) == (402, "<Conversation '/denied', 2 awaits, over, 0 messages to read>")
        departures = list(client.hang_up_everywhere("/echo/a", "WEBSOCKET", say=["a"]))
        assert len(departures) >= 2


@pytest.mark.parametrize("early", [lambda ws: ws.send_text("hello"), lambda ws: ws.send_bytes(b"hello"), lambda ws: ws.send_json({})])
async def test_who_speaks_before_it_has_accepted_is_told_to_accept(early: Any) -> None:
    """The handshake has no answer yet: the sentence says what gives it one."""
    routes = Router()

    @routes.websocket("/")
    async def handler(ws: WebSocket) -> None:
        await early(ws)

    with pytest.raises(RuntimeError, match=r"await ws\.accept\(\) first"):
        async with Client(routes).websocket("/"):
            pass
