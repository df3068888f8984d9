"""An app that is inspected, and the inspector's page, both in the test's own loop, on real sockets."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from microasgi_server import Config, serve
from microasgi_server.connection import Connection
from microasgi_server.taps import Redaction, tapped

from microasgi.command.inspecting import subject
from microasgi.inspector.page.routes import page
from microasgi.inspector.page.session import Session
from microasgi.inspector.page.visits import Asked
from microasgi.lint.marking import HERE, marked
from microasgi.watching import watch
from tests.harness import PATIENCE, Client, Response, Served, eventually, serving

TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass
class Inspected:
    """Both of them.

    app, page: as they are served.
    """

    app: Served
    page: Served
    session: Session

    @property
    def address(self) -> str:
        """For a browser."""
        return f"{self.page.address}/#t={TOKEN}"

    async def ask(self, path: str, order: Any = None, headers: Mapping[str, str | None] | None = None) -> Response:
        """Ask the page, as its own script does; `headers` are others, or in place of those."""
        async with await self.page.connect() as client:
            with anyio.fail_after(PATIENCE):  # a stream doesn't end
                return await ask(client, path, order, {**self.usual(), **(headers or {})})

    def usual(self) -> dict[str, str | None]:
        """What the page's script sends."""
        return {"host": f"127.0.0.1:{self.page.port}", "authorization": f"Bearer {TOKEN}"}

    async def get(self, path: str) -> Any:
        """What is answered, as JSON."""
        answer = await self.ask(path)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    async def visit(self, method: str, path: str, way: str = "fin", after: float | None = 0.05, **more: str) -> int:
        """Make a request with the page's client, which leaves; gives the id of the request, as soon as the app's side is known."""
        before = set(self.session.recording.entries)
        answer = await self.ask("/open", {"method": method, "path": path, "way": way, "after": after, **more})
        assert answer.status == 200, answer
        await eventually(lambda: [id for id in self.session.recording.entries if id not in before and self.session.asked(id)])
        return max(set(self.session.recording.entries) - before)

    async def first_news(self) -> str:
        """What an open page is told first, up to a request."""
        async with await self.page.connect() as client:
            head = "".join(f"{name}: {value}\r\n" for name, value in self.usual().items())
            await client.send(f"GET /stream HTTP/1.1\r\n{head}\r\n".encode())
            text = ""
            while '"kind":"request"' not in text:
                text += (await client.receive()).decode()
            return text

    async def timeline(self, id: int, until: str = "ended") -> Any:
        """A request as the page shows it, as soon as it has ended, or has something of another name."""
        while True:
            found = await self.get(f"/timeline/{id}")
            if found.get(until) or (until == "ended" and not found["running"]):
                return found
            await anyio.sleep(0.01)


async def ask(client: Client, path: str, order: Any, headers: Mapping[str, str | None]) -> Response:
    """One request, and its answer."""
    body = b"" if order is None else json.dumps(order).encode()
    method = "GET" if order is None else "POST"
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
    if order is not None:
        lines.append(f"content-length: {len(body)}")
    await client.send("\r\n".join([*lines, "", ""]).encode() + body)
    return await client.response()


async def nowhere(asked: Asked) -> dict[str, Any]:
    """There is nothing to compare with."""
    raise NotImplementedError


@asynccontextmanager
async def inspecting(app: Any, redaction: Redaction | None = None, compare: Any = nowhere, **options: Any) -> AsyncIterator[Inspected]:
    """An app, inspected as `microasgi inspect` does it, but in this loop. The options are those of `Config`."""
    redaction = redaction or Redaction()
    session = Session(subject(app, "tests:app", "asyncio", redaction), compares="uvicorn")
    tap = tapped(Connection, session.feed, redaction, beyond=[HERE])
    async with session.running(), anyio.create_task_group() as tasks:

        async def run(*, task_status: Any) -> None:
            await serve(watch(marked(app)), Config(**{"port": 0, **options}), connection_class=tap, task_status=task_status)

        (address,) = await tasks.start(run)
        served = Served(address, anyio.Event(), anyio.Event())
        session.accepts("127.0.0.1", served.port, None)  # whether this loop turns can't be seen from within
        async with serving(page(session, TOKEN, compare), access_log=False) as seen:
            yield Inspected(served, seen, session)
        tasks.cancel_scope.cancel()
