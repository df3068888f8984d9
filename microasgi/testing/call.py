"""One request on its way through an app, and its client, who may leave."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from http.cookies import SimpleCookie
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from microasgi.asgi import ASGIApp, Message, Scope
from microasgi.datastructures import Headers
from microasgi.exceptions import ClientDisconnect
from microasgi.promise.visit import EXTENSION
from microasgi.testing.answer import Answer
from microasgi.testing.recording import message_facts, name_of, records
from microasgi.testing.stepping import Stepper, goes_on, is_departure
from microasgi.testing.tasks import Ending
from microasgi.watching.places import place


class SwallowedCancellation(AssertionError):
    """A handler has caught its cancellation and gone on to answer, as if its client were there."""


class Presence(Enum):
    """Whether the client is there."""

    HERE = auto()
    GONE = auto()
    """It left before it had all that it came for."""
    SERVED = auto()
    """It left with all of that."""


HERE, GONE, SERVED = Presence


@dataclass(frozen=True)
class Response:
    """A response as the client got it.

    status_code: the status, or 0 if the client left before it came.
    complete: whether its last byte came.
    """

    status_code: int
    headers: Headers
    content: bytes
    complete: bool

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def cookies(self) -> dict[str, str]:
        """What it sets, by name."""
        found: SimpleCookie = SimpleCookie()
        for cookie in self.headers.getlist("set-cookie"):
            found.load(cookie)
        return {name: morsel.value for name, morsel in found.items()}

    def json(self) -> Any:
        return json.loads(self.content)


_SWALLOWED = (
    "the handler was cancelled, as its client had left, and went on to answer all the same: something in it catches the cancellation "
    "(`except BaseException`, a bare `except`, `suppress`) and doesn't raise it again"
)


class Call:
    """One request on its way through the app. Made by `Client.open`.

    awaits: how often the app's task has waited so far.
    where: the line at which it waited when the client left by itself.
    cancelled: whether leaving has told the handler to stop. It hears that at its next await that can be cancelled; who is in a thread or a
        shield ends that first, and may return before it hears.
    ending: the app's end.
    """

    def __init__(self, scope: Scope, body: bytes, leave_at: int) -> None:
        self.awaits = 0
        self.where = ""
        self.cancelled = False
        self.ending = Ending()
        self._scope = scope
        self._body: bytes | None = body
        self._leave_at = leave_at
        self._client = HERE
        self._told = False
        self._has_heard = False
        self._swallowed = False
        self._answer = Answer(scope["method"])
        self._callbacks: dict[object, Callable[[], object]] = {}
        self._changed = anyio.Event()
        self._waiting = anyio.Event()
        self._record = records.record(f"{scope['method']} {scope['path']}")
        scope["extensions"] = {EXTENSION: {"subscribe": self._subscribe}}

    def __repr__(self) -> str:
        request = f"{self._scope['method']} {self._scope['path']!r}"
        answer = self._answer
        state = "complete" if answer.complete else "client gone" if self._client is GONE else "answering" if answer.status else "waiting"
        return f"<Call {request}, {self.awaits} awaits, {state}, {len(answer.content)} bytes of a {answer.status or 'response'}>"

    @property
    def response(self) -> Response:
        """What has come of the response so far."""
        answer = self._answer
        return Response(answer.status, Headers(answer.headers), bytes(answer.content), answer.complete)

    async def finish(self) -> Response:
        """Wait for the app's end, and return its response.

        Whatever the app raises is raised here.

        :raises SwallowedCancellation: the client has left, and the handler went on to answer
        :raises RuntimeError: the app returned without completing its response
        """
        await self.ending.wait()
        return self.response

    async def hang_up(self) -> Response:
        """Leave, and wait for the app's end. Returns what had come of the response.

        An exception that the app raises, other than for the disconnect itself, is raised here.
        """
        self.leave()
        return await self.finish()

    def leave(self) -> None:
        """Leave, and don't wait."""
        if self._client is not HERE or self._answer.complete:
            return
        if self._answer.handed_over:
            self._client = SERVED
            self._notify()
            return
        self._client = GONE
        if not self.ending.reached.is_set():  # behind the app's end it is nothing to tell of
            self._record.tell("client", "close", way="leave")
        for callback in tuple(self._callbacks.values()):
            self._tell(callback)
        self._notify()

    async def run(self, app: ASGIApp) -> None:
        """Call the app to its end."""
        try:
            await Stepper(self._suspended, self._heard, self._record).run(app(self._scope, self._receive, self._send), "http")  # type: ignore[arg-type]
            if self._client is not GONE and not self._answer.complete:
                self.ending.error = RuntimeError(f"the app returned without completing its response, which is {self._answer.phase.name}")
        except Exception as error:
            self.ending.take(error, gone=self._client is GONE)
        finally:
            if self._swallowed and self.ending.error is None:
                self.ending.error = SwallowedCancellation(_SWALLOWED)
            self._waiting.set()
            self.ending.reached.set()

    async def wait_suspended(self) -> None:
        """Return when the app first waits for something, or has ended."""
        await self._waiting.wait()

    def _suspended(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.awaits += 1
        self._waiting.set()
        if self.awaits == self._leave_at and not self._answer.handed_over:
            self.where = place(coroutine)
            self.leave()

    def _heard(self, error: BaseException) -> None:
        self._has_heard = self._has_heard or is_departure(error)

    def _subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        token = object()
        if not self._answer.complete:
            self._callbacks[token] = callback
        if self._client is GONE:
            self._tell(callback)

        def unsubscribe() -> None:
            self._callbacks.pop(token, None)

        return unsubscribe

    def _tell(self, callback: Callable[[], object]) -> None:
        self._told = True
        self._record.tell("asgi", "told", who=name_of(callback))
        self.cancelled = callback() is True or self.cancelled

    async def _receive(self) -> Message:
        while (message := self._next()) is None:
            await self._changed.wait()
        self._record.tell("asgi", "receive", **message_facts(message))
        return message

    def _next(self) -> Message | None:
        """What `receive()` gives now; None: nothing yet."""
        if self._client is not HERE or self._answer.complete:
            return {"type": "http.disconnect"}
        if self._body is None:
            return None
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        self._record.tell("asgi", "send", dropped=self._client is GONE, **message_facts(message))
        if self._client is GONE:
            if self.cancelled and goes_on(heard=self._has_heard):
                self._swallowed = True
            if self._callbacks or not self._told:
                raise ClientDisconnect("the client left")
            await checkpoint()  # all who were told have stopped, and nobody is told of what middleware around them says
            return
        self._answer.take(message)
        if not self._answer.complete:
            if message["type"] == "http.response.body":
                await checkpoint()
            return
        self._callbacks.clear()
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
