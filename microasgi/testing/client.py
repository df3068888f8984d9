"""The client: it makes requests, and leaves in the middle of them."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio

from microasgi.asgi import ASGIApp, Scope
from microasgi.testing.call import Call, Response
from microasgi.testing.conversation import Conversation
from microasgi.testing.cookies import Cookies
from microasgi.testing.lifespan import running
from microasgi.testing.sent import Pairs, Sent, sent
from microasgi.testing.tasks import beside_the_block


class Client:
    """Calls an ASGI app in process.

    As an async context manager it runs the app's lifespan around the block; used without, it doesn't.

    cookies: kept between calls, as in a browser; a mapping of names to values.

    :param app: an ASGI 3 application
    :param headers: header fields for every request
    :param cookies: cookies to begin with
    :param base_url: scheme and host of every request: `Secure` cookies are sent with https only
    :param timeout: seconds after which a client that still has no complete response leaves; None: never
    :raises ValueError: the base URL is none
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        headers: Pairs | None = None,
        cookies: Mapping[str, str] | None = None,
        base_url: str = "http://testserver",
        timeout: float | None = None,
    ) -> None:
        base = urlsplit(base_url)
        if base.scheme not in ("http", "https") or not base.hostname or base.path.strip("/") or base.query:
            raise ValueError(f"a base URL is a scheme and a host, as in https://testserver, not {base_url!r}")
        self.app = app
        self.cookies = Cookies(cookies, base.hostname)
        self._base_url = f"{base.scheme}://{base.netloc}"
        self._headers = headers or {}
        self._timeout = timeout
        self._state: dict[str, Any] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Client":
        await self._stack.enter_async_context(running(self.app, self._state))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    async def request(self, method: str, url: str, *, timeout: float | None = None, **options: Any) -> Response:  # noqa: ASYNC109
        """Send a request and wait for the app's end, its background tasks too. The options are those of `open`.

        :param timeout: seconds after which the client leaves, instead of the client's own
        :raises TimeoutError: it has left, and the app has ended
        """
        seconds = self._timeout if timeout is None else timeout
        async with self.open(method, url, **options) as call:
            with anyio.move_on_after(seconds) as waiting:
                return await call.finish()
            if waiting.cancelled_caught:
                await call.hang_up()
        raise TimeoutError(f"{method} {url} had no end within {seconds:g} s; the client left then")

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

    async def head(self, url: str, **options: Any) -> Response:
        return await self.request("HEAD", url, **options)

    async def options(self, url: str, **options: Any) -> Response:
        return await self.request("OPTIONS", url, **options)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        *,
        params: Pairs | str | None = None,
        content: bytes | str | None = None,
        data: Pairs | None = None,
        files: Pairs | None = None,
        json: Any = None,
        headers: Pairs | None = None,
        cookies: Mapping[str, str] | None = None,
        leave_at: int = 0,
    ) -> AsyncIterator[Call]:
        """A request that is on its way: the block begins when the app first waits for something, or has ended.

        A client that is still there at the end of the block leaves then, and the app's end is waited for. What the app raised, other than
        for the disconnect itself, is raised then, unless `finish()` or `hang_up()` has raised it already.

        :param url: path and query; `params` are more of the query
        :param content: the request's body, or:
        :param data: a form's fields, sent as application/x-www-form-urlencoded
        :param files: a form's files, by field: content, or (name, content) or (name, content, media type); sent as multipart/form-data
        :param json: a body to be sent as JSON
        :param headers: header fields for this request alone, and so are `cookies`
        :param leave_at: leave by itself at the app's so many-th await; 0: not by itself
        :raises ValueError: the URL isn't a path, or a field has a character that HTTP doesn't allow
        :raises TypeError: there is more than one body; `data` and `files` are one, a form
        """
        body = {"content": content, "data": data, "files": files, "json": json}
        request = sent(method, url, self._defaults(url, cookies or {}), params=params, headers=headers, **body)
        call = Call(_scope(request, self._base_url, self._state), request.content, leave_at)
        async with beside_the_block(call.ending) as tasks:
            tasks.start_soon(call.run, self.app)
            await call.wait_suspended()
            try:
                yield call
            finally:
                call.leave()
                self.cookies.take(self._base_url + url, call.response.headers.raw)

    def _defaults(self, url: str, cookies: Mapping[str, str]) -> list[tuple[str, Any]]:
        """The fields that go with every request."""
        jar = self.cookies.header(self._base_url + url, cookies)
        general = self._headers.items() if isinstance(self._headers, Mapping) else self._headers
        return [("host", urlsplit(self._base_url).netloc), *([("cookie", jar)] if jar else []), *general]

    @asynccontextmanager
    async def websocket(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        params: Pairs | str | None = None,
        headers: Pairs | None = None,
        cookies: Mapping[str, str] | None = None,
        say: Iterable[str | bytes] = (),
        goodbye: bool = False,
        leave_at: int = 0,
    ) -> AsyncIterator[Conversation]:
        """A WebSocket that is on its way: the block begins when the app first waits for something, or has ended.

        If the app refuses it before it waits for anything else, the whole refusal is there then. Where it waits before, for a database,
        say, `finish()` waits for the refusal.

        A client that is still there at the end of the block says goodbye then, and the app's end is waited for. What the app raised is
        raised then, as `open` does it. The other parameters are those of `open`.

        :param subprotocols: what the client would speak, in its order of preference
        :param say: what it says at once
        :param goodbye: how it leaves at `leave_at`: with a close frame, or without
        """
        request = sent("GET", url, self._defaults(url, cookies or {}), params=params, headers=headers)
        scope = _scope(request, self._base_url, self._state)
        del scope["method"]
        scope["type"], scope["subprotocols"] = "websocket", list(subprotocols)
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        conversation = Conversation(scope, say, leave_at, goodbye=goodbye)
        async with beside_the_block(conversation.ending) as tasks:
            tasks.start_soon(conversation.run, self.app)
            tasks.start_soon(conversation.stir)
            await conversation.wait_suspended()
            try:
                yield conversation
            finally:
                conversation.leave(goodbye=True)

    def hang_up_everywhere(self, url: str, method: str = "GET", *, limit: int = 1000, **options: Any) -> "Departures":
        """Run a request again and again, leaving at the app's first await, at its second, and so on; to be iterated over.

        It ends with the first run in which the app answers before the client would have left. Only the awaits that really
        wait count, and only those of the request's own task.

        Whatever the app raises, other than for the disconnect itself, is raised here, with a note that says where the client left.

        :param method: the request's, or `WEBSOCKET`: then the options are those of `websocket`, and once the client has said what it has to
            `say`, it says goodbye
        :param limit: give up after so many runs
        :raises RuntimeError: the app had not come to its end after `limit` awaits
        """
        open_at = partial(self.websocket, url, **options) if method == "WEBSOCKET" else partial(self.open, method, url, **options)
        return Departures(open_at, f"{method} {url}", limit)


