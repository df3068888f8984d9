"""The other server beside ours: what it was asked, and what is hidden of it."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from microasgi_server.taps import Redaction

from microasgi.command.comparing import comparing, hidden
from microasgi.command.hosted import Task
from microasgi.exceptions import HTTPException
from microasgi.inspector.client import Request
from microasgi.inspector.page.visits import Asked
from tests.conftest import LOOPS
from tests.harness import eventually
from tests.needs import needs_package

pytestmark = pytest.mark.anyio

SECRET = "e5b5ca-secret"
TARGET = "tests.inspector.stubborn:routes"


@pytest.fixture
def anyio_backend() -> Any:
    return LOOPS["asyncio"]


def asked(path: str) -> Asked:
    headers = [("cookie", SECRET), ("x-mine", SECRET)]
    return Asked(Request("POST", path, headers, SECRET.encode()), "fin", 0.1)


@needs_package("uvicorn")
async def test_the_same_is_hidden_as_on_our_server() -> None:
    """Fields that somebody wants hidden, queries and bodies are in nothing that comes from there."""
    redaction = Redaction(["x-mine"], hide_query=True, bodies=False)
    compare = comparing(partial(Task, TARGET, False, ".", "uvicorn", "asyncio", False), redaction)
    found = await compare(asked(f"/nowhere?key={SECRET}"))
    assert found["title"] == "POST /nowhere?***"
    assert found["server"].startswith("uvicorn ")
    for text in (SECRET, SECRET.encode().hex()):
        assert text not in str(found)


@needs_package("uvicorn")
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, which tells a process's children")
async def test_a_page_that_closes_ends_the_comparison() -> None:
    """Nobody waits any longer: the other server is stopped, whatever its handler does."""
    compare = comparing(partial(Task, TARGET, False, ".", "uvicorn", "asyncio", False), Redaction())
    before = children()
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            await compare(Asked(Request("GET", "/blocking"), "fin", 60))

        tasks.start_soon(wait)
        await eventually(lambda: children() - before)
        tasks.cancel_scope.cancel()
    await eventually(lambda: children() <= before)


def children() -> set[str]:
    """This process's children, whichever thread has started them."""
    found = [file.read_text().split() for file in Path("/proc/self/task").glob("*/children")]
    return {number for numbers in found for number in numbers}


async def test_a_server_that_is_missing_is_told_with_its_remedy() -> None:
    """What to install stands where the timeline would be."""
    compare = comparing(partial(Task, TARGET, False, ".", "no_such_server", "asyncio", False), Redaction())
    with pytest.raises(HTTPException, match="no_such_server is not installed; install it with: pip install no_such_server"):
        await compare(asked("/report/1"))


@needs_package("uvicorn")
async def test_an_app_that_cannot_be_served_there_is_told() -> None:
    """The comparison ends, and says where the reason is."""
    compare = comparing(partial(Task, "tests.inspector.stubborn:nothing", False, ".", "uvicorn", "asyncio", False), Redaction())
    with pytest.raises(HTTPException, match=r"uvicorn doesn't serve tests.inspector.stubborn:nothing: the terminal says why"):
        await compare(asked("/report/1"))


def test_what_is_told_elsewhere_is_hidden_when_it_comes() -> None:
    """Of a scope its fields and its query, of a message its body; the rest stays, also of a message that is none."""
    redaction = Redaction(["x-mine"], hide_query=True, bodies=False)
    scope = {"path": "/", "headers": [["x-mine", SECRET], ["host", "test"]], "query_string": SECRET}
    facts = {"scope": scope, "message": {"type": "http.request", "body": {"bytes": "ab", "size": 1}}, "at": "shop.py:1 in a"}
    found = hidden({"at": 1, "connection": 1, "request": 1, "lane": "asgi", "what": "call", "source": None, "facts": facts}, redaction)
    assert found["facts"] == {
        "scope": {"path": "/", "headers": [["x-mine", "***"], ["host", "test"]], "query_string": "***"},
        "message": {"type": "http.request", "body": {"bytes": "", "size": 1}},
        "at": "shop.py:1 in a",
    }
    assert hidden({"facts": {"message": "none"}}, redaction) == {"facts": {"message": "none"}}
