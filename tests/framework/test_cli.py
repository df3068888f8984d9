"""The command line, as somebody who types it sees it: its exit code, and every word that it says.

What serves is a process of its own (`serving`), and so is what ends in a way that only a process can (`run`). What the command says
before it serves, and instead of it, is had without one (`say`).
"""

import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import microasgi_server
import pytest
from microasgi_server.command.levels import LOG_LEVEL
from microasgi_server.kinds import TEXT
from microasgi_server.options import OPTIONS, Option

import microasgi
from microasgi import Route, demo
from microasgi.cli import main

PATIENCE = 20.0
"""Seconds after which a wait has failed. Starting a process on a busy machine takes some."""

LOOPS = ["asyncio", "uvloop", "trio"]

MAIN = """
from collections.abc import Callable
from typing import TypeVar

import anyio
from microasgi import Mount, Request, Route, Router

routes = Router()

@routes.get("/")
async def home(request: Request) -> str:
    return "hello"

@routes.post("/length")
async def length(request: Request) -> str:
    return str(len(await request.body()))

@routes.get("/sleep")
async def sleep(request: Request) -> None:
    await anyio.sleep(10)

async def bare(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})

class Plain:
    async def __call__(self, scope, receive, send):
        await bare(scope, receive, send)

class Endpoint:
    def __init__(self, scope, receive, send):
        self.call = bare(scope, receive, send)

    def __await__(self):
        return self.call.__await__()

class Old:
    def __init__(self, scope):
        pass

class Holder:
    routes = routes

def make():
    return routes

def make_list():
    return [Route("/", home)]

async def make_async():
    return routes

def make_number():
    return 42

def make_nothing():
    raise LookupError("no settings")

def make_with(argument):
    return routes

as_list = [Route("/", home)]
with_stranger = [Route("/", home), 42]
empty = []
number = 42
Handler = Callable[[Request], str]  # no app, nor a guess for one
Anything = TypeVar("Anything")
"""

INTERRUPTED = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may be a shell's background job, and these ignore it
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    """A directory with an app in it, and with apps that fail."""
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "needs.py").write_text("import no_such_package\n")
    (tmp_path / "misspelt.py").write_text("def (:\n")
    (tmp_path / "crashes.py").write_text("\n\nraise LookupError('two\\nlines')\n")
    (tmp_path / "deep.py").write_text("import json\n\nsettings = json.loads('{')\n")
    (tmp_path / "chain.py").write_text("def load():\n    import crashes\n\nload()\n")
    (tmp_path / "exits.py").write_text("raise SystemExit('no settings')\n")
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "app.py").write_text(MAIN)
    return tmp_path


def environment(**changes: str) -> dict[str, str]:
    """This process's own, less what would change what the command does or says; it runs the code that these tests import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COLUMNS"))}
    ours = [str(Path(package.__file__ or "").parents[1]) for package in (microasgi, microasgi_server)]
    path = os.pathsep.join([changes.pop("PYTHONPATH", ""), *ours]).removeprefix(os.pathsep)
    return {**kept, **changes, "PYTHONPATH": path}


def run(app_dir: Path, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    return end(app_dir, "-m", "microasgi", *arguments, **changes)


def script(app_dir: Path, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, in a shell where Ctrl+C is heard."""
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return end(app_dir, "-c", heard + textwrap.dedent(program), *arguments)


def end(app_dir: Path, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=app_dir, env=environment(**changes), capture_output=True, text=True, check=False, timeout=PATIENCE)


