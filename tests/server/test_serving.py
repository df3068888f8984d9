"""A server from start to end: lifespan, addresses, timeouts, and every way to stop."""

import math
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from microasgi_server import Config, Limits, ServerError, StartupError, serve
from microasgi_server.lifespan import Lifespan

from tests.conftest import LOOPS
from tests.harness import GET, access_lines, eventually, fails_in_the_end, loud_lines, refuses_connections, serving, within

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def answer(send: Send, data: bytes = b"ok") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(data))]})
    await send({"type": "http.response.body", "body": data})


class Recorder:
    """An app with a lifespan, and a list of what happened to it. What it does with a request is up to `handle`."""

    def __init__(self, handle: App | None = None) -> None:
        self.events: list[str] = []
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(scope, receive, send)
        elif self._handle is not None:
            await self._handle(scope, receive, send)
        else:
            await answer(send)

    async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        self.events.append("startup")
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self.events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})


async def without_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http", "this app knows nothing else"
    await answer(send)


async def assert_serves(served: Any) -> None:
    async with await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).body == b"ok"


async def assert_refuses_connections(port: int) -> None:
    assert refuses_connections(port)


# Options.


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"port": -1}, "port"),
        ({"port": 65536}, "port"),
        ({"timeout_header": -1}, "timeout_header"),
        ({"timeout_header": math.nan}, "timeout_header"),
        ({"timeout_keep_alive": -0.1}, "timeout_keep_alive"),
        ({"timeout_graceful_shutdown": -1}, "timeout_graceful_shutdown"),
        ({"receive_buffer": -1}, "receive_buffer"),
        ({"backlog": -1}, "backlog"),
        ({"root_path": "api"}, "root_path"),
        ({"root_path": "/api/"}, "root_path"),
        ({"root_path": "/"}, "root_path"),
        ({"loop": "curio"}, "loop"),
        ({"lifespan": "maybe"}, "lifespan"),
    ],
)
def test_an_option_out_of_range_is_refused(options: Any, named: str) -> None:
    """A config that can't work isn't made: the error names the option and its value."""
    with pytest.raises(ValueError, match=f"{named}.*{next(iter(options.values()))}"):
        Config(**options)


def test_the_defaults() -> None:
    """Without options: this machine only, port 8000, and every timeout finite."""
    config = Config()
    assert (config.host, config.port, config.uds, config.root_path) == ("127.0.0.1", 8000, None, "")
    assert all(math.isfinite(timeout) for timeout in (config.timeout_header, config.timeout_keep_alive, config.timeout_graceful_shutdown))


