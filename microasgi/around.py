"""Middleware that is a function: `@routes.middleware`, around whatever a Router has.

    async def timed(request, call_next):
        began = time.monotonic()
        response = await call_next(request)
        response.headers["server-timing"] = f"app;dur={1000 * (time.monotonic() - began):.0f}"
        return response

The app runs in the function's own task. `call_next` steps it by hand until it sends the start of its response; there it pauses, and goes on
when that response is sent. So there is no task that a cancellation could miss, no queue, and what either sets in a context variable, the
other sees.

Around a WebSocket it is called for the handshake, and sees what the app answers that with: 101 if it accepts.

Two limits. An app that holds a cancel scope or a task group open where its response begins, as another framework's may in a mount, must
not be called from within one that the function leaves first. And an app that begins its response in another task, as Quart does, can't
be paused: it is answered through to its end, and what the function makes of it comes too late, which is said.
"""

import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, TypeAlias

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.exceptions import ClientDisconnect, SentElsewhere
from microasgi.handshakes import SWITCHING_PROTOCOLS, Handshake
from microasgi.parsing import allowed
from microasgi.promise.delivery import current_task
from microasgi.promise.visit import VISIT, Visit
from microasgi.requests import Request
from microasgi.responses import Response
from microasgi.returns import Result, respond, to_response
from microasgi.signatures import name_of
from microasgi.timeouts import TimeLimit

_PAUSE = object()
"""In place of what a coroutine waits for: it waits for us."""


class _Answered(ClientDisconnect):
    """What an app's `send()` raises when the function has answered something else."""


@types.coroutine
def _pause() -> Generator[Any, None, None]:
    yield _PAUSE


class _Steps:
    """Awaits a coroutine until it pauses or ends.

    An iterator and no generator: who follows what a task waits for (promise/asyncio_tasks.py) sees the coroutine in it.
    """

    __slots__ = ("_coroutine", "_error")

    def __init__(self, coroutine: Coroutine[Any, Any, None], error: BaseException | None) -> None:
        self._coroutine = coroutine
        self._error = error

    def __await__(self) -> "_Steps":
        return self

    def __iter__(self) -> "_Steps":
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        if self._error is None:
            return self._pass(self._coroutine.send(value))
        error, self._error = self._error, None
        try:
            return self.throw(error)
        finally:
            del error

    def throw(self, *error: Any) -> Any:
        try:
            return self._pass(self._coroutine.throw(*error))
        finally:
            del error  # with its traceback, it would hold this frame

    def close(self) -> None:
        self._coroutine.close()

    def _pass(self, trap: Any) -> Any:
        if trap is _PAUSE:
            raise StopIteration
        return trap


