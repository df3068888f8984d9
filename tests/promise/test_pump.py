"""The pump alone, between an app and another server's `receive()` and `send()`, which are done by hand here."""

import asyncio
import gc
import logging
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.exceptions import ClientDisconnect
from microasgi.promise.pump import READ_AHEAD
from microasgi.promise.visit import VISIT, run_while_connected
from microasgi.wrapping import CancelOnDisconnect
from tests.conftest import LOOPS
from tests.harness import PATIENCE, eventually, loud_lines, within

pytestmark = pytest.mark.anyio

DISCONNECT = {"type": "http.disconnect"}
START = {"type": "http.response.start", "status": 200, "headers": []}
LAST = {"type": "http.response.body", "body": b"", "more_body": False}

on_asyncio = pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
on_trio = pytest.mark.parametrize("anyio_backend", [LOOPS["trio"]], ids=["trio"])


def piece(body: bytes = b"", *, more: bool = False) -> Message:
    """A message with some of the request's body."""
    return {"type": "http.request", "body": body, "more_body": more}


class Server:
    """Another server, and one request on it. It bears one caller of `receive()` at a time, and cancels nothing.

    asked: how often `receive()` was called.
    inside: whether somebody is in it.
    askers: the ids of the tasks that have called it.
    tells: whether it says `http.disconnect` when the response is complete.
    sending: what the last `send()` waits for.
    began: called whenever somebody calls `receive()`.
    lingers: turns that a cancelled `receive()` needs to end.
    """

    def __init__(self, *messages: Message | Exception, tells: bool = True) -> None:
        self.asked = 0
        self.inside = False
        self.askers: set[int] = set()
        self.tells = tells
        self.sent: list[Message] = []
        self.sending: anyio.Event | None = None
        self.lingers = 0
        self.began: Callable[[], object] = lambda: None
        self._messages = deque(messages)
        self._disconnected = False
        self._changed = anyio.Event()

    def say(self, message: Message | Exception) -> None:
        """Give this to whoever calls `receive()`."""
        self._messages.append(message)
        self._notify()

    def leave(self) -> None:
        """The client goes away."""
        self._disconnected = True
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def receive(self) -> Message:
        assert not self.inside, "two are in receive()"
        self.began()
        self.asked += 1
        self.askers.add(anyio.get_current_task().id)
        self.inside = True
        try:
            while not self._messages and not self._disconnected:
                await self._changed.wait()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(self.lingers):
                    await checkpoint()
            self.inside = False
        message = self._messages.popleft() if self._messages else DISCONNECT
        if isinstance(message, Exception):
            raise message
        return message

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message == LAST:
            if self.tells:
                self.leave()
            if self.sending is not None:
                await self.sending.wait()

    async def call(self, app: Any, headers: Sequence[tuple[bytes, bytes]] = (), *, listening: bool = False, method: str = "GET") -> Scope:
        """Call an app as a request's task does. Afterwards nobody is in `receive()`, and no task is there that wasn't before."""
        scope: Scope = {"type": "http", "method": method, "path": "/", "headers": list(headers), "extensions": {}}
        before = {task.id for task in anyio.get_running_tasks()}
        run: Callable[..., Awaitable[None]] = CancelOnDisconnect(app) if listening else as_a_request(app)
        try:
            await run(scope, self.receive, self.send)
        finally:
            assert not self.inside
            assert {task.id for task in anyio.get_running_tasks()} <= before
        return scope


def as_a_request(app: ASGIApp) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The app, in a block that lasts as long as its client."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        await run_while_connected(app, scope, receive, send)

    return run


async def answer(send: Send) -> None:
    """A whole response."""
    await send(START)
    await send(LAST)


class App:
    """An app that waits for ever, and remembers how that ended.

    here: set when it waits.
    """

    def __init__(self) -> None:
        self.here = anyio.Event()
        self.cancelled = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.wait()

    async def wait(self) -> None:
        self.here.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise


async def test_a_call_that_does_not_wait_needs_nobody() -> None:
    """A request that never waits is answered without a call of the server's `receive()`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)

    server = Server(piece())
    await server.call(app)
    assert server.asked == 0


@on_asyncio
async def test_a_wait_of_one_turn_needs_nobody() -> None:
    """A call that only gives the loop a turn, or waits for what the next turn does, is over before a pump begins."""

    async def yields(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        await answer(send)

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        event = asyncio.Event()
        asyncio.get_running_loop().call_soon(event.set)
        await event.wait()
        await answer(send)

    for app in (yields, waits):
        server = Server(piece())
        await server.call(app)
        assert server.asked == 0


async def test_a_departure_during_a_wait_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves while the call waits for something else cancels it, once, and one line says so."""
    server, app = Server(piece()), App()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.call, app)
        await within(app.here)
        await eventually(lambda: server.asked == 2 and server.inside)
        assert app.cancelled == 0
        server.leave()
    assert app.cancelled == 1
    assert [record.getMessage().partition(" 0.")[0] for record in caplog.records] == ["GET / 499"]


