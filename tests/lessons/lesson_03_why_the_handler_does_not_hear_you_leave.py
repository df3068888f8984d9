"""Why the handler does not hear you leave.

ASGI tells of a departure through `receive()`, and while a handler works nobody is in there to hear it.

Predict: a client sends its request and closes the connection at once. Its handler has a nap of 0.2 s before it. Does it sleep on? Does the
server know? And what goes wrong if a second task listens meanwhile?
"""

import time

import anyio
from anyio.lowlevel import checkpoint

from microasgi import Request, Router
from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from tests.harness import within
from tests.lessons.form import Break, Place
from tests.lessons.lesson_02_a_server_in_sixty_lines import serve

NAP = 0.2
REQUEST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 12\r\n\r\na cup of tea"


async def ask_and_leave(app: ASGIApp, working: anyio.Event, ended: anyio.Event) -> None:
    """On lesson 2's server, ask for something, and close the connection as soon as the handler works at it."""
    async with anyio.create_task_group() as tasks:
        port = await tasks.start(serve, app)
        client = await anyio.connect_tcp("127.0.0.1", port)
        await client.send(REQUEST)
        await within(working)
        await client.aclose()
        await within(ended)
        tasks.cancel_scope.cancel()


# First, the handler that everybody writes: it reads its body, and then waits for something slow. What it waits for is the nap, and nobody
# but the nap can end that. The client's FIN has long arrived. In lesson 2's server it lies in the kernel, because only `receive()` reads;
# most servers have read it by now, and keep the news for whoever asks. Either way, the first `receive()` after the nap tells.


async def test_nobody_is_in_receive() -> None:
    """A handler that waits for something else works to its end, for nobody; it could have known all the time."""
    working, ended, heard = anyio.Event(), anyio.Event(), list[str]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        working.set()
        began = time.monotonic()
        await anyio.sleep(NAP)
        print(f"  worked for {time.monotonic() - began:.3f} s")
        heard.append((await receive())["type"])
        ended.set()

    await ask_and_leave(app, working, ended)
    assert heard == ["http.disconnect"]


# So let a second task wait in `receive()`, and cancel the handler when the news comes. As middleware it takes ten lines, and it works: this
# handler would sleep for ever.


def watched(app: ASGIApp) -> ASGIApp:
    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            await app(scope, receive, send)
            tasks.cancel_scope.cancel()

    return around


async def test_a_watcher_hears_it() -> None:
    """A task that waits in `receive()` beside the handler can stop it at once."""
    working, ended = anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        working.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    await ask_and_leave(watched(app), working, ended)
    assert ended.is_set()


# But `receive()` doesn't only bring this news: it also brings the body, and each message once. What the watcher has taken the handler
# misses. Here a handler first looks something up, a user perhaps, and then asks for its body. (Two lists are the server again.)


async def test_the_watcher_eats_the_body() -> None:
    """What a watcher takes out of `receive()` is lost to the handler."""
    pieces, got = [b"a ", b"cup ", b"of ", b"tea"], b""

    async def receive() -> Message:
        await checkpoint()
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        raise AssertionError("nobody sends here")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        await checkpoint()
        got = (await receive())["body"]

    await watched(app)({"type": "http"}, receive, send)
    print(f"  the client said {b'a cup of tea'!r}, and the first that the handler hears is {got!r}")
    assert got == b"cup "


# The way out: whoever watches must keep what it reads, and hand it on. And it must know when to stop, or a client could fill the memory
# with a body that the handler never wanted (lesson 6). A Router does that on any server, and so does `CancelOnDisconnect` around any app.
# On the server of this repository nobody has to watch: it calls back, so that there is no task, and nothing to eat.


async def test_a_router_hears_it_and_keeps_the_body() -> None:
    """On the server of lesson 2, a Router's handler is stopped, and has its body to the last byte."""
    working, ended, routes, bodies = anyio.Event(), anyio.Event(), Router(), list[bytes]()

    @routes.post("/")
    async def handler(request: Request) -> None:
        try:
            await anyio.sleep(0.01)  # somebody reads ahead meanwhile
            bodies.append(await request.body())
            working.set()
            await anyio.sleep_forever()
        finally:
            ended.set()

    await ask_and_leave(routes, working, ended)
    assert bodies == [b"a cup of tea"]


# Break it: let the handler ask for its body before it looks anything up. Now it gets the first piece, and all seems well. Whether a handler
# loses its body to a watcher is a matter of timing, which is why this fault is found so late.

BREAK = Break(
    old="        nonlocal got\n        await checkpoint()\n",
    new="        nonlocal got\n",
    fails='assert got == b"cup "',
)

READ_NEXT = [
    Place("microasgi/promise/visit.py", "run_while_connected"),  # both ways to learn of a departure
    Place("microasgi/promise/pump.py", "Pump.receive"),  # the watcher that keeps what it reads
    Place("server/microasgi_server/presence.py", "Presence.subscribe"),  # the server that calls back
]
