"""Server-sent events: a response that goes on, and that a browser's EventSource comes back for (WHATWG HTML, §9.2).

    the head, ":" and the retry        at once, so that the client knows that it is connected
    id: 7  event: news  data: …        an event is one message, and leaves at once
    ":"                                when nothing else has been sent for a while: proxies close what is quiet

The generator runs in the handler's own task, where a departure stops it as it stops the handler; pings come from a task beside it.
(A timeout around the generator's next step would end the generator with the first quiet interval.)

It is closed at every end: its own, its client's, and the server's. When the server says that it is shutting down, the stream ends there and
then: the generator is stopped as for a departure, and the response is complete. EventSource comes back by itself, to the next server.
"""

import math
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from microasgi.addresses import URL
from microasgi.asgi import Receive, Scope, Send
from microasgi.background import Background
from microasgi.exceptions import SentElsewhere
from microasgi.iterating import iterated
from microasgi.promise.delivery import Block
from microasgi.promise.visit import VISIT, Visit
from microasgi.responses import JSONResponse, Response

SHUTDOWN = "microasgi.shutdown"
"""The server's extension that tells of its end: `subscribe(callback)`, which returns the undo."""

_LINE_END = re.compile(r"\r\n|\r|\n")  # nowhere else; str.splitlines() knows eight more
_COMMENT = b":\n\n"


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

        Event("hello")
        Event({"price": 7}, id="1041", event="price")

    data: text as it is, in as many lines as it has; anything else as JSON.
    id: what the client sends as `Last-Event-ID` when it comes back; "" makes it forget the last one.
    event: the type, which `addEventListener` takes; `message` if there is none.

    :raises ValueError: a line end in `id` or `event`, which would end the field, or NUL in `id`, for which a client ignores it
    :raises TypeError: `id` or `event` isn't text
    """

    data: Any
    id: str | None = None
    event: str | None = None

    def __post_init__(self) -> None:
        for field, value, forbidden in (("id", self.id, "\r\n\0"), ("event", self.event, "\r\n")):
            if value is None:
                continue
            if not isinstance(value, str):
                raise TypeError(f"an event's {field} is text, not {type(value).__name__}: write {field}=str({value!r})")
            if any(character in value for character in forbidden):
                raise ValueError(f"an event's {field} can't have a line end{' or NUL' if field == 'id' else ''} in it: {value!r}")

    def encode(self) -> bytes:
        """The event as it is sent.

        :raises TypeError: the data is nothing that JSON has
        :raises ValueError: it has a number that JSON doesn't have, such as NaN
        """
        data = self.data if isinstance(self.data, str) else JSONResponse(self.data).body.decode()
        lines = [f"{field}: {value}" for field, value in (("id", self.id), ("event", self.event)) if value is not None]
        lines += [f"data: {line}" for line in _LINE_END.split(data)]
        return "\n".join([*lines, "\n"]).encode()


class EventStream(Response):
    """Events, as they happen.

        @routes.get("/news")
        async def news(request: Request) -> EventStream:
            async def events() -> AsyncIterator[Event]:
                async for item in feed.after(request.headers.get("last-event-id")):
                    yield Event(item.text, id=str(item.number))

            return EventStream(events())

    The head, with status 200, leaves before the first event. Whoever may have to answer with another one finds that out before:

        @routes.get("/prices")
        async def prices(request: Request) -> EventStream:
            try:
                first = await ask()
            except OSError:
                raise HTTPException(502) from None  # in the generator, it would come too late
            return EventStream(prices_from(first))

    :param events: an async iterable of `Event`s, usually an async generator
    :param ping: seconds without an event after which a comment is sent; None: never
    :param retry: seconds after which a client comes back that has lost its connection; None: as it likes
    :param headers: header fields. `cache-control: no-store` and `x-accel-buffering: no` are added where they don't say otherwise
    :param background: as for any response
    :raises TypeError: `events` isn't an async iterable
    :raises ValueError: an interval is no positive number
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterable[Event],
        *,
        ping: float | None = 15.0,
        retry: float | None = 3.0,
        headers: Mapping[str, str | URL] | None = None,
        background: Background | None = None,
    ) -> None:
        if not isinstance(events, AsyncIterable):
            hint = ": call it, as in EventStream(events())" if callable(events) else ""
            raise TypeError(f"an EventStream is made of an async generator, not of a {type(events).__name__}{hint}")
        for name, seconds in (("ping", ping), ("retry", retry)):
            if seconds is not None and not 0 < seconds < math.inf:
                raise ValueError(f"{name} is a number of seconds, more than 0, or None, not {seconds!r}")
        self.events = events
        self.ping = ping
        self.retry = retry
        fields: dict[str, str | URL] = {"cache-control": "no-store", "x-accel-buffering": "no"}
        fields |= {name.lower(): value for name, value in (headers or {}).items()}
        super().__init__(headers=fields, background=background)

    def _add_length(self) -> None:
        """Nobody knows it."""

    def _told_body(self) -> str:
        return f"events of {type(self.events).__name__}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with iterated(self.events) as events:
            await send(self._start())
            if scope["method"] != "HEAD":
                stream = self._stream(events, _Line(send))
                if (extension := scope.get("extensions", {}).get(SHUTDOWN)) is None:
                    await stream
                else:  # told and swallowed in a block, as the promise has it: what the generator awaits as it ends, it may
                    visit: Visit | None = scope.get(VISIT)
                    block = Block(visit.block.cleanup_grace if visit is not None else 5.0)
                    await block.run(stream, partial(extension["subscribe"], block.cancel))
            await send({"type": "http.response.body", "body": b""})

    async def _stream(self, events: AsyncIterator[Event], line: "_Line") -> None:
        retry = b"" if self.retry is None else b"retry: %d\n" % round(self.retry * 1000)
        await line.send(b":\n" + retry + b"\n")
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            if self.ping is not None:
                tasks.start_soon(line.keep_up, self.ping)
            try:
                async for event in events:
                    await line.send(_encoded(event))
            except Exception as error:  # out of the group it would come in another group
                failure = error
            async with line.free:  # a ping on its way isn't torn
                tasks.cancel_scope.cancel()
        try:
            if failure is not None:
                raise failure
        finally:
            failure = None  # with its traceback, it holds this frame


class _Line:
    """The way to the client, one message at a time.

    free: held while a message is sent.
    """

    def __init__(self, send: Send) -> None:
        self.free = anyio.Lock(fast_acquire=True)
        self._send = send
        self._used = 0.0

    async def send(self, data: bytes) -> None:
        async with self.free:
            await self._put(data)

    async def keep_up(self, ping: float) -> None:
        """Send a comment whenever nothing else has been sent for so many seconds."""
        with suppress(OSError):  # the client is gone: who sends an event hears of it, and decides
            while True:
                await anyio.sleep_until(self._used + ping)
                async with self.free:
                    if anyio.current_time() >= self._used + ping:
                        await self._ping()

    async def _ping(self) -> None:
        """Send a comment, unless middleware reads this stream: it can only be given what the generator's own task sends."""
        try:
            await self._put(_COMMENT)
        except SentElsewhere:
            self._used = anyio.current_time()  # perhaps it only has yet to pass it on

    async def _put(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._used = anyio.current_time()


def _encoded(event: Any) -> bytes:
    if not isinstance(event, Event):
        raise TypeError(f"an EventStream's generator yields Event objects, not {type(event).__name__}: write yield Event(…)")
    return event.encode()
