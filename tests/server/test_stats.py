"""The server in numbers: what is counted, when, and how a scraper gets it."""

import re
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import Any

import pytest
from microasgi_server import Limits, Stats, stats
from microasgi_server.errors import Refusal
from microasgi_server.journal import OTHER_REASONS, REASONS, Journal
from microasgi_server.running import RunningServer

from microasgi import CancelOnDisconnect, Mount, Request, Response, Route, Router
from tests.framework.test_cli import app_dir as app_dir
from tests.framework.test_cli import say
from tests.framework.test_cli import serving as serving_process
from tests.harness import GET, Departure, Sleeper, access_lines, eventually, serving, shared_of, within
from tests.needs import needs_package
from tests.websocket_client import goodbye, talk

pytestmark = pytest.mark.anyio

NOTHING = Stats(0, 0, {"1xx": 0, "2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0, "other": 0}, {}, 0, 0, 0.0, {})


def answer(status: int) -> Any:
    def handler(request: Request) -> Response:
        return Response(status_code=status)

    return handler


def routes(sleeper: Sleeper) -> Router:
    return Router([Route("/sleep", sleeper), *[Route(f"/{status}", answer(status)) for status in (200, 204, 302, 404, 503)]])


async def test_complete_responses_are_counted_by_class() -> None:
    """Each class of statuses has its number; what runs and what is open is told; a server that has ended is forgotten."""
    sleeper = Sleeper()
    app = routes(sleeper)
    async with serving(app) as served, await served.connect() as client, await served.connect() as other:
        for path in (b"200", b"204", b"302", b"404", b"503", b"missing"):
            await client.send(b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n" % path)
            await client.response()
        await other.send(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n")
        await sleeper.begun.wait()
        await eventually(lambda: stats(app).in_flight == 1)
        now = stats(app)
        assert now.responses == {"1xx": 0, "2xx": 2, "3xx": 1, "4xx": 2, "5xx": 1, "other": 0}
        assert (now.connections, now.in_flight, now.departures, now.cancelled) == (2, 1, {}, 0)
    assert stats(app) == stats() == NOTHING


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_departures_are_counted_by_kind(how: Departure) -> None:
    """A client that leaves is counted by how it did, and its handler, which was cancelled, with the time that it took."""
    sleeper = Sleeper()
    app = routes(sleeper)
    async with serving(app) as served, await served.connect() as client:
        await client.send(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n")
        await sleeper.begun.wait()
        client.leave(how)
        await eventually(lambda: stats(app).departures)
        now = stats(app)
    assert now.departures == {how: 1}
    assert (now.cancelled, now.interrupted, sum(now.responses.values())) == (1, 0, 0)
    assert 0 < now.cancelled_seconds < 5


async def test_what_ends_early_for_another_reason_is_an_interruption() -> None:
    """An app that fails in the middle of its response, and a body that is none, are nobody's departure; the latter is refused, too."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        if scope["method"] == "GET":
            raise ConnectionError
        while (await receive())["type"] != "http.disconnect":
            pass

    async with serving(app) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await client.receive_until_closed()
        async with await served.connect() as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            await client.receive()
            await client.send(b"nonsense\r\n")
            await client.receive_until_closed()
        await eventually(lambda: stats(app).interrupted == 2)
        now = stats(app)
    assert (now.departures, now.cancelled) == ({}, 0)
    (((status, _), count),) = now.refused.items()
    assert (status, count) == (400, 1)


@pytest.mark.parametrize("at_once", [False, True], ids=["gracefully", "at once"])
async def test_a_websocket_that_the_stop_ends_is_an_interruption(at_once: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Its client was told to go, and has not left; the log says the same."""
    shared: list[RunningServer] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        shared.append(shared_of(receive))
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    limits = Limits(farewell=0.0, linger=0.05, cleanup=0.05)
    async with AsyncExitStack() as stack:
        async with serving(app, lifespan="off", limits=limits) as served:
            await stack.enter_async_context(await talk(served))
            if not at_once:
                served.stop.set()
                await within(served.ended)
        await within(served.ended)
    assert (shared[0].journal.interrupted, shared[0].journal.departures) == (1, {})
    (line,) = access_lines(caplog)
    assert re.search(r"s 1012 (cancelled: )?the server stopped$", line)


async def test_close_codes_that_clients_choose_are_counted_by_the_thousand() -> None:
    """What a client may choose makes no key of its own; the protocol's own codes do."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with serving(app) as served:
        for code in (1000, 1001, 3000, 3999, 4000, 4321, 4999):
            async with await talk(served) as client:
                await client.send(goodbye(code))
                assert await client.closed_with() == code
        await eventually(lambda: sum(stats(app).departures.values()) == 7)
        assert stats(app).departures == {"1000": 1, "1001": 1, "3xxx": 2, "4xxx": 3}


async def test_refusals_are_counted_by_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Each reason has a number; what a client has put into one doesn't make it another; and there are not more than so many."""
    app = routes(Sleeper())
    async with serving(app) as served:
        for host in (b"", b"Host: a\r\nHost: b\r\n"):
            async with await served.connect() as client:
                await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % host)
                assert (await client.response()).status == 400
        assert [status for status, _ in stats(app).refused] == [400, 400]
    journal = Journal(None, lambda: 0.0)
    for number in range(10):
        journal.refused(None, Refusal(400, f"the field x-{number} has a control character in its value"))
    assert journal.refusals == {(400, "the field … has a control character in its value"): 10}
    for number in range(2 * REASONS):
        journal.refused(None, Refusal(400, f"reason {number}"))
    assert len(journal.refusals) == REASONS + 1
    assert journal.refusals[400, OTHER_REASONS] == REASONS + 1


@needs_package("prometheus_client")
async def test_a_scraper_reads_a_snapshot() -> None:
    """Mounted in an app, the numbers come in Prometheus's format, with what its library counts by itself."""
    from microasgi_server import metrics

    sleeper = Sleeper()
    app = routes(sleeper)
    app.add(Mount("/metrics", metrics.app(app)))
    async with serving(CancelOnDisconnect(app)) as another, serving(app) as served, await served.connect() as client:
        async with await another.connect() as elsewhere:  # not counted
            await elsewhere.send(b"GET /200 HTTP/1.1\r\nHost: test\r\n\r\n")
            await elsewhere.response()
        await client.send(b"GET /200 HTTP/1.1\r\nHost: test\r\n\r\n")
        await client.response()
        async with await served.connect() as leaving:
            await leaving.send(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n")
            await sleeper.begun.wait()
        async with await served.connect() as refused:
            await refused.send(b"GET / HTTP/1.1\r\n\r\n")
            await refused.response()
        await eventually(lambda: stats(app).departures)
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: test\r\nAccept: text/plain\r\n\r\n")
        text = (await client.response()).body.decode()
    for line in (
        'microasgi_responses_total{status="2xx"} 1.0',
        'microasgi_departures_total{how="FIN"} 1.0',
        "microasgi_cancelled_total 1.0",
        "microasgi_requests_in_flight 1.0",  # the scrape itself
    ):
        assert f"\n{line}\n" in text, text
    assert re.search(r'\nmicroasgi_refused_total\{reason="[^"]+",status="400"\} 1\.0\n', text)
    assert re.search(r"\nmicroasgi_cancelled_seconds_total 0\.\d+\n", text)
    assert "\npython_info{" in text


@needs_package("prometheus_client")
def test_a_scraper_has_a_port_of_its_own(app_dir: Any) -> None:
    """`--metrics-port` serves the numbers beside the app, which doesn't see who asks for them."""
    with serving_process(app_dir, "main:routes", "--metrics-port", "0") as server:
        at = server.wait_for(r"Metrics are at (http://127\.0\.0\.1:\d+/metrics)")[1]
        server.wait_for(r"Metrics are(.|\n)*Serving on")
        program = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
        done = subprocess.run([sys.executable, "-c", program, at], capture_output=True, text=True, check=True, timeout=20)
        assert '\nmicroasgi_responses_total{status="2xx"} 0.0\n' in done.stdout
        assert server.stop() == 0
        assert "GET /metrics" not in server.stderr


def test_metrics_say_what_they_need(app_dir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the command ends with how to get it."""
    monkeypatch.setattr("microasgi_server.metrics.find_spec", lambda name: None)
    done = say(app_dir, "serve", "main:routes", "--metrics-port", "0")
    assert done.stderr == "error: metrics need prometheus-client; install it with: pip install 'microasgi[metrics]'\n"
    assert done.returncode == 1
