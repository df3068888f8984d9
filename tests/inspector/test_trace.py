"""`microasgi trace`, as somebody who types it sees it; and what it shows of each way to leave, on every loop."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from microasgi_server import Config, serve
from microasgi_server.connection import Connection
from microasgi_server.http1.limits import Limits
from microasgi_server.taps import tapped

from microasgi.cli import main
from microasgi.command.trace import STILL_AT_WORK
from microasgi.inspector.client import Client, Request
from microasgi.inspector.leaving import WAYS
from microasgi.inspector.summary import summary
from microasgi.inspector.timeline import timeline
from microasgi.inspector.told import Recording, Shown, in_order, shown
from microasgi.watching import watch
from tests.harness import eventually
from tests.inspector.apps import shop
from tests.needs import needs_package

APPS = Path(__file__).parent / "apps"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trace(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Type it. Gives the exit code, and what it says."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        code: Any = 0
        try:
            main(["trace", "--app-dir", str(APPS), *arguments])
        except SystemExit as ended:
            code = ended.code
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


def normal(text: str) -> str:
    """A ladder, or a summary, without what differs from one run to the next: times, ports, lines; a summary in one line."""
    text = re.sub(r"^ *\d+\.\d{3} ", " " * 9 + " ", text, flags=re.MULTILINE)
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", re.sub(r"\.py:\d+", ".py:N", text))
    return re.sub(r"\d+(\.\d+)? (ms|s)\b", "N ms", text)


NEWS = """\
           ✕     │     │     │     │  close()
           ├────▸✕     │     │     │  FIN: the read gave no more
           │     ├────▸✕     │     │  hang_up: the client closed its side (FIN)
           │     │     ✕     │     │  phase WAITING → GONE
           │     │     ├────▸✕     │  Visit.leave() is called
           │     │     │     │     ✕  delivery OPEN → CALLED
           │     │     │     │     ✕  delivery CALLED → SENT
           │     ●◂────┤     │     │  close()
           │     │     │     │     ✕  CancelledError at shop.py:N in query
           │     │     │     │     ✕  delivery SENT → HEARD
"""

SUMMARY = (
    "The client left at N ms. Its FIN was read N ms later, the handler was told at shop.py:N in query N ms after that, "
    "and was over after N ms of cleanup (1 await). 499, no response."
)


def test_the_posts_experiment_is_a_ladder(trace: Run, tmp_path: Path) -> None:
    """From the byte to the await, then what is written for other programs; without a colour, in eighty columns."""
    files = [tmp_path / name for name in ("json", "perfetto", "har")]
    options = [word for file in files for word in (f"--{file.name}", str(file))]
    code, out, err = trace("shop:routes", "GET", "/report/2024", "--leave-after", "200ms", *options)
    assert (code, err) == (0, "")
    assert NEWS in normal(out)
    assert normal(" ".join(out.splitlines()[-3:])).endswith(SUMMARY)
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    events = json.loads(files[0].read_text())["events"]
    assert [event["what"] for event in events if event["lane"] == "client"] == ["connect", "send", "close"]
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    assert {"s", "f"} <= {event["ph"] for event in json.loads(files[1].read_text())["traceEvents"]}
    assert json.loads(files[2].read_text())["log"]["entries"][0]["_error"] == "the client left"


COLLECTED = """
import gc

async def app(scope, receive, send):
    if scope["type"] == "http":
        body = f"{gc.get_freeze_count() > 1000} {gc.get_threshold()[0]}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
"""


def test_garbage_is_collected_as_where_it_is_served(trace: Run, tmp_path: Path) -> None:
    """Rarely, and without all that has been there before: or what is measured would be the collector's work, in one run of many."""
    (tmp_path / "collected.py").write_text(COLLECTED)
    trace("collected:app", "GET", "/", "--app-dir", str(tmp_path), "--json", str(tmp_path / "json"))
    events = json.loads((tmp_path / "json").read_text())["events"]
    (body,) = [event["facts"]["message"]["body"]["bytes"] for event in events if event["facts"].get("message", {}).get("body")]
    assert bytes.fromhex(body).decode() == f"True {Limits().collect[0]}"


