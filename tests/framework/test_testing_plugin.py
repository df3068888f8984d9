"""The pytest plugin, as a test suite of somebody else's meets it: without a configuration."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import microasgi

APP = """
from contextlib import asynccontextmanager
import anyio
from microasgi import Router

events = []

@asynccontextmanager
async def lifespan(router):
    events.append("up")
    yield
    events.append("down")

routes = Router(lifespan=lifespan)

@routes.get("/")
async def home(request):
    await anyio.sleep(0)
    return "hello"
"""

TESTS = """
import inspect
import pytest
import main

@pytest.fixture
def app():
    return main.routes

async def test_async(client):
    assert (await client.get("/")).text == "hello"
    assert main.events == ["up"]
    runs = [str(departure) async for departure in client.hang_up_everywhere("/")]
    assert runs

class TestInAClass:
    async def test_method(self, client):
        assert (await client.get("/")).text == "hello"

def test_plain(sync_client):
    assert sync_client.get("/").text == "hello"

def test_none_is_left_of_the_lifespan():
    assert main.events.count("up") == main.events.count("down")
    main.events.clear()

@pytest.fixture(autouse=True)
def clean():
    main.events.clear()
"""

BY_IMPORT = """
import pytest
from microasgi.testing import Client
import main

async def test_without_a_fixture() -> None:
    async with Client(main.routes) as client:
        assert (await client.get("/")).text == "hello"

@pytest.mark.parametrize("number", [1, 2])
async def test_with_parameters(number: int) -> None:
    assert number

class TestInAClass:
    @pytest.fixture
    async def made(self) -> str:
        return "made"

    @pytest.mark.parametrize("number", [1, 2])
    async def test_with_a_fixture(self, made: str, number: int) -> None:
        assert (made, number > 0) == ("made", True)
"""

OF_ANOTHER_PLUGIN = (
    BY_IMPORT
    + """
@pytest.mark.asyncio
async def test_of_another_plugin() -> None:
    raise AssertionError
"""
)

NOT_OURS = """
async def test_that_nobody_runs():
    raise AssertionError
"""

WITHOUT_APP = """
def test_without_an_app(sync_client):
    pass
"""

LINTED = """
import pytest

