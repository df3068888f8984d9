"""For pytest, which finds this by itself: fixtures with a client, asynchronous tests that need no mark, and failures that show a call.

    @pytest.fixture
    def app():
        return routes

    async def test_hello(client):
        assert (await client.get("/hello")).text == "Hello!"

    @pytest.fixture
    def app(lint):
        return lint(routes)                        # and who breaks a rule of ASGI fails the test

The first two want a fixture `app` that returns what is to be tested. An `async def` test runs by anyio's plugin, on every loop that its
fixture `anyio_backend` names, as if it had the mark `anyio`, if it asks for `client` or if its module has imported something of
`microasgi.testing`. A test with a mark of another asynchronous plugin is left to that.

A test that fails shows the last call of its client as a ladder: where the handler waited, when its client left, and what became of that.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from microasgi.asgi import ASGIApp
from microasgi.testing.client import Client
from microasgi.testing.ladders import told
from microasgi.testing.recording import records
from microasgi.testing.sync import SyncClient

OTHERS = {"asyncio", "trio", "tornado_asyncio", "twisted", "curio"}
"""The marks of other plugins that run coroutines."""


@pytest.fixture
async def client(request: pytest.FixtureRequest, anyio_backend: Any) -> AsyncIterator[Client]:
    """A client of the fixture `app`, with its lifespan around the test."""
    async with Client(_app(request)) as client:
        yield client


@pytest.fixture
def sync_client(request: pytest.FixtureRequest) -> Iterator[SyncClient]:
    """The same for a test that is a plain function."""
    with SyncClient(_app(request)) as client:
        yield client


@pytest.fixture
def lint() -> Iterator[Callable[[ASGIApp], ASGIApp]]:
    """Puts an app into a `microasgi.lint.Lint`. Behind the test, when the client is done, it is an error if rules of ASGI were broken."""
    from microasgi.lint import Lint  # which others needn't load

    linted: list[Lint] = []

    def around(app: ASGIApp) -> ASGIApp:
        linted.append(Lint(app))
        return linted[-1]

    yield around
    for each in linted:
        each.check()


def _app(request: pytest.FixtureRequest) -> Any:
    try:
        return request.getfixturevalue("app")
    except pytest.FixtureLookupError:
        missing = "the client needs a fixture `app` that returns the app to test: @pytest.fixture, def app(): return routes"
        raise pytest.UsageError(missing) from None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: Any) -> Generator[None, Any, Any]:
    """Mark the asynchronous tests that are ours.

    Around the others, not before them: anyio's looks for the mark, is `tryfirst` too, and of two such the one goes first that was
    registered last. What is around comes before either.
    """
    test = getattr(getattr(obj, "hypothesis", None), "inner_test", obj)
    if collector.istestfunction(obj, name) and inspect.iscoroutinefunction(test) and _is_ours(collector, test):
        pytest.mark.anyio(obj)
    return (yield)


def _is_ours(collector: pytest.Module | pytest.Class, test: Any) -> bool:
    marks = {mark.name for mark in (*collector.iter_markers(), *getattr(test, "pytestmark", ()))}
    if marks & OTHERS:
        return False
    module = collector.getparent(pytest.Module)
    imported = vars(module.obj).values() if module is not None else ()
    return "client" in inspect.signature(test).parameters or any(
        str(getattr(value, "__module__", getattr(value, "__name__", ""))).startswith("microasgi.testing") for value in imported
    )


def pytest_runtest_logstart() -> None:
    """Keep what happens in the calls of the test that begins."""
    records.begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the last call of a test that fails."""
    report: pytest.TestReport = yield
    if report.failed and records.kept:
        terminal = item.config.get_terminal_writer()
        report.sections.append(told(records, width=terminal.fullwidth, colours=terminal.hasmarkup))
        records.begin()
    return report