# Lifespan.


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_the_lifespan_is_around_everything(mode: str) -> None:
    """The app's startup comes before the first connection, and its shutdown after the last response."""
    app = Recorder()

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        app.events.append("request")
        await answer(send)

    app._handle = handle
    async with serving(app, lifespan=mode) as served:
        assert app.events == ["startup"]
        await assert_serves(served)
        served.stop.set()
        await within(served.ended)
    assert app.events == ["startup", "request", "shutdown"]


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "off"])
async def test_an_app_without_a_lifespan_is_served(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    """An app that raises for a lifespan scope has none, which is no error."""
    async with serving(without_lifespan, lifespan=mode) as served:
        await assert_serves(served)
        served.stop.set()
        await within(served.ended)
    assert not loud_lines(caplog)


@pytest.mark.anyio
async def test_lifespan_off_is_not_tried() -> None:
    """With `off` the app never sees a lifespan scope."""
    app = Recorder()
    async with serving(app, lifespan="off") as served:
        await assert_serves(served)
    assert app.events == []


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_a_failed_startup_stops_the_server(mode: str) -> None:
    """`lifespan.startup.failed` is a StartupError with the app's message, not in a group; the port is free again."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "the database is down"})

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(StartupError, match="the database is down"):
        await serve(app, Config(port=port, lifespan=mode))  # type: ignore[arg-type]
    await assert_refuses_connections(port)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_a_startup_that_says_why_it_failed_and_raises(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    """What an app says of its failed startup is what is learnt of it, also if it raises behind that, at once or after some cleanup."""
    for turns in (0, 3):

        async def app(scope: Scope, receive: Receive, send: Send, turns: int = turns) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "the database is down"})
            for _ in range(turns):
                await checkpoint()
            raise RuntimeError("boom")

        with pytest.raises(StartupError, match="the app's startup failed: the database is down"):
            await serve(app, Config(port=0, lifespan=mode))  # type: ignore[arg-type]
    assert loud_lines(caplog) == []


@pytest.mark.anyio
@pytest.mark.parametrize("error", [RuntimeError("boom"), ExceptionGroup("two", [ValueError("boom"), OSError()])], ids=["one", "group"])
async def test_a_lifespan_that_must_work_and_raises(error: Exception) -> None:
    """With `on`, an app that raises during its startup is a StartupError, not in a group."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    with pytest.raises(StartupError, match=type(error).__name__):
        await serve(app, Config(port=0, lifespan="on"))


@pytest.mark.anyio
async def test_a_startup_that_takes_long_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever watches learns, once, what it is that takes its time; of one that is quick there is nothing to tell."""
    caplog.set_level("INFO")
    go_on, told = anyio.Event(), "Waiting for the app's startup"

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await Recorder().lifespan(scope, receive, send)

    lifespan = Lifespan(slow, "on", {})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lifespan.run)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(lifespan.startup, 0)
                await eventually(lambda: told in caplog.messages)
                go_on.set()
            await lifespan.shutdown()
    assert caplog.messages.count(told) == 1
    caplog.clear()
    async with serving(Recorder()) as served:
        await assert_serves(served)
    assert told not in caplog.messages


@pytest.mark.anyio
async def test_a_lifespan_that_must_work_and_says_nothing() -> None:
    """With `on`, an app that returns from its lifespan without an answer is a StartupError."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return

    with pytest.raises(StartupError, match="lifespan"), anyio.fail_after(5):
        await serve(app, Config(port=0, lifespan="on"))


@pytest.mark.anyio
async def test_a_lifespan_that_raises_later_does_not_end_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """An error in the lifespan after the startup is logged, and requests go on; in the end whoever serves learns it."""
    fail = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await fail.wait()
        raise RuntimeError("boom")

    with fails_in_the_end("the app's lifespan failed while serving: RuntimeError: boom"):
        async with serving(app) as served:
            fail.set()
            await eventually(lambda: loud_lines(caplog))
            await assert_serves(served)
            served.stop.set()
            await within(served.ended)
    assert loud_lines(caplog) == ["The app's lifespan failed while serving"]


@pytest.mark.anyio
async def test_a_lifespan_that_fails_later_ends_the_server_if_it_is_to() -> None:
    """With `on_lifespan_failure="stop"` a lifespan that dies while serving stops the server, in order: what runs gets its answer."""
    fail, begun, go_on = anyio.Event(), anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            begun.set()
            await go_on.wait()
            await answer(send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await fail.wait()
        raise RuntimeError("the worker died")

    with fails_in_the_end("the app's lifespan failed while serving: RuntimeError: the worker died"):
        async with serving(app, on_lifespan_failure="stop") as served, await served.connect() as client:
            await client.send(GET)
            await within(begun)
            fail.set()
            await eventually(lambda: refuses_connections(served.port))
            go_on.set()
            assert (await client.response()).body == b"ok"
            await within(served.ended)


@pytest.mark.anyio
async def test_the_state_is_copied_for_each_request() -> None:
    """Each request has a shallow copy of the lifespan's state: it shares the objects, but not what it adds."""
    shared: list[str] = []
    seen: list[list[str]] = []

    class Stateful(Recorder):
        async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"]["shared"] = shared
            await super().lifespan(scope, receive, send)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(sorted(scope["state"]))
        assert scope["state"]["shared"] is shared
        scope["state"]["own"] = True
        await answer(send)

    async with serving(Stateful(handle)) as served, await served.connect() as client:
        for _ in range(2):
            await client.send(GET)
            assert (await client.response()).status == 200
    assert seen == [["shared"], ["shared"]]


@pytest.mark.anyio
async def test_a_shutdown_that_does_not_end_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """The app's lifespan shutdown gets a time of its own, and no longer."""
    cancelled: list[bool] = []

    class Slow(Recorder):
        async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                cancelled.append(True)
                raise

    with fails_in_the_end("the app's shutdown took more than 0.1 s"):
        async with serving(Slow(), timeout_lifespan=0.1) as served:
            served.stop.set()
            await within(served.ended)
    assert cancelled == [True]
    assert len(loud_lines(caplog)) == 1


# Addresses.


@pytest.mark.anyio
async def test_the_bound_address_is_reported() -> None:
    """`task_status` gives the address with the port that the system picked, and it is served when it does."""
    async with serving(without_lifespan) as served:
        assert served.address == f"http://127.0.0.1:{served.port}"
        assert served.port > 0
        await assert_serves(served)


@pytest.mark.anyio
async def test_a_name_with_several_addresses_is_served_on_all_of_them() -> None:
    """A name is bound on each of its addresses, all with the same port, and each is reported."""
    async with anyio.create_task_group() as tasks:
        addresses = await tasks.start(serve, without_lifespan, Config(host="localhost", port=0))
        known = {info[4][0] for info in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}
        assert 1 <= len(addresses) <= len(known)
        ports = {int(address.rpartition(":")[2]) for address in addresses}
        assert len(ports) == 1
        assert f"http://127.0.0.1:{ports.pop()}" in addresses
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_port_in_use_is_a_startup_error() -> None:
    """A port that is taken is said at once, before the app starts, with the address and what to do."""
    app = Recorder()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"127.0.0.1:{port}: the port is in use.*choose another port"):
            await serve(app, Config(port=port))
    assert app.events == []
    assert issubclass(StartupError, ServerError)


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["no such host", "192.0.2.1"], ids=["unknown name", "another machine's address"])
async def test_a_host_that_can_not_be_had_is_a_startup_error(host: str) -> None:
    """An unknown name, or an address of another machine, is a StartupError that says what would do."""
    with pytest.raises(StartupError, match=r"try 127\.0\.0\.1"):
        await serve(without_lifespan, Config(host=host, port=0))


