"""Down again, in order: who is told, what is answered, and that it ends."""

import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from microasgi_server import Limits
from microasgi_server.running import RunningServer

from microasgi import CancelOnDisconnect
from tests.harness import GET, PATIENCE, Sleeper, access_lines, eventually, loud_lines, refuses_connections, serving, shared_of, within

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


# What is answered.


async def test_no_request_is_lost_on_busy_connections() -> None:
    """Sixteen clients ask as fast as they are answered while the server stops: each answer comes, and the last one says that it is."""
    answers: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    async with serving(app, lifespan="off", timeout_graceful_shutdown=60) as served:

        async def ask() -> None:
            async with await served.connect() as client:
                closes = False
                while not closes:
                    await client.send(GET)
                    response = await client.response()
                    closes = response.header(b"connection") == b"close"
                    answers.append(response.complete)

        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(ask)
            await eventually(lambda: len(answers) > 200)
            served.stop.set()
        assert all(answers)
        await within(served.ended)


async def test_a_request_on_its_way_is_answered() -> None:
    """Half a head that is here when the server stops, and a first request that comes a moment later, are answered; then it closes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        running.append(shared_of(receive))
        await answer(send)

    running: list[RunningServer] = []
    async with (
        serving(app, lifespan="off", timeout_graceful_shutdown=60, limits=Limits(farewell=60)) as served,
        await served.connect() as half,
        await served.connect() as silent,
    ):
        await half.send(GET + GET[:9])
        assert (await half.response()).body == b"ok"
        served.stop.set()
        await eventually(lambda: running[0].stopping)
        for client, data in ((half, GET[9:]), (silent, GET)):
            await client.send(data)
            response = await client.response()
            assert (response.status, response.header(b"connection")) == (200, b"close")
            assert await client.receive_until_closed() == b""
        await within(served.ended)


async def test_half_a_head_holds_up_no_stop() -> None:
    """A head that doesn't come to its end gets a 408 soon, whatever the graceful time, and be it the first one or a later one."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    async with (
        serving(app, lifespan="off", timeout_graceful_shutdown=60, limits=Limits(farewell=0.05)) as served,
        await served.connect() as first,
        await served.connect() as later,
    ):
        await first.send(GET[:9])
        await later.send(GET + GET[:9])
        assert (await later.response()).body == b"ok"
        served.stop.set()
        for client in (first, later):
            assert (await client.response()).status == 408
            client.leave()
        await within(served.ended)


async def test_a_body_that_nobody_wants_holds_up_no_stop() -> None:
    """The response is out, and the rest of the request's body isn't here: the server stops without it, with FIN behind the response."""
    running: list[RunningServer] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        running.append(shared_of(receive))
        await answer(send)

    limits = Limits(farewell=0.0, linger=0.05)
    async with serving(app, lifespan="off", timeout_graceful_shutdown=60, limits=limits) as served, await served.connect() as client:
        await client.send(PUT)
        assert (await client.response()).body == b"ok"
        await eventually(lambda: not running[0].calls)
        served.stop.set()
        with anyio.fail_after(PATIENCE):
            assert await client.receive_until_closed() == b""
        await within(served.ended)


