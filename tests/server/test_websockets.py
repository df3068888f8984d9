"""WebSockets on real sockets: who leaves in which way, who hears of it and when, and what the client sees."""

import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from microasgi_server import ClientDisconnected, Config, Limits, serve
from microasgi_server.connection import Connection
from microasgi_server.running import RunningServer
from microasgi_server.websocket import protocol

from tests.framework.test_cli import environment
from tests.harness import GET, PATIENCE, Client, Departure, Served, access_lines, eventually, loud_lines, serving, shared_of, within
from tests.needs import ROOT
from tests.websocket_client import BINARY, CLOSE, HANDSHAKE, PING, PONG, TEXT, Talker, frame, frames, goodbye, talk

pytestmark = pytest.mark.anyio

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

ACCEPTED = {"type": "websocket.accept"}


def text(content: str) -> dict[str, str]:
    return {"type": "websocket.send", "text": content}


def handler(work: Callable[[Receive, Send], Awaitable[None]], told: list[str] | None = None) -> Any:
    """An app that accepts, and then does what it is to do; `told` gets what its subscription hears."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        assert (await receive())["type"] == "websocket.connect"
        if told is not None:
            subscribe = scope["extensions"]["microasgi.disconnect"]["subscribe"]
            subscribe(lambda: told.append("gone"), goodbye=lambda busy: told.append("busy" if busy else "goodbye"))
        await send(ACCEPTED)
        await work(receive, send)

    return app


async def echo(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def test_messages_go_both_ways_whatever_their_size(caplog: pytest.LogCaptureFixture) -> None:
    """Text and bytes, also far more than what is read ahead, and than what a client takes at once; the log has one line."""
    async with serving(handler(echo)) as served, await talk(served) as client:
        await client.send("hello")
        assert await client.receive() == (TEXT, b"hello")
        for size in (0, 70_000, 3_000_000):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.send, frame(BINARY, bytes(size)))
                assert await client.receive() == (BINARY, bytes(size))
        await client.send(goodbye(3000, "enough"))
        assert await client.receive() == (CLOSE, b"\x0b\xb8enough")
        assert await client.receive() == (0, b"")
        await eventually(lambda: access_lines(caplog))
    (line,) = access_lines(caplog)
    assert '"GET /chat?room=1 HTTP/1.1" 101 ' in line
    assert line.endswith("s 3000 client left: the client closed (3000)")
    assert loud_lines(caplog) == []


async def test_many_messages_that_nobody_takes_stop_the_reading(caplog: pytest.LogCaptureFixture) -> None:
    """They wait with the client then; none is lost when the app begins to take them."""
    paused, go = anyio.Event(), anyio.Event()

    async def work(receive: Receive, send: Send) -> None:
        transport = receive.__self__._connection.transport  # type: ignore[attr-defined]
        await eventually(lambda: transport.paused)
        paused.set()
        await within(go)
        for number in range(5_000):
            message = await receive()
            assert message["text"] == str(number)
        await send(text("all"))

    async with serving(handler(work)) as served, await talk(served) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.send, b"".join([frame(TEXT, str(number).encode()) for number in range(5_000)]))
            await within(paused)
            go.set()
            assert await client.receive() == (TEXT, b"all")
        assert await client.closed_with() == 1000
    assert loud_lines(caplog) == []


async def test_who_takes_no_pong_is_not_read_any_more() -> None:
    """Answers to pings wait while the client takes nothing, and there stop the reading: they can't pile up. None is lost."""
    ahead, paused, ended = [0], anyio.Event(), anyio.Event()

    class Watched(Connection):
        __slots__ = ()

        def received(self, data: bytes) -> None:
            super().received(data)
            ahead[0] = max(ahead[0], self.protocol.look_ahead + self.transport.unsent())
            if self.transport.paused:
                paused.set()

    async def work(receive: Receive, send: Send) -> None:
        await receive()
        ended.set()

    pings = [b"%d" % number + b"x" * 120 for number in range(30_000)]
    config = Config(port=0, lifespan="off", receive_buffer=0)
    async with anyio.create_task_group() as tasks:
        (address,) = await tasks.start(partial(serve, handler(work), config, connection_class=Watched))
        async with await talk(Served(address, anyio.Event(), anyio.Event()), receive_buffer=4096) as client:
            async with anyio.create_task_group() as sending:
                sending.start_soon(client.client.send, b"".join([frame(PING, ping) for ping in pings]))
                await within(paused)
                data = await received(client.client, sum(2 + len(ping) for ping in pings))
            assert frames(data) == [(PONG, ping) for ping in pings]
        await within(ended)
        tasks.cancel_scope.cancel()
    assert 64 * 1024 <= ahead[0] < 1024 * 1024


