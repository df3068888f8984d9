"""The cases of the Autobahn test suite, which kosoku runs without Docker and Python 2: framing, UTF-8, closing, limits, compression."""

import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from microasgi_server import Limits

from microasgi import Router, WebSocket
from tests.conftest import LOOPS
from tests.harness import serving
from tests.needs import needs_package

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(1800), needs_package("kosoku")]

KNOWN = {"7.1.5": "websockets takes a close frame inside a fragmented message for a broken rule, 1002"}

GROUPS = ["9.*", *(f"12.{number}.*" for number in range(1, 6)), *(f"13.{number}.*" for number in range(1, 8))]
"""Long messages; and compressed ones, a thousand in each case: forty seconds for a group of eighteen, or minutes on a busy machine."""

routes = Router()


@routes.websocket("/{path:path}")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        await (ws.send_text(message) if isinstance(message, str) else ws.send_bytes(message))


async def failures(directory: Path, *options: str, deflate: int = 0) -> dict[str, str]:
    """The cases that didn't pass, with what happened instead."""
    async with serving(routes, limits=Limits(message=2**26, deflate=deflate)) as served:
        command = [str(Path(sys.executable).with_name("kosoku")), f"127.0.0.1:{served.port}", "-o", str(directory), *options]
        await anyio.run_process(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (cases,) = json.loads((directory / "index.json").read_text()).values()
    assert len(cases) >= 18
    return {name: case["behavior"] for name, case in cases.items() if case["behavior"] not in ("OK", "NON-STRICT", "INFORMATIONAL")}


@pytest.mark.parametrize("anyio_backend", LOOPS.values(), ids=LOOPS)
async def test_the_protocol_holds(tmp_path: Path) -> None:
    """Groups 1 to 7 and 10, on every loop: all but what the library decides otherwise."""
    assert (await failures(tmp_path, "-x", "9.*", "-x", "12.*", "-x", "13.*")).keys() == KNOWN.keys()


@pytest.mark.parametrize("anyio_backend", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("group", GROUPS)
async def test_long_and_compressed_messages_hold(group: str, tmp_path: Path) -> None:
    """Group 9, up to 16 MiB in fragments and in small reads, and groups 12 and 13, compressed."""
    assert await failures(tmp_path, "-i", group, deflate=15) == {}
