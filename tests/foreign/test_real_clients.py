"""Real clients against our server: curl, httpx, requests, aiohttp, a browser's bytes, and nginx in front."""

import functools
import gzip
import io
import json
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import httpx
import pytest
import requests
from anyio import to_thread

from microasgi import Request, Response, Router, StreamingResponse, WebSocket
from tests.certificates import Files
from tests.conftest import LOOPS
from tests.deployment.configurations import nginx_conf
from tests.harness import PATIENCE, Client, Departure, Served, Sleeper, eventually, serving, within
from tests.needs import needs_program, path_of
from tests.websocket_client import TEXT, talk

pytestmark = pytest.mark.anyio

SIZE = 3_000_000
"""Bytes of an upload or download: enough for backpressure, and for curl to send `Expect: 100-continue`."""

PIECE = b"0123456789abcdef" * 1024

on_asyncio = pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])


def app(sleeper: Sleeper) -> Router:
    routes = Router()

    @routes.get("/port")
    async def port(request: Request) -> str:
        """The client's port tells its connections apart."""
        assert request.client is not None
        return str(request.client.port)

    @routes.post("/double")
    async def double(request: Request) -> dict[str, int]:
        return {"twice": 2 * (await request.json())["number"]}

    @routes.route("/count", ["POST", "PUT"])
    async def count(request: Request) -> dict[str, Any]:
        size = sum([len(chunk) async for chunk in request.stream()])
        return {"size": size, "expect": request.headers.get("expect"), "coding": request.headers.get("transfer-encoding")}

    @routes.get("/download")
    async def download(request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(SIZE // len(PIECE)):
                yield PIECE

        return StreamingResponse(pieces())

    @routes.route("/sleep", ["GET", "POST"])
    async def sleep(request: Request) -> None:
        await sleeper.sleep()

    @routes.get("/ticks")
    async def ticks(request: Request) -> StreamingResponse:
        async def tick() -> AsyncIterator[bytes]:
            yield b"tick\n"
            await sleeper.sleep()

        return StreamingResponse(tick(), media_type="text/event-stream")

    @routes.get("/")
    async def page(request: Request) -> Response:
        headers = {"Content-Encoding": "gzip"} if "gzip" in request.headers.get("accept-encoding", "") else {}
        content = f"<p>{request.cookies.get('name')}</p>".encode()
        response = Response(gzip.compress(content) if headers else content, headers=headers, media_type="text/html")
        response.set_cookie("seen", "yes")
        return response

    return routes


DOWNLOAD = PIECE * (SIZE // len(PIECE))


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "upload"
    path.write_bytes(b"x" * SIZE)
    return path


# curl.


async def curl(*arguments: str | Path, fails_with: int = 0) -> tuple[str, str]:
    """Run curl; what it wrote to stdout and stderr."""
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(PATIENCE), *map(str, arguments)]
    with anyio.fail_after(2 * PATIENCE):
        done = await anyio.run_process(command, check=False)
    assert done.returncode == fails_with, done.stderr.decode()
    return done.stdout.decode("latin-1"), done.stderr.decode("latin-1")


async def curl_gives_up(sleeper: Sleeper, *arguments: str | Path) -> None:
    """Run curl with more and more patience, until it has left a handler that had begun: on a busy machine it may take a while to start."""
    for seconds in ("0.3", "1", "5"):
        await curl("--max-time", seconds, *arguments, fails_with=28)
        if sleeper.begun.is_set():
            return


@needs_program("curl")
async def test_curl_gets_and_posts() -> None:
    """curl gets a page, posts JSON, asks for the head alone, and follows nothing but the protocol."""
    async with serving(app(Sleeper())) as served:
        out, _ = await curl("--cookie", "name=eve", served.address)
        assert out == "<p>eve</p>"
        out, _ = await curl("--header", "Content-Type: application/json", "--data", '{"number": 21}', f"{served.address}/double")
        assert json.loads(out) == {"twice": 42}
        out, _ = await curl("--head", served.address)
        assert out.startswith("HTTP/1.1 200 OK\r\n")
        assert "set-cookie: seen=yes" in out.lower()
        out, _ = await curl("--http1.0", served.address)
        assert out == "<p>None</p>"


@needs_program("curl")
async def test_curl_uses_a_connection_again() -> None:
    """Of two requests in one call of curl the second opens no connection."""
    async with serving(app(Sleeper())) as served:
        url = f"{served.address}/port"
        out, _ = await curl("--write-out", " %{num_connects}\n", url, url)
    (port, first), (again, second) = [line.split() for line in out.splitlines()]
    assert (port, first, second) == (again, "1", "0")


@needs_program("curl")
async def test_curl_uploads(upload: Path) -> None:
    """An upload arrives whole: with an Expect that is answered, without one, and in chunks."""
    async with serving(app(Sleeper())) as served:
        url = f"{served.address}/count"
        out, told = await curl("--verbose", "--header", "Expect: 100-continue", "--data-binary", f"@{upload}", url)
        assert json.loads(out) == {"size": SIZE, "expect": "100-continue", "coding": None}
        assert "< HTTP/1.1 100 Continue" in told.replace("\r", "")
        out, told = await curl("--verbose", "--header", "Expect:", "--data-binary", f"@{upload}", url)
        assert json.loads(out) == {"size": SIZE, "expect": None, "coding": None}
        assert "100 Continue" not in told
        out, _ = await curl("--header", "Expect:", "--header", "Transfer-Encoding: chunked", "--upload-file", upload, url)
        assert json.loads(out) == {"size": SIZE, "expect": None, "coding": "chunked"}


@needs_program("curl")
async def test_curl_downloads(tmp_path: Path) -> None:
    """A streamed download arrives whole."""
    async with serving(app(Sleeper())) as served:
        await curl("--output", tmp_path / "download", f"{served.address}/download")
    assert (tmp_path / "download").read_bytes() == DOWNLOAD


@needs_program("curl")
@pytest.mark.parametrize("path", ["/sleep", "/ticks"])
async def test_curl_gives_up(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """A curl that has waited long enough stops the handler, before the response and in the middle of it."""
    sleeper = Sleeper()
    async with serving(app(sleeper)) as served:
        await curl_gives_up(sleeper, f"{served.address}{path}")
        await within(sleeper.ended, 1)
    assert sleeper.cancellations == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@needs_program("curl")
@pytest.mark.parametrize("over", ["TCP", "TLS"])
async def test_curl_gives_up_an_upload(over: str, upload: Path, certificates: Files) -> None:
    """A curl that gives up while nobody reads its upload stops the handler."""
    sleeper = Sleeper()
    async with serving(app(sleeper), **(certificates.options if over == "TLS" else {})) as served:
        await curl_gives_up(
            sleeper, "--cacert", certificates.authority, "--header", "Expect:", "--data-binary", f"@{upload}", f"{served.address}/sleep"
        )
        await within(sleeper.ended, 1)
    assert sleeper.cancellations == 1


@needs_program("curl")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_curl_over_tls(version: str, upload: Path, tmp_path: Path, certificates: Files) -> None:
    """curl trusts the server by its authority, and what it uploads and downloads arrives whole."""
    async with serving(app(Sleeper()), **certificates.options) as served:
        trusting = ["--cacert", certificates.authority, "--tls-max", version]
        out, _ = await curl(*trusting, "--header", "Expect:", "--data-binary", f"@{upload}", f"{served.address}/count")
        assert json.loads(out)["size"] == SIZE
        await curl(*trusting, "--output", tmp_path / "download", f"{served.address}/download")
        _, told = await curl(served.address, fails_with=60)
        assert "certificate" in told
    assert (tmp_path / "download").read_bytes() == DOWNLOAD


# httpx.


async def test_httpx() -> None:
    """httpx gets, posts, uploads in chunks, downloads, and uses one connection for all of it."""
    async with serving(app(Sleeper())) as served, httpx.AsyncClient(base_url=served.address, timeout=PATIENCE, trust_env=False) as client:

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(SIZE // 1000):
                yield b"x" * 1000

        port = (await client.get("/port")).text
        client.cookies.set("name", "eve")
        answer = await client.get("/")
        assert (answer.text, answer.cookies["seen"]) == ("<p>eve</p>", "yes")
        assert (await client.post("/double", json={"number": 21})).json() == {"twice": 42}
        assert (await client.post("/count", content=b"x" * SIZE)).json()["size"] == SIZE
        assert (await client.post("/count", content=pieces())).json() == {"size": SIZE, "expect": None, "coding": "chunked"}
        async with client.stream("GET", "/download") as stream:
            assert b"".join([chunk async for chunk in stream.aiter_bytes()]) == DOWNLOAD
        assert (await client.get("/nowhere")).status_code == 404
        assert (await client.get("/port")).text == port


async def test_httpx_times_out() -> None:
    """A timeout of httpx stops the handler."""
    sleeper = Sleeper()
    async with serving(app(sleeper)) as served, httpx.AsyncClient(base_url=served.address, trust_env=False) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/sleep", timeout=0.1)
        await within(sleeper.ended, 1)
    assert sleeper.cancellations == 1


async def test_httpx_is_cancelled() -> None:
    """A request of httpx that is cancelled stops the handler: one server's cancellation reaches the next."""
    sleeper = Sleeper()
    async with serving(app(sleeper)) as served, httpx.AsyncClient(base_url=served.address, trust_env=False) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.get, "/sleep")
            await within(sleeper.begun)
            tasks.cancel_scope.cancel()
        await within(sleeper.ended, 1)
    assert sleeper.cancellations == 1


# requests.


async def test_requests() -> None:
    """requests gets, posts, uploads, downloads, and uses one connection for all of it."""

    def ask(address: str) -> None:
        with requests.Session() as session:
            session.trust_env = False
            get, post = functools.partial(session.get, timeout=PATIENCE), functools.partial(session.post, timeout=PATIENCE)

            def pieces() -> Iterator[bytes]:
                for _ in range(SIZE // 1000):
                    yield b"x" * 1000

            port = get(f"{address}/port").text
            assert get(address, cookies={"name": "eve"}).text == "<p>eve</p>"
            assert session.cookies["seen"] == "yes"
            assert post(f"{address}/double", json={"number": 21}).json() == {"twice": 42}
            assert post(f"{address}/count", data=b"x" * SIZE).json()["size"] == SIZE
            assert post(f"{address}/count", data=pieces()).json()["coding"] == "chunked"
            assert get(f"{address}/download").content == DOWNLOAD
            assert get(f"{address}/port").text == port

    async with serving(app(Sleeper())) as served:
        await to_thread.run_sync(ask, served.address)


async def test_requests_gives_up() -> None:
    """A timeout of requests stops the handler."""

    def ask(address: str) -> None:
        with requests.Session() as session:
            session.trust_env = False
            with pytest.raises(requests.ReadTimeout):
                session.get(f"{address}/sleep", timeout=0.1)

    sleeper = Sleeper()
    async with serving(app(sleeper)) as served:
        await to_thread.run_sync(ask, served.address)
        await within(sleeper.ended, 1)
    assert sleeper.cancellations == 1


# aiohttp.


@on_asyncio
async def test_aiohttp() -> None:
    """aiohttp gets, posts, uploads with and without Expect and in chunks, downloads, all on one connection."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(SIZE // 1000):
            yield b"x" * 1000

    async with serving(app(Sleeper())) as served, aiohttp.ClientSession(served.address) as session:

        async def ask(method: str, path: str, **options: Any) -> bytes:
            async with session.request(method, path, **options) as answer:
                assert answer.status == 200
                return await answer.read()

        port = await ask("GET", "/port")
        assert await ask("GET", "/", cookies={"name": "eve"}) == b"<p>eve</p>"
        assert json.loads(await ask("POST", "/double", json={"number": 21})) == {"twice": 42}
        assert json.loads(await ask("POST", "/count", data=io.BytesIO(b"x" * SIZE)))["size"] == SIZE
        answer = json.loads(await ask("POST", "/count", data=io.BytesIO(b"x" * SIZE), expect100=True))
        assert (answer["size"], answer["expect"]) == (SIZE, "100-continue")
        assert json.loads(await ask("POST", "/count", data=pieces())) == {"size": SIZE, "expect": None, "coding": "chunked"}
        assert await ask("GET", "/download") == DOWNLOAD
        assert await ask("GET", "/port") == port


@on_asyncio
async def test_aiohttp_gives_up() -> None:
    """A timeout of aiohttp stops the handler."""
    sleeper = Sleeper()
    async with serving(app(sleeper)) as served, aiohttp.ClientSession(served.address) as session:
        with pytest.raises(TimeoutError):
            await session.get("/sleep", timeout=aiohttp.ClientTimeout(total=0.1))
        await within(sleeper.ended, 1)
    assert sleeper.cancellations == 1


# A browser.

CHROMIUM = (
    "GET {path} HTTP/1.1\r\n"
    "Host: 127.0.0.1:{port}\r\n"
    "Connection: keep-alive\r\n"
    "Cache-Control: max-age=0\r\n"
    'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24"\r\n'
    "sec-ch-ua-mobile: ?0\r\n"
    'sec-ch-ua-platform: "Linux"\r\n'
    "Upgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7\r\n"
    "Sec-Fetch-Site: none\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-User: ?1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-GB,en-US;q=0.9,en;q=0.8\r\n"
    "Cookie: name=eve; _ga=GA1.1.1234567890.1700000000\r\n"
    "\r\n"
)
"""What Chromium sends for an address that was typed in."""


def chromium(path: str, port: int) -> bytes:
    return CHROMIUM.format(path=path, port=port).encode()


async def test_a_browser() -> None:
    """A browser's request is answered, its connection is used again, and closing the tab stops the handler."""
    sleeper = Sleeper()
    async with serving(app(sleeper)) as served, await served.connect() as client:
        await client.send(chromium("/", served.port))
        answer = await client.response()
        assert (answer.status, gzip.decompress(answer.body)) == (200, b"<p>eve</p>")
        assert answer.header(b"set-cookie") == b"seen=yes; Path=/; SameSite=lax"
        await client.send(chromium("/favicon.ico", served.port))
        assert (await client.response()).status == 404
        await client.send(chromium("/sleep", served.port))
        await within(sleeper.begun)
        client.leave()
        await within(sleeper.ended, 1)
    assert sleeper.cancellations == 1


# nginx.

SITE = """
    client_max_body_size 100m;
    upstream app {{ server 127.0.0.1:{upstream}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; }}
        location /chat {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host $host;
        }}
        location = /secret {{ return 200 "{secret}"; }}
    }}
"""


@asynccontextmanager
async def nginx_in_front(served: Served, folder: Path) -> AsyncIterator[Served]:
    """nginx with a configuration of its own, before a server: `connect` to what this yields goes through it."""
    command = [path_of("nginx"), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    secret = secrets.token_hex()
    (folder / "nginx.conf").write_text(nginx_conf(folder, SITE.format(upstream=served.port, port=port, secret=secret)))
    front = Served(f"http://127.0.0.1:{port}", anyio.Event(), anyio.Event())
    async with await anyio.open_process(command, stdin=None, stdout=None, stderr=None) as process:
        try:
            with anyio.fail_after(PATIENCE):
                while await _secret_at(front) != secret:  # somebody else may have been given the port meanwhile
                    assert process.returncode is None, (folder / "error.log").read_text()
                    await anyio.sleep(0.01)
            yield front
        finally:
            process.terminate()


async def _secret_at(front: Served) -> str:
    """What whoever listens there says it is."""
    try:
        async with await front.connect() as client:
            await client.send(b"GET /secret HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            return (await client.response()).body.decode()
    except OSError:
        return ""


async def ask(client: Client, port: int, path: str) -> bytes:
    await client.send(chromium(path, port))
    with anyio.fail_after(PATIENCE):
        answer = await client.response()
    assert (answer.status, answer.complete) == (200, True)
    return answer.body


@needs_program("nginx")
async def test_nginx_passes_requests_on(tmp_path: Path) -> None:
    """Behind nginx requests, uploads and downloads work, and nginx uses its connection to us again."""
    async with serving(app(Sleeper())) as served, nginx_in_front(served, tmp_path) as front:
        async with await front.connect() as client:
            assert gzip.decompress(await ask(client, front.port, "/")) == b"<p>eve</p>"
            assert await ask(client, front.port, "/download") == DOWNLOAD
            upstream_port = await ask(client, front.port, "/port")
        async with await front.connect() as client:
            assert await ask(client, front.port, "/port") == upstream_port
            await client.send(b"POST /count HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % SIZE + b"x" * SIZE)
            with anyio.fail_after(PATIENCE):
                assert json.loads((await client.response()).body)["size"] == SIZE


@needs_program("nginx")
@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_websocket_goes_through_nginx(how: Departure, tmp_path: Path) -> None:
    """What both say arrives, and so does it that the client has gone away."""
    ended: list[str] = []
    routes = Router()

    @routes.websocket("/chat")
    async def chat(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text((await ws.receive_text()).upper())
        try:
            await anyio.sleep(20)
        except anyio.get_cancelled_exc_class():
            ended.append("cancelled")
            raise

    async with serving(routes) as served, nginx_in_front(served, tmp_path) as front, await talk(front) as client:
        await client.send("hello")
        assert await client.receive() == (TEXT, b"HELLO")
        client.leave(how)
        await eventually(lambda: ended)


@needs_program("nginx")
@pytest.mark.parametrize("path", ["/sleep", "/ticks"])
async def test_closing_the_browser_reaches_through_nginx(path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the browser before nginx goes away, nginx leaves, and the handler stops."""
    sleeper = Sleeper()
    async with serving(app(sleeper)) as served, nginx_in_front(served, tmp_path) as front:
        async with await front.connect() as client:
            await client.send(chromium(path, front.port))
            await within(sleeper.begun)
        await within(sleeper.ended, 1)
    assert sleeper.cancellations == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