def say(app_dir: Path, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    """The same for a command that doesn't serve, in this process: nothing of it is left in here, the app's modules neither."""
    out, err, before = io.StringIO(), io.StringIO(), set(sys.modules)
    code: Any = 0
    with pytest.MonkeyPatch.context() as here:
        here.chdir(app_dir)
        here.delenv("COLUMNS", raising=False)
        for name, value in changes.items():
            here.setenv(name, value)
        for name, mine in {"path": [*sys.path], "stdout": out, "stderr": err}.items():
            here.setattr(sys, name, mine)
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code
        finally:
            for name in set(sys.modules) - before:
                if str(getattr(sys.modules[name], "__file__", "")).startswith(str(app_dir)):
                    del sys.modules[name]
    return subprocess.CompletedProcess(["microasgi", *arguments], code, out.getvalue(), err.getvalue())


class Running:
    """A `microasgi serve` that runs. What it says is in `stdout` and `stderr`."""

    def __init__(self, process: "subprocess.Popen[bytes]", directory: Path) -> None:
        self.process = process
        self.directory = directory
        self._stdout = directory / "stdout.log"
        self._stderr = directory / "stderr.log"

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def wait_for(self, pattern: str) -> "re.Match[str]":
        """Wait until it has said something."""
        deadline = time.monotonic() + PATIENCE
        while True:
            ended = self.process.poll() is not None
            if found := re.search(pattern, self.stdout + self.stderr, re.MULTILINE):
                return found
            assert not ended, f"it ended without a word on {pattern!r}:\n{self.stderr}"
            assert time.monotonic() < deadline, f"no word on {pattern!r}:\n{self.stderr}"
            time.sleep(0.01)

    @property
    def address(self) -> str:
        return self.wait_for(r"(http://\S+|unix:\S+)")[0]

    def connect(self) -> socket.socket:
        """A bare connection."""
        if self.address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(self.directory / self.address.removeprefix("unix:")))
        else:
            sock = socket.create_connection(("127.0.0.1", urlsplit(self.address).port or 0))
        sock.settimeout(PATIENCE)
        return sock

    def get(
        self, path: str = "/", method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """The status and the body of one response."""
        connection = http.client.HTTPConnection("test")
        connection.sock = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def leave(self, path: str, method: str = "GET", after: str = "", wait: float = 0.0) -> None:
        """Ask, wait, and go away without the answer."""
        with self.connect() as sock:
            sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            self.wait_for(after)
            time.sleep(wait)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def serving(app_dir: Path, *arguments: str, port: bool = True, **changes: str) -> Iterator[Running]:
    """`microasgi serve …`, on a port that it picks, as long as the block lasts."""
    command = [sys.executable, "-m", "microasgi", "serve", *arguments, *(["--port", "0"] if port else [])]
    changes.setdefault("PYTHONUNBUFFERED", "1")
    with (app_dir / "stdout.log").open("wb") as stdout, (app_dir / "stderr.log").open("wb") as stderr:
        process = subprocess.Popen(command, cwd=app_dir, env=environment(**changes), stdout=stdout, stderr=stderr)
        try:
            yield Running(process, app_dir)
        finally:
            process.kill()
            process.wait()


def check_refusal(done: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    """One line on stderr, beginning with `error: ` and holding these words."""
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.endswith("\n")
    for word in words:
        assert word in done.stderr
    assert done.stdout == ""
    assert done.returncode == code


# What can be served.


@pytest.mark.parametrize(
    "arguments",
    [
        ["main:routes"],
        ["main:as_list"],
        ["main:bare"],
        ["main:Endpoint"],
        ["main:Holder.routes"],
        ["package.app:routes"],
        ["--factory", "main:make"],
        ["--factory", "main:make_list"],
        ["--factory", "main:Plain"],
        ["--app-dir", "package", "app:routes"],
    ],
    ids=" ".join,
)
def test_every_kind_of_target_is_served(app_dir: Path, arguments: list[str]) -> None:
    """A Router, a list of routes, any ASGI app, what a factory returns, and each in any directory: all are served."""
    with serving(app_dir, *arguments) as server:
        assert server.get() == (200, b"hello")


@pytest.mark.parametrize("loop", LOOPS)
def test_the_loop_is_the_one_that_was_asked_for(app_dir: Path, loop: str) -> None:
    """`--loop` decides which event loop runs the app."""
    (app_dir / "loops.py").write_text("""
import asyncio
from anyio.lowlevel import checkpoint
from microasgi import Router
routes = Router()

@routes.get("/")
async def which(request):
    try:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]
    except RuntimeError:
        return "trio"
""")
    with serving(app_dir, "loops:routes", "--loop", loop) as server:
        assert server.get() == (200, loop.encode())


@pytest.mark.parametrize(("setting", "threshold"), [("", 50_000), ("gc.set_threshold(123)", 123), ("gc.set_threshold(0)", 0)])
def test_garbage_is_collected_rarely_unless_the_app_says_otherwise(app_dir: Path, setting: str, threshold: int) -> None:
    """The command leaves what exists at startup out of every collection and collects rarely; what the app's lifespan sets stays."""
    (app_dir / "garbage.py").write_text(f"""
import gc
from contextlib import asynccontextmanager
from microasgi import Router

@asynccontextmanager
async def lifespan(router):
    {setting}
    yield

routes = Router(lifespan=lifespan)

@routes.get("/")
async def look(request):
    return [gc.get_threshold()[0], gc.get_freeze_count() > 1000]
""")
    with serving(app_dir, "garbage:routes") as server:
        status, body = server.get()
    assert (status, json.loads(body)) == (200, [threshold, True])


@pytest.mark.parametrize("loop", LOOPS)
def test_a_unix_socket_is_served_instead_of_a_port(app_dir: Path, loop: str) -> None:
    """`--uds` serves on a unix socket, which is gone afterwards."""
    with serving(app_dir, "main:routes", "--uds", "app.sock", "--loop", loop, port=False) as server:
        assert server.get() == (200, b"hello")
        assert server.address == "unix:app.sock"
        assert server.stop() == 0
    assert not (app_dir / "app.sock").exists()


def test_a_picked_port_is_printed_also_without_a_log(app_dir: Path) -> None:
    """`--port 0` prints the address on stdout where the log level leaves the log silent."""
    with serving(app_dir, "main:routes", "--log-level", "warning") as server:
        server.wait_for(r"^http://127\.0\.0\.1:\d+$")
        assert server.get() == (200, b"hello")
        assert server.stderr == ""


# Options.


def test_the_access_log_can_be_turned_off(app_dir: Path) -> None:
    """Each request is a line in the log, and none with `--no-access-log`."""
    with serving(app_dir, "main:routes") as server:
        server.get("/?a=b")
        server.wait_for(r'INFO: 127\.0\.0\.1:\d+ - "GET /\?a=b HTTP/1\.1" 200 \d+\.\d+s$')
    with serving(app_dir, "main:routes", "--no-access-log") as server:
        server.get("/?a=b")
        assert server.stop() == 0
        assert "GET" not in server.stderr


@pytest.mark.parametrize("given", ["/api", "/api/"])
def test_the_root_path_reaches_the_app(app_dir: Path, given: str) -> None:
    """`--root-path` is the scope's `root_path`, without a slash at its end."""
    (app_dir / "roots.py").write_text("""
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["root_path"].encode()})
""")
    with serving(app_dir, "roots:app", "--lifespan", "off", "--root-path", given) as server:
        assert server.get() == (200, b"/api")


LIFESPAN = """
from contextlib import asynccontextmanager
import anyio
from microasgi import Router

@asynccontextmanager
async def lifespan(router):
    print("up", flush=True)
    yield
    print("down", flush=True)

@asynccontextmanager
async def broken(router):
    raise LookupError("no database")
    yield

@asynccontextmanager
async def endless(router):
    print("starting", flush=True)
    try:
        await anyio.sleep_forever()
    finally:
        print("undone", flush=True)
    yield

async def without(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})

routes = Router(lifespan=lifespan)
no_database = Router(lifespan=broken)
hangs = Router(lifespan=endless)
"""


@pytest.mark.parametrize(("mode", "said"), [("auto", "up\ndown\n"), ("on", "up\ndown\n"), ("off", "")])
def test_the_lifespan_runs_unless_it_is_off(app_dir: Path, mode: str, said: str) -> None:
    """The app's startup and shutdown run around everything, and not at all with `--lifespan off`."""
    (app_dir / "life.py").write_text(LIFESPAN)
    with serving(app_dir, "life:routes", "--lifespan", mode, "--uds", "app.sock", port=False) as server:
        assert server.get() == (404, b"Not Found")
        assert server.stop() == 0
        assert server.stdout == said


def test_an_app_without_a_lifespan_is_served_unless_it_must_have_one(app_dir: Path) -> None:
    """An app that raises at the lifespan is served with `auto`, and is an error with `on`."""
    (app_dir / "life.py").write_text(LIFESPAN)
    with serving(app_dir, "life:without", "--lifespan", "auto") as server:
        assert server.get() == (200, b"hello")
    done = run(app_dir, "serve", "life:without", "--port", "0", "--lifespan", "on")
    assert done.stderr.splitlines()[-1] == "error: the app's lifespan raised AssertionError"
    assert done.returncode == 1


@pytest.mark.parametrize("loop", LOOPS)
def test_a_startup_that_fails_is_told_once_with_its_traceback(app_dir: Path, loop: str) -> None:
    """When the app's startup raises, its traceback is printed once, then one line with the error, and the exit code is 1."""
    (app_dir / "life.py").write_text(LIFESPAN)
    done = run(app_dir, "serve", "life:no_database", "--port", "0", "--loop", loop)
    assert done.stderr.splitlines()[-1] == "error: the app's startup failed: LookupError: no database"
    assert done.stderr.count("Traceback") == 1
    assert 'life.py", line' in done.stderr
    assert done.returncode == 1


FOREIGN = """
import anyio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def home(request):
    print("began", flush=True)
    try:
        await anyio.sleep(0.3)
        print("went on", flush=True)
    except anyio.get_cancelled_exc_class():
        print("stopped", flush=True)
        raise
    return PlainTextResponse("hello")

app = Starlette(routes=[Route("/", home)])
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_another_frameworks_handlers_stop_when_told_so(app_dir: Path, loop: str) -> None:
    """`--cancel-on-disconnect` stops a Starlette handler whose client leaves; without it, it goes on."""
    (app_dir / "foreign.py").write_text(FOREIGN)
    with serving(app_dir, "foreign:app", "--loop", loop, "--cancel-on-disconnect") as server:
        server.leave("/", after="began")
        server.wait_for('"GET / HTTP/1.1" 499 .* cancelled: the client closed its side')
        assert server.stdout == "began\nstopped\n"
    with serving(app_dir, "foreign:app", "--loop", loop) as server:
        server.leave("/", after="began")
        server.wait_for('"GET / HTTP/1.1" 499 .* client left: the client closed its side')
        assert server.stdout == "began\nwent on\n"


def test_what_breaks_asgi_is_logged_once_and_counted(app_dir: Path) -> None:
    """`--lint` logs each kind of finding once, with the rule and who broke it, counts at the end, and leaves the exit code as it is."""
    (app_dir / "loud.py").write_text("""
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Server", b"loud")]})
    await send({"type": "http.response.body", "body": b"hello"})
""")
    with serving(app_dir, "loud:app", "--lint") as server:
        assert [server.get() for _ in range(3)] == [(200, b"hello")] * 3
        assert server.stop() == 0
        lines = [line for line in server.stderr.splitlines() if "by the" in line]
    assert lines == [
        "ERROR: H-19, by the app: headers has [b'Server'] (ASGI HTTP & WebSocket, Response Start; GET /)",
        "INFO: Broken rules of ASGI: H-19 by the app 3 times",
    ]


@pytest.mark.parametrize(
    ("option", "request_head"), [("--timeout-keep-alive", b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"), ("--timeout-header", b"GET / HT")]
)
def test_the_timeouts_for_clients_end_connections(app_dir: Path, option: str, request_head: bytes) -> None:
    """An idle connection and a request's unfinished head get as long as their option says, not their default of seconds."""
    with serving(app_dir, "main:routes", option, "0.1") as server, server.connect() as sock:
        sock.sendall(request_head)
        began = time.monotonic()
        received = b""
        while chunk := sock.recv(65536):
            received += chunk
        assert time.monotonic() - began < 4
        assert received.startswith(b"HTTP/1.1 " + (b"200" if option == "--timeout-keep-alive" else b"408"))


def test_the_limits_are_those_of_the_options(app_dir: Path) -> None:
    """Each limit of a request is the one that its option gives, not the default of thousands of bytes."""
    options = {"--limit-request-line": "50", "--limit-request-fields": "5", "--limit-header-size": "400", "--limit-body": "10"}
    with serving(app_dir, "main:routes", *(word for option in options.items() for word in option)) as server:
        assert server.get("/")[0] == 200
        assert server.get("/" + "x" * 50)[0] == 414
        assert server.get("/", headers={f"X-{number}": "y" for number in range(10)})[0] == 431
        assert server.get("/", headers={"X": "y" * 400})[0] == 431
        assert server.get("/length", "POST", b"x" * 10) == (200, b"10")
        assert server.get("/length", "POST", b"x" * 11)[0] == 413


@pytest.mark.parametrize("loop", LOOPS)
def test_the_timeout_of_a_graceful_shutdown_ends_requests(app_dir: Path, loop: str) -> None:
    """After Ctrl+C, requests go on for as long as `--timeout-graceful-shutdown` says, then they are stopped; the exit code is 0."""
    with serving(app_dir, "main:routes", "--loop", loop, "--log-level", "trace", "--timeout-graceful-shutdown", "0.1") as server:
        with server.connect() as sock:
            sock.sendall(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n")
            server.wait_for("started scope")
            began = time.monotonic()
            assert server.stop() == 0
        assert 0.1 <= time.monotonic() - began < 5
        assert "Waiting up to 0.1 s for 1 running request" in server.stderr
        assert "the server stopped" in server.stderr


# The trace.


@pytest.mark.parametrize("loop", LOOPS)
def test_the_trace_shows_that_a_handler_stops_when_its_client_leaves(app_dir: Path, loop: str) -> None:
    """The post's experiment: the handler sleeps ten seconds, its client leaves after a third of one, and there it ends."""
    with serving(app_dir, "microasgi.demo:routes", "--loop", loop, "--log-level", "trace") as server:
        server.leave("/sleep", after="started scope", wait=0.3)
        server.wait_for("connection lost")
        server.wait_for('"GET /sleep')
        server.wait_for("completed")
        lines = [line for line in server.stderr.splitlines() if "Serving on" not in line]
    client = re.escape(lines[0].split()[1])
    scope = rf"TRACE: {client} - started scope=\{{'type': 'http', .*'method': 'GET', .*'path': '/sleep', .*'headers': '<\.\.\.>'.*\}}"
    cancelled = rf"TRACE: {client} - cancelled after (0\.[3-9]\d\d) s: the client closed its side \(FIN\)"
    expected = [
        rf"TRACE: {client} - connection made",
        scope,
        cancelled,
        rf"TRACE: {client} - completed",
        rf'INFO: {client} - "GET /sleep HTTP/1\.1" 499 0\.[3-9]\d\ds cancelled: the client closed its side \(FIN\)',
        rf"TRACE: {client} - connection lost",
    ]
    assert len(lines) == len(expected), lines
    for pattern in expected:  # a loop may report the lost connection before the handler's task has run
        assert any(re.fullmatch(pattern, line) for line in lines), (pattern, lines)
    assert [bool(re.fullmatch(pattern, line)) for pattern, line in zip(expected[:3], lines, strict=False)] == [True] * 3


@pytest.mark.parametrize("loop", LOOPS)
def test_the_trace_shows_sizes_and_hides_what_is_said(app_dir: Path, loop: str) -> None:
    """Each receive and send is a line of the trace, bodies only by their size, and no header's value."""
    (app_dir / "echoes.py").write_text("""
from microasgi import Response, Router
routes = Router()

@routes.post("/")
async def echo(request):
    return Response(await request.body(), headers={"x-answer": "hush-" + request.headers["x-question"]})
""")
    with serving(app_dir, "echoes:routes", "--loop", loop, "--log-level", "trace") as server:
        assert server.get("/", "POST", b"secret body", {"X-Question": "secret-value"}) == (200, b"secret body")
        server.wait_for("connection lost")
        assert "- receive {'type': 'http.request', 'body': '<11 bytes>', 'more_body': False}" in server.stderr
        assert "- send {'type': 'http.response.start', 'status': 200, 'headers': '<...>'}" in server.stderr
        assert "- send {'type': 'http.response.body', 'body': '<11 bytes>'}" in server.stderr
        assert "secret" not in server.stderr
        assert "hush" not in server.stderr


# Ending.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_signal_stops_it_with_exit_code_0(app_dir: Path, loop: str, number: int) -> None:
    """Ctrl+C and SIGTERM stop the server, without a traceback and with exit code 0."""
    with serving(app_dir, "main:routes", "--loop", loop) as server:
        assert server.get() == (200, b"hello")
        assert server.stop(number) == 0
        assert "Traceback" not in server.stderr


@pytest.mark.parametrize(
    ("number", "options", "code"),
    [
        *((signal.SIGINT, ["--loop", loop], 130) for loop in LOOPS),
        (signal.SIGINT, ["--workers", "1"], 130),
        (signal.SIGTERM, ["--loop", "asyncio"], 0),
        (signal.SIGTERM, ["--workers", "1"], 0),
    ],
)
def test_a_signal_stops_an_app_that_hangs_in_its_startup(app_dir: Path, number: int, options: list[str], code: int) -> None:
    """One is enough: the startup is cancelled, its cleanup runs, and the exit code of Ctrl+C says that it never served."""
    (app_dir / "life.py").write_text(LIFESPAN)
    with serving(app_dir, "life:hangs", *options) as server:
        server.wait_for("starting")
        began = time.monotonic()
        assert server.stop(number) == code
        assert time.monotonic() - began < 5
        assert server.stdout == "starting\nundone\n"
        assert "Traceback" not in server.stderr


HASTY = """
import os, signal
from contextlib import asynccontextmanager
import anyio
from microasgi import Router, run

@asynccontextmanager
async def hasty(router):
    os.kill(os.getpid(), signal.SIGINT)
    await anyio.sleep_forever()
    yield

if __name__ == "__main__":
    for _ in range(10):
        try:
            run(Router(lifespan=hasty), port=0, loop="trio")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
"""


def test_no_signal_comes_before_somebody_listens(app_dir: Path) -> None:
    """Not even one that the app's first step sends; trio begins tasks in any order, and where SIGINT was ignored it was lost."""
    (app_dir / "hasty.py").write_text(HASTY)
    ignoring = 'import signal, runpy; signal.signal(signal.SIGINT, signal.SIG_IGN); runpy.run_path("hasty.py", run_name="__main__")'
    done = subprocess.run(
        [sys.executable, "-c", ignoring], cwd=app_dir, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.stderr.count("SIGINT during startup: stopping at once") == 10, done.stderr
    assert done.stdout == "interrupted\n" * 10


def test_ctrl_c_during_the_import_is_no_traceback(app_dir: Path) -> None:
    """Ctrl+C while the app is being imported ends the command at once, with the shell's exit code for it."""
    done = run(app_dir, "serve", "interrupted:app")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "command",
    [("-m", "microasgi"), ("-m", "microasgi_server"), ("-c", "from microasgi.__main__ import main; main()")],
    ids=["microasgi", "microasgi_server", "console script"],
)
@pytest.mark.parametrize("module", ["anyio", "argparse"])
def test_ctrl_c_while_the_command_is_imported_is_no_traceback(app_dir: Path, module: str, command: tuple[str, str]) -> None:
    """Not even a Ctrl+C that comes before the command can read its options shows one, nor while our packages are imported."""
    (app_dir / f"{module}.py").write_text(INTERRUPTED)  # found before the real one
    done = end(app_dir, *command, "serve", "main:routes")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_output_that_nobody_reads_is_no_traceback(app_dir: Path) -> None:
    """In a pipe whose reader has left, as `head` does, the command ends with the shell's exit code for it, and without a word."""
    (app_dir / "many.py").write_text(MAIN + "for number in range(2000): routes.get(f'/{number}')(home)")
    command = [sys.executable, "-m", "microasgi", "routes", "many:routes"]
    with subprocess.Popen(command, cwd=app_dir, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(PATIENCE)) == (b"", 141)


def test_a_closed_stdout_is_no_error(app_dir: Path) -> None:
    """Who closes the standard output hears nothing, and the command works."""
    command = ["sh", "-c", f"exec {sys.executable} -m microasgi routes main:routes >&-"]
    done = subprocess.run(command, cwd=app_dir, env=environment(), capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")


# What can't be served.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["main"], ["'main' is not of the form module:attribute, as in main:routes"]),
        (["main:"], ["'main:' is not of the form module:attribute"]),
        ([":routes"], ["':routes' is not of the form module:attribute"]),
        (["./main:routes"], ["'./main:routes' is not of the form module:attribute"]),
        (["mian:routes"], ["there is no module 'mian'", "did you mean 'main'?"]),
        (["nothing_like_it:routes"], ["there is no module 'nothing_like_it'", "--app-dir"]),
        (["package.ap:routes"], ["there is no module 'package.ap'; did you mean 'package.app'?"]),
        (["main.py:routes"], ["there is no module 'main.py'", "write main:…, without .py"]),
        (["main:route"], ["module 'main' has no attribute 'route'; did you mean 'routes'?"]),
        (["main:application"], ["module 'main' has no attribute 'application'; did you mean 'routes', which is a Router?"]),
        (["main:Holder.route"], ["'main:Holder' has no attribute 'route'; did you mean 'routes'?"]),
        (["package:app"], ["module 'package' has no attribute 'app'", "write package.app:…"]),
        (["needs:app"], ["importing 'needs' failed: ModuleNotFoundError: No module named 'no_such_package'", "needs.py, line 1"]),
        (["misspelt:app"], ["importing 'misspelt' failed: SyntaxError: ", "misspelt.py, line 1"]),
        (["crashes:app"], ["importing 'crashes' failed: LookupError: two lines", "crashes.py, line 3", "--log-level debug shows more"]),
        (["deep:app"], ["importing 'deep' failed: JSONDecodeError: ", "deep.py, line 3)"]),
        (
            ["chain:app"],
            ["importing 'chain' failed: LookupError", "line 3; from ", "chain.py, line 2; from ", "chain.py, line 4)"],
        ),
        (["exits:app"], ["importing 'exits' failed: SystemExit: no settings"]),
        (["main:number"], ["'main:number' is an int, and not an ASGI app, a Router or a list of routes"]),
        (["main:empty"], ["'main:empty' is a list with nothing in it"]),
        (["main:with_stranger"], ["'main:with_stranger' is a list with an int in it"]),
        (["main:home"], ["'main:home' is a function", "is it a handler? Then name the router or the app that it is on"]),
        (["main:make"], ["'main:make' is a function, and not an ASGI app", "is it a factory? Then say --factory"]),
        (["main:Plain"], ["'main:Plain' is a class, and not an app; make an instance of it, as in app = Plain(…)", "--factory"]),
        (["main:Old"], ["'main:Old' is a class, and not an app; make an instance of it"]),
        (["--factory", "main:number"], ["'main:number' can't be called: it is an int; leave --factory away"]),
        (["--factory", "main:routes"], ["'main:routes' is no factory: it is an app already; leave --factory away"]),
        (["--factory", "main:make_with"], ["'main:make_with' is no factory: it takes arguments"]),
        (["--factory", "main:make_async"], ["'main:make_async' is async", "make it a plain function"]),
        (["--factory", "main:make_number"], ["'main:make_number' returned an int, and not an ASGI app"]),
        (["--factory", "main:make_nothing"], ["calling 'main:make_nothing' failed: LookupError: no settings", "main.py, line"]),
        (["--app-dir", "nowhere", "main:routes"], ["--app-dir nowhere: there is no such directory"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith(("-", "main", "package")) else None,
)
def test_a_wrong_target_is_one_clear_line(app_dir: Path, arguments: list[str], words: list[str]) -> None:
    """What can't be served is told in one line that says what was wrong and what to do, with exit code 1."""
    check_refusal(say(app_dir, "serve", "--port", "0", *arguments), 1, *words)


def test_a_failed_import_shows_its_traceback_at_level_debug(app_dir: Path) -> None:
    """`--log-level debug` shows the traceback of an import that failed, before the line with the error."""
    done = run(app_dir, "serve", "crashes:app", "--log-level", "debug")
    assert done.returncode == 1
    assert 'crashes.py", line 3' in done.stderr
    assert re.fullmatch(
        r"error: importing 'crashes' failed: LookupError: two lines \(\S+crashes\.py, line 3\)", done.stderr.splitlines()[-1]
    )


def test_a_port_in_use_is_one_clear_line(app_dir: Path) -> None:
    """A port that another program has is told in one line, with exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        check_refusal(
            run(app_dir, "serve", "main:routes", "--port", str(port)), 1, f"127.0.0.1:{port}: the port is in use", "0 picks a free one"
        )


def test_a_unix_socket_in_use_is_one_clear_line(app_dir: Path) -> None:
    """A unix socket that another program listens on is told in one line, with exit code 1."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(app_dir / "taken.sock"))
        sock.listen()
        check_refusal(run(app_dir, "serve", "main:routes", "--uds", "taken.sock"), 1, "'taken.sock': another server listens there")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "main:routes", "--prot", "80"], ["there is no option --prot; did you mean --port?"]),
        (["serve", "main:routes", "--time"], ["there is no option --time;"]),
        (["serve", "-w", "4", "main:routes"], ["there is no option -w here: write --workers NUMBER"]),
        (["serve", "main:routes", "-b", ":80"], ["there is no option -b here: write --bind ADDRESS"]),
        (["serve", "main:routes", "--keyfile", "key.pem"], ["there is no option --keyfile here: write --ssl-keyfile FILE"]),
        (["serve", "main:routes", "main:bare"], ["'main:bare' is one argument too many"]),
        (["routes", "main:routes", "--factoyr"], ["there is no option --factoyr; did you mean --factory?"]),
        ([], ["COMMAND"]),
        (["serv", "main:routes"], ["there is no command 'serv'; did you mean serve?"]),
        (["main:routes"], ["there is no command 'main:routes'; did you mean microasgi serve main:routes?"]),
        (["polish"], ["there is no command 'polish', only serve, routes, trace and inspect"]),
        (["serve"], ["TARGET"]),
        (["serve", "main:routes", "--reload-delay", "1"], ["there is no option --reload-delay here: --reload watches *.py"]),
        (["serve", "main:routes", "--workers", "0"], ["--workers is a whole number, 1 or more, not '0'"]),
        (["serve", "main:routes", "--port", "http"], ["--port", "--port is a number from 0 to 65535, not 'http'"]),
        (["serve", "main:routes", "--port", "65536"], ["--port", "not '65536'"]),
        (["serve", "main:routes", "--port", "-1"], ["--port", "not '-1'"]),
        (["serve", "main:routes", "--timeout-keep-alive", "soon"], ["--timeout-keep-alive", "a number of seconds, 0 or more, not 'soon'"]),
        (["serve", "main:routes", "--timeout-graceful-shutdown", "-1"], ["--timeout-graceful-shutdown", "not '-1'"]),
        (["serve", "main:routes", "--timeout-keep-alive", "nan"], ["--timeout-keep-alive", "not 'nan'"]),
        (["serve", "main:routes", "--limit-body", "1M"], ["--limit-body", "a whole number of bytes, 0 or more, not '1M'"]),
        (
            ["serve", "main:routes", "--root-path", "api"],
            ["--root-path", "starts with a slash and ends without one, as /api does"],
        ),
        (["serve", "main:routes", "--loop", "gevent"], ["--loop", "'gevent'", "trio"]),
        (["serve", "main:routes", "--log-level", "loud"], ["--log-level", "'loud'", "trace"]),
    ],
    ids=lambda value: " ".join(value[-2:]) if value and value[0].startswith("serv") else None,
)
def test_a_wrong_command_is_one_clear_line(app_dir: Path, arguments: list[str], words: list[str]) -> None:
    """A wrong option is told in one line that says where the help is, with exit code 2."""
    check_refusal(say(app_dir, *arguments), 2, *words, "--help")


WITHOUT = """
import sys

class Without:
    def __init__(self, finder):
        self._finder = finder

    def __getattr__(self, name):
        return getattr(self._finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("uvloop", "trio"):
            return None
        return self._finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


@pytest.mark.parametrize(("loop", "extra"), [("uvloop", "fast"), ("trio", "trio")])
def test_a_missing_loop_says_how_to_install_it(app_dir: Path, loop: str, extra: str) -> None:
    """Where uvloop or trio isn't installed, asking for it is one line with the command that installs it, and exit code 1."""
    (app_dir / "sitecustomize.py").write_text(WITHOUT)
    done = run(app_dir, "serve", "main:routes", "--loop", loop, PYTHONPATH=str(app_dir))
    check_refusal(done, 1, f"the loop {loop} is not installed; install it with: pip install 'microasgi[{extra}]'")


def test_without_the_extras_it_serves_on_asyncio(app_dir: Path) -> None:
    """With neither uvloop nor trio installed, `--loop auto` serves on asyncio."""
    (app_dir / "sitecustomize.py").write_text(WITHOUT)
    with serving(app_dir, "main:routes", PYTHONPATH=str(app_dir)) as server:
        assert server.get() == (200, b"hello")


# The table of routes.


def test_the_table_of_routes_shows_what_a_disconnect_does(app_dir: Path) -> None:
    """`routes` prints each route with the policy that holds there: its own, else that of the innermost router or mount with one."""
    (app_dir / "shop.py").write_text("""
from starlette.applications import Starlette
from microasgi import Mount, Router

async def handler(request): ...
async def bare(scope, receive, send): ...

accounts = Router(cleanup_grace=1.5)
accounts.get("/{name}")(handler)
accounts.delete("/{name}", on_disconnect="cancel", cleanup_grace=0)(handler)

payments = Router(on_disconnect="finish")
payments.post("/pay")(handler)
payments.get("/rates", on_disconnect="cancel")(handler)
payments.mount("/accounts", accounts)

routes = Router(routes=[Mount("/old", Starlette(), on_disconnect="finish")])
routes.get("/")(handler)
routes.route("/both", ["PUT", "PATCH"], name="change")(handler)
routes.mount("/payments", payments)
routes.mount("/bare", bare, name="legacy")
routes.mount("", bare)
as_list = routes.routes
""")
    expected = """
METHODS    PATH                       HANDLER    ON DISCONNECT
*          /old/*                     Starlette  finish
GET,HEAD   /                          handler    cancel, 5 s of cleanup
PATCH,PUT  /both                      change     cancel, 5 s of cleanup
POST       /payments/pay              handler    finish
GET,HEAD   /payments/rates            handler    cancel, 5 s of cleanup
GET,HEAD   /payments/accounts/{name}  handler    finish
DELETE     /payments/accounts/{name}  handler    cancel, 0 s of cleanup
*          /bare/*                    legacy     cancel, 5 s of cleanup
*          /*                         bare       cancel, 5 s of cleanup
"""
    for target in ("shop:routes", "shop:as_list"):
        done = say(app_dir, "routes", target)
        assert done.stdout == expected.lstrip()
        assert (done.returncode, done.stderr) == (0, "")


def test_the_table_of_routes_needs_a_router(app_dir: Path) -> None:
    """`routes` of an app that isn't a Router is one line, with exit code 1."""
    check_refusal(say(app_dir, "routes", "main:bare"), 1, "'main:bare' is neither a Router nor a list of routes")


# The check.


def test_a_check_says_what_would_be_served_and_how_it_reacts(app_dir: Path) -> None:
    """`serve --check` prints where it would listen, who would be believed and what a disconnect does to each route, and binds nothing."""
    addresses = ["--uds", "a.sock", "--uds-permissions", "660", "--bind", "[::1]:80", "--bind", ":0"]
    options = ["--proxy-headers", "--proxy-protocol", "--forwarded-allow-ips", "*", "--allowed-hosts", "a.com,b.com", "--loop", "asyncio"]
    done = say(app_dir, "serve", "main:routes", "--check", *addresses, *options)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:10] == [
        "main:routes can be served: a Router",
        "it listens at unix:a.sock, with the permissions 660",
        "it listens at http://[::1]:80",
        "it listens at http://*:(a free port)",
        "it runs on asyncio, with the lifespan auto",
        "it believes X-Forwarded-For, X-Forwarded-Proto of *",
        "it wants the PROXY protocol of *",
        "it believes everybody: who reaches it past the proxy can claim any address",
        "it answers to a.com, b.com",
        "",
    ]
    assert lines[10].startswith("When a client leaves, its handler is cancelled, unless the route finishes it")
    assert [*lines[11:]] == say(app_dir, "routes", "main:routes").stdout.splitlines()
    assert not (app_dir / "a.sock").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "its handler goes on, unless its framework stops it"),
        (["--cancel-on-disconnect"], "its handler is cancelled, with 5 s of cleanup: on asyncio every task"),
        (
            ["--cancel-on-disconnect", "--loop", "trio"],
            "its handler is cancelled, with 5 s of cleanup: on trio only where that is shielded",
        ),
    ],
)
def test_a_check_says_how_another_frameworks_app_reacts(app_dir: Path, options: list[str], words: str) -> None:
    """Of an app that isn't a Router it says whether its handlers are stopped."""
    done = say(app_dir, "serve", "main:bare", "--check", *options)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "main:bare can be served: a function")
    assert f"When a client leaves, {words}" in done.stdout


