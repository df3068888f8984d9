"""A real browser on our server: what EventSource makes of our events."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from microasgi import Event, EventStream, HTMLResponse, Request, Router
from tests.conftest import LOOPS
from tests.harness import serving, within
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

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server", f"--user-data-dir={tmp_path}"]
    async with serving(routes) as served:
        address = f"http://127.0.0.1:{served.port}/"
        browser = await anyio.open_process([chromium, *options, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            await within(done, 30)
        finally:
            browser.terminate()
            await browser.aclose()
    assert began_after == [None, "1", "2"]
    assert seen == ["1: 1\nis\n\nit", "2: 2\nis\n\nit", "3: 3\nis\n\nit"]
