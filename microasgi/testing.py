"""Test an ASGI app in process, with a client that can leave.

    async with Client(app) as client:
        response = await client.get("/hello")
        assert response.status_code == 200

        async with client.open("POST", "/pay", json={"amount": 5}) as call:
            await call.hang_up()                     # the handler waits somewhere: the client leaves now

        async for departure in client.hang_up_everywhere("/pay", "POST"):
            assert await books_are_balanced(), departure

The last one runs the request again and again. The client leaves at the handler's first await, then at its second, and so on until
the handler comes to its end: an invariant that holds after each run holds wherever a client can leave.

It works on asyncio and trio, for a Router and for any other ASGI app; wrap the latter in `CancelOnDisconnect`, if its handlers are to be
stopped. There is no server and no socket in between: what a client sends is there at once, and what it is sent costs no time.
"""

import json as json_library
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import unquote

import anyio
from anyio.lowlevel import checkpoint

from microasgi.asgi import ASGIApp, Message, Scope
from microasgi.datastructures import Headers
from microasgi.exceptions import ClientDisconnect
from microasgi.promise.visit import EXTENSION
from microasgi.stepping import Stepper, place


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

    def json(self) -> Any:
        return json_library.loads(self.content)


@dataclass(frozen=True)
class Departure:
    """One run of `Client.hang_up_everywhere`.

    number: at which await of the app the client left, counted from 1.
    where: the line of the app that awaited, as in `shop.py:12 in pay`.
    cancelled: whether that cancelled the handler; it doesn't under `on_disconnect="finish"`.
    """

    number: int
    where: str
    cancelled: bool

    def __str__(self) -> str:
        return f"the client left at await {self.number}, {self.where}"


class Call:
    """One request on its way through the app. Made by `Client.open`.

    awaits: how often the app's task has waited so far.
    where: the line at which it waited when the client left by itself.
    cancelled: whether leaving cancelled the handler.
    """

    def __init__(self, scope: Scope, body: bytes, leave_at: int) -> None:
        self.awaits = 0
        self.where = ""
        self.cancelled = False
        self._scope = scope
        self._body: bytes | None = body
        self._leave_at = leave_at
        self._gone = False
        self._told = False
        self._complete = False
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._content = bytearray()
        self._callbacks: dict[object, Callable[[], object]] = {}
        self._error: BaseException | None = None
        self._changed = anyio.Event()
        self._waiting = anyio.Event()
        self._ended = anyio.Event()
        scope["extensions"] = {EXTENSION: {"subscribe": self._subscribe}}

    @property
    def response(self) -> Response:
        """What has come of the response so far."""
        return Response(self._status, Headers(self._headers), bytes(self._content), self._complete)

    async def finish(self) -> Response:
        """Wait for the app's end, and return its response.

        Whatever the app raises is raised here.
        """
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        return self.response

    async def hang_up(self) -> Response:
        """Leave, and wait for the app's end. Returns what had come of the response.

        An exception that the app raises, other than for the disconnect itself, is raised here.
        """
        self.leave()
        return await self.finish()

    def leave(self) -> None:
        """Leave, and don't wait."""
        if self._gone or self._complete:
            return
        self._gone = True
        for callback in tuple(self._callbacks.values()):
            self._tell(callback)
        self._notify()

    async def run(self, app: ASGIApp) -> None:
        """Call the app to its end."""
        try:
            await Stepper(app(self._scope, self._receive, self._send), self._suspended)  # type: ignore[arg-type]
        except ClientDisconnect as error:
            if not self._gone:
                self._error = error
        except Exception as error:
            self._error = error
        finally:
            self._waiting.set()
            self._ended.set()

    async def wait_suspended(self) -> None:
        """Return when the app first waits for something, or has ended."""
        await self._waiting.wait()

    def _suspended(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.awaits += 1
        self._waiting.set()
        if self.awaits == self._leave_at and not self._complete:
            self.where = place(coroutine)
            self.leave()

    def _subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        token = object()
        if not self._complete:
            self._callbacks[token] = callback
        if self._gone:
            self._tell(callback)

        def unsubscribe() -> None:
            self._callbacks.pop(token, None)

        return unsubscribe

    def _tell(self, callback: Callable[[], object]) -> None:
        self._told = True
        self.cancelled = callback() is True or self.cancelled

    async def _receive(self) -> Message:
        while True:
            if self._gone or self._complete:
                return {"type": "http.disconnect"}
            if self._body is not None:
                body, self._body = self._body, None
                return {"type": "http.request", "body": body, "more_body": False}
            await self._changed.wait()

    async def _send(self, message: Message) -> None:
        if self._gone:
            if self._callbacks or not self._told:
                raise ClientDisconnect("the client left")
            await checkpoint()  # all who were told have stopped, and nobody is told of what middleware around them says
            return
        match message["type"]:
            case "http.response.start":
                self._status = message["status"]
                self._headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
            case "http.response.body":
                self._content += message.get("body", b"")
                if message.get("more_body", False):
                    await checkpoint()
                    return
                self._complete = True
                self._callbacks.clear()
                self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class Client:
    """Calls an ASGI app in process.

    As an async context manager it runs the app's lifespan around the block; used without, it doesn't.

    :param app: an ASGI 3 application
    :param headers: header fields for every request
    """

    def __init__(self, app: ASGIApp, *, headers: Mapping[str, str] | None = None) -> None:
        self.app = app
        self._headers = dict(headers or {})
        self._state: dict[str, Any] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Client":
        await self._stack.enter_async_context(_lifespan(self.app, self._state))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    async def request(self, method: str, url: str, **options: Any) -> Response:
        """Send a request and wait for the app's end, its background tasks too. The options are those of `open`."""
        async with self.open(method, url, **options) as call:
            return await call.finish()

    async def get(self, url: str, **options: Any) -> Response:
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> Response:
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Any) -> Response:
        return await self.request("PUT", url, **options)

    async def patch(self, url: str, **options: Any) -> Response:
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str, **options: Any) -> Response:
        return await self.request("DELETE", url, **options)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        leave_at: int = 0,
    ) -> AsyncIterator[Call]:
        """A request that is on its way: the block begins when the app first waits for something, or has ended.

        A client that is still there at the end of the block leaves then, and the app's end is waited for.

        :param url: path and query
        :param content: the request's body
        :param json: a body to be sent as JSON, instead of `content`
        :param leave_at: leave by itself at the app's so many-th await; 0: not by itself
        """
        fields = {"host": "testserver", **self._headers, **(headers or {})}
        if json is not None:
            content = json_library.dumps(json).encode()
            fields.setdefault("content-type", "application/json")
        if content:
            fields.setdefault("content-length", str(len(content)))
        call = Call(_scope(method, url, fields, self._state), content, leave_at)
        failure: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.run, self.app)
            await call.wait_suspended()
            try:
                yield call
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # an assertion, say, which the task group would put into a group
                failure = error
            call.leave()
        if failure is not None:
            raise failure

    def hang_up_everywhere(self, url: str, method: str = "GET", *, limit: int = 1000, **options: Any) -> "Departures":
        """Run a request again and again, leaving at the app's first await, at its second, and so on; to be iterated over.

        It ends with the first run in which the app answers before the client would have left. Only the awaits that really
        wait count, and only those of the request's own task.

        Whatever the app raises, other than for the disconnect itself, is raised here, with a note that says where the client left.

        :param limit: give up after so many runs
        :raises RuntimeError: the app had not come to its end after `limit` awaits
        """
        return Departures(self, method, url, limit, options)