async def test_a_departure_before_the_first_wait_is_noticed() -> None:
    """A client that was gone before its request began is noticed as soon as the call waits."""
    server, app = Server(), App()
    server.leave()
    await server.call(app)
    assert app.cancelled == 1


async def test_a_departure_during_the_body_is_noticed() -> None:
    """A client that leaves before its body is complete cancels the call, whatever of the body waits to be taken."""
    server, app = Server(piece(b"half of it", more=True)), App()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.call, app)
        await eventually(lambda: server.asked == 2)
        server.leave()
    assert app.cancelled == 1


async def test_the_continue_is_held_until_the_app_asks() -> None:
    """Nobody asks for a body whose client waits for `100 Continue` before the app does; from then on a departure is noticed."""
    app, ask = App(), anyio.Event()

    async def asks_late(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(5):
            await checkpoint()
        await ask.wait()
        assert await receive() == piece(b"hello")
        await app.wait()

    server = Server()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.call, asks_late, [(b"expect", b"100-Continue")])
        for _ in range(20):
            await checkpoint()
        assert server.asked == 0
        ask.set()
        await eventually(lambda: server.inside)
        server.say(piece(b"hello"))
        await within(app.here)
        server.leave()
    assert app.cancelled == 1


async def test_reading_ahead_is_bounded() -> None:
    """No more than 64 KiB are taken ahead of the app, it goes on when the app has taken some, and nothing is lost or reordered."""
    part = READ_AHEAD // 4
    bodies = [bytes([number]) * part for number in range(12)]
    here, go, taken = anyio.Event(), [anyio.Event(), anyio.Event()], []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        here.set()
        await go[0].wait()
        taken.append(await receive())
        await go[1].wait()
        while len(taken) < len(bodies):
            taken.append(await receive())
            await checkpoint()

    server = Server(*(piece(body, more=body is not bodies[-1]) for body in bodies))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.call, app)
        for number, asked in enumerate((4, 5)):
            await eventually(lambda asked=asked: server.asked == asked and not server.inside)  # type: ignore[misc]
            for _ in range(20):
                await checkpoint()
            assert server.asked == asked
            go[number].set()
    assert [message["body"] for message in taken] == bodies
    assert [message["more_body"] for message in taken] == [True] * 11 + [False]


@on_asyncio
async def test_the_app_asks_the_server_itself() -> None:
    """An app that only waits in `receive()` is itself in the server's: no other task is, and it gets every message as it is."""
    messages = [piece(b"one", more=True), piece(b"two", more=True), piece(b"three")]
    got: list[Message] = []
    asking: set[int] = set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asking.add(anyio.get_current_task().id)
        got.extend([await receive() for _ in messages])
        await answer(send)

    server = Server()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.call, app)
        await eventually(lambda: server.inside)
        for message in messages:
            server.say(message)
    assert all(one is other for one, other in zip(got, messages, strict=True))
    assert server.askers == asking


async def test_the_pump_follows_when_the_app_stops_asking() -> None:
    """An app that gives up its call of `receive()` and waits for something else is cancelled when its client leaves."""
    app = App()

    async def gives_up(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.move_on_after(0.001):
            await receive()
        await app.wait()

    server = Server()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.call, gives_up)
        await within(app.here)
        await eventually(lambda: server.inside)
        server.leave()
    assert app.cancelled == 1


async def test_a_call_that_waits_in_receive_is_cancelled_there() -> None:
    """A departure that the app's own `receive()` learns of cancels the call in it, as on our server: no message says so."""
    cancelled: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            cancelled.append(str(await receive()))
        except anyio.get_cancelled_exc_class():
            cancelled.append("cancelled")
            raise

    gone = Server()
    gone.leave()
    await gone.call(app)
    server = Server()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.call, app)
        await eventually(lambda: server.inside)
        server.leave()
    assert cancelled == ["cancelled"] * 2


@on_asyncio
async def test_another_frameworks_app_is_told_there() -> None:
    """An app of another framework that waits in `receive()` in a task of its own is told of the departure by its message."""
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def take() -> None:
            got.append(await receive())
            got.append(await receive())

        await asyncio.wait([asyncio.create_task(take())])

    server = Server()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: server.call(app, listening=True))
        await eventually(lambda: server.inside)
        server.leave()
    assert got == [DISCONNECT] * 2


