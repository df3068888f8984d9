"""Before the first request, after the last.

An app is called once more than it has requests: the lifespan is a conversation, too, and it lasts from before the first to behind the last.

Predict: what happens to a server whose app fails at startup, or never ends it, or knows nothing of it? And if a request changes the state
that the startup has made, who sees that?
"""

import anyio
import pytest
from anyio.lowlevel import checkpoint
from microasgi_server import Config, StartupError, serve

from microasgi.asgi import Receive, Scope, Send
from tests.harness import GET, serving, within
from tests.lessons.form import Break, Place

# Two messages come by `receive()`, a startup and a shutdown, and each is answered by `send()`. In between lies all that the app does for
# others. What it opens at startup, a pool of connections for example, it puts into `scope["state"]`, and every request finds it there.


class Shop:
    """An app that notes what happens to it. Each visit puts tea on the shelf, and takes as long as `let` wants it to."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.visited, self.let = anyio.Event(), anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self.notes.append((await receive())["type"])
            scope["state"].update(visits=0, shelf=[])
            await send({"type": "lifespan.startup.complete"})
            self.notes.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        state = scope["state"]
        state["visits"] += 1
        state["shelf"].append("tea")
        self.visited.set()
        await self.let.wait()
        self.notes.append(f"visit {state['visits']}, {len(state['shelf'])} on the shelf")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def test_the_shutdown_comes_when_all_are_gone() -> None:
    """A server that is told to stop first lets requests end, and tells the app then."""
    shop = Shop()
    async with serving(shop) as served, await served.connect() as client:
        await client.send(GET)
        await within(shop.visited)
        served.stop.set()
        for _ in range(100):  # turns of the loop, enough for any shutdown that doesn't wait
            await checkpoint()
        shop.let.set()
        assert (await client.response()).status == 204
        await within(served.ended)
    assert shop.notes == ["lifespan.startup", "visit 1, 1 on the shelf", "lifespan.shutdown"]


# The state is copied for each request, but not what is in it. So requests share the shelf, which is what they want from a pool, and each
# counts its own visits, which is what they want from a name that they set.


async def test_the_state_is_copied_for_each_request() -> None:
    """What a request sets in the state is its own; what it changes inside is everybody's."""
    shop = Shop()
    shop.let.set()
    async with serving(shop) as served, await served.connect() as client:
        for _ in range(2):
            await client.send(GET)
            await client.response()
    print(f"  {shop.notes}")
    assert shop.notes[1:3] == ["visit 1, 1 on the shelf", "visit 1, 2 on the shelf"]


# And if it doesn't go well? A startup that fails says so, with a reason, and the server doesn't serve: better no service than one without
# its database. One that is not complete is waited for, and nobody can connect meanwhile, so that a deploy waits, too.


async def test_a_startup_that_fails_is_the_end() -> None:
    """An app that can't start is not served, and the reason reaches whoever has started the server."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(StartupError, match="no database"):
        await serve(app, Config(port=0))


async def test_a_startup_is_waited_for() -> None:
    """Nobody is served before the app has said that it has started."""
    ready, served = anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await ready.wait()
        await send({"type": "lifespan.startup.complete"})

    async def watch() -> None:
        async with serving(app):
            served.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.wait_all_tasks_blocked()
        assert not served.is_set()
        ready.set()
        await within(served)


# The spec has a strange rule for apps that know nothing of all this: they raise, and so say that they have no lifespan. A server can't tell
# that from a startup with a bug in it. So ours says in its log which exception it was, and can be told to insist.


async def test_an_app_without_a_lifespan_is_served() -> None:
    """An app that raises has no lifespan, it seems, and is served all the same, unless the operator insists on one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "what is a lifespan?"
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).status == 204
    with pytest.raises(StartupError, match="what is a lifespan"):
        await serve(app, Config(port=0, lifespan="on"))


# Break it: give every request the state itself.

BREAK = Break(
    file="server/microasgi_server/call.py",
    old="running.state.copy()",
    new="running.state",
    fails='assert shop.notes[1:3] == ["visit 1, 1 on the shelf", "visit 1, 2 on the shelf"]',
)

READ_NEXT = [
    Place("server/microasgi_server/lifespan.py", "Lifespan"),  # the server's side of the conversation
    Place("microasgi/lifespan.py", "run_lifespan"),  # the app's side, made of a context manager
    Place("server/microasgi_server/server.py", "serve"),  # startup, serving, and down again in order
]
