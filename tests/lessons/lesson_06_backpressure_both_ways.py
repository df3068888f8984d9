"""Backpressure, both ways.

Who can't keep up must be waited for, so that what is under way takes no more memory than somebody has chosen.

Predict: a handler sends 16 MiB to a client that reads nothing, and a client sends 16 MiB to a handler that reads nothing. Where are they,
and how many of them has the server?
"""

from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from microasgi_server import Limits

from microasgi.asgi import Receive, Scope, Send
from tests.harness import GET, eventually, serving, shared_of, within
from tests.lessons.form import Break, Place

WHOLE = 16 * 1024 * 1024
PIECE = bytes(64 * 1024)
LIMITS = Limits()


async def several_turns() -> None:
    """Give everybody the time to go on who can."""
    for _ in range(100):
        await checkpoint()


# Down: `await send(…)` is a promise that the message may be forgotten, because somebody else takes care of it. The kernel takes some, the
# server keeps some. When that is 64 KiB, `send()` doesn't return until the client has taken most of it, and the handler makes no more.
#
# So a handler needs no queue and no thought for slow clients: it sends, and is as fast as its client.


async def test_a_client_that_reads_nothing_stops_its_handler() -> None:
    """A handler waits in `send()` while its client reads nothing, and the server has a piece or two for it."""
    sent, connections = 0, list[Any]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        connections.extend(shared_of(receive).connections)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while sent < WHOLE:
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            sent += len(PIECE)
        await send({"type": "http.response.body", "body": b""})

    async with serving(app, lifespan="off") as served, await served.connect() as client:
        await client.send(GET)
        await eventually(lambda: connections and connections[0].transport.congested)
        await several_turns()
        unsent = connections[0].transport.unsent()
        print(f"  of {WHOLE:,} bytes the handler has sent {sent:,}, and the server has {unsent:,} of them")
        assert unsent <= LIMITS.unsent + 2 * len(PIECE)
        assert sent < WHOLE
        while sent < WHOLE:  # as soon as the client reads, the handler goes on
            assert await client.receive()


# Up: a server reads ahead of its handler, because else it would see neither the end of a small body nor a client that leaves. At 64 KiB it
# stops. What isn't read fills the kernel, and TCP tells the client's kernel to wait, and that the client.


async def test_a_handler_that_reads_nothing_stops_its_client() -> None:
    """A client waits in its own `send()` while the handler reads nothing, and the server has a read or two ahead."""
    let, read, connections = anyio.Event(), 0, list[Any]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal read
        connections.extend(shared_of(receive).connections)
        await let.wait()
        more = True
        while more:
            message = await receive()
            read += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with (
        serving(app, lifespan="off", receive_buffer=0) as served,
        await served.connect() as client,
        anyio.create_task_group() as tasks,
    ):
        done = anyio.Event()

        async def upload() -> None:
            await client.send(b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % WHOLE + bytes(WHOLE))
            done.set()

        tasks.start_soon(upload)
        await eventually(lambda: connections and connections[0].transport.paused)
        await several_turns()
        ahead = connections[0].protocol.look_ahead
        print(f"  of {WHOLE:,} bytes the server has read {ahead:,} ahead, and the client still waits: {not done.is_set()}")
        assert ahead <= LIMITS.look_ahead + LIMITS.read
        assert not done.is_set()
        let.set()
        await within(done)
        assert (await client.response()).status == 204
    assert read == WHOLE


# Together they make a chain: a handler that reads from one side and sends to the other is waited for on one and waits on the other, and
# 64 KiB at each end are enough for a body of any size. What breaks the chain is a queue without a limit, anywhere.
#
# Break it: have `send()` not wait. Nothing fails, nothing is slow, and nobody notices, until there are a hundred such clients.

BREAK = Break(
    file="server/microasgi_server/call.py",
    old="while transport.congested and not exchange.gone:",
    new="while False:",
    fails="assert unsent <= LIMITS.unsent + 2 * len(PIECE)",
)

READ_NEXT = [
    Place("server/microasgi_server/call.py", "Call.send"),  # where a handler waits for its client
    Place("server/microasgi_server/connection.py", "Connection.regulate"),  # where a client is made to wait
    Place("server/microasgi_server/http1/limits.py", "Limits"),  # every number of bytes, and its reason
]
