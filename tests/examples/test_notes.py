"""The notes against their document, by a tool that reads it and tries the app with what it allows and with what it doesn't."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from microasgi import testing
from tests.examples import notes
from tests.harness import loud_lines, serving
from tests.needs import demand_package

pytestmark = pytest.mark.anyio

SMOKE = ["--phases=examples,fuzzing", "--max-examples=2"]
WHOLE = ["--phases=examples,coverage,fuzzing,stateful", "--max-examples=100"]


@pytest.fixture
def schemathesis() -> list[str]:
    """The command, but for where the app is."""
    demand_package("schemathesis")
    return [str(Path(sys.executable).with_name("schemathesis")), "run", "--checks=all", "--no-color", "--seed=1"]


@pytest.mark.parametrize("extent", [pytest.param(SMOKE, id="smoke"), pytest.param(WHOLE, id="whole", marks=pytest.mark.slow)])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_notes_are_as_described(
    schemathesis: Sequence[str], extent: Sequence[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every answer is one that the document has, whatever is sent: no 500, nothing accepted that it forbids, or refused that it allows."""
    async with serving(notes.notes(), access_log=False) as served:
        command = [*schemathesis, *extent, f"{served.address}/openapi.json"]
        done = await anyio.run_process(command, cwd=tmp_path, check=False, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()
    assert "No issues found" in done.stdout.decode()
    assert [line for line in loud_lines(caplog) if "refused" not in line] == []


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_tool_would_notice(schemathesis: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that forgets a check of its document's doesn't pass."""
    monkeypatch.setitem(notes.LONGEST, "title", 200)
    async with serving(notes.notes(), access_log=False) as served:
        command = [*schemathesis, "--phases=coverage", "--include-operation-id=add", f"{served.address}/openapi.json"]
        done = await anyio.run_process(command, cwd=tmp_path, check=False, stderr=subprocess.STDOUT)
    assert done.returncode == 1, done.stdout.decode()
    assert "Response violates schema" in done.stdout.decode(), done.stdout.decode()


async def test_half_a_character_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """JSON may hold half of a surrogate pair, and what was kept comes back as it was sent."""
    async with testing.Client(notes.notes()) as client:
        note = b'{"title":"\\ud800","text":"x"}'
        kept = await client.post("/notes", content=note, headers={"content-type": "application/json"})
        assert kept.json()["title"] == "\ud800"
        assert (await client.get(kept.headers["location"])).content == kept.content
