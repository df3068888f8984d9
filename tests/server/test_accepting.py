"""Connections come: more than there is room for, more requests than may run, and at the moment at which the server stops."""

import asyncio
import errno
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from microasgi_server import Config, Limits
from microasgi_server.accepting import Acceptor, run_without_task, until_short, until_short_by_callbacks
from microasgi_server.connection import Connection
from microasgi_server.running import RunningServer

from tests.conftest import LOOPS
from tests.harness import GET, PATIENCE, Client, access_lines, eventually, loud_lines, serving, shared_of, within

pytestmark = pytest.mark.anyio


class App:
    """Answers `/` at once, and anything else when it may go on."""

    def __init__(self) -> None:
        self.go_on = anyio.Event()
        self.waiting = 0
        self.running: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.running = shared_of(receive)
        if scope["path"] != "/":
            self.waiting += 1
            await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


WAIT = GET.replace(b" / ", b" /wait ")


async def ask(client: Client, data: bytes = GET) -> int:
    with anyio.fail_after(PATIENCE):
        await client.send(data)
        return (await client.response()).status


@contextmanager
def descriptors(spare: int) -> Iterator[None]:
    """Have this process get no more than so many new descriptors, as long as the block lasts."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, limits[1]))
        taken = []
        with suppress(OSError):
            while True:  # take the free ones below that
                taken.append(os.dup(0))
        for fd in taken[:spare]:
            os.close(fd)
        for fd in taken[spare:]:
            stack.callback(os.close, fd)
        yield


async def test_more_clients_than_descriptors(caplog: pytest.LogCaptureFixture) -> None:
    """Sixty clients and eight descriptors: each client is served, idle connections make room, and one line a second is all that is said."""
    async with serving(App(), lifespan="off", limits=Limits(farewell=0.01)) as served, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(socket.socket())) for _ in range(60)]
        with descriptors(spare=8):
            began, busy = time.monotonic(), time.process_time()
            for client in clients:
                client.sock.setblocking(False)
                client.sock.connect_ex(("127.0.0.1", served.port))
            for client in clients:
                assert await ask(client) == 200
            took, busy = time.monotonic() - began, time.process_time() - busy
    lines = loud_lines(caplog)
    assert set(lines) == {"Can't accept connections for now: Too many open files"}
    assert len(lines) <= took + 1
    assert busy < 1


async def test_a_full_process_waits_without_spinning(caplog: pytest.LogCaptureFixture) -> None:
    """While nothing can be accepted nothing spins, and who waits is served as soon as there is a descriptor."""
    async with serving(App(), lifespan="off") as served, Client(socket.socket()) as client:
        with descriptors(spare=0):
            client.sock.setblocking(False)
            client.sock.connect_ex(("127.0.0.1", served.port))
            await eventually(lambda: loud_lines(caplog))
            busy = time.process_time()
            await anyio.sleep(0.3)
            assert time.process_time() - busy < 0.1
        assert await ask(client) == 200
    assert loud_lines(caplog) == ["Can't accept connections for now: Too many open files"]


async def test_idle_connections_make_room() -> None:
    """At `limit_connections` the connection that has been idle for longest is closed for a new one."""
    async with serving(App(), lifespan="off", limit_connections=3) as served, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await served.connect()) for _ in range(3)]
        for client in clients:
            assert await ask(client) == 200
        async with await served.connect() as client:
            assert await ask(client) == 200
            assert await clients[0].receive() == b""


async def test_who_is_busy_is_told_to_make_room() -> None:
    """A connection with one request behind another isn't closed between two of them: the last answer says that it closes."""
    async with serving(App(), lifespan="off", limit_connections=1) as served, await served.connect() as busy:
        assert await ask(busy) == 200
        async with await served.connect() as client:
            await client.send(GET)
            for _ in range(10_000):
                await busy.send(GET)
                answer = await busy.response()
                assert answer.status == 200
                if answer.header(b"connection") == b"close":
                    break
            assert answer.header(b"connection") == b"close"
            assert (await client.response()).status == 200


async def test_nobody_who_is_served_makes_room(caplog: pytest.LogCaptureFixture) -> None:
    """Where no connection is idle a new one waits in the backlog until one closes."""
    app = App()
    async with serving(app, lifespan="off", limit_connections=2) as served, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await served.connect()) for _ in range(3)]
        for client in clients:
            await client.send(WAIT)
        await eventually(lambda: loud_lines(caplog) and app.waiting == 2)
        app.go_on.set()
        for client in clients:
            assert (await client.response()).status == 200
            client.leave()
    assert loud_lines(caplog) == ["Can't accept connections for now: there are 2 already, the limit"]


