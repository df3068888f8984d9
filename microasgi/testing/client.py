"""The client: it makes requests, and leaves in the middle of them."""

import json as json_library
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from microasgi.asgi import ASGIApp, Scope
from microasgi.testing.call import Call, Response
from microasgi.testing.lifespan import running
from microasgi.testing.tasks import beside_the_block


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
        await self._stack.enter_async_context(running(self.app, self._state))
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
        async with beside_the_block() as tasks:
            tasks.start_soon(call.run, self.app)
            await call.wait_suspended()
            try:
                yield call
            finally:
                call.leave()

    def hang_up_everywhere(self, url: str, method: str = "GET", *, limit: int = 1000, **options: Any) -> "Departures":
        """Run a request again and again, leaving at the app's first await, at its second, and so on; to be iterated over.

        It ends with the first run in which the app answers before the client would have left. Only the awaits that really
        wait count, and only those of the request's own task.

        Whatever the app raises, other than for the disconnect itself, is raised here, with a note that says where the client left.

        :param limit: give up after so many runs
        :raises RuntimeError: the app had not come to its end after `limit` awaits
        """
        return Departures(self, method, url, limit, options)


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