@pytest.mark.parametrize("begun", [False, True], ids=["nothing sent", "begun"])
async def test_what_takes_too_long_is_a_503(begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    """When the time is over, what has no answer yet gets a 503 and is cancelled as by a departure; what has begun breaks off."""
    sleeper = Sleeper()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["extensions"]["microasgi.disconnect"]
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            await send(part(b"half"))
        await sleeper.sleep()

    wrapped = CancelOnDisconnect(app)
    async with serving(wrapped, lifespan="off", timeout_graceful_shutdown=0.05) as served, await served.connect() as client:
        await client.send(GET)
        await within(sleeper.begun)
        served.stop.set()
        response = await client.response()
        if begun:
            assert (response.body, response.complete) == (b"half", False)
        else:
            assert (response.status, response.complete, response.header(b"retry-after")) == (503, True, b"1")
            assert (response.header(b"connection"), response.body) == (b"close", b"the server stopped\n")
        client.leave()
        await within(served.ended)
    assert sleeper.cancellations == 1
    (line,) = access_lines(caplog)
    assert '" 503 ' in line
    assert line.endswith("cancelled: the server stopped")
    assert loud_lines(caplog) == ["Cancelling 1 request(s) that took longer"]


async def test_nothing_is_accepted_while_requests_run() -> None:
    """From the beginning of a shutdown on new connections are refused, on every loop."""
    sleeper = Sleeper()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await sleeper.sleep()

    async with serving(app, lifespan="off", timeout_graceful_shutdown=60) as served, await served.connect() as client:
        await client.send(GET)
        await within(sleeper.begun)
        served.stop.set()

        await eventually(lambda: refuses_connections(served.port))
        assert not sleeper.ended.is_set()


# That it ends.

PROGRAM = """
import logging, sys
import anyio, microasgi_server

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if mode == "lifespan":
            await swallow()
        print("lifespan shutdown", flush=True)
        failed = {"type": "lifespan.shutdown.failed", "message": "a pool was stuck"}
        await send(failed if mode == "failed" else {"type": "lifespan.shutdown.complete"})
        return
    print("request", flush=True)
    if mode == "swallow":
        await swallow()
    elif mode == "forever":
        await anyio.sleep_forever()

async def swallow():
    while True:
        try:
            await anyio.sleep(0.02)
        except anyio.get_cancelled_exc_class():
            pass

mode = sys.argv[2]
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
limits = microasgi_server.Limits(cleanup=0.1, cancelled=0.1, linger=0.1)
times = {"timeout_graceful_shutdown": float(sys.argv[3]), "timeout_lifespan": 0.1}
microasgi_server.run(app, microasgi_server.Config(port=0, loop=sys.argv[1], limits=limits, **times))
print("run returned", flush=True)
"""

LEFT_BEHIND = "Left behind, because they don't end although they were cancelled: GET /a (2 times), GET /b"
ENDINGS = {
    "requests": ("swallow", ["/a", "/b", "/a"], 1, 0, LEFT_BEHIND, 1),
    "lifespan": ("lifespan", [], 1, 1, "Something in this process doesn't end, 1.5 s after", 0),
    "failed lifespan": ("failed", [], 1, 1, "error: the app's shutdown failed: a pool was stuck", 1),
    "nothing": ("forever", ["/a"], 1, 0, "run returned", 1),
    "third signal": ("swallow", ["/a"], 3, 1, "SIGTERM once more: exiting", 0),
}
"""What the app does, the requests, the signals; the exit code, how the last line begins, and how often the lifespan ended."""


@pytest.mark.parametrize(
    ("anyio_backend", "ending"),
    [*(("asyncio", ending) for ending in ENDINGS), ("uvloop", "requests"), ("trio", "requests"), ("trio", "lifespan")],
)
def test_the_process_ends(anyio_backend: str, ending: str) -> None:
    """Whatever swallows its cancellation: the process ends in the stated time and says what held it; a failed lifespan is exit code 1."""
    mode, paths, signals, code, last, shutdowns = ENDINGS[ending]
    graceful = "0.1" if signals == 1 else "60"
    command = [sys.executable, "-c", PROGRAM, anyio_backend, mode, graceful]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process, ExitStack() as clients:
        try:
            assert process.stdout is not None
            port = int(next(found[1] for line in process.stdout if (found := re.search(r":(\d+) ", line))))
            for path in paths:
                client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
                next(line for line in process.stdout if line == "request\n")
            began = time.monotonic()
            for number in range(signals):
                process.send_signal(signal.SIGTERM)
                if number < signals - 1:
                    next(line for line in process.stdout if "stops at once" in line or "stopping at once" in line)
            lines = process.communicate(timeout=20)[0].splitlines()
        finally:
            process.kill()
    assert process.returncode == code, lines
    assert lines[-1].startswith(last)
    assert lines.count("lifespan shutdown") == shutdowns
    assert time.monotonic() - began < 4
