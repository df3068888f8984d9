"""What the tests of reported cases share: a handler that is left, in a Router on our server and in `CancelOnDisconnect` on others."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from microasgi import CancelOnDisconnect, Request, Response, Router
from microasgi.asgi import Receive, Scope, Send
from tests.conftest import LOOPS
from tests.foreign.servers import SERVERS
from tests.harness import GET, Served, eventually, loud_lines, within
from tests.needs import needs_package

SOON = 1.0
"""Seconds within which all is over that a departure should end at once. The grace is 5."""


@dataclass
class Witness:
    """What happens to one handler."""

    begun: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)
    notes: list[str] = field(default_factory=list)

    async def wait(self) -> None:
        """Where the client leaves."""
        self.begun.set()
        await anyio.sleep(30)
        self.notes.append("went on")


Case = Callable[[Request, Witness], Awaitable[None]]


@asynccontextmanager
async def arranged(server: str, case: Case, witness: Witness, routed: bool) -> AsyncIterator[Served]:
    """Serve a handler: a Router's, or a raw app's in `CancelOnDisconnect`."""
    routes = Router()

    @routes.route("/", ["GET", "POST"])
    async def handler(request: Request) -> None:
        try:
            await case(request, witness)
        finally:
            witness.ended.set()

    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await handler(Request(scope, receive))
            await Response()(scope, receive, send)

    async with SERVERS[server](routes if routed else CancelOnDisconnect(raw)) as served:
        yield served


def said_499(caplog: pytest.LogCaptureFixture) -> int:
    """How many departures the log tells of."""
    return len([record for record in caplog.records if " 499 " in record.getMessage()])


def _places(*loops: str) -> list[Any]:
    places = [(loop, "ours") for loop in loops] + [(loop, "hypercorn" if loop == "trio" else "uvicorn") for loop in loops]
    marks = {"ours": [], "uvicorn": [needs_package("uvicorn")], "hypercorn": [needs_package("hypercorn")]}
    return [pytest.param(LOOPS[loop], server, marks=marks[server], id=f"{loop}-{server}") for loop, server in places]


def table(*cases: Case, asyncio_only: tuple[Case, ...] = ()) -> Callable[[Any], Any]:
    """Run a test with these cases, each at all places that have its loop."""
    rows = [
        pytest.param(*place.values, case, marks=place.marks, id=f"{case.__name__}-{place.id}")
        for case in (*cases, *asyncio_only)
        for place in (_places("asyncio", "uvloop") if case in asyncio_only else _places(*LOOPS))
    ]
    return pytest.mark.parametrize(("anyio_backend", "server", "case"), rows)


async def left(
    case: Case,
    server: str,
    caplog: pytest.LogCaptureFixture,
    request: bytes = GET,
    *,
    routed: bool = False,
    witness: Witness | None = None,
) -> Witness:
    """Have the client leave where the handler waits: it ends soon, and nobody complains.

    :param routed: use a Router on foreign servers, too
    """
    witness = witness or Witness()
    async with arranged(server, case, witness, routed or server == "ours") as served:
        async with await served.connect() as client:
            await client.send(request)
            await within(witness.begun)
        await within(witness.ended, SOON)
        await eventually(lambda: said_499(caplog) == 1)
    loud = loud_lines(caplog)
    assert not loud, loud
    assert said_499(caplog) == 1
    return witness
