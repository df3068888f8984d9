"""Down again, in order: who is told, what is answered, and that it ends."""

from typing import Any

import anyio
import pytest
from microasgi_server.running import RunningServer

from tests.harness import GET, eventually, loud_lines, serving, shared_of, within

pytestmark = pytest.mark.anyio

START = {"type": "http.response.start", "status": 200, "headers": []}
PUT = b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbo"


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send(part(b"ok", more=False))


# Who is told.


async def test_a_stream_hears_of_the_shutdown_and_ends_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever has subscribed to `microasgi.shutdown` is called when the server begins to stop, and has the time to end in order."""
    told = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"]["microasgi.shutdown"]["subscribe"](told.set)
        await send(START)
        await send(part(b"one"))
        await told.wait()
        await send(part(b"two", more=False))

    async with serving(app, lifespan="off", timeout_graceful_shutdown=60) as served, await served.connect() as client:
        await client.send(GET)
        assert b"one" in await client.receive()
        assert not told.is_set()
        served.stop.set()
        assert (await client.receive_until_closed()).endswith(b"two\r\n0\r\n\r\n")
        await within(served.ended)
    assert loud_lines(caplog) == []


async def test_who_subscribes_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """At once if the server stops already; not if the subscription was taken back; and one subscriber's fault stays its own."""
    heard: list[str] = []
    begun, stopping = anyio.Event(), anyio.Event()

    def fail() -> None:
        raise ValueError("a subscriber's own fault")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        subscribe = scope["extensions"]["microasgi.shutdown"]["subscribe"]
        undo = subscribe(lambda: heard.append("taken back"))
        subscribe(fail)
        subscribe(lambda: heard.append("early"))
        undo_last = subscribe(stopping.set)
        undo()
        undo()
        begun.set()
        await stopping.wait()
        undo_last()
        assert heard == ["early"]
        subscribe(lambda: heard.append("late"))()
        assert heard == ["early", "late"]
        await answer(send)

    async with serving(app, lifespan="off", timeout_graceful_shutdown=60) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        served.stop.set()
        assert (await client.response()).body == b"ok"
        await within(served.ended)
    assert heard == ["early", "late"]
    assert loud_lines(caplog) == ["The app raised an exception for GET /"]


async def test_the_background_hears_of_the_shutdown() -> None:
    """A subscription lasts as long as the app's call, also behind its response."""
    told, begun = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"]["microasgi.shutdown"]["subscribe"](told.set)
        await answer(send)
        begun.set()
        await told.wait()

    async with serving(app, lifespan="off", timeout_graceful_shutdown=60) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        served.stop.set()
        await within(told)
        await within(served.ended)


@pytest.mark.parametrize("late", [False, True], ids=["streams", "streams later"])
async def test_receive_says_so_to_who_streams(late: bool, caplog: pytest.LogCaptureFixture) -> None:
    """An app that has the whole body, streams, and waits in `receive()` as Starlette's do, hears `http.disconnect` as the server stops."""
    heard, go_on, waits = anyio.Event(), anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            await receive()
            waits.set()
            assert await receive() == {"type": "http.disconnect"}
            heard.set()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await send(START)
            await waits.wait()
            if late:
                await go_on.wait()
                assert not heard.is_set()
            while True:
                await send(part(b"more"))
                await anyio.sleep(0.001)

    async with serving(app, lifespan="off", timeout_graceful_shutdown=60) as served, await served.connect() as client:
        await client.send(GET)
        await within(waits)
        if not late:
            assert b"more" in await client.receive()
        served.stop.set()
        await eventually(lambda: any("Waiting" in line for line in caplog.messages))
        go_on.set()
        await within(heard)
        await within(served.ended)
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("streams", [False, True], ids=["an answer to come", "a body to come"])
async def test_receive_says_nothing_to_others(streams: bool) -> None:
    """Who has not begun to answer, or not the whole body, waits in `receive()` as ever: a payment isn't stopped by a deployment."""
    begun = anyio.Event()
    messages: list[str] = []
    running: list[RunningServer] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        running.append(shared_of(receive))
        await receive()
        if streams:
            await send(START)
            await send(part(b"x"))
        begun.set()
        with anyio.move_on_after(0.1 if not streams else 60):
            messages.append((await receive())["type"])
        if not streams:
            await send(START)
        await send(part(b"ok", more=False))

    async with serving(app, lifespan="off", timeout_graceful_shutdown=60) as served, await served.connect() as client:
        await client.send(PUT if streams else GET)
        await within(begun)
        served.stop.set()
        await eventually(lambda: running[0].stopping)
        if streams:
            await client.send(b"dy")
        response = await client.response(b"PUT" if streams else b"GET")
        assert (response.complete, response.body[-2:]) == (True, b"ok")
        await within(served.ended)
    assert messages == (["http.request"] if streams else [])
