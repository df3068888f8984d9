"""The client for tests that are plain functions: the same, with an event loop in a thread of its own."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from microasgi.asgi import ASGIApp
from microasgi.testing.call import Call, Response
from microasgi.testing.client import Client, Departure, Departures
from microasgi.testing.conversation import Conversation
from microasgi.testing.cookies import Cookies


class SyncClient:
    """`Client` without `async` and `await`. Everything happens in one event loop between the block's begin and its end.

        with SyncClient(app) as client:
            assert client.get("/hello").status_code == 200

    As a context manager it runs the app's lifespan around the block; used without, it doesn't, and each call has a loop of its own.

    :param app: an ASGI 3 application
    :param backend: `asyncio` or `trio`
    :param backend_options: as `anyio.run` takes them
    :param options: as `Client` takes them
    """

    def __init__(self, app: ASGIApp, *, backend: str = "asyncio", backend_options: dict[str, Any] | None = None, **options: Any) -> None:
        self._client = Client(app, **options)
        self._backend = backend
        self._backend_options = backend_options
        self._portals: list[BlockingPortal] = []
        self._stack = ExitStack()

    def __enter__(self) -> "SyncClient":
        with ExitStack() as stack:
            portal = stack.enter_context(self._start())
            stack.enter_context(portal.wrap_async_context_manager(self._client))
            self._portals.append(portal)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._portals.pop()
        self._stack.__exit__(kind, error, traceback)

    @property
    def cookies(self) -> Cookies:
        """Kept between calls, as in a browser."""
        return self._client.cookies

    def request(self, method: str, url: str, **options: Any) -> Response:
        """Send a request and wait for the app's end. The options are those of `Client.request`."""
        with self._portal() as portal:
            return portal.call(lambda: self._client.request(method, url, **options))

    def get(self, url: str, **options: Any) -> Response:
        return self.request("GET", url, **options)

    def head(self, url: str, **options: Any) -> Response:
        return self.request("HEAD", url, **options)

    def options(self, url: str, **options: Any) -> Response:
        return self.request("OPTIONS", url, **options)

    def post(self, url: str, **options: Any) -> Response:
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Any) -> Response:
        return self.request("PUT", url, **options)

    def patch(self, url: str, **options: Any) -> Response:
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Any) -> Response:
        return self.request("DELETE", url, **options)

    @contextmanager
    def open(self, method: str, url: str, **options: Any) -> Iterator["SyncCall"]:
        """A request that is on its way, as `Client.open` has it."""
        with self._portal() as portal, portal.wrap_async_context_manager(self._client.open(method, url, **options)) as call:
            yield SyncCall(call, portal)

    @contextmanager
    def websocket(self, url: str, **options: Any) -> Iterator["SyncConversation"]:
        """A WebSocket that is on its way, as `Client.websocket` has it."""
        with self._portal() as portal, portal.wrap_async_context_manager(self._client.websocket(url, **options)) as conversation:
            yield SyncConversation(conversation, portal)

    def hang_up_everywhere(self, url: str, method: str = "GET", *, limit: int = 1000, **options: Any) -> Iterator[Departure]:
        """Run a request again and again, leaving at one await after the other, as `Client.hang_up_everywhere` does."""
        runs = self._client.hang_up_everywhere(url, method, limit=limit, **options)
        with self._portal() as portal:
            while (departure := portal.call(_next, runs)) is not None:
                yield departure

    def _start(self) -> AbstractContextManager[BlockingPortal]:
        return start_blocking_portal(self._backend, self._backend_options)

    @contextmanager
    def _portal(self) -> Iterator[BlockingPortal]:
        """The way into the block's loop, or into one that is there for this call."""
        if self._portals:
            yield self._portals[-1]
        else:
            with self._start() as portal:
                yield portal


class SyncCall:
    """One request on its way through the app, for a plain function: `Call`, whose words these are."""

    def __init__(self, call: Call, portal: BlockingPortal) -> None:
        self._call = call
        self._portal = portal

    def __repr__(self) -> str:
        return repr(self._call)

    @property
    def awaits(self) -> int:
        """How often the app's task has waited so far."""
        return self._call.awaits

    @property
    def cancelled(self) -> bool:
        """Whether leaving has told the handler to stop, as for `Call`."""
        return self._call.cancelled

    @property
    def response(self) -> Response:
        """What has come of the response so far."""
        return self._call.response

    def finish(self) -> Response:
        """Wait for the app's end, and return its response."""
        return self._portal.call(self._call.finish)

    def hang_up(self) -> Response:
        """Leave, and wait for the app's end."""
        return self._portal.call(self._call.hang_up)

    def leave(self) -> None:
        """Leave, and don't wait."""
        self._portal.call(self._call.leave)


class SyncConversation:
    """One WebSocket on its way through the app, for a plain function: `Conversation`, whose words these are.

        def greet(ws: SyncConversation) -> None:
            ws.send_text("hello")
            assert ws.receive_text() == "hello"

    Made by `SyncClient.websocket`.
    """

    def __init__(self, conversation: Conversation, portal: BlockingPortal) -> None:
        self._conversation = conversation
        self._portal = portal

    def __repr__(self) -> str:
        return repr(self._conversation)

    @property
    def accepted(self) -> bool:
        """Whether the app has accepted it."""
        return self._conversation.accepted

    @property
    def subprotocol(self) -> str | None:
        """What the app has chosen to speak."""
        return self._conversation.subprotocol

    @property
    def response(self) -> Response:
        """The response that the app has answered with instead."""
        return self._conversation.response

    @property
    def close_code(self) -> int | None:
        """What the app has closed it with; None, as long as it has not."""
        return self._conversation.close_code

    @property
    def cancelled(self) -> bool:
        """Whether leaving has told the handler to stop, at once."""
        return self._conversation.cancelled

    def send_text(self, text: str) -> None:
        self._portal.call(self._conversation.send_text, text)

    def send_bytes(self, data: bytes) -> None:
        self._portal.call(self._conversation.send_bytes, data)

    def send_json(self, value: Any) -> None:
        self._portal.call(self._conversation.send_json, value)

    def receive(self) -> str | bytes:
        return self._portal.call(self._conversation.receive)

    def receive_text(self) -> str:
        return self._portal.call(self._conversation.receive_text)

    def receive_bytes(self) -> bytes:
        return self._portal.call(self._conversation.receive_bytes)

    def receive_json(self) -> Any:
        return self._portal.call(self._conversation.receive_json)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye, and wait for the app's end."""
        self._portal.call(self._conversation.close, code, reason)

    def hang_up(self, *, goodbye: bool = False) -> None:
        """Leave, and wait for the app's end."""
        self._portal.call(lambda: self._conversation.hang_up(goodbye=goodbye))

    def finish(self) -> None:
        """Wait for the app's end."""
        self._portal.call(self._conversation.finish)


async def _next(runs: Departures) -> Departure | None:
    return await anext(runs, None)
