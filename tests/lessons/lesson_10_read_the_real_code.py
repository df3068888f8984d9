"""Read the real code.

All decisions are made in a core that never waits, so that what happens to a request is one list, from the byte to the handler and back.

Predict: a request comes, its handler waits a moment, and answers. Which functions of this repository run, in which order? Write ten of them
down, then open server/README.md at *The life of a request*. Which of them can wait?
"""

import inspect
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from types import CodeType, FrameType
from typing import Any

import anyio
from microasgi_server import Config, Limits, serve
from microasgi_server.connection import Connection
from microasgi_server.http1.phases import TRANSITIONS
from microasgi_server.http1.protocol import Protocol
from microasgi_server.taps import Event, tapped

from microasgi import Request, Router
from microasgi.watching import watch
from tests.harness import GET, Client, Served, eventually
from tests.lessons.form import ROOT, Break, Place

SHORT = b"GET /?short HTTP/1.1\r\nHost: test\r\n\r\n"
routes = Router()


@routes.get("/")
async def handler(request: Request) -> str:
    await anyio.sleep(0.01 if "short" in request.query_params else 60)
    return "hello"


@asynccontextmanager
async def connected(events: list[Event]) -> AsyncIterator[Client]:
    """A client of a server that tells what happens: `events` gets all of it, in order."""
    watched = tapped(Connection, events.append)
    async with anyio.create_task_group() as tasks:

        async def run(*, task_status: Any) -> None:
            await serve(watch(routes), Config(port=0, lifespan="off"), connection_class=watched, task_status=task_status)

        (address,) = await tasks.start(run)
        async with await Served(address, anyio.Event(), anyio.Event()).connect() as client:
            yield client
        tasks.cancel_scope.cancel()


# The README of the server has a list of ten steps. Is it true? Python tells of every call of a function, if one asks for it. So serve one
# request, note in which order the ten are called first, and compare. Some are said to be synchronous: they can't wait, so nothing else can
# happen in the middle of them. Python can tell that, too.

ELSEWHERE = {"your handler": "handler", "the transport": "_SelectorSocketTransport.write"}  # which is asyncio's


def ten_steps() -> dict[str, bool]:
    """What the README names, in its order, and whether it is said to be synchronous."""
    section = (ROOT / "server/README.md").read_text().partition("## The life of a request\n")[2]
    return {name: line.endswith("sync") for line, name in re.findall(r"^( ?\d+  (\S.*?)  .*)$", section, re.MULTILINE)}


async def test_the_life_of_a_request_is_as_written() -> None:
    """The functions that the README lists are called in its order, and those that are said to be synchronous are."""
    steps, called, events = ten_steps(), dict[str, CodeType](), list[Event]()
    dotted = {name: ELSEWHERE.get(name, name.split(",")[0].replace("/", ".")) for name in steps}

    def note(frame: FrameType, event: str, argument: object) -> None:
        function = f".{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}."
        for name in steps:
            if event == "call" and f".{dotted[name]}." in function:
                called.setdefault(name, frame.f_code)

    async with connected(events) as client:
        await eventually(lambda: events)  # the connection is made
        sys.setprofile(note)
        await client.send(SHORT)
        await client.response()
        sys.setprofile(None)
    print("".join(f"  {name}: {code.co_qualname}\n" for name, code in called.items()), end="")
    assert list(called) == list(steps)
    assert not [name for name, code in called.items() if steps[name] and code.co_flags & inspect.CO_COROUTINE]


# Functions are many. What one wants to see is fewer: bytes, HTTP, ASGI's messages, the handler's waits. Four lanes, and a request goes down
# through all of them and up again. The server tells of that, if one hands it a connection class that does: no line of the core is there
# for it. (Any lesson with such a server shows this, too: `python -m tests.lessons 7 --timeline`.)


async def test_a_request_goes_down_and_up_again() -> None:
    """The wire, the core, ASGI, the handler; and back. The start goes to the core alone, and leaves in one write with the body."""
    events: list[Event] = []
    async with connected(events) as client:
        await client.send(SHORT)
        await client.response()
    story = events[[event.what for event in events].index("in") : [event.what for event in events].index("out") + 1]
    lanes = [lane for lane, _ in groupby(event.lane for event in story)]
    print("".join(f"  {event.lane}: {event.what}\n" for event in story), end="")
    assert lanes == ["wire", "core", "asgi", "handler", "asgi", "core", "asgi", "core", "wire"]


# And the news of a departure takes the way down, from the FIN to the `await` that raises. No step waits for another: it is one turn of the
# event loop from the first to the last but one, and the next turn raises. Each has a place in the code, which the event knows.

NEWS = [("wire", "FIN"), ("core", "hang_up"), ("core", "phase"), ("asgi", "told"), ("handler", "stage"), ("handler", "thrown")]


async def test_the_news_goes_down_to_the_await() -> None:
    """A FIN is read, the exchange is gone, the subscriber is told, and the handler's `await` raises."""
    events: list[Event] = []
    async with connected(events) as client:
        await client.send(GET)
        await eventually(lambda: "wait" in [event.what for event in events])
        client.leave("FIN")
        await eventually(lambda: "thrown" in [event.what for event in events])
    first = {(event.lane, event.what): event for event in reversed(events)}
    path = sorted(NEWS, key=lambda step: first[step].at)
    for step in path:
        print(f"  {first[step].lane}: {first[step].what} {first[step].facts}")
    assert path == NEWS


# What the core decides stands in a table: how far a response is, what the app sends, how far it is then. As the core never waits and knows
# no socket, it can be played by hand, as the app in lesson 1. These four responses pass through every cell of the table. A cell that no
# response can reach would be a rule for nobody, and a way into none would be a bug.

START, BODY = {"type": "http.response.start", "status": 200, "headers": []}, {"type": "http.response.body", "body": b"x"}
TRAILERS = {"type": "http.response.trailers", "headers": []}
HINT = {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]}
MORE, MORE_TRAILERS, START_WITH_TRAILERS = BODY | {"more_body": True}, TRAILERS | {"more_trailers": True}, START | {"trailers": True}
RESPONSES = [
    [HINT, START, BODY],
    [START, MORE, MORE, BODY],
    [START_WITH_TRAILERS, BODY, TRAILERS],
    [START_WITH_TRAILERS, MORE, BODY, MORE_TRAILERS, TRAILERS],
]


def test_every_cell_of_the_table_is_reached() -> None:
    """Between them, four responses take every step that the table has, and no other."""
    reached = set()
    for response in RESPONSES:
        protocol = Protocol(list, Limits())
        protocol.receive_bytes(GET)
        exchange: Any = protocol.exchange
        for message in response:
            before = exchange.phase
            exchange.send(message)
            reached.add((before, exchange.phase))
    assert reached == {(phase, after) for phase, row in TRANSITIONS.items() for after in row.values()}


# Break it: write a cell into the table that nothing reaches.

BREAK = Break(
    file="server/microasgi_server/http1/phases.py",
    old="    Phase.GONE: {},\n",
    new="    Phase.GONE: {Step.BODY: Phase.GONE},\n",
    fails="assert reached == {(phase, after) for phase, row in TRANSITIONS.items() for after in row.values()}",
)

READ_NEXT = [
    Place("server/microasgi_server/connection.py", "Connection"),  # the shell, from the first byte to the last
    Place("server/microasgi_server/http1/exchange.py", "Exchange.send"),  # the table, then the encoder
    Place("server/microasgi_server/taps/connections.py", "tapped"),  # who tells
]