async def test_one_request_too_many_is_a_503(caplog: pytest.LogCaptureFixture) -> None:
    """At `limit_concurrency` a request gets a 503 with `Retry-After` and its connection closes; idle connections don't count."""
    app = App()
    async with serving(app, lifespan="off", limit_concurrency=2) as served, AsyncExitStack() as stack:
        idle, *busy, last = [await stack.enter_async_context(await served.connect()) for _ in range(4)]
        assert await ask(idle) == 200
        for client in busy:
            await client.send(WAIT)
        await eventually(lambda: app.waiting == 2)
        await last.send(b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nbo")
        response = await last.response(b"PUT")
        assert (response.status, response.complete, response.header(b"retry-after")) == (503, True, b"1")
        assert response.header(b"connection") == b"close"
        app.go_on.set()
        for client in busy:
            assert (await client.response()).status == 200
        assert await ask(idle) == 200
    assert sorted(line.split('" ')[1][:3] for line in access_lines(caplog)) == ["200"] * 4 + ["503"]
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("jitter", [0, 3])
async def test_a_server_that_has_served_enough_stops(jitter: int) -> None:
    """After `limit_max_requests`, and up to the jitter more, the server stops by itself, and what it has begun is answered."""
    app = App()
    options = {"limit_max_requests": 4, "limit_max_requests_jitter": jitter, "timeout_graceful_shutdown": 60}
    async with serving(app, lifespan="off", **options) as served, await served.connect() as other, await served.connect() as client:
        await other.send(WAIT)
        await eventually(lambda: app.waiting)
        count = 1
        with anyio.fail_after(PATIENCE):
            while not app.running.enough.is_set():
                assert await ask(client) == 200
                count += 1
        await eventually(lambda: app.running.stopping)
        client.leave()
        app.go_on.set()
        assert (await other.response()).header(b"connection") == b"close"
        await within(served.ended)
    assert 4 <= count <= 4 + jitter


async def test_who_is_in_the_backlog_as_the_server_stops_is_served() -> None:
    """A client that has connected, and sent its request, in the moment in which the server is told to stop, gets its answer."""
    options = {"timeout_graceful_shutdown": 60, "limits": Limits(farewell=0.05)}
    async with serving(App(), lifespan="off", **options) as served, await served.connect() as client:
        await client.send(GET)
        served.stop.set()
        assert (await client.response()).status == 200
        assert await client.receive_until_closed() == b""
        await within(served.ended)


on_asyncio = pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])


@on_asyncio
@pytest.mark.parametrize("waits", [0, 1, 3])
async def test_what_waits_for_futures_needs_no_task(waits: int, anyio_backend: Any) -> None:
    """It goes on whenever what it waits for has come, whether with a result or with an error, and its end is told once."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(waits)]
    ended: list[object] = []

    async def wait() -> None:
        for future in futures:
            with suppress(OSError):
                await future

    waiting = wait()
    run_without_task(waiting, ended.append)
    for number, future in enumerate(futures):
        assert ended == []
        if number % 2:
            future.set_result(None)
        else:
            future.set_exception(OSError("it is broken already"))
        await asyncio.sleep(0)
    assert ended == [waiting]


@on_asyncio
@pytest.mark.parametrize("shortage", ["no room", OSError(errno.EBADF, "broken")], ids=["full", "broken"])
async def test_a_connection_may_come_in_the_turn_of_the_stop(shortage: str | OSError) -> None:
    """Who waits for a shortage and is cancelled hears of none that is found later in the same turn of the loop."""
    loop = asyncio.get_running_loop()
    faults: list[Any] = []
    loop.set_exception_handler(lambda loop, context: faults.append(context))

    def accept(listener: socket.socket) -> str:
        if isinstance(shortage, OSError):
            raise shortage
        return shortage

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        waiting = asyncio.ensure_future(until_short_by_callbacks(loop, listener, accept))
        await checkpoint()
        with socket.create_connection(listener.getsockname()):
            loop.call_soon(waiting.cancel)
            await asyncio.wait([waiting])
            await checkpoint()
    assert faults == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_accept_reports() -> None:
    """An error of a connection that is gone is passed over, a shortage is returned, and what is the listener's own fault is raised."""
    accepted: list[Any] = []
    one, other = socket.socketpair()
    running = RunningServer(App(), Config(), {}, Connection)
    acceptor = Acceptor(running, lambda sock, remote: accepted.append(remote), until_short)

    class Listener:
        """A listening socket to which all that happens."""

        def __init__(self, *results: Any) -> None:
            self._results = list(results)

        def accept(self) -> Any:
            result = self._results.pop(0)
            if isinstance(result, int):
                raise OSError(result, os.strerror(result))
            return result

    with one, other:
        listener: Any = Listener(errno.ECONNABORTED, errno.EPROTO, (one, "first"), errno.ENETDOWN, (other, "second"), errno.ENFILE)
        shortage = acceptor._accept(listener, 10)
        assert shortage is not None
        assert shortage.errno == errno.ENFILE
        assert accepted == ["first", "second"]
        assert acceptor._accept(Listener(errno.EAGAIN), 10) is None  # type: ignore[arg-type]
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            acceptor._accept(Listener(errno.EBADF), 10)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["limit_concurrency", "limit_connections", "limit_max_requests"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    """A limit is at least 1: a server that serves nobody is a mistake."""
    with pytest.raises(ValueError, match=f"^{name} is a whole number, 1 or more, not 0"):
        Config(**{name: 0})  # type: ignore[arg-type]