async def loud(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Server", b"loud")]})
    await send({"type": "http.response.body"})

@pytest.fixture
def app(lint):
    return lint(loud)

def test_that_passes(sync_client):
    assert sync_client.get("/").status_code == 200
"""

FAILING = """
import anyio
from microasgi import Router
from microasgi.testing import Client

routes = Router()

@routes.get("/bad")
async def bad(request):
    try:
        await anyio.sleep(60)
    except BaseException:
        return "here I am"

async def test_that_fails(anyio_backend_name):
    async with Client(routes) as client:
        await client.get("/first")
        async with client.open("GET", "/bad") as call:
            await call.hang_up()
        assert anyio_backend_name == "asyncio"
"""

RAISING = """
import pytest
from microasgi import Router
from microasgi.testing import Client

routes = Router()

@routes.get("/bug")
async def bug(request):
    return {}["name"]

@routes.websocket("/talk")
async def talk(ws):
    await ws.accept()
    raise ValueError("mine")

@routes.websocket("/refuse")
async def refuse(ws):
    raise ValueError("mine")

async def test_that_asks():
    async with Client(routes) as client:
        await client.get("/bug")

@pytest.mark.parametrize("path", ["/talk", "/refuse"])
async def test_that_talks(path):
    async with Client(routes) as client, client.websocket(path) as ws:
        await ws.receive()
"""

ONE_LOOP = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

FILES = {
    "main.py": APP,
    "test_app.py": TESTS,
    "test_imports.py": OF_ANOTHER_PLUGIN,
    "test_others.py": NOT_OURS,
    "test_missing.py": WITHOUT_APP,
    "test_linted.py": LINTED,
    "test_bad.py": FAILING,
    "test_bug.py": RAISING,
    "one/conftest.py": ONE_LOOP,
    "one/test_one_loop.py": BY_IMPORT,
}


@pytest.fixture(scope="module", params=["anyio.pytest_plugin microasgi.testing.plugin", "microasgi.testing.plugin anyio.pytest_plugin"])
def report(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """What pytest says of these files, with no plugins but anyio's and ours, which are registered in either order."""
    directory = tmp_path_factory.mktemp("suite")
    for name, text in FILES.items():
        file = directory / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    path = os.pathsep.join([str(Path(microasgi.__file__).parents[1]), str(directory)])
    env = {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugins = [f"-p{name}" for name in (*request.param.split(), "no:cacheprovider")]
    command = [sys.executable, "-m", "pytest", *plugins, f"--rootdir={directory}", "-v", "-rA"]
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, check=False, timeout=60).stdout


@pytest.mark.parametrize(
    "test",
    [
        "test_app.py::test_async[asyncio]",
        "test_app.py::test_async[trio]",
        "test_app.py::TestInAClass::test_method[asyncio]",
        "test_app.py::test_plain",
        "test_app.py::test_none_is_left_of_the_lifespan",
        "test_imports.py::test_without_a_fixture[asyncio]",
        "test_imports.py::test_without_a_fixture[trio]",
        "test_imports.py::test_with_parameters[asyncio-2]",
        "test_imports.py::test_with_parameters[trio-1]",
        "test_imports.py::TestInAClass::test_with_a_fixture[asyncio-2]",
        "test_imports.py::TestInAClass::test_with_a_fixture[trio-1]",
        "one/test_one_loop.py::test_without_a_fixture",
        "one/test_one_loop.py::test_with_parameters[1]",
        "one/test_one_loop.py::TestInAClass::test_with_a_fixture[2]",
    ],
)
def test_a_suite_without_a_configuration_is_run(report: str, test: str) -> None:
    """Tests that ask for `client` or import our client run on every loop that `anyio_backend` names; a plain one has `sync_client`."""
    assert f"{test} PASSED" in report


@pytest.mark.parametrize("test", ["test_imports.py::test_of_another_plugin", "test_others.py::test_that_nobody_runs"])
def test_whose_mark_is_another_plugins_is_left_to_that(report: str, test: str) -> None:
    """A coroutine with a mark of another plugin, or that has nothing to do with us, isn't run by us."""
    assert f"{test} FAILED" in report or f"{test} SKIPPED" in report
    assert f"{test}[" not in report
    assert "async def functions are not natively supported" in report


def test_an_app_in_lint_that_breaks_rules_is_an_error(report: str) -> None:
    """The test itself passes; behind it, its fixture says which rule was broken, and by whom."""
    assert "test_linted.py::test_that_passes PASSED" in report
    assert "test_linted.py::test_that_passes ERROR" in report
    assert "ERROR H-19, by the app: headers has [b'Server']" in report


def test_a_loop_that_was_not_chosen_is_not_run(report: str) -> None:
    """Who has a fixture `anyio_backend` decides, and each test runs once."""
    assert "one/test_one_loop.py::test_without_a_fixture[" not in report
    assert len(re.findall(r"^one/test_one_loop\.py::\S+ [A-Z]+ ", report, re.MULTILINE)) == 5


def test_a_client_without_an_app_says_what_is_missing(report: str) -> None:
    """The fixture says which other one it needs."""
    assert "test_missing.py::test_without_an_app ERROR" in report
    assert "the client needs a fixture `app` that returns the app to test" in report


NEWS = """\
✕     │     │     │     │  leaves
│     │     ├────▸✕     │  Visit.leave() is called
│     │     │     │     ✕  CancelledError at test_bad.py:11 in bad
"""


def test_a_failure_shows_the_last_call(report: str) -> None:
    """As a ladder, with where the handler waited, and what became of the news; what goes well shows nothing."""
    assert "test_bad.py::test_that_fails[asyncio] FAILED" in report
    assert "GET /bad, the last of the test's 2 calls" in report
    assert NEWS in re.sub(r"^ *\d+\.\d{3}  ", "", report, flags=re.MULTILINE)
    assert "The client left at" in report
    assert "GET /first" not in report
    assert report.count("GET /bad, the last of") == len(re.findall(r"^FAILED test_bad", report, re.MULTILINE))


def test_a_failure_in_which_nobody_left_tells_of_no_departure(report: str) -> None:
    """The handler has raised, and is named with its line; the client's end behind that is the harness's own."""
    for test in ("asks[asyncio]", "asks[trio]", "talks[asyncio-/talk]", "talks[trio-/refuse]"):
        assert f"test_bug.py::test_that_{test} FAILED" in report
    shown = report.split("test_that_asks[asyncio] _")[1]
    assert "leaves" not in shown
    assert "The handler ended with KeyError at test_bug.py:10 in bug. There was no response." in shown
    assert "The handler ended with ValueError at test_bug.py:19 in refuse." in shown
    assert "The app closed the WebSocket at" in shown
    assert "for nobody" not in shown
    assert "says goodbye" not in shown
