"""One WebSocket on its way through an app, and its client, who may leave in two ways."""

import json
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from microasgi.asgi import ASGIApp, Message, Scope
from microasgi.datastructures import Headers
from microasgi.exceptions import ClientDisconnect, WebSocketDisconnect
from microasgi.promise.inbox import VANISHED, Inbox
from microasgi.promise.visit import EXTENSION
from microasgi.testing.call import Response
from microasgi.testing.recording import message_facts, name_of, records
from microasgi.testing.stepping import Stepper
from microasgi.testing.tasks import Ending
from microasgi.watching.places import place


class Conversation:
    """One WebSocket on its way through the app, seen from its client, a `Conversation`. Made by `Client.websocket`.

        async def greet(ws: Conversation) -> None:
            await ws.send_text("hello")
            assert await ws.receive_text() == "hello"
            await ws.hang_up(goodbye=True)

    accepted: whether the app has accepted it.
    subprotocol: what it has chosen to speak.
    headers: the fields that it has answered the handshake with.
    close_code, close_reason: what the app has closed it with; None and empty, as long as it has not.
    awaits: how often the app's task has waited so far.
    where: the line at which it waited when the client left by itself.
    cancelled: whether leaving has told the handler to stop, at once; as for `Call`, it may return before it hears.
    ending: the app's end.
    """

    def __init__(self, scope: Scope, said: Iterable[str | bytes], leave_at: int, *, goodbye: bool) -> None:
        self.accepted = False
        self.subprotocol: str | None = None
        self.headers = Headers([])
        self.close_code: int | None = None
        self.close_reason = ""
        self.awaits = 0
        self.where = ""
        self.cancelled = False
        self.ending = Ending()
        self._scope = scope
        self._leave_at = leave_at
        self._goodbye = goodbye
        self._inbox = Inbox()
        self._inbox.put({"type": "websocket.connect"})
        for content in said:
            self._say(content)
        self._heard: list[str | bytes] = []
        self._denial = Response(0, Headers([]), b"", complete=False)
        self._callbacks: dict[object, tuple[Callable[[], object], Callable[[bool], object]]] = {}
        self._changed = anyio.Event()
        self._waiting = anyio.Event()
        self._stirred = anyio.Event()
        self._record = records.record(f"WEBSOCKET {scope['path']}")
        scope["extensions"] = {EXTENSION: {"subscribe": self._subscribe}, "websocket.http.response": {}}

    def __repr__(self) -> str:
        over = self.close_code is not None or self._denial.complete
        state = "over" if over else "client gone" if self._inbox.end else "open" if self.accepted else "connecting"
        return f"<Conversation {self._scope['path']!r}, {self.awaits} awaits, {state}, {len(self._heard)} messages to read>"

    @property
    def response(self) -> Response:
        """The response that the app has answered with instead; status 403 if it has closed before it has accepted, 0 if there is none."""
        return self._denial

    # What the client says.

    async def send_text(self, text: str) -> None:
        """Say something."""
        self._say(text)
        await self._let_go_on()

    async def send_bytes(self, data: bytes) -> None:
        """Say something."""
        self._say(data)
        await self._let_go_on()

    async def send_json(self, value: Any) -> None:
        """Say something, in JSON."""
        await self.send_text(json.dumps(value))

    def _say(self, content: str | bytes) -> None:
        self._inbox.put({"type": "websocket.receive", "text" if isinstance(content, str) else "bytes": content})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye, and wait for the app's end. Raises what the app raises."""
        self._leave(code, reason)
        await self.finish()

    async def hang_up(self, *, goodbye: bool = False) -> None:
        """Leave, and wait for the app's end. Raises what the app raises, other than for the disconnect itself.

        :param goodbye: as a page that is left; else as a client whose connection breaks
        """
        self.leave(goodbye=goodbye)
        await self.finish()

    def leave(self, *, goodbye: bool = False) -> None:
        """Leave, and don't wait."""
        self._leave(1001 if goodbye else VANISHED)

    async def finish(self) -> None:
        """Wait for the app's end. Whatever it raises is raised here."""
        await self.ending.wait()

    # What it hears.

    async def receive(self) -> str | bytes:
        """The app's next message.

        :raises WebSocketDisconnect: there is none: the app has closed it, or has ended
        """
        while not self._heard:
            if self.close_code is not None:
                raise WebSocketDisconnect(self.close_code, self.close_reason)
            if self.ending.reached.is_set():
                await self.finish()
                raise WebSocketDisconnect(VANISHED, "the app has ended")
            await self._changed.wait()
        return self._heard.pop(0)

    async def receive_text(self) -> str:
        """The app's next message, which must be text."""
        message = await self.receive()
        assert isinstance(message, str), f"the app has sent bytes, not text: {message!r}"
        return message

    async def receive_bytes(self) -> bytes:
        """The app's next message, which must be bytes."""
        message = await self.receive()
        assert isinstance(message, bytes), f"the app has sent text, not bytes: {message!r}"
        return message

    async def receive_json(self) -> Any:
        """The app's next message, read as JSON."""
        return json.loads(await self.receive())

    # The app's side.

    async def run(self, app: ASGIApp) -> None:
        """Call the app to its end."""
        try:
            await Stepper(self._suspended, lambda error: None, self._record).run(app(self._scope, self._receive, self._send), "websocket")  # type: ignore[arg-type]
        except Exception as error:
            self.ending.take(error, gone=self._inbox.end is not None)
        finally:
            self._waiting.set()
            self.ending.reached.set()
            self._stirred.set()
            self._notify()

    async def stir(self) -> None:
        """Wake who waits for a client that has left by itself: then the app is about to wait, and can't be woken before it does."""
        await self._stirred.wait()
        self._notify()

    async def wait_suspended(self) -> None:
        """Return when the app first waits for something, other than to go on with a refusal, or has ended."""
        await self._waiting.wait()

    async def _receive(self) -> Message:
        while True:
            message = self._inbox.take()
            if message is not None:
                self._record.tell("asgi", "receive", **message_facts(message))
                return message
            if self.close_code is not None:
                return {"type": "websocket.disconnect", "code": self.close_code, "reason": self.close_reason}
            if (
                self._leave_at > self.awaits + 1 and self._inbox.end is None
            ):  # it would wait for ever: the client has said all that it has to
                self._leave(1000)
                continue
            await self._changed.wait()

    async def _send(self, message: Message) -> None:
        self._record.tell("asgi", "send", dropped=self._inbox.end is not None, **message_facts(message))
        if self._inbox.end is not None:
            raise ClientDisconnect(f"the client left ({self._inbox.end['code']})")
        match message["type"]:
            case "websocket.accept":
                self.accepted = True
                self.subprotocol = message.get("subprotocol")
                self.headers = Headers(list(message.get("headers") or ()))
            case "websocket.send":
                text = message.get("text")
                self._heard.append(text if text is not None else bytes(message["bytes"]))
            case "websocket.close":
                self.close_code, self.close_reason = message.get("code", 1000), message.get("reason") or ""
                if not self.accepted:
                    self._denial = Response(403, Headers([]), b"", complete=True)
            case "websocket.http.response.start":
                self._denial = Response(message["status"], Headers(list(message.get("headers", ()))), b"", complete=False)
            case "websocket.http.response.body":
                more = message.get("more_body", False)
                content = self._denial.content + message.get("body", b"")
                self._denial = Response(self._denial.status_code, self._denial.headers, content, complete=not more)
                if not more:
                    self.close_code = VANISHED
        if self.close_code is not None:
            self._callbacks.clear()
        taken = self._inbox.taken
        self._notify()
        await checkpoint()
        if message["type"] == "websocket.send":
            self._inbox.answered(taken)

    def _suspended(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.awaits += 1
        if self._denial.complete or not self._denial.status_code:  # who sees that it is refused sees the whole response
            self._waiting.set()
        if self.awaits == self._leave_at and self.close_code is None and self._inbox.end is None:
            self.where = place(coroutine)
            self._depart(1001 if self._goodbye else VANISHED)
            self._stirred.set()

    def _leave(self, code: int, reason: str = "") -> None:
        if self._inbox.end is None and self.close_code is None:
            self._depart(code, reason)
            self._notify()

    def _depart(self, code: int, reason: str = "") -> None:
        if not self.ending.reached.is_set():
            self._record.tell("client", "close", way="leave" if code == VANISHED else "goodbye")
        self._inbox.close(code, reason)
        said = [self._tell(*callback) for callback in tuple(self._callbacks.values())]
        if code == VANISHED and False not in said:
            self._inbox.drop()

    def _tell(self, leave: Callable[[], object], goodbye: Callable[[bool], object]) -> object:
        self._record.tell("asgi", "told", who=name_of(leave))
        vanished = self._inbox.end is not None and self._inbox.end["code"] == VANISHED
        said = leave() if vanished else goodbye(self._inbox.busy)
        self.cancelled = said is True or self.cancelled
        return said

    def _subscribe(self, leave: Callable[[], object], goodbye: Callable[[bool], object] | None = None) -> Callable[[], None]:
        token = object()
        both = leave, goodbye or (lambda busy: None if busy else leave())
        if self.close_code is None:
            self._callbacks[token] = both
        if self._inbox.end is not None:
            self._tell(*both)

        def unsubscribe() -> None:
            self._callbacks.pop(token, None)

        return unsubscribe

    async def _let_go_on(self) -> None:
        self._notify()
        await checkpoint()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
