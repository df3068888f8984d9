"""Middleware inside and around our part: the handler stops, its cleanup is whole, and nobody hears of an error.

Each test serves one arrangement (`tests.foreign.arrangements`) and has a client leave each of its handlers at the same time. Every
arrangement is seen on our server and on uvicorn, a loop each, and a few on hypercorn with trio.
"""

import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import sentry_sdk
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from tests.conftest import LOOPS
from tests.foreign.arrangements import OURS, REQUESTS, STOPPED, Collecting, Spans, Stay, all_leave, middlewares, ticking_alone
from tests.harness import GET, PATIENCE, Departure, access_lines, eventually, loud_lines, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def sentry() -> Iterator[Collecting]:
    """A Sentry that patches nothing, and so leaves nothing behind; the arrangements have its middleware."""
    transport = Collecting()
    sentry_sdk.init(
        "http://key@127.0.0.1:9/1",
        transport=transport,
        traces_sample_rate=1.0,
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    yield transport
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)


def _cells() -> list[Any]:
    cells = []
    names = list(middlewares(Spans()))
    places = [("inside", name) for name in names] + [("around", name) for name in names[1:]] + [("both", "http"), ("both", "all")]
    for number, (ours, (place, name)) in enumerate((ours, place) for ours in OURS for place in places):
        loop = list(LOOPS)[number % 3]
        cells.append((loop, "ours", ours, place, name))
        cells.append((list(LOOPS)[number % 2], "uvicorn", ours, place, name))
        if name in ("nothing", "http", "session"):
            cells.append(("trio", "hypercorn", ours, place, name))
    return [pytest.param(LOOPS[loop], *rest, id="-".join((*rest, loop))) for loop, *rest in cells]


@pytest.mark.parametrize(("anyio_backend", "server", "ours", "place", "middleware"), _cells())
async def test_a_departure_is_quiet(
    server: str, ours: str, place: str, middleware: str, sentry: Collecting, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever the middleware is: handlers stop, clean up, nothing is logged above info, and no error tracker hears of it."""
    spans = Spans()
    wraps = middlewares(spans)[middleware]
    stays = {path: Stay() for path in REQUESTS if path != "/depends" or "Router" not in ours or ours == "Router-FastAPI"}
    inside, around = wraps if place != "around" else [], wraps if place != "inside" else []
    await all_leave(server, OURS[ours](stays, inside, around), stays, "RST" if middleware in ("nothing", "http") else "FIN")
    assert all(stay.notes in STOPPED for stay in stays.values()), {path: stay.notes for path, stay in stays.items()}
    assert loud_lines(caplog) == []
    assert sentry.errors == [], [error["exception"]["values"][-1] for error in sentry.errors]
    if middleware in ("opentelemetry", "all"):
        assert len(spans.of_requests()) == len(stays)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_sentry_as_its_users_have_it() -> None:
    """Sentry with all that it patches by itself reports nobody's departure either. (In a process of its own, which it may patch.)"""
    command = [sys.executable, "-m", "tests.foreign.with_sentry"]
    process = await anyio.run_process(command, cwd=Path(__file__).parents[2], check=False)
    assert process.returncode == 0, process.stderr.decode()
    assert json.loads(process.stdout) == {"errors": [], "notes": []}


@pytest.mark.parametrize("server", ["ours", "uvicorn"])
@pytest.mark.parametrize("ours", list(OURS))
@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"]], ids=["asyncio"])
async def test_middleware_around_sees_a_499(ours: str, server: str) -> None:
    """Middleware that waits for a response sees one with status 499 when the client has left before there was any."""
    seen: list[int] = []

    async def look(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        seen.append(response.status_code)
        return response

    stays = {"/wait": Stay()}
    await all_leave(server, OURS[ours](stays, [], [lambda app: BaseHTTPMiddleware(app, dispatch=look)]), stays)
    assert seen == [499]


# Starlette leaves the generator of a stream to the garbage collector if `send()` raises.
@pytest.mark.filterwarnings("ignore:.*async_generator:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("departure", ["FIN", "RST"])
@pytest.mark.parametrize("middleware", ["nothing", "http", "opentelemetry", "sentry", "all"])
async def test_an_app_that_we_do_not_protect(
    middleware: str, departure: Departure, sentry: Collecting, caplog: pytest.LogCaptureFixture
) -> None:
    """FastAPI alone on our server: a stream ends when its client leaves, and nobody hears of an error."""
    async with serving(ticking_alone(middlewares(Spans())[middleware])) as served:
        async with await served.connect() as client:
            await client.send(GET)
            with anyio.fail_after(PATIENCE):
                while b"tick" not in await client.receive():
                    pass
            client.leave(departure)
        await eventually(lambda: access_lines(caplog))
    gc.collect()  # while the warning is expected
    assert loud_lines(caplog) == []
    assert sentry.errors == []
