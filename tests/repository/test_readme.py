"""The README's examples that take something for granted do what the README says; the others run in `test_documents.py`."""

import re
import signal
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from microasgi.testing import Client
from tests.documents import DOCUMENTS, read, sections

pytestmark = pytest.mark.anyio


def block(word: str, *documents: str) -> str:
    """The one Python example that has `word` in it; of the README, if nothing else is said."""
    found = [text for document in documents or ["README.md"] for section in sections(document) for text in section.python() if word in text]
    assert len(found) == 1, f"{len(found)} examples have {word!r}"
    return str(found[0])


def shop() -> dict[str, Any]:
    """The names that the examples of *Writing handlers that may stop* take for granted, and what they define."""
    names: dict[str, Any] = {"stock": [], "sold": [], "charged": []}
    prelude = """
        import anyio
        from microasgi import Request, Router

        routes = Router()

        async def reserve(items):
            await anyio.sleep(0.001)
            stock.extend(items)

        async def confirm(items):
            await anyio.sleep(0.001)
            sold.extend(items)

        async def charge(what):
            await anyio.sleep(0.001)
            charged.append(what)

        def reserved():
            return len(stock)

        def confirmed():
            return len(sold)
    """
    exec(textwrap.dedent(prelude), names)
    for word in ("def order", "def pay", "def test_nothing"):
        exec(block(word), names)
    return names


async def test_a_shielded_order_is_whole_or_not_at_all() -> None:
    """The shielded example passes the test that stands beside it, and there are departures to be tested."""
    names = shop()
    await names["test_nothing_is_ever_half_ordered"]()
    assert names["stock"]


async def test_the_test_finds_what_it_is_for() -> None:
    """Without the shield, the test that stands in the README fails."""
    names = shop()
    unshielded = block("def order").replace("shield=True", "shield=False")
    names["routes"] = names["Router"]()
    exec(unshielded, names)
    with pytest.raises(AssertionError, match="the client left at await"):
        await names["test_nothing_is_ever_half_ordered"]()


async def test_a_payment_is_finished() -> None:
    """The example of `on_disconnect="finish"` charges, wherever the client leaves."""
    names = shop()
    async with Client(names["routes"]) as client:
        runs = [departure async for departure in client.hang_up_everywhere("/pay", "POST", json=5)]
    assert runs
    assert not any(departure.cancelled for departure in runs)
    assert names["charged"] == [5] * (len(runs) + 1)


@pytest.mark.parametrize("package", ["microasgi", "microasgi_server"])
def test_the_first_example_is_served(tmp_path: Path, package: str) -> None:
    """The first example and the lines that serve it from a program make a server, which Ctrl+C ends."""
    program = block("def report") + block(f"{package}.run(", *DOCUMENTS).replace("8000", "0")
    (tmp_path / "main.py").write_text(program.replace("anyio.sleep(10)", "anyio.sleep(0)"))
    with subprocess.Popen([sys.executable, "main.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))
        with urllib.request.urlopen(f"{address}/report/2026") as response:
            assert response.read() == b'{"year":2026}'
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0


def test_the_two_commands_are_there() -> None:
    """The first serves the demo, the second runs the tests: each is one line that can be typed as it stands."""
    lines = read("README.md").splitlines()
    assert sum(line.startswith("python3 -m venv .venv && ") and line.endswith(" serve microasgi.demo:routes") for line in lines) == 1
    assert sum(bool(re.fullmatch(r"python3 -m venv .*-e '\.\[test\]' .*pytest", line)) for line in lines) == 1