TOLD = """
import anyio
from microasgi import Router, StreamingResponse

routes = Router()

@routes.get("/")
async def home(request):
    async def made():
        yield b"hello"
        await anyio.sleep(0.1)

    return StreamingResponse(made(), headers={"content-length": "5"})
"""


def test_who_leaves_with_all_that_was_told_of_leaves_nobody_at_work(trace: Run, tmp_path: Path) -> None:
    """The client has the response's last byte; that the app goes on is no work for nobody, and nothing is cancelled."""
    (tmp_path / "told.py").write_text(TOLD)
    code, out, _ = trace("told:routes", "GET", "/", "--app-dir", str(tmp_path))
    assert code == 0
    assert "for nobody" not in out
    assert normal(" ".join(out.splitlines()[-2:])).endswith("with all of its response, 200: nothing was cancelled.")


def test_a_handler_that_works_on_is_an_exit_code(trace: Run) -> None:
    """3, when patience is over; one that blocks its loop can't hold the command up."""
    code, out, _ = trace("shop:routes", "GET", "/compute", "--leave-after", "100ms", "--patience", "600ms", "--ascii")
    assert code == STILL_AT_WORK
    assert "still at work for nobody" in " ".join(out.split())
    assert "behind shop.py:N in compute" in normal(" ".join(out.split()))
    assert "It blocks the event loop, which stood in shop.py:N in compute: time.sleep(10)" in normal(" ".join(out.split()))
    assert out.isascii()


@pytest.mark.parametrize(
    "server",
    [
        pytest.param("uvicorn", marks=needs_package("uvicorn")),
        *(pytest.param(name, marks=[pytest.mark.slow, needs_package(name)]) for name in ("hypercorn", "granian", "daphne")),
    ],
)
@needs_package("starlette")
def test_on_another_server_the_app_is_watched(trace: Run, server: str) -> None:
    """The handler hears nothing there, and the exit code shows it, also to who has no patience: all is known before anything is said."""
    options = ["--server", server, "--leave-after", "100ms", "--patience", "0"]
    code, out, err = trace("starlette_shop:app", "GET", "/report/2024", *options)
    assert (code, err) == (STILL_AT_WORK, "")
    assert "waits at starlette_shop.py:N in query" in normal(out)
    assert "The handler never heard of it: it was still at work for nobody" in " ".join(out.split())