class NextResponse(Response):
    """What `call_next` returns: status and headers, which may be changed; the body is still with the app."""

    def __init__(self, call: "_Call", start: Message, *, is_sent: bool) -> None:
        self._call = call
        self._message = start
        self.status_code = start["status"]
        self.raw_headers = [(bytes(name).lower(), bytes(value)) for name, value in start.get("headers", ())]
        self.background = None
        self._sent = self._start() if is_sent else None  # as it was then
        self._is_read = False

    def _told_body(self) -> str:
        return "its body with the app"

    def _start(self) -> Message:
        return {**self._message, "status": self.status_code, "headers": list(self.raw_headers)}

    @property
    def body(self) -> bytes:  # type: ignore[override]
        """There is none here.

        :raises AttributeError: always
        """
        raise AttributeError("the body of this response is still with its app; read it with: async for piece in response.body_iterator")

    @property
    def body_iterator(self) -> AsyncIterator[bytes]:
        """The body, piece by piece as the app sends it. Who reads it returns another response."""
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        if self.status_code == SWITCHING_PROTOCOLS:
            raise RuntimeError("a WebSocket that is accepted has no body to be read")
        self._is_read = True
        while not self._call.ended:
            await self._call.run()
            held, self._call.held = self._call.held, None
            if held is not None and held.get("body"):
                yield held["body"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._sent is not None:
            if self._start() != self._sent:
                raise RuntimeError("middleware has changed a response that its app had sent already, from another task")
            return
        if self._is_read:
            raise RuntimeError("middleware has read this response's body: return another response with it")
        await send(self._start())
        await self._call.go_on(send)


CallNext: TypeAlias = Callable[[Request], Awaitable[NextResponse]]
"""What a middleware function calls for the response of all that it is around."""

MiddlewareFunction: TypeAlias = Callable[[Request, CallNext], Awaitable[Result]]


class Around:
    """An ASGI app: the function around the app.

    :param app: what `call_next` calls
    :param function: called with the request and `call_next`; what it returns is sent
    """

    def __init__(self, app: ASGIApp, function: MiddlewareFunction) -> None:
        self.app = app
        self.function = function

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                _announce(scope)
                await self._answer(self.app, Request(scope, receive), send)
            case "websocket":
                handshake = Handshake(scope, receive, send)
                await self._answer(handshake.told(self.app), handshake.request, handshake.send)
            case _:
                await self.app(scope, receive, send)

    async def _answer(self, app: ASGIApp, request: Request, send: Send) -> None:
        async with AsyncExitStack() as calls:

            async def call_next(request: Request) -> NextResponse:
                call = _Call(app, request, send)
                calls.push_async_exit(call.end)
                return await call.begin()

            returned = await self.function(request, call_next)
            await respond(to_response(returned, f"middleware {name_of(self.function)}"), request.scope, request._receive, send)


class _Call:
    """One call of the app, which pauses where it sends something, until its response is being sent. `end` is at its end."""

    def __init__(self, app: ASGIApp, request: Request, send: Send) -> None:
        self._visit: Visit = request.scope[VISIT]
        self._task = current_task()
        self._server_send = send
        self._forward: Send | None = None  # where messages go, once they aren't held any more
        self._abandoned: BaseException | None = None
        self._start: Message | None = None
        self._limit_around = self._visit.time_limit
        self._paused: TimeLimit | None = None  # the app's own time, which doesn't pass while the function has the turn
        self.held: Message | None = None
        self.ended = False
        self._coroutine: Any = app(request.scope, _replayed(request), self._send)

    async def begin(self) -> NextResponse:
        """Run the app until its response begins."""
        await self.run()
        if self._start is None:
            if self._visit.gone:
                raise ClientDisconnect("the client left, and the app has no answer")
            raise RuntimeError("the app behind call_next has ended without a response")
        self._visit.answered = self._forward is not None
        return NextResponse(self, self._start, is_sent=self._forward is not None)

    async def go_on(self, send: Send) -> None:
        """Run the app to its end. What it sends from now on goes there."""
        self._forward = send
        await self.run()

    async def end(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End an app that has paused, and that nobody wants any more: its `send()` raises, the cancellation if it is one."""
        if self.ended:
            return
        if isinstance(error, GeneratorExit):
            self._coroutine.close()
            return
        told: BaseException | None = _Answered("middleware has answered something else, or has failed")
        self._abandoned = told if error is None or isinstance(error, Exception) else error
        try:
            await self.run(self._abandoned)
        except BaseException as raised:
            if self._abandoned is None or not _is_only(raised, self._abandoned):
                raise
        finally:
            self._abandoned = told = error = None  # their tracebacks lead to this frame

    async def run(self, error: BaseException | None = None) -> None:
        """Step the app until it pauses or ends, in the running task."""
        steps, error = _Steps(self._coroutine, error), None  # with its traceback, it would hold this frame
        if self._paused is not None:
            self._paused.resume()
            self._paused = None
        try:
            await steps
        except BaseException:
            self.ended = True
            raise
        if self._visit.time_limit is not self._limit_around:
            self._paused = self._visit.time_limit
            self._paused.pause()
        self.ended = self._coroutine.cr_frame is None

    async def _send(self, message: Message) -> None:
        if self._abandoned is not None:
            raise self._abandoned
        if self._start is None and message["type"] != "http.response.start":  # an early hint, say
            await self._server_send(message)
            return
        is_first, self._start = self._start is None, self._start or message
        if self._forward is None and current_task() is not self._task:
            if not is_first:
                raise SentElsewhere("an app that sends its body from another task can't be read by middleware")
            self._forward = self._server_send
        if self._forward is None:
            self.held = message
            await _pause()
        else:
            await self._forward(message)


def _is_only(raised: BaseException, error: BaseException) -> bool:
    """Whether it is the error, or what apps make of one that `send()` raises: they put it into a group, or say that the client left."""
    if isinstance(raised, BaseExceptionGroup):
        return all(_is_only(inner, error) for inner in raised.exceptions)
    return raised is error or (raised.__context__ is error and type(raised).__name__ in ("ClientDisconnect", "WebSocketDisconnect"))


def _announce(scope: Scope) -> None:
    """Have another framework's app know that `send()` raises when the client has left (ASGI HTTP spec 2.4), as it does within a Router.

    Where a server says less, as uvicorn does, Starlette streams in a task of its own to find that out, and couldn't be paused.
    """
    asgi = scope.get("asgi", {})
    if tuple(map(int, asgi.get("spec_version", "2.0").split("."))) < (2, 4):
        scope["asgi"] = {**asgi, "spec_version": "2.4"}


def _replayed(request: Request) -> Receive:
    """`receive()` that has the request's body once more, if the function has read it."""
    kept = request._progress.kept_body
    if kept is None:
        return request._receive
    pieces = [kept]

    async def receive() -> Message:
        if not pieces:
            return await request._receive()
        return {"type": "http.request", "body": allowed(pieces.pop(), request.scope.get("extensions")), "more_body": False}

    return receive