@dataclass(frozen=True)
class Departure:
    """One run of `Client.hang_up_everywhere`.

    number: at which await of the app the client left, counted from 1.
    where: the line of the app that awaited, as in `shop.py:12 in pay`.
    cancelled: whether that told the handler to stop; it doesn't under `on_disconnect="finish"`. A handler that was in a thread or a shield
        then has ended that first, and may have returned without hearing of it, with all its work done.
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

    def __init__(self, open_at: Callable[..., AbstractAsyncContextManager[Any]], what: str, limit: int) -> None:
        self._open_at = open_at
        self._what = what
        self._limit = limit
        self._number = 0

    def __aiter__(self) -> "Departures":
        return self

    async def __anext__(self) -> Departure:
        self._number = number = self._number + 1
        if number > self._limit:
            raise RuntimeError(
                f"{self._what} still wasn't at its end after {self._limit} awaits; is it endless? Then stop iterating before that"
            )
        async with self._open_at(leave_at=number) as call:
            try:
                await call.finish()
            except Exception as error:
                error.add_note(f"the client left at await {number}, {call.where}" if call.where else "the client had not left")
                raise
        if not call.where:
            raise StopAsyncIteration
        return Departure(number, call.where, call.cancelled)


def _scope(request: Sent, base_url: str, state: Mapping[str, Any]) -> Scope:
    base = urlsplit(base_url)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": base.scheme,
        "path": unquote(request.path),
        "raw_path": request.path.encode(),
        "query_string": request.query.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers],
        "client": ("testclient", 50000),
        "server": (base.hostname, base.port or (443 if base.scheme == "https" else 80)),
        "state": dict(state),
    }
