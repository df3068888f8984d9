"""Two instances behind nginx, and behind HAProxy, as the server's page has them."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from microasgi import Request, Response, Router, StreamingResponse
from tests.conftest import LOOPS
from tests.deployment.configurations import FRONTS, free_ports
from tests.deployment.fronts import Front, get, in_front
from tests.harness import GET, PATIENCE, Client, Departure, Served, Sleeper, access_lines, eventually, loud_lines, serving, within
from tests.needs import demand_package, needs_program

pytestmark = pytest.mark.anyio

OPTIONS: dict[str, Any] = {"proxy_headers": True, "forwarded_allow_ips": ["127.0.0.1"], "timeout_keep_alive": 75}


def app(name: str, sleeper: Sleeper) -> Router:
    """What each instance serves."""
    routes = Router()

    @routes.get("/name")
    async def who(request: Request) -> str:
        return name

    @routes.get("/ready")
    async def ready(request: Request) -> None: ...

    @routes.get("/client")
    async def client(request: Request) -> list[Any]:
        scope = request.scope
        return [scope["client"], scope["scheme"], request.headers["host"]]

    routes.get("/sleep")(sleeper)

    @routes.post("/upload")
    async def upload(request: Request) -> None:
        async with aclosing(request.stream()) as stream:
            await anext(stream)
            await sleeper.sleep()

    @routes.get("/ticks")
    async def ticks(request: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            yield "tick\n"
            await sleeper.sleep()

        return StreamingResponse(lines())

    return routes


@asynccontextmanager
async def instances(
    program: str, folder: Path, sleeper: Sleeper, changes: Sequence[tuple[str, str]] = (), **options: Any
) -> AsyncIterator[Front]:
    """Two instances, and a proxy before them."""
    ports = free_ports(2)
    async with AsyncExitStack() as stack:
        for name, port in zip("ab", ports, strict=True):
            await stack.enter_async_context(serving(app(name, sleeper), port=port, **{**OPTIONS, **options}))
        yield await stack.enter_async_context(in_front(program, ports, folder, changes))


on_uvloop = pytest.mark.parametrize("anyio_backend", [LOOPS["uvloop"]], ids=["uvloop"])
"""For what the proxies do rather than the server."""

fronts = pytest.mark.parametrize("program", [pytest.param(program, marks=needs_program(program)) for program in FRONTS])


@fronts
@on_uvloop
async def test_both_instances_are_asked_and_know_their_client(
    program: str, anyio_backend: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests go to both, on connections that are kept; app and log have the client's address, whatever it claims to be."""
    async with instances(program, tmp_path, Sleeper()) as front, await front.connect_from("127.0.0.2") as client:
        names = {(await get(client, "/name")).body for _ in range(4)}
        found = json.loads((await get(client, "/client", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https")).body)
        await eventually(lambda: [line for line in access_lines(caplog) if "/client" in line])
    assert names == {b"a", b"b"}
    assert found == [["127.0.0.2", 0], "http", "example.com"]
    assert [line.split(" - ")[0] for line in access_lines(caplog) if "/client" in line] == ["127.0.0.2"]


UPLOAD = b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 200_000


@fronts
async def test_who_leaves_the_proxy_leaves_the_handler(program: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A client that closes or resets its connection, before the response, within it, and within an upload, stops the handler."""
    sleeper = Sleeper()
    ways: list[Departure] = ["FIN", "RST"]
    async with instances(program, tmp_path, sleeper) as front:
        for sent in (GET.replace(b"/", b"/sleep", 1), GET.replace(b"/", b"/ticks", 1), UPLOAD):
            for how in ways:
                sleeper.begun, sleeper.ended = anyio.Event(), anyio.Event()
                async with await front.connect() as client:
                    await client.send(sent)
                    await within(sleeper.begun)
                    client.leave(how)
                await within(sleeper.ended, 1)
    assert sleeper.cancellations == sleeper.count == 6
    assert loud_lines(caplog) == []


@fronts
@on_uvloop
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_an_http2_client_leaves(how: str, program: str, anyio_backend: Any, tmp_path: Path) -> None:
    """A browser that gives up one request of several on a connection of HTTP/2, or the connection, stops that handler."""
    demand_package("h2")
    from h2.connection import H2Connection

    sleeper = Sleeper()
    async with instances(program, tmp_path, sleeper) as front, await front.connect_to_h2() as client:
        speaker = H2Connection()
        speaker.initiate_connection()
        fields = [(":method", "GET"), (":path", "/sleep"), (":scheme", "http"), (":authority", "test")]
        speaker.send_headers(1, fields, end_stream=True)
        await client.send(speaker.data_to_send())
        await within(sleeper.begun)
        if how == "reset":
            speaker.receive_data(await client.receive())
            speaker.reset_stream(1)
            await client.send(speaker.data_to_send())
        else:
            client.leave()
        await within(sleeper.ended, 1)
    assert sleeper.cancellations == 1


@needs_program("haproxy")
@on_uvloop
@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
async def test_haproxy_speaks_the_proxy_protocol(version: str, anyio_backend: Any, tmp_path: Path) -> None:
    """HAProxy's own checks go well, and the app has the client's address and port without any field."""
    changes = [(r"(default-server .*)", rf"\1 {version}"), ("option forwardfor", "")]
    options = {"proxy_headers": False, "proxy_protocol": True}
    async with instances("haproxy", tmp_path, Sleeper(), changes, **options) as front, await front.connect_from("127.0.0.2") as client:
        port = client.sock.getsockname()[1]
        found = [json.loads((await get(client, "/client")).body)[0] for _ in range(2)]
    assert found == [["127.0.0.2", port]] * 2


# A deploy.


class Load:
    """Clients that ask one request after another, on connections that they keep.

    answers: how many requests were answered, by whom.
    failures: what else became of requests.
    """

    def __init__(self, front: Front) -> None:
        self.answers = {"a": 0, "b": 0}
        self.failures: list[Any] = []
        self._front = front

    async def run(self) -> None:
        while True:
            async with await self._front.connect() as client:
                while await self._ask(client):
                    pass

    async def _ask(self, client: Client) -> bool:
        """One request. False, if its connection ends in order: nginx closes each behind a thousand."""
        try:
            answer = await get(client, "/name")
        except OSError as error:
            self.failures.append(error)
            raise
        if answer.status == 200 and answer.complete:
            self.answers[answer.body.decode()] += 1
        else:
            self.failures.append(answer)
        assert len(self.failures) < 10
        return bool(answer.header(b"connection") != b"close")

    async def until_answered_by(self, name: str, more: int = 10) -> None:
        """Wait until this instance has answered some more."""
        enough = self.answers[name] + more
        await eventually(lambda: self.answers[name] >= enough or self.failures, PATIENCE)


@fronts
@on_uvloop
async def test_a_deploy_loses_no_request(program: str, anyio_backend: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While one instance after the other stops and comes back, every request on every kept connection is answered."""
    ports = dict(zip("ab", free_ports(2), strict=True))
    async with anyio.create_task_group() as tasks:
        running: dict[str, Served] = {}

        async def run(name: str, *, task_status: Any) -> None:
            async with serving(app(name, Sleeper()), port=ports[name], **OPTIONS) as served:
                running[name] = served
                task_status.started()
                await served.ended.wait()

        for name in ports:
            await tasks.start(run, name)
        async with in_front(program, [*ports.values()], tmp_path) as front:
            load = Load(front)
            async with anyio.create_task_group() as clients:
                for _ in range(8):
                    clients.start_soon(load.run)
                for name, other in ("ab", "ba"):
                    await load.until_answered_by(other)  # the proxy has to ask it again before the next may go
                    await load.until_answered_by(name)
                    running[name].stop.set()
                    await within(running[name].ended)
                    await load.until_answered_by(other, 50)
                    await tasks.start(run, name)
                clients.cancel_scope.cancel()
        tasks.cancel_scope.cancel()
    assert load.failures == []
    assert loud_lines(caplog) == []