@pytest.mark.anyio
async def test_a_unix_socket(tmp_path: Path) -> None:
    """A unix socket is served, reported with its path, told to the app, and removed at the end."""
    path = tmp_path / "server.sock"
    seen: list[Any] = []

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["server"], scope["client"]))
        await answer(send)

    async with serving(Recorder(handle), uds=str(path)) as served:
        assert served.address == f"unix:{path}"
        await assert_serves(served)
        served.stop.set()
        await within(served.ended)
    assert seen == [((str(path), None), None)]
    assert not path.exists()


@pytest.mark.anyio
async def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    """A socket file that nobody listens on any more, as a crash leaves it, doesn't stand in the way."""
    path = tmp_path / "server.sock"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    assert path.exists()
    async with serving(without_lifespan, uds=str(path)) as served:
        await assert_serves(served)


@pytest.mark.anyio
async def test_a_live_unix_socket_is_left_alone(tmp_path: Path) -> None:
    """A socket that another server listens on is a StartupError, and goes on working."""
    path = str(tmp_path / "server.sock")
    async with serving(without_lifespan, uds=path) as served:
        with pytest.raises(StartupError, match="another server listens there"):
            await serve(without_lifespan, Config(uds=path))
        await assert_serves(served)


@pytest.mark.anyio
async def test_a_plain_file_is_left_alone(tmp_path: Path) -> None:
    """A path where there is a file is a StartupError, and the file stays."""
    path = tmp_path / "precious.txt"
    path.write_text("precious")
    with pytest.raises(StartupError, match="no socket"):
        await serve(without_lifespan, Config(uds=str(path)))
    assert path.read_text() == "precious"


@pytest.mark.anyio
async def test_a_unix_socket_in_no_directory_is_a_startup_error(tmp_path: Path) -> None:
    """A path that can't be bound is a StartupError with the system's reason."""
    with pytest.raises(StartupError, match="No such file or directory"):
        await serve(without_lifespan, Config(uds=str(tmp_path / "missing" / "server.sock")))


