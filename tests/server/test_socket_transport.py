"""On trio: what the transport over plain sockets must survive."""

import os
import resource
import socket
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from microasgi_server import Limits

from tests.conftest import LOOPS
from tests.harness import GET, PATIENCE, Client, Departure, eventually, loud_lines, serving, shared_of, within

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [LOOPS["trio"]], ids=["trio"])]


def get(path: str) -> bytes:
    """A request for `path`."""
    return GET.replace(b" / ", b" %b " % path.encode())


async def answer(send: Any) -> None:
    """A response with the body `ok`."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


async def test_a_go_ahead_that_finds_the_client_gone_tells_the_app(caplog: pytest.LogCaptureFixture) -> None:
    """An app that asks for a body is told of the disconnect when it is the 100 Continue that finds the socket reset."""
    told = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        client.leave("RST")  # and before the server looks at the socket again:
        assert (await receive())["type"] == "http.disconnect"
        told.set()

    async with serving(app, lifespan="off") as served:
        client = await served.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        await within(told)
    assert loud_lines(caplog) == []


async def test_a_refusal_that_finds_the_client_gone_tells_all_who_wait(caplog: pytest.LogCaptureFixture) -> None:
    """When it is the 413 that finds the socket reset, who waits in `receive()` in another task is told, too."""
    told = []
    ended = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def wait() -> None:
            told.append((await receive())["type"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            client.leave("RST")  # and before the server looks at the socket again:
            scope["extensions"]["microasgi.limits"]["body"] = 1
            await wait()
        ended.set()

    async with serving(app, lifespan="off") as served:
        client = await served.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n")
        await within(ended)
    assert told == ["http.disconnect"] * 2
    assert loud_lines(caplog) == []


async def test_a_small_message_does_not_end_the_wait_for_a_slow_client(caplog: pytest.LogCaptureFixture) -> None:
    """Of two tasks that send, the one that waits for a slow client goes on when all is sent, whatever the other sends meanwhile."""
    congested, gone_on, small = anyio.Event(), anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def send_much() -> None:
            await send({"type": "http.response.body", "body": b"x" * 300_000, "more_body": True})
            gone_on.set()

        connections: Any = shared_of(receive).connections
        transport = next(iter(connections)).transport
        transport._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that it empties in small steps
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"300002")]})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_much)
            await eventually(lambda: transport.congested)
            congested.set()
            while not 0 < transport.unsent() <= Limits.unsent:  # looked at in every turn: it may not last for two
                await checkpoint()
            await send({"type": "http.response.body", "body": b"y", "more_body": True})
            small.set()
        await send({"type": "http.response.body", "body": b"z"})

    async with serving(app, lifespan="off") as served, await served.connect(receive_buffer=4096) as client:
        await client.send(GET)
        await within(congested)
        with anyio.move_on_after(PATIENCE / 2):
            body = (await client.response()).body
            assert body == b"x" * 300_000 + b"yz"
        assert gone_on.is_set()
        assert small.is_set()
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("state", ["open", "with a deadline", "cancelled"])
async def test_a_scope_that_an_app_leaves_open(state: str, caplog: pytest.LogCaptureFixture) -> None:
    """An app that leaves a cancel scope open, against trio's rules, harms neither other requests nor the next one."""
    left = []  # else it would be freed, and closed by that

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/open":
            inner = anyio.CancelScope(deadline=anyio.current_time() + 0.01 if state == "with a deadline" else float("inf"))
            left.append(inner.__enter__())
            if state == "cancelled":
                inner.cancel()
        elif scope["path"] == "/wait":
            waiting.set()
            await release.wait()
        elif state != "open":  # nobody can see one that is merely open, and nothing happens in it
            await anyio.sleep(0.02)
        with anyio.CancelScope(shield=True):
            await answer(send)

    waiting, release = anyio.Event(), anyio.Event()
    async with serving(app, lifespan="off") as served, AsyncExitStack() as stack:
        other, client, third = [await stack.enter_async_context(await served.connect()) for _ in range(3)]
        await other.send(get("/wait"))
        await within(waiting)
        await client.send(get("/open"))
        assert (await client.response()).body == b"ok"
        with anyio.fail_after(PATIENCE / 5):
            for after in (client, third):
                await after.send(GET)
                assert (await after.response()).body == b"ok"
            release.set()
            assert (await other.response()).body == b"ok"
        served.stop.set()
        await within(served.ended)
    assert not any("a bug of the server" in line for line in loud_lines(caplog))


async def test_what_ends_python_ends_the_server() -> None:
    """When an app raises KeyboardInterrupt, which nobody may stop, the server ends at once, and its other requests are told."""
    told, waiting = anyio.Event(), anyio.Event()
    ended = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/raise":
            raise KeyboardInterrupt
        waiting.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()

    async def raise_it() -> None:
        nonlocal ended
        async with serving(app, lifespan="off") as served, await served.connect() as other, await served.connect() as client:
            await other.send(GET)
            await within(waiting)
            await client.send(get("/raise"))
            with anyio.move_on_after(PATIENCE / 5, shield=True):
                await served.ended.wait()
                ended = True

    with pytest.raises(BaseExceptionGroup) as raised:
        await raise_it()
    assert ended
    assert told.is_set()
    assert raised.value.split(KeyboardInterrupt)[1] is None  # and nothing else came of it


@pytest.mark.parametrize(
    ("how", "half_close"),
    [("FIN", False), ("RST", False), ("half-close", False), ("RST", True)],
    ids=["FIN", "RST", "half-close", "RST after all"],
)
async def test_a_departure_in_the_middle_of_anything(how: Departure, half_close: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a client was in the middle of when it left, its request ends, its connection is closed, and no descriptor stays open."""
    begun = ended = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun, ended
        begun += 1
        try:
            if scope["path"] == "/stream":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            ended += 1

    openings = [
        GET + b"GET",
        GET + GET * 3000,  # more than is read ahead
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n12345",
        get("/stream"),  # and nobody reads what comes
        get("/stream") + GET * 3000,
    ]
    async with serving(app, lifespan="off", half_close=half_close) as served, AsyncExitStack() as stack:
        before = descriptors()
        clients = [await stack.enter_async_context(await served.connect(receive_buffer=4096)) for _ in openings]
        for client, opening in zip(clients, openings, strict=True):
            await client.send(opening)
        await eventually(lambda: begun == len(openings))
        for client in clients:
            if half_close:
                client.leave("half-close")
            client.leave(how)
        await eventually(lambda: ended == len(openings))
        for client in clients:
            client.sock.close()
        await eventually(lambda: descriptors() == before)
    assert begun == len(openings)
    assert loud_lines(caplog) == []


async def test_no_descriptor_left_to_accept_with(caplog: pytest.LogCaptureFixture) -> None:
    """A process that has all the descriptors it may have says so, and accepts who waits when it can."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(app, lifespan="off") as served, Client(socket.socket()) as client:
        with ExitStack() as stack:
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, limits[1]))
            with suppress(OSError):
                while True:  # take the free ones below that
                    stack.callback(os.close, os.dup(0))
            client.sock.setblocking(False)
            client.sock.connect_ex(("127.0.0.1", served.port))
            await eventually(lambda: "Can't accept connections for now: Too many open files" in loud_lines(caplog))
        await client.send(GET)
        assert (await client.response()).body == b"ok"