async def received(client: Client, size: int) -> bytes:
    """So many bytes."""
    data = bytearray()
    with anyio.fail_after(PATIENCE):
        while len(data) < size:
            data += await client.receive(size - len(data))
    return bytes(data)


# Three handlers, and four ways to leave.


async def waits(receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.disconnect"


async def sleeps(receive: Receive, send: Send) -> None:
    exchange = receive.__self__.exchange  # type: ignore[attr-defined]
    await eventually(lambda: exchange.gone)


async def pushes(receive: Receive, send: Send) -> None:
    try:
        while True:
            await send(text("x" * 100_000))
    except ClientDisconnected:
        with pytest.raises(ClientDisconnected):
            await send(text("again"))


async def leave(client: Talker, how: str) -> None:
    if how == "close":
        await client.send(goodbye(1001))
    else:
        client.leave(how)  # type: ignore[arg-type]


@pytest.mark.parametrize("work", [waits, sleeps, pushes], ids=["waits", "sleeps", "pushes"])
@pytest.mark.parametrize("how", ["close", "FIN", "RST", "half-close"])
async def test_who_leaves_is_missed_at_once(work: Any, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the handler does, in `receive()`, nowhere or in a blocked `send()`: its subscription is told, and of which kind it was."""
    told: list[str] = []
    connections: list[Any] = []

    async def seen(receive: Receive, send: Send) -> None:
        connections.append(receive.__self__._connection)  # type: ignore[attr-defined]
        await work(receive, send)

    async with serving(handler(seen, told)) as served, await talk(served, receive_buffer=4096) as client:
        if work is pushes:
            await eventually(lambda: connections and connections[0].transport.congested)
        await leave(client, how)
        await eventually(lambda: told)
        assert told == ["goodbye" if how == "close" else "gone"]
        await eventually(lambda: access_lines(caplog))
    code = "1001" if how == "close" else "1006"
    assert 'HTTP/1.1" 101 ' in access_lines(caplog)[0]
    assert f"s {code} client left: the c" in access_lines(caplog)[0]
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_full_inbox_hides_nobody(how: Departure) -> None:
    """Who leaves behind messages that nobody takes is missed all the same, and they are dropped."""
    told: list[str] = []
    message: list[Any] = []

    async def work(receive: Receive, send: Send) -> None:
        transport = receive.__self__._connection.transport  # type: ignore[attr-defined]
        await eventually(lambda: transport.paused)
        await send(text("full"))
        await eventually(lambda: told)
        message.append(await receive())

    async with serving(handler(work, told)) as served:
        client = await talk(served)
        await client.send(frame(TEXT, bytes(1000)) * 100)
        assert await client.receive() == (TEXT, b"full")
        client.leave(how)
        await eventually(lambda: message)
    assert (told, message[0]["type"], message[0]["code"]) == (["gone"], "websocket.disconnect", 1006)


async def test_what_was_said_before_a_goodbye_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    """`ws.send("save"); ws.close()` of a browser: one read. It has its clean end at once, the handler its message, then the goodbye."""
    told: list[str] = []
    taken: list[Any] = []
    go = anyio.Event()

    async def work(receive: Receive, send: Send) -> None:
        await within(go)
        taken.extend([await receive(), await receive(), await receive(), await receive()])

    async with serving(handler(work, told)) as served, await talk(served) as client:
        await client.send(frame(TEXT, b"save") + frame(TEXT, b"more") + goodbye())
        assert await client.receive() == (CLOSE, b"")
        assert await client.receive() == (0, b"")
        go.set()
        await eventually(lambda: access_lines(caplog))
    assert told == ["busy"]
    assert [message.get("text") or message["code"] for message in taken] == ["save", "more", 1005, 1005]
    assert access_lines(caplog)[0].endswith("s 1005 client left: the client closed")


# How it ends.


async def returns(receive: Receive, send: Send) -> None: ...


async def raises(receive: Receive, send: Send) -> None:
    raise ValueError("a bug")


async def closes(receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close", "code": 3001, "reason": "enough"})
    assert (await receive())["code"] == 3001


@pytest.mark.parametrize(("work", "code"), [(returns, 1000), (raises, 1011), (closes, 3001)], ids=["returns", "raises", "closes"])
async def test_the_client_sees_how_the_app_has_ended(work: Any, code: int, caplog: pytest.LogCaptureFixture) -> None:
    """To return is 1000, to raise 1011 and an error in the log; the socket is closed when the client has answered."""
    told: list[str] = []
    async with serving(handler(work, told)) as served, await talk(served) as client:
        assert await client.closed_with() == code
    assert told == []
    assert '" 101 ' in access_lines(caplog)[0]
    assert access_lines(caplog)[0].endswith(f"s {code}")
    assert len(loud_lines(caplog)) == (work is raises)


async def test_who_does_not_answer_a_goodbye_is_not_waited_for_long() -> None:
    """The app's goodbye needs no answer: when its time is over the socket is closed."""
    async with serving(handler(returns), timeout_body=0.1) as served, await talk(served) as client:
        assert await client.receive() == (CLOSE, b"\x03\xe8")
        assert await client.receive() == (0, b"")


async def test_a_denial_is_an_ordinary_response(caplog: pytest.LogCaptureFixture) -> None:
    """Before it has accepted an app can answer, close (403), or fail (500); the log has the status, and no code."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        if scope["query_string"] == b"room=1":
            await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-a", b"b")]})
            await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
            await send({"type": "websocket.http.response.body", "body": b"are you?"})
        elif scope["query_string"] == b"room=2":
            await send({"type": "websocket.close"})
        assert (await receive())["type"] == "websocket.disconnect"

    async with serving(app) as served:
        for room, status, body in [(b"1", 401, b"who are you?"), (b"2", 403, b"Forbidden\n")]:
            async with await served.connect() as client:
                await client.send(HANDSHAKE.replace(b"room=1", b"room=" + room))
                response = await client.response()
                assert (response.status, response.body, response.header(b"connection")) == (status, body, b"close")
                assert await client.receive() == b""
        assert [line.split()[-2] for line in access_lines(caplog)] == ["401", "403"]
    assert loud_lines(caplog) == []


async def test_an_app_that_neither_accepts_nor_denies_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """To return before accepting is an app's fault, as it is in HTTP."""

    async def app(scope: Any, receive: Receive, send: Send) -> None: ...

    async with serving(app) as served, await served.connect() as client:
        await client.send(HANDSHAKE)
        assert (await client.response()).status == 500
    assert loud_lines(caplog)[-1] == "The app returned without completing its response for GET /chat?room=1"


async def test_a_malformed_handshake_is_answered_and_calls_no_app() -> None:
    """Another version is a 426 that names ours (RFC 6455 §4.4)."""
    async with serving(handler(echo)) as served, await served.connect() as client:
        await client.send(HANDSHAKE.replace(b"Version: 13", b"Version: 8"))
        response = await client.response()
        assert (response.status, response.header(b"sec-websocket-version")) == (426, b"13")


# Silence.

QUICK = Limits(ping=0.1, pong=0.1)


async def test_who_answers_no_ping_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    """A client that says nothing is asked; if it says nothing then either, it hears 1011 and counts as gone, its socket aborted."""
    told: list[str] = []
    async with serving(handler(waits, told), limits=QUICK) as served, await talk(served) as client:
        assert await client.receive() == (PING, b"")
        await eventually(lambda: told)
        await eventually(lambda: access_lines(caplog))
        assert await client.receive() == (CLOSE, struct.pack("!H", 1011) + b"no answer to a ping for 0.1 s")
        assert (await client.receive())[0] == 0
    assert told == ["gone"]
    assert access_lines(caplog)[0].endswith("s 1006 client left: no answer to a ping for 0.1 s")


async def test_who_takes_nothing_and_says_nothing_is_gone_too() -> None:
    """A ping can't reach who has stopped reading: full buffers hide nobody, and nobody waits for them to be flushed."""
    told: list[str] = []
    async with serving(handler(pushes, told), limits=QUICK) as served, await talk(served, receive_buffer=4096):
        await eventually(lambda: told)
    assert told == ["gone"]


@pytest.mark.parametrize("sign", [frame(PONG), frame(BINARY, bytes(9))[:4]], ids=["pong", "part"])
async def test_any_byte_is_a_sign_of_life(sign: bytes) -> None:
    """Not only a pong answers a ping; who has answered is asked again."""
    told: list[str] = []
    async with serving(handler(echo, told), limits=Limits(ping=0.05, pong=30.0)) as served, await talk(served) as client:
        assert await client.receive() == (PING, b"")
        await client.send(sign)
        while (await client.receive()) != (PING, b""):
            pass
        assert told == []


async def test_who_is_not_read_can_not_be_silent() -> None:
    """While the inbox is full a pong stays unread: no verdict then."""
    told: list[str] = []
    looks: list[bool] = []

    async def work(receive: Receive, send: Send) -> None:
        connection = receive.__self__._connection  # type: ignore[attr-defined]
        await eventually(lambda: connection.transport.paused)
        began = connection.running.clock()
        await eventually(lambda: connection.running.clock() > began + 0.3)
        looks.append(connection.transport.paused)
        await send(text("patient"))

    async with serving(handler(work, told), limits=QUICK) as served, await talk(served) as client:
        await client.send(frame(TEXT) * 100)
        while (await client.receive()) != (TEXT, b"patient"):
            pass
    assert (looks, told) == ([True], [])


# The end of the server.


async def test_the_server_says_that_it_stops(caplog: pytest.LogCaptureFixture) -> None:
    """1012 at once; who has nothing in hand is told as of a goodbye, and what is in hand is finished, within the graceful time."""
    told: list[str] = []
    finished = anyio.Event()

    async def work(receive: Receive, send: Send) -> None:
        assert (await receive())["text"] == "save"
        await eventually(lambda: told)
        assert (await receive())["code"] == 1012
        finished.set()

    async with serving(handler(work, told), limits=Limits(farewell=0.0, linger=0.05)) as served, await talk(served) as client:
        await client.send("save")
        await client.send(frame(PING))
        assert await client.receive() == (PONG, b"")
        served.stop.set()
        assert await client.closed_with() == 1012
        await within(finished)
        await within(served.ended)
    assert told == ["busy"]
    assert access_lines(caplog)[0].endswith("s 1012 the server stopped")


async def test_who_waits_for_an_answer_when_the_server_stops_gets_a_503() -> None:
    """Before it was accepted there is a status to say it with."""
    told: list[str] = []
    begun = anyio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        scope["extensions"]["microasgi.disconnect"]["subscribe"](lambda: told.append("gone"))
        begun.set()
        assert (await receive())["type"] == "websocket.disconnect"

    async with serving(app, limits=Limits(farewell=0.0, linger=0.05)) as served, await served.connect() as client:
        await client.send(HANDSHAKE)
        await within(begun)
        served.stop.set()
        assert (await client.response()).status == 503
        await within(served.ended)
    assert told == ["gone"]


async def test_who_asks_while_the_server_stops_gets_a_503() -> None:
    """A handshake that was on its way at the stop is answered at once, on a connection that has served a request, too; no app is called."""
    paths: list[str] = []
    shared: list[RunningServer] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        shared.append(shared_of(receive))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async with serving(app, timeout_graceful_shutdown=60, limits=Limits(farewell=60)) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).status == 200
        served.stop.set()
        await eventually(lambda: shared[0].stopping)
        await client.send(HANDSHAKE)
        with anyio.fail_after(PATIENCE):
            response = await client.response()
        assert (response.status, response.header(b"retry-after")) == (503, b"1")
        client.leave()
        await within(served.ended)
    assert paths == ["/"]


async def test_who_does_not_answer_a_goodbye_holds_up_no_stop() -> None:
    """The app has closed, and nothing of the client's can count any more: the server stops without its close frame."""
    limits = Limits(farewell=0.0, linger=0.05)
    async with serving(handler(returns), timeout_graceful_shutdown=60, limits=limits) as served, await talk(served) as client:
        assert await client.receive() == (CLOSE, b"\x03\xe8")
        served.stop.set()
        assert await client.receive() == (0, b"")
        await within(served.ended)


# Without the extra.


async def test_without_websockets_an_upgrade_is_ignored_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The request is served as any other (RFC 9110 §7.8); one warning says what to install."""
    monkeypatch.setitem(sys.modules, "microasgi_server.websocket.session", None)
    protocol._session_class.cache_clear()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": scope["type"].encode()})

    try:
        async with serving(app) as served:
            for _ in range(2):
                async with await served.connect() as client:
                    await client.send(HANDSHAKE)
                    assert (await client.response()).body == b"http"
    finally:
        protocol._session_class.cache_clear()
    assert loud_lines(caplog) == ["a client asks for a WebSocket, which needs the package websockets: pip install 'microasgi[websockets]'"]


FIRST = """
import resource, socket
import anyio
from microasgi_server import Config, serve, stats
from tests.websocket_client import HANDSHAKE

async def main():
    async with anyio.create_task_group() as tasks:
        (address,) = await tasks.start(serve, None, Config(port=0, lifespan="off"))
        listening = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        with anyio.fail_after(30):
            while not stats().connections:
                await anyio.sleep(0.001)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        listening.sendall(HANDSHAKE)
        print((await anyio.to_thread.run_sync(listening.recv, 12)).decode())
        listening.close()
        tasks.cancel_scope.cancel()

anyio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a limit of 0 may be refused")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_the_first_websocket_where_no_file_can_be_opened(anyio_backend: str) -> None:
    """What it needs is imported when one comes. Where that can't be read for now, the answer is a 503, and no closed connection."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "HTTP/1.1 503\n", done.stderr