def test_a_check_finds_what_is_wrong(app_dir: Path) -> None:
    """What serving would stumble over is one line here, too, with the same exit code."""
    check_refusal(say(app_dir, "serve", "main:nothing", "--check"), 1, "module 'main' has no attribute 'nothing'")
    check_refusal(say(app_dir, "serve", "main:routes", "--check", "--fd", "98765"), 1, "can't listen on fd 98765: nothing is open there")
    done = say(app_dir, "serve", "main:routes", "--check", "--ssl-certfile", "no.pem")
    check_refusal(done, 1, "--ssl-certfile 'no.pem' can't be read: No such")
    check_refusal(say(app_dir, "serve", "main:routes", "--check", "--bind", "8000"), 2, "--bind is a list of HOST:PORT")


# The help.


def test_the_help_names_every_option(app_dir: Path) -> None:
    """`serve --help` explains every option, with its default where it has one."""
    done = say(app_dir, "serve", "--help", COLUMNS="200")
    options = [*OPTIONS, LOG_LEVEL, *(Option(name, TEXT, "") for name in ("factory", "app_dir", "cancel_on_disconnect", "lint"))]
    for option in options:
        assert re.search(rf"^  {option.flag}(, --no-\S+)?( \S+)?\s+\w", done.stdout, re.MULTILINE), option
    assert "{critical,error,warning,info,debug,trace}" in done.stdout
    assert "{auto,asyncio,uvloop,trio}" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_the_distributions(app_dir: Path) -> None:
    """`--version` prints the installed version, and how a departure is delivered with the anyio that is there."""
    done = say(app_dir, "--version")
    assert done.returncode == 0
    assert done.stdout == (
        f"microasgi {version('microasgi')} with anyio {version('anyio')}: "
        "on asyncio every task of a request is cancelled once, and has a grace to clean up\n"
    )