@pytest.mark.anyio
async def test_a_unix_socket_that_was_taken_over_is_not_removed(tmp_path: Path) -> None:
    """A server that ends leaves a path alone which another one has meanwhile made its own."""
    path = tmp_path / "server.sock"
    with socket.socket(socket.AF_UNIX) as other:
        async with serving(without_lifespan, uds=str(path)) as served:
            path.unlink()
            other.bind(str(path))
            served.stop.set()
            await within(served.ended)
        assert path.exists()


# Stopping.


@pytest.mark.anyio
async def test_cancelling_the_scope_stops_it() -> None:
    """Cancelling around `serve` cancels the running request, whose cleanup runs, and then the app's lifespan shutdown runs."""
    begun = anyio.Event()

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            app.events.append("cleanup")

    app = Recorder(handle)
    async with serving(app, timeout_graceful_shutdown=60) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        port = served.port
        began = time.monotonic()
    assert time.monotonic() - began < 3
    assert served.ended.is_set()
    assert app.events == ["startup", "cleanup", "shutdown"]
    await assert_refuses_connections(port)


@pytest.mark.anyio
async def test_a_graceful_stop_closes_what_is_idle() -> None:
    """On `stop`, idle connections and those that never spoke are closed soon, and no new ones are taken."""
    async with (
        serving(Recorder(), timeout_graceful_shutdown=60) as served,
        await served.connect() as idle,
        await served.connect() as silent,
    ):
        await idle.send(GET)
        assert (await idle.response()).header(b"connection") is None
        served.stop.set()
        with anyio.fail_after(5):
            assert await idle.receive() == b""
            assert await silent.receive() == b""
        await within(served.ended)
        await assert_refuses_connections(served.port)


@pytest.mark.anyio
async def test_a_graceful_stop_lets_a_request_finish(caplog: pytest.LogCaptureFixture) -> None:
    """A request that runs when the server stops gets its answer, with `Connection: close`; the pipelined one behind it doesn't run."""
    begun, go_on = anyio.Event(), anyio.Event()

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        app.events.append("request")
        begun.set()
        await go_on.wait()
        await answer(send)

    app = Recorder(handle)
    async with serving(app, timeout_graceful_shutdown=60) as served, await served.connect() as client:
        await client.send(GET + GET)
        await within(begun)
        served.stop.set()
        await eventually(lambda: any("Waiting" in line for line in caplog.messages))
        assert not served.ended.is_set()
        go_on.set()
        response = await client.response()
        assert (response.status, response.body, response.header(b"connection")) == (200, b"ok", b"close")
        assert await client.receive_until_closed() == b""
        await within(served.ended)
    assert app.events == ["startup", "request", "shutdown"]
    assert not loud_lines(caplog)


@pytest.mark.anyio
async def test_a_graceful_stop_waits_for_the_background() -> None:
    """What an app does after its response is complete is waited for, before the lifespan shutdown."""
    go_on = anyio.Event()

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)
        await go_on.wait()
        app.events.append("background")

    app = Recorder(handle)
    async with serving(app, timeout_graceful_shutdown=60) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).body == b"ok"
        served.stop.set()
        with anyio.fail_after(5):
            assert await client.receive() == b""
        assert not served.ended.is_set()
        go_on.set()
        await within(served.ended)
    assert app.events == ["startup", "background", "shutdown"]


