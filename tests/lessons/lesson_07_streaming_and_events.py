"""Streaming and events.

A piece of a response is a chunk on the wire and may be an event in a browser, and that the client leaves in the middle is the normal end.

Predict: what do three events look like as bytes? And when does the `finally` of the generator run that makes them, if its client leaves?
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

import anyio

from microasgi import Event, EventStream, Request, Router, StreamingResponse
from microasgi.asgi import Message
from tests.harness import serving, within
from tests.lessons.form import Break, Place

# A response that is made while it is sent has no length to announce. So it goes in chunks: the length of each in front of it, in
# hexadecimal, and a chunk of none at the end (RFC 9112 §7.1). Every `send()` with a body makes one. It is what tells a response that is
# complete from one that was broken off: there, the last chunk is missing.
#
# What a browser's `EventSource` reads is text in such a body: fields in lines, and an empty line behind every event. That is the whole
# protocol. A line that begins with a colon is a comment; one is sent first, so that the browser knows at once that it is connected.


async def test_a_piece_is_a_chunk_is_an_event() -> None:
    """Three events are three chunks, behind one with the comment, and in front of the one that ends it all."""
    routes = Router()

    @routes.get("/ticks")
    async def ticks(request: Request) -> EventStream:
        async def events() -> AsyncIterator[Event]:
            for number in range(3):
                yield Event(number)

        return EventStream(events(), retry=None)

    async with serving(routes, lifespan="off") as served, await served.connect() as client:
        await client.send(b"GET /ticks HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        _, _, body = (await client.receive_until_closed()).partition(b"\r\n\r\n")
    chunks = [b"3\r\n:\n\n\r\n", b"9\r\ndata: 0\n\n\r\n", b"9\r\ndata: 1\n\n\r\n", b"9\r\ndata: 2\n\n\r\n", b"0\r\n\r\n"]
    print(f"  {body!r}")
    assert body == b"".join(chunks)


# A report has an end, and a stream of news mostly has none: it is over when its reader closes the tab. So a departure is no accident here,
# it is the way in which streams end. What the generator holds, a subscription perhaps, is given back in its `finally`, and for news that
# come once a day that must be now, not at the next piece that can't be sent.


async def test_a_stream_ends_when_its_reader_leaves() -> None:
    """A generator that waits for its next piece is stopped there, and its `finally` runs at once."""
    routes, closed = Router(), anyio.Event()

    @routes.get("/news")
    async def news(request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            try:
                yield "the first news"
                await anyio.sleep_forever()
            finally:
                closed.set()

        return StreamingResponse(pieces())

    async with serving(routes, lifespan="off") as served, await served.connect() as client:
        await client.send(b"GET /news HTTP/1.1\r\nHost: test\r\n\r\n")
        while b"the first news" not in await client.receive():
            pass
        client.leave("FIN")
        await within(closed)
    assert closed.is_set()


# That was easy for Python: the generator itself was waiting, and was told. Most of the time it isn't. It stands still at its `yield` while
# the piece that it has made is sent; if that fails, it is not the generator that hears of it. A generator that nobody goes on with is just
# left lying there. Its `finally` runs when somebody closes it, or when the garbage collector comes by.


async def pieces(closed: list[str]) -> AsyncGenerator[str, None]:
    try:
        while True:
            yield "a piece"
    finally:
        closed.append("closed")


async def test_a_generator_that_is_left_is_not_closed() -> None:
    """Leaving a loop over a generator doesn't run its `finally`; `aclosing` does."""
    closed: list[str] = []
    left = pieces(closed)
    async for _ in left:
        break
    assert closed == []
    async with aclosing(pieces(closed)) as generator:
        async for _ in generator:
            break
    assert closed == ["closed"]
    await left.aclose()


async def test_a_response_closes_what_it_sends() -> None:
    """When `send()` fails because the client has left, the generator is closed before anybody hears of it."""
    closed: list[str] = []
    response = StreamingResponse(pieces(closed))

    async def receive() -> Message:
        raise AssertionError("nobody listens here")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client has left")

    with suppress(OSError):
        await response({"type": "http", "method": "GET"}, receive, send)
    assert closed == ["closed"], "at once"


# Break it: let the response not close what it sends.

BREAK = Break(
    file="microasgi/iterating.py",
    old="        await aclose()\n",
    new="        pass\n",
    fails='assert closed == ["closed"], "at once"',
)

READ_NEXT = [
    Place("server/microasgi_server/http1/encoder.py", "ResponseEncoder"),  # messages to bytes
    Place("microasgi/events.py", "EventStream.__call__"),  # what ends a stream of events
    Place("microasgi/iterating.py", "iterated"),  # closed at every end
]