@on_asyncio
async def test_one_at_a_time() -> None:
    """Two tasks of the app that wait in `receive()` are in the server's one after the other, and nobody else is."""
    got: list[Message] = []
    asking: set[int] = set()
    askers: set[int] = set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def take() -> None:
            asking.add(anyio.get_current_task().id)
            got.append(await receive())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            tasks.start_soon(take)
        askers.update(server.askers)  # before the pump may ask, in a task that may have the id of one that has ended
        await answer(send)

    server = Server()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.call, app)
        await eventually(lambda: server.inside)
        server.say(piece(b"one", more=True))
        await eventually(lambda: server.inside and got)
        server.say(piece(b"two"))
    assert [message["body"] for message in got] == [b"one", b"two"]
    assert askers == asking


@pytest.mark.parametrize("early", [False, True], ids=["", "a pump waits already"])
async def test_leaving_after_the_last_byte_is_no_departure(early: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Once the last byte was handed over, `http.disconnect` cancels nothing, and the app isn't told before its `send()` returns."""
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if early:
            await eventually(lambda: server.asked == 2)

        async def listen() -> None:
            assert await receive() in (piece(), DISCONNECT)
            assert await receive() == DISCONNECT
            order.append("told")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await eventually(lambda: server.asked == 2)
            await send(START)
            await send(LAST)
            order.append("sent")
        for _ in range(10):
            await checkpoint()
        assert await receive() == DISCONNECT
        order.append("ended")

    server = Server(piece())
    server.sending = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.call, app)
        await eventually(lambda: LAST in server.sent)
        for _ in range(10):
            await checkpoint()
        assert order == []
        server.sending.set()
    assert sorted(order[:2]) == ["sent", "told"]
    assert order[2:] == ["ended"]
    assert not caplog.records


async def test_no_pump_begins_after_the_last_byte() -> None:
    """What the call waits for behind its response needs nobody in `receive()`: leaving means nothing any more."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)
        for _ in range(10):
            await checkpoint()

    server = Server(tells=False)
    await server.call(app)
    assert server.asked == 0


@pytest.mark.parametrize(
    ("method", "parts", "headers"),
    [
        ("GET", [b"hello", b"world"], [(b"Content-Length", b"10")]),
        ("GET", [b""], [(b"content-length", b"0")]),
        ("HEAD", [b""], [(b"content-length", b"10")]),
    ],
    ids=["length", "none", "HEAD"],
)
async def test_all_bytes_of_a_known_length_are_the_last_byte(method: str, parts: list[bytes], headers: Any) -> None:
    """Where the head tells how long the body is, or that there is none, who leaves behind that isn't gone, be the app at its end or not."""
    told: list[str] = []

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        await eventually(lambda: server.asked == 2)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        server.leave()
        for _ in range(10):
            await checkpoint()
        told.append("not")
        await send(LAST)
        assert await receive() == piece()
        assert await receive() == DISCONNECT

    server = Server(piece(), tells=False)
    await server.call(handle, method=method)
    assert told == ["not"]
    assert server.sent[-1] == LAST


async def test_trailers_are_the_last_byte() -> None:
    """A response that announces trailers isn't complete before them."""
    app = App()

    async def with_trailers(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "trailers": True})
        await send({**LAST, "body": b"all"})
        await app.wait()

    server = Server()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.call, with_trailers)
        await eventually(lambda: server.inside)
        server.leave()
    assert app.cancelled == 1


async def test_nothing_is_sent_to_a_client_that_left() -> None:
    """After the departure `send()` raises an `OSError`, `receive()` says `http.disconnect`, and the server gets a 499 that it drops."""
    errors: list[OSError] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            for _ in range(2):
                try:
                    await send(START)
                except OSError as error:
                    errors.append(error)
                assert await receive() == DISCONNECT

    server = Server(piece(b"never taken", more=True))
    server.leave()
    await server.call(app)
    assert [type(error) for error in errors] == [ClientDisconnect] * 2
    assert [message.get("status") for message in server.sent] == [499, None]


@pytest.mark.parametrize("tells", [True, False], ids=["", "a server that says nothing"])
@pytest.mark.parametrize("turns", range(8))
async def test_nobody_is_left_in_receive(turns: int, tells: bool) -> None:
    """However long the call waits, at its end nobody is in the server's `receive()`, and no task is left."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(turns):
            await checkpoint()
        await answer(send)

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(turns):
            await checkpoint()
        raise LookupError("the app's own")

    await Server(piece(), tells=tells).call(app)
    with pytest.raises(LookupError, match="the app's own"):
        await Server(piece(), tells=tells).call(fails)


@pytest.mark.parametrize("turns", range(5))
async def test_receive_outlasts_the_request(turns: int) -> None:
    """Who asks when the request is over gets what the server says then, whether a pump was about to begin or not."""
    kept: list[Receive] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.append(receive)
        for _ in range(turns):
            await checkpoint()

    server = Server()
    await server.call(app)
    server.leave()
    with anyio.fail_after(PATIENCE):
        assert await kept[0]() == DISCONNECT


async def test_nobody_is_left_in_receive_of_a_cancelled_call() -> None:
    """A call that a scope around it cancels leaves nobody behind, either."""
    server, app = Server(), App()
    server.lingers = 5
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.call, app)
            await within(app.here)
            await eventually(lambda: server.inside)
            scope.cancel()
    assert app.cancelled == 1


@on_asyncio
async def test_a_native_cancellation_takes_the_pump_along() -> None:
    """A request's task that its server cancels ends as cancelled, and its pump with it."""
    server, app = Server(), App()
    task = asyncio.get_running_loop().create_task(server.call(app))
    await within(app.here)
    await eventually(lambda: server.inside)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app.cancelled == 1