class Departures:
    """The runs of `Client.hang_up_everywhere`, one for each step of the iteration.

    No generator: a test that fails in the middle would leave one behind, and trio warns of those.
    """

    def __init__(self, client: Client, method: str, url: str, limit: int, options: dict[str, Any]) -> None:
        self._client = client
        self._method = method
        self._url = url
        self._limit = limit
        self._options = options
        self._number = 0

    def __aiter__(self) -> "Departures":
        return self

    async def __anext__(self) -> Departure:
        self._number = number = self._number + 1
        if number > self._limit:
            what = f"{self._method} {self._url}"
            raise RuntimeError(f"{what} still wasn't at its end after {self._limit} awaits; is it endless? Then stop iterating before that")
        async with self._client.open(self._method, self._url, leave_at=number, **self._options) as call:
            try:
                await call.finish()
            except Exception as error:
                error.add_note(f"the client left at await {number}, {call.where}" if call.where else "the client had not left")
                raise
        if not call.where:
            raise StopAsyncIteration
        return Departure(number, call.where, call.cancelled)


def _scope(method: str, url: str, headers: Mapping[str, str], state: Mapping[str, Any]) -> Scope:
    raw_path, _, query = url.partition("?")
    if not raw_path.startswith("/"):
        raise ValueError(f"a test client's URL is a path and a query, as in /items?page=2, not {url!r}")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": method.upper(),
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("testclient", 50000),
        "server": ("testserver", 80),
        "state": dict(state),
    }


@asynccontextmanager
async def _lifespan(app: ASGIApp, state: dict[str, Any]) -> AsyncIterator[None]:
    """The app between its startup and its shutdown; one that has no lifespan is left alone.

    :raises RuntimeError: its startup failed
    """
    started, stop, ended = anyio.Event(), anyio.Event(), anyio.Event()
    failures: list[str] = []

    async def receive() -> Message:
        if not started.is_set():
            return {"type": "lifespan.startup"}
        await stop.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        if message["type"].endswith(".failed"):
            failures.append(f"the app's {message['type'].split('.')[1]} failed: {message.get('message', '')}")
        started.set()

    async def run() -> None:
        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}, receive, send)
        except Exception as error:
            if started.is_set() and not failures:
                failures.append(f"the app's lifespan raised {error!r}")
        finally:
            started.set()
            ended.set()

    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await started.wait()
        if not failures:
            try:
                yield
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # as in `open`
                failure = error
            finally:
                stop.set()
                with anyio.CancelScope(shield=True):
                    await ended.wait()
    if failure is not None:
        raise failure
    if failures:
        raise RuntimeError(failures[0])