@pytest.mark.anyio
@pytest.mark.parametrize("answered", [False, True], ids=["request", "background"])
async def test_a_graceful_stop_ends(answered: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A request, or its background, that takes longer than the timeout is cancelled; its cleanup and the shutdown still run."""
    begun = anyio.Event()

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if answered:
            await answer(send)
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            app.events.append("cleanup")

    app = Recorder(handle)
    async with serving(app, timeout_graceful_shutdown=0.2) as served, await served.connect() as client:
        await client.send(GET)
        await within(begun)
        began = time.monotonic()
        served.stop.set()
        await within(served.ended)
        assert 0.15 < time.monotonic() - began < 3
    assert app.events == ["startup", "cleanup", "shutdown"]
    assert loud_lines(caplog) == ["Cancelling 1 request(s) that took longer"]
    if not answered:
        (line,) = access_lines(caplog)
        assert " 503 " in line


@pytest.mark.anyio
async def test_a_graceful_stop_delivers_what_is_complete() -> None:
    """A response that is complete when the server stops reaches its client whole, though the client reads it late."""
    size = 0
    blocked = anyio.Event()

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal size
        chunk = bytes(4096)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not blocked.is_set():  # until the sockets are full, and the server keeps what is left
            with anyio.move_on_after(0.2) as patience:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            size += len(chunk)
            if patience.cancelled_caught:
                blocked.set()
        await send({"type": "http.response.body", "body": b"the end"})

    async with serving(Recorder(handle), timeout_graceful_shutdown=60) as served, await served.connect(receive_buffer=8192) as client:
        await client.send(GET)
        await within(blocked, 20)
        served.stop.set()
        data = await client.receive_until_closed()
        assert data.endswith(b"\r\nthe end\r\n0\r\n\r\n")
        assert data.count(bytes(4096)) == size // 4096
        await within(served.ended)


# Timeouts.


@pytest.mark.anyio
@pytest.mark.parametrize("sent", [b"", b"GET / HTT", GET[:-2]], ids=["nothing", "half a line", "no end"])
async def test_the_header_timeout(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A connection without a whole request head in time is closed: silently if it said nothing, with a 408 if it had begun."""
    async with serving(without_lifespan, timeout_header=0.3) as served, await served.connect() as client:
        began = time.monotonic()
        await client.send(sent)
        with anyio.fail_after(5):
            data = await client.receive_until_closed()
        assert 0.2 < time.monotonic() - began < 3
    assert data.startswith(b"HTTP/1.1 408 Request Timeout\r\n") if sent else data == b""
    assert not loud_lines(caplog)


@pytest.mark.anyio
@pytest.mark.parametrize("pipelined", [False, True], ids=["later", "pipelined"])
async def test_the_header_timeout_holds_for_every_request(pipelined: bool) -> None:
    """The head of a later request has the same time, from its first byte, however long the connection may be idle."""
    async with serving(without_lifespan, timeout_header=0.3, timeout_keep_alive=60) as served, await served.connect() as client:
        await client.send(GET + GET[:5] if pipelined else GET)
        assert (await client.response()).status == 200
        if not pipelined:
            await client.send(GET[:5])
        with anyio.fail_after(5):
            assert (await client.receive_until_closed()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.anyio
async def test_a_header_that_dribbles_in_is_not_waited_for() -> None:
    """The header timeout is absolute: a byte now and then doesn't put it off."""
    async with serving(without_lifespan, timeout_header=0.5) as served, await served.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nX: ")

        async def dribble() -> None:
            while True:
                try:
                    await client.send(b"x")
                except OSError:
                    return
                await anyio.sleep(0.05)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dribble)
            with anyio.fail_after(5):
                assert (await client.receive()).startswith(b"HTTP/1.1 408 ")
            tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_the_keep_alive_timeout(caplog: pytest.LogCaptureFixture) -> None:
    """A connection that is idle after a response is closed in silence when its time is over."""
    async with serving(without_lifespan, timeout_keep_alive=0.3) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).status == 200
        began = time.monotonic()
        with anyio.fail_after(5):
            assert await client.receive() == b""
        assert 0.2 < time.monotonic() - began < 3
    assert not loud_lines(caplog)