def test_a_missing_server_says_how_to_get_it(trace: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line."""
    (tmp_path / "granian.py").write_text("raise ModuleNotFoundError(\"No module named 'granian'\", name='granian')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    code, out, err = trace("shop:routes", "GET", "/hello", "--server", "granian")
    assert (code, out) == (1, "")
    assert err == "error: granian is not installed; install it with: pip install granian\n"


def test_what_cant_be_traced_is_one_line(trace: Run) -> None:
    """With the code that `serve` has for it: what is found out by the process that serves."""
    assert trace("shop:routes", "GET", "/chat") == (1, "", "error: /chat is a WebSocket's path: write WEBSOCKET instead of GET\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["get", "/"], "METHOD is a word in capitals, not 'get'; did you mean GET?"),
        (["/", "GET"], "METHOD comes before PATH: write GET /"),
        (["GET", "hello"], "PATH is what stands in a URL behind the host, as /items?page=2, not 'hello'; did you mean /hello?"),
        (
            ["GET", "/\u00e9 b?%20"],
            "PATH is what stands in a URL behind the host, as /items?page=2, not '/\u00e9 b?%20'; did you mean /%C3%A9%20b?%20?",
        ),
        (["GET", "/", "--leave-after", "9999999s"], "--leave-after is a time such as 1s, 500ms or 1.5, an hour at most, not '9999999s'"),
        (["GET", "/", "--server", "uvicorn", "--loop", "trio"], "uvicorn runs on asyncio or uvloop, not on trio"),
        (["GET", "/", "--leave-after", "soon"], "--leave-after is a time such as 1s, 500ms or 1.5, an hour at most, not 'soon'"),
        (["GET", "/", "--by", "foot"], "--by is fin, rst, half-close,"),
        (["GET", "/", "--by", "goodbye"], "only a WebSocket has a goodbye: write WEBSOCKET for METHOD"),
        (["GET", "/", "--by", "stay", "--leave-after", "1s"], "who leaves by stay has no time to leave: take --leave-after away"),
        (["WEBSOCKET", "/", "--by", "in-body"], "a WebSocket's client can't leave by in-body: that is a way of an HTTP request"),
        (["GET", "/", "--header", "Accept"], "--header is a header field, as NAME: VALUE, not 'Accept'"),
        (["GET", "/", "--har", "no/such/file"], "no/such: there is no such directory for --har"),
        (["GET", "/", "--sever", "uvicorn"], "there is no option --sever; did you mean --server?"),
        (["GET"], "the following arguments are required: PATH"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_wrong_command_is_told_what_to_write(trace: Run, arguments: list[str], sentence: str) -> None:
    """Before anything is started."""
    code, out, err = trace("shop:routes", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {sentence}")
    assert err.count("\n") == 1


def test_what_cant_be_written_is_told(trace: Run, tmp_path: Path) -> None:
    """Behind the ladder, in one line; what can be is written whatever the app has said, and the body as it was typed."""
    (tmp_path / "odd.py").write_text(ODD)
    odd = ["odd:app", "POST", "/", "--app-dir", str(tmp_path), "--body", "\udcff", "--ascii"]
    code, out, err = trace(*odd, "--json", str(tmp_path / "json"), "--har", str(tmp_path))
    assert (code, err) == (1, f"error: {tmp_path} can't be written: Is a directory\n")
    assert "The response, 200, was complete" in " ".join(out.split())
    assert "begins task 1 ?[31m??" in out
    events = json.loads((tmp_path / "json").read_text(encoding="ascii"))["events"]
    assert [event["facts"]["name"] for event in events if event["what"] == "child"] == ["\x1b[31m\udcff\n"]
    assert [event["facts"]["message"]["body"]["bytes"] for event in events if event["what"] == "receive"] == ["ff"]


ODD = """
import anyio

async def app(scope, receive, send):
    if scope["type"] == "http":
        await receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 0, name="\\x1b[31m\\udcff\\n")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
"""


def is_there(process: int) -> bool:
    """Whether it runs: one that has ended and that nobody has asked for yet doesn't."""
    try:
        os.kill(process, 0)
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


INTERRUPTIBLE = """
import signal, sys
from microasgi.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may be a shell's background job, and these ignore it
main(sys.argv[1:])
"""

DIES = """
import os

async def app(scope, receive, send):
    if scope["type"] == "http":
        os._exit(7)
"""


def test_an_app_that_takes_its_process_with_it_is_told(trace: Run, tmp_path: Path) -> None:
    """The client is left without an answer, and the command says why."""
    (tmp_path / "dies.py").write_text(DIES)
    code, out, err = trace("dies:app", "GET", "/", "--app-dir", str(tmp_path))
    assert (code, out) == (1, "")
    assert err == "error: the process that served the app has ended with exit code 7, in the middle of the request\n"


BEGUN = """
import os
from pathlib import Path

import anyio

async def app(scope, receive, send):
    if scope["type"] == "http":
        scope["extensions"]["microasgi.disconnect"]["subscribe"](lambda: Path("told").write_text(str(os.getpid())))
        Path("begun").write_text(str(os.getpid()))
        await anyio.sleep(60)
"""


def interrupted(directory: Path, *options: str, by: Sequence[signal.Signals]) -> tuple[int, str, str]:
    """What becomes of the command that is sent these, when the handler has begun, and when it has heard. The app's process is gone then."""
    (directory / "app.py").write_text(BEGUN)
    command = [sys.executable, "-c", INTERRUPTIBLE, "trace", "app:app", "GET", "/", "--leave-after", "60s", *options]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 20
        for number, file in zip(by, ("begun", "told"), strict=False):
            while not (text := (directory / file).read_text() if (directory / file).exists() else ""):
                assert time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(number)
        out, err = process.communicate(timeout=20)
    while is_there(int(text)):
        assert time.monotonic() < until
        time.sleep(0.01)
    return process.returncode, out, err