# The demo.


def receive_until(sock: socket.socket, expected: bytes) -> bytes:
    """Read until `expected` is here."""
    received = b""
    while expected not in received:
        chunk = sock.recv(65536)
        assert chunk, received
        received += chunk
    return received


def ask(server: Running, method: str, path: str) -> socket.socket:
    """Ask, and leave the answer for later."""
    sock = server.connect()
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    return sock


def test_the_demo_does_what_it_says(tmp_path: Path) -> None:
    """Each route of the tour does what its docstring promises, for clients that stay and for clients that leave."""
    with serving(tmp_path, "microasgi.demo:routes") as server:
        # These take their time: ask now, look later.
        with ask(server, "GET", "/thread") as work, ask(server, "POST", "/pay") as receipt:
            server.leave("/thread", wait=0.3)
            server.leave("/pay", "POST", wait=0.3)
            server.leave("/sleep", wait=0.3)
            assert server.get("/hello/you") == (200, b"Hello, you!\n")
            status, body = server.get("/upload", "POST", b"x" * 1_000_000)
            assert (status, json.loads(body)) == (200, {"bytes": 1_000_000})
            with ask(server, "GET", "/ticks") as ticks:
                receive_until(ticks, b"tick 1\n")
            assert receive_until(receipt, b"paid\n").startswith(b"HTTP/1.1 201 ")
            assert receive_until(work, b"five seconds of work in a thread\n").startswith(b"HTTP/1.1 200 ")
        server.wait_for('"GET /thread HTTP/1.1" 200 5')
        assert server.stop() == 0
        assert re.search(r'"GET /thread HTTP/1.1" 499 0\.\d+s cancelled: ', server.stderr)
        assert re.search(r'"GET /sleep HTTP/1.1" 499 0\.\d+s cancelled: ', server.stderr)
        assert re.search(r'"GET /ticks HTTP/1.1" 499 1\.\d+s cancelled: ', server.stderr)
        assert re.search(r'"POST /pay HTTP/1.1" 499 3\.\d+s client left: ', server.stderr)
        assert server.stdout.count("The payment is done") == 2
        assert "ERROR" not in server.stderr


def test_the_demos_page_leads_to_every_route(tmp_path: Path) -> None:
    """The page has a link or a form for each of the demo's other routes, and takes nothing from elsewhere."""
    with serving(tmp_path, "microasgi.demo:routes") as server:
        status, body = server.get("/")
    page = body.decode()
    named = set(re.findall(r'(?:href|action)="([^"]+)"', page)) - {"data:,"}
    paths = {route.path for route in demo.routes.routes if isinstance(route, Route)} - {"/"}
    assert (status, named) == (200, {path.replace("{name}", "you") for path in paths})
    assert "http:" not in page
    assert "https:" not in page


def test_the_demo_is_in_the_table_of_routes(tmp_path: Path) -> None:
    """`routes` shows the demo, with the payment as the one that is finished."""
    done = say(tmp_path, "routes", "microasgi.demo:routes")
    assert [line.split()[:2] for line in done.stdout.splitlines() if line.endswith("finish")] == [["POST", "/pay"]]
    assert done.stdout.splitlines()[-1].split()[:3] == ["WEBSOCKET", "/chat/{room}", "chat"]
    assert done.returncode == 0
