"""A real browser on our server: what EventSource makes of our events, and what a page says before it closes a WebSocket."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
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


ENDS = {"Page.close": 0.1, "Page.crash": 1.0}
"""Seconds in which a page is missed that is closed as by who clicks at the cross, for which the browser says 1001; and one that is gone as
if it ran out of memory, which the browser takes a while to learn and to say."""


@pytest.mark.parametrize(("method", "seconds"), ENDS.items(), ids=ENDS)
async def test_a_tab_that_is_killed_is_missed_at_once(chromium: str, tmp_path: Path, method: str, seconds: float) -> None:
    """The browser lives on; the handler is cancelled so soon all the same. On a machine that has other things to do the quickest counts."""
    routes = Router()
    stays, gone = list[WebSocket](), list[float]()

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

    took: list[float] = []
    async with serving(routes) as served, launched(chromium, tmp_path, "about:blank", LISTENING):
        for _ in range(TABS):
            tab = await open_tab(tmp_path, f"http://127.0.0.1:{served.port}/")
            await eventually(lambda: len(stays) > len(took), 30)
            async with connect(tab) as debugger:
                began = time.monotonic()
                await debugger.send(json.dumps({"id": 1, "method": method}))
                await eventually(lambda: len(gone) > len(took))
            took.append(gone[-1] - began)
    assert min(took) < seconds, took
    print(f"\n{method}: missed after {', '.join(f'{1000 * one:.0f}' for one in took)} ms")