@on_trio
async def test_a_shielded_call_keeps_its_pump() -> None:
    """A server that cancels what is around a request it shields doesn't take its pump away."""
    server, app = Server(), App()

    async def shielded() -> None:
        with anyio.CancelScope(shield=True):
            await server.call(app)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shielded)
        await within(app.here)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await eventually(lambda: server.inside)
        assert app.cancelled == 0
        server.leave()
    assert app.cancelled == 1


variable: ContextVar[str] = ContextVar("variable")


async def test_the_context_is_the_requests() -> None:
    """What stands around the app and wraps `receive()` finds its context variables there, whoever calls it."""
    server, app = Server(piece(), piece()), App()
    seen: list[str] = []
    server.began = lambda: seen.append(variable.get())

    async def around() -> None:
        variable.set("of this request")
        await server.call(app)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(around)
        await eventually(lambda: server.asked == 3)
        server.leave()
    assert seen == ["of this request"] * 3


@pytest.mark.parametrize("late", [False, True], ids=["", "the pump meets it"])
async def test_an_error_of_the_server_is_the_apps(late: bool) -> None:
    """What the server's `receive()` raises comes out of the app's, once and as it is; the call isn't cancelled for it."""
    here: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if late:
            await eventually(lambda: server.asked == 2)
        assert await receive() == piece(b"half", more=True)
        for _ in range(10 if late else 0):
            await checkpoint()
        assert server.asked == 1 + late  # nobody asks again before the app does
        with pytest.raises(RuntimeError, match="the server's own"):
            await receive()
        await checkpoint()
        assert await receive() == piece(b"rest")
        here.append("there")

    server = Server(piece(b"half", more=True), RuntimeError("the server's own"), piece(b"rest"))
    await server.call(app)
    assert here == ["there"]


async def test_an_error_that_nobody_asks_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A server whose `receive()` fails while the app waits for something else doesn't disturb it; one warning says what is lost."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await eventually(lambda: server.asked == 1)
        for _ in range(10):
            await checkpoint()
        await answer(send)

    server = Server(RuntimeError("the server's own"))
    await server.call(app)
    assert server.sent == [START, LAST]
    assert server.asked == 1
    (record,) = caplog.records
    assert (record.levelno, record.exc_info and str(record.exc_info[1])) == (logging.WARNING, "the server's own")


async def test_an_error_of_send_passes() -> None:
    """What the server's `send()` raises comes out of the app's as it is, and out of the request."""

    async def send(message: Message) -> None:
        raise BrokenPipeError("the server's own")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await eventually(lambda: server.inside)
        await send(LAST)

    server = Server()
    server.send = send  # type: ignore[method-assign]
    with pytest.raises(BrokenPipeError, match="the server's own"):
        await server.call(app)


@pytest.mark.parametrize("waits", [False, True], ids=["", "the call waits"])
async def test_nothing_is_left_to_the_collector(waits: bool) -> None:
    """A request's visit goes with its scope, and doesn't wait for the garbage collector: nothing that it holds leads back to it."""

    async def request() -> Any:
        server = Server(piece())

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if waits:
                await eventually(lambda: server.inside)
            await answer(send)

        scope = await server.call(app)
        server.began = lambda: scope  # a server knows the scope of its request
        return weakref.ref(scope[VISIT])

    gc.collect()
    gc.disable()
    try:
        assert (await request())() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"]], ids=["asyncio"])  # uvloop itself asks for `context=`
async def test_any_task_factory_will_do(caplog: pytest.LogCaptureFixture) -> None:
    """The pump is started through the loop's task factory, also by one from the time before `context=`."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coroutine: asyncio.Task(coroutine, loop=loop))
    try:
        server, app = Server(piece()), App()
        task = loop.create_task(server.call(app))
        await eventually(lambda: server.inside)
        server.leave()
        await task
    finally:
        loop.set_task_factory(None)
    assert app.cancelled == 1
    assert not loud_lines(caplog)
