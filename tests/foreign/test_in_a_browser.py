"""A real browser on our server: what EventSource makes of our events, and what a page says before it closes a WebSocket."""

import json
import select
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import pytest
from anyio import to_thread
from microasgi_server.connection import Connection
from microasgi_server.running import RunningServer
from websockets.asyncio.client import connect

from microasgi import Event, EventStream, HTMLResponse, Request, Router, WebSocket
from tests.browser import LISTENING, launched, open_tab
from tests.conftest import LOOPS
from tests.harness import eventually, serving, within
from tests.needs import path_of

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"]], ids=["asyncio"])]

PAGE = """
<!doctype html>
<script>
  const seen = [], source = new EventSource("/events");
  source.addEventListener("count", event => {
    seen.push(`${event.lastEventId}: ${event.data}`);
    if (seen.length === 3) { source.close(); fetch("/seen", {method: "POST", body: JSON.stringify(seen)}); }
  });
</script>
"""


@pytest.fixture
def chromium() -> str:
    return path_of("chromium")


async def test_eventsource_comes_back_where_it_was(chromium: str, tmp_path: Path) -> None:
    """When a stream ends, EventSource connects again after our `retry`, and says which event was its last; lines and JSON arrive whole."""
    routes, done = Router(), anyio.Event()
    began_after: list[str | None] = []
    seen: list[str] = []

    @routes.get("/")
    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse(PAGE)

    @routes.get("/events")
    async def events(request: Request) -> EventStream:
        last = request.headers.get("last-event-id")
        began_after.append(last)

        async def counted() -> AsyncIterator[Event]:
            number = int(last or 0) + 1
            yield Event(f"{number}\nis\n\nit", id=str(number), event="count")

        return EventStream(counted(), retry=0.01)

    @routes.post("/seen")
    async def tell(request: Request) -> None:
        seen.extend(await request.json())
        done.set()

    async with serving(routes) as served, launched(chromium, tmp_path, f"http://127.0.0.1:{served.port}/"):
        await within(done, 30)
    assert began_after == [None, "1", "2"]
    assert seen == ["1: 1\nis\n\nit", "2: 2\nis\n\nit", "3: 3\nis\n\nit"]


TALK = """
<!doctype html>
<script>
  const ends = [], times = Number(new URLSearchParams(location.search).get("times"));
  function say(number) {
    const ws = new WebSocket(`ws://${location.host}/save`);
    ws.onopen = () => { ws.send(`save ${number}`); ws.close(); };
    ws.onclose = end => {
      ends.push([end.wasClean, end.code]);
      if (ends.length === times) fetch("/ends", {method: "POST", body: JSON.stringify(ends)});
      else say(number + 1);
    };
  }
  say(0);
  new WebSocket(`ws://${location.host}/stay`);
</script>
"""


@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.slow)])
async def test_what_a_page_sends_before_it_closes_is_not_lost(chromium: str, tmp_path: Path, times: int) -> None:
    """`ws.send("save"); ws.close()` comes in one read: it is saved, each time, and each end is clean. A page that is killed is missed."""
    routes = Router()
    saved: list[str] = []
    ends: list[Any] = []
    done, stays, gone = anyio.Event(), anyio.Event(), anyio.Event()

    @routes.get("/")
    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse(TALK)

    @routes.websocket("/save")
    async def save(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await anyio.sleep(0.001)
            saved.append(str(message))

    @routes.websocket("/stay")
    async def stay(ws: WebSocket) -> None:
        await ws.accept()
        stays.set()
        try:
            await anyio.sleep_forever()
        finally:
            gone.set()

    @routes.post("/ends")
    async def tell(request: Request) -> None:
        ends.extend(await request.json())
        done.set()

    async with serving(routes) as served:
        async with launched(chromium, tmp_path, f"http://127.0.0.1:{served.port}/?times={times}"):
            await within(done, 50)
            await within(stays)
            assert not gone.is_set()
        await within(gone)
    assert sorted(saved) == sorted(f"save {number}" for number in range(times))
    assert ends == [[True, 1005]] * times


TAB = """
<!doctype html>
<script>new WebSocket(`ws://${location.host}/stay`)</script>
"""

TABS = 3

OURS = 0.1
"""Seconds in which a page is missed, from the moment in which the system has the end of its connection, or the browser's goodbye."""

THEIRS = 30.0
"""Seconds that the browser may take until then. A page that crashes has ended 0.1 to 0.3 s later on a busy machine, of which the browser's
writing about it is most, and its connection within a few milliseconds of that."""


def first_sign(sock: socket.socket) -> float:
    """Wait until the system has something of a client that doesn't talk any more. Returns when; on a busy machine, a little later."""
    with sock:
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLRDHUP)
        assert poll.poll(1000 * THEIRS), "the browser tells nobody"
        return time.monotonic()


@pytest.mark.parametrize("method", ["Page.close", "Page.crash"])
async def test_a_tab_that_is_killed_is_missed_at_once(chromium: str, tmp_path: Path, method: str) -> None:
    """Closed as by who clicks at the cross, for which the browser says 1001, or gone as if it ran out of memory: the browser lives on.

    What it takes to say so is its own.
    """
    routes = Router()
    sockets: dict[Any, socket.socket] = {}
    stays, gone = list[WebSocket](), list[float]()

    class Known(Connection):
        __slots__ = ()

        def __init__(self, running: RunningServer, transport: Any) -> None:
            super().__init__(running, transport)
            sockets[transport.client] = transport._socket

    @routes.get("/")
    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse(TAB)

    @routes.websocket("/stay")
    async def stay(ws: WebSocket) -> None:
        await ws.accept()
        stays.append(ws)
        try:
            await anyio.sleep_forever()
        finally:
            gone.append(time.monotonic())

    ours, theirs = list[float](), list[float]()
    async with serving(routes, Known) as served, launched(chromium, tmp_path, "about:blank", LISTENING):
        for _ in range(TABS):
            tab = await open_tab(tmp_path, f"http://127.0.0.1:{served.port}/")
            await eventually(lambda: len(stays) > len(ours), 30)
            async with connect(tab) as debugger:
                began = time.monotonic()
                await debugger.send(json.dumps({"id": 1, "method": method}))
                sign = await to_thread.run_sync(first_sign, sockets[stays[-1].scope["client"]].dup())
                await eventually(lambda: len(gone) > len(ours))
            theirs.append(sign - began)
            ours.append(gone[-1] - sign)
    shown = [", ".join(f"{1000 * one:.1f}" for one in times) for times in (ours, theirs)]
    print(f"\n{method}: missed {shown[0]} ms after the first sign of it, which came after {shown[1]} ms")
    assert median(ours) < OURS, shown
