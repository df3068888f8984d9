"""Every async test runs on the three loops, unless it parametrises `anyio_backend` itself."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.postgres import Postgres

LOOPS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


@pytest.fixture(params=list(LOOPS.values()), ids=list(LOOPS))
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def server_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Have everything the server logs in `caplog`, except its traces."""
    caplog.set_level("INFO", logger="microasgi")
    caplog.set_level("INFO", logger="microasgi_server")


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """A real PostgreSQL, started when the first test wants it."""
    from tests.postgres import running_postgres  # which needs its drivers

    with running_postgres() as server:
        yield server