def test_who_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    """No word, and not the process that serves."""
    assert interrupted(tmp_path, by=[signal.SIGKILL]) == (-signal.SIGKILL, "", "")


def test_at_ctrl_c_the_client_leaves(tmp_path: Path) -> None:
    """As it does of curl: what follows is waited for, and shown."""
    code, out, err = interrupted(tmp_path, "--patience", "0.1s", by=[signal.SIGINT])
    assert (code, err) == (130, "")
    assert re.search(r"✕ .*  close\(\)\n", out)
    assert "it was still at work for nobody" in " ".join(out.split())


def test_a_second_ctrl_c_ends_the_wait_for_the_handler(tmp_path: Path) -> None:
    """What has been seen by then is shown all the same."""
    code, out, err = interrupted(tmp_path, "--patience", "1m", by=[signal.SIGINT, signal.SIGINT])
    assert (code, err) == (130, "")
    assert "it was still at work for nobody" in " ".join(out.split())


async def conversation(way: str, method: str = "GET", path: str = "/report/2024", **options: Any) -> list[Shown]:
    """What is told of a client who leaves in this way, on the running loop."""
    told: list[Any] = []
    recording = Recording()
    async with anyio.create_task_group() as tasks:
        server = partial(serve, watch(shop.routes), Config(port=0), connection_class=tapped(Connection, told.append))
        (address,) = await tasks.start(server)
        client = Client(int(address.rpartition(":")[2]), Request(method, path, **options), WAYS[way], recording, seconds=0.05)
        await anyio.to_thread.run_sync(client.run)
        await eventually(lambda: [event.what for event in told if event.what in ("open", "lost")] == ["open", "lost"])
        await eventually(lambda: len([event for event in told if event.what in ("call", "end")]) % 2 == 0)
        tasks.cancel_scope.cancel()
    return in_order([*recording.events, *map(shown, told)])


HEARD = ", the handler was told at shop.py:N in query *N ms* after that, and was over after N ms of cleanup (1 await). 499"

STORIES = {
    "fin": f"left at N ms. Its FIN was read N ms later{HEARD}",
    "rst": f"left by a reset at N ms. The reset was noticed N ms later{HEARD}",
    "half-close": f"shut its sending side at N ms. Its FIN was read N ms later{HEARD}",
    "behind-request": f"left at N ms. Its FIN was read N ms later{HEARD}",
    "in-head": "left at N ms, before its request's head was whole: the app was not called.",
}


@pytest.mark.anyio
@pytest.mark.parametrize("way", STORIES)
async def test_every_way_has_its_story(way: str) -> None:
    """When the client left, when that was known, and where the handler was told; every event has words."""
    events = await conversation(way)
    assert normal(summary(events)).startswith(f"The client {STORIES[way]}")
    assert not [row.label for row in timeline(events).happened() if row.label == row.what[1] and " " not in row.label]


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["after", "before-last-byte"])
async def test_who_leaves_behind_its_response_cancels_nothing(way: str) -> None:
    """The last byte was handed over: that the client has not read it is nothing that a server sees."""
    events = await conversation(way, path="/hello")
    told = "The response, 200, was complete at N ms. The client left after that, at N ms: nothing was cancelled."
    assert normal(summary(events)) == told
    assert not [row for row in timeline(events).happened() if row.hot]


@pytest.mark.anyio
async def test_a_websocket_has_a_goodbye() -> None:
    """Its client says so, and the handler hears of it."""
    events = await conversation("goodbye", "WEBSOCKET", "/chat", body=b"hello")
    assert normal(summary(events)).startswith("The client said goodbye at N ms. The handler ")
    assert "says goodbye (1001)" in [row.label for row in timeline(events).happened()]