@pytest.mark.anyio
async def test_no_timeout_ends_a_running_request() -> None:
    """A handler may take longer than the header and keep-alive timeouts together."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep(0.8)
        await answer(send)

    async with serving(Recorder(handle), timeout_header=0.2, timeout_keep_alive=0.2) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).body == b"ok"


@pytest.mark.anyio
async def test_a_client_that_does_not_take_the_end_is_cut_off() -> None:
    """What a closing connection has still to send is offered for a while, and then given up: no client can hold it for ever."""
    connections: list[int] = []
    sent = 0
    done = anyio.Event()

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        if scope["path"] == "/connections":
            connections.append(len(receive.__self__._connection.running.connections))  # type: ignore[attr-defined]
            await answer(send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        blocked, transport = False, receive.__self__._connection.transport  # type: ignore[attr-defined]
        while not blocked:
            with anyio.move_on_after(0.2) as patience:
                await send({"type": "http.response.body", "body": bytes(8192), "more_body": True})
            sent += 8192
            blocked = patience.cancelled_caught and transport.unsent() > 0  # a busy machine takes its time, too
        done.set()
        raise RuntimeError("this closes in the middle of the response")

    async with (
        serving(Recorder(handle), timeout_keep_alive=0.4, limits=Limits(flush=0.5)) as served,
        await served.connect(receive_buffer=8192) as client,
    ):
        await client.send(GET)
        await within(done, 20)
        with anyio.fail_after(10):
            while connections[-1:] != [1]:
                async with await served.connect() as other:
                    await other.send(GET.replace(b"/ ", b"/connections "))
                    await other.response()
                await anyio.sleep(0.05)
        received = 0
        with anyio.fail_after(5), suppress(ConnectionResetError):
            while data := await client.receive():
                received += len(data)
        assert received < sent, "the connection went on after it was given up"


# The whole process.

PROGRAM = """
import logging, sys, time
from functools import partial
import anyio, microasgi_server

def say(text):
    print(text, flush=True)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("lifespan shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    say("request")
    try:
        if scope["path"] == "/thread":
            await anyio.to_thread.run_sync(partial(time.sleep, 1.2))
        elif scope["path"] == "/forever":
            await anyio.sleep_forever()
    finally:
        say("request ended")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
config = microasgi_server.Config(port=0, loop=sys.argv[1], timeout_graceful_shutdown=float(sys.argv[2]))
microasgi_server.run(app, config)
say("run returned")
"""

on_each_loop = pytest.mark.parametrize("loop", LOOPS)


class Program:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.lines: list[str] = []
        self.port = int(self.wait_for("Serving on").split("/")[2].split(" ")[0].rpartition(":")[2])

    def wait_for(self, text: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            if text in line:
                return line
        raise AssertionError(f"it never said {text!r}: {self.lines}")

    def request(self, path: str) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        self.wait_for("request")
        return sock

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> float:
        """Wait for the end, which must be in order, with the lifespan shutdown before it. Seconds it took."""
        began = time.monotonic()
        output, errors = self._process.communicate(timeout=20)
        self.lines += output.splitlines()
        assert (self._process.returncode, errors) == (0, "")
        assert self.lines[-1] == "run returned"
        assert self.lines.count("lifespan shutdown") == 1
        return time.monotonic() - began


@contextmanager
def program(loop: str, graceful: float = 60) -> Iterator[Program]:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM), loop, str(graceful)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


@on_each_loop
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_process_in_order(loop: str, number: int) -> None:
    """SIGTERM and SIGINT stop an idle server at once, with its lifespan shutdown and exit code 0."""
    with program(loop) as server, server.request("/") as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        server.signal(number)
        assert server.end() < 5


@on_each_loop
def test_a_request_that_never_ends_does_not_hold_the_process(loop: str) -> None:
    """With a request in flight that never ends, SIGTERM ends the process when the graceful time is over, with exit code 0."""
    with program(loop, graceful=0.3) as server, server.request("/forever"):
        server.signal(signal.SIGTERM)
        assert 0.2 < server.end() < 5
        assert server.lines.count("request ended") == 1


@on_each_loop
def test_a_second_signal_ends_the_process_at_once(loop: str) -> None:
    """A second SIGINT doesn't wait for the request in flight, and still its cleanup and the lifespan shutdown run."""
    with program(loop) as server, server.request("/forever"):
        server.signal(signal.SIGINT)
        server.wait_for("Waiting")
        server.signal(signal.SIGINT)
        assert server.end() < 5
        assert server.lines.count("request ended") == 1


@on_each_loop
def test_a_busy_thread_is_waited_for(loop: str) -> None:
    """A thread can't be stopped: when the time is over the process waits for it, and then ends in order."""
    with program(loop, graceful=0.2) as server, server.request("/thread"):
        server.signal(signal.SIGTERM)
        assert 0.8 < server.end() < 8
        assert server.lines.count("request ended") == 1
