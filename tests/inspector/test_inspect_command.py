"""`microasgi inspect`, as somebody who types it sees it."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from microasgi_server import Config
from microasgi_server.options import LIMITS, OPTIONS

from microasgi.command.inspect import NOT_HERE
from microasgi.command.inspect import OPTIONS as INSPECT_OPTIONS
from tests.framework.test_cli import check_refusal, say

PATIENCE = 20.0
TARGET = "tests.inspector.stubborn:routes"
ROOT = Path(__file__).parents[2]


@contextmanager
def inspecting(
    *options: str, called: Sequence[str] = ("inspect",), seconds: float = 1.2
) -> Iterator[tuple[str, str, str, "subprocess.Popen[str]"]]:
    """The command, in a process of its own: gives the app's address, the page's, its token, and the process."""
    command = [sys.executable, "-m", "microasgi", *called, TARGET, "--port", "0", "--page-port", "0", "--loop", "asyncio", *options]
    environment = {**os.environ, "STUBBORN_SECONDS": str(seconds)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.fullmatch(
                rf"Inspecting {TARGET} at (http://\S+); look at (http://\S+)/#t=([0-9a-f]{{32}})\n", process.stdout.readline()
            )
            assert found
            assert "never where others can reach it" in process.stdout.readline()
            yield found[1], found[2], found[3], process
        finally:
            process.kill()


def get(address: str, path: str, token: str) -> tuple[int, bytes]:
    with asking(address, path, token) as answer:
        return answer.status, answer.read()


def post(address: str, path: str, token: str, order: object) -> int:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE)
    with closing(connection):
        connection.request("POST", path, json.dumps(order), {"authorization": f"Bearer {token}"})
        return connection.getresponse().status


@contextmanager
def asking(address: str, path: str, token: str) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE)
    with closing(connection):
        connection.request("GET", path, headers={"authorization": f"Bearer {token}"})
        with connection.getresponse() as answer:
            yield answer


def test_app_and_page_are_served_until_ctrl_c() -> None:
    """Each has its port, and one Ctrl+C ends both. Standard error has no token, and not the page's address either."""
    with inspecting() as (app, page, token, process):
        assert get(app, "/nowhere", "")[0] == 404
        assert get(page, "/", "")[0] == 200
        assert get(page, "/timeline/99", token)[0] == 404
        assert get(page, "/timeline/99", token[:-1])[0] == 401
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    assert token not in told
    assert page not in told
    assert "Traceback" not in told


def test_ctrl_c_waits_for_no_request() -> None:
    """It ends within about a second also while a page is open, and a request that was made there goes on."""
    with inspecting() as (_, page, token, process), asking(page, "/stream", token) as answer:
        order = {"method": "GET", "path": "/report/2024", "way": "fin", "after": None}
        assert post(page, "/open", token, order) == 200
        until(answer, lambda news: news["kind"] == "request")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - began < 5
    assert process.returncode == 0
    assert "Waiting up to 0.5 s for 1 running request(s)" in told


def test_one_blocked_handler_has_one_verdict() -> None:
    """Of every block that is long enough to be told of the line is named, also of one that is over soon behind the departure."""
    found = []
    with inspecting(seconds=0.6) as (_, page, token, _):
        for number in range(1, 6):
            assert post(page, "/open", token, {"method": "GET", "path": "/blocking", "way": "fin", "after": 0.1 * number - 0.05}) == 200
            give_up = time.monotonic() + PATIENCE
            while True:
                status, body = get(page, f"/timeline/{number}", token)
                if status == 200 and not (timeline := json.loads(body))["running"]:
                    break
                assert time.monotonic() < give_up
                time.sleep(0.05)
            found.append(timeline["reasons"])
    verdict = r"\*It blocks the event loop\*, which stood in `stubborn\.py:\d+ in blocking: time\.sleep\(SECONDS\).*"
    assert [len(reasons) for reasons in found] == [1] * 5
    assert [reasons for reasons in found if not re.match(verdict, reasons[0])] == []


def test_the_page_lives_when_the_apps_loop_is_blocked() -> None:
    """While a handler holds the loop, the page answers, and says in which file and line it stands."""
    with inspecting() as (app, page, token, _), socket.create_connection(("127.0.0.1", urlsplit(app).port or 0)) as client:
        client.sendall(b"GET /blocking HTTP/1.1\r\nhost: test\r\n\r\n")
        with asking(page, "/stream", token) as answer:
            news = until(answer, lambda news: news["kind"] == "loop")
            assert news["blocked"] >= 0.5
            assert re.fullmatch(r"stubborn\.py:\d+ in blocking: time\.sleep\(SECONDS\).*", news["at"])
            until(answer, lambda news: news["kind"] == "loop" and not news["blocked"])


def until(answer: http.client.HTTPResponse, wanted: Callable[[Any], bool]) -> Any:
    """The first news of the stream that are wanted."""
    give_up = time.monotonic() + PATIENCE
    while not wanted(news := json.loads(answer.readline())):
        assert time.monotonic() < give_up
    return news


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_it_listens_on_the_loopback_only(host: str) -> None:
    """Any other address is refused, with the reason."""
    check_refusal(say(ROOT, "inspect", TARGET, "--host", host), 2, "--host is 127.0.0.1 or localhost, since the inspector shows everything")


REFUSED = {
    "--workers": "an app is inspected in one process",
    "--reload": "an app is inspected in one process",
    "--bind": "an app is inspected at one address of this machine",
    "--uds": "an app is inspected at one address of this machine",
    "--fd": "an app is inspected at one address of this machine",
    "--ssl-certfile": "the page is a client itself, and speaks plain HTTP",
    "--check": "microasgi serve has it",
}


@pytest.mark.parametrize("option", REFUSED)
def test_it_is_one_process_on_one_port(option: str) -> None:
    """What `serve` has for production, or to be reached in other ways, isn't there, and why not is said; whatever the command is called."""
    for called in (["inspect"], ["serve", "--inspect"]):
        check_refusal(say(ROOT, *called, TARGET, option, "1"), 2, f"there is no option {option} here: {REFUSED[option]}")


def test_every_other_option_of_serve_is_there() -> None:
    """An option that is one of the server's is refused by name, or means the same here."""
    there = {option.name for group in INSPECT_OPTIONS.values() for option in group}
    assert {option.name for option in (*OPTIONS, *LIMITS)} - there == NOT_HERE.keys() - {"check"}


def test_it_is_serve_with_an_option() -> None:
    """`serve --inspect` is the same command, and has the server's options; its own are not those of `serve` without it."""
    with inspecting("--header", "X-Odd: yes", "--no-server-header", called=("serve", "--inspect")) as (app, page, token, _):
        with asking(app, "/nowhere", "") as answer:
            assert (answer.status, answer.headers["x-odd"], answer.headers["server"]) == (404, "yes", None)
        with asking(page, "/stream", token) as answer:
            assert until(answer, lambda news: news["kind"] == "request")["short"] == "GET /nowhere"
    check_refusal(say(ROOT, "serve", TARGET, "--page-port", "1"), 2, "there is no option --page-port here: write --inspect beside it")
    assert "--inspect" in say(ROOT, "serve", "--help").stdout


def test_it_is_never_on_by_default() -> None:
    """Nothing of the server's options, and so nothing of an environment or a program's call, switches it on."""
    names = {field.name for field in fields(Config)} | {option.name for option in OPTIONS}
    assert not [name for name in names if "inspect" in name or "tap" in name]
    done = say(ROOT, "serve", "--check", TARGET, MICROASGI_INSPECT="1")
    assert (done.returncode, done.stderr) == (0, "warning: the variable MICROASGI_INSPECT is no option's, and ignored\n")


LOADED = """
import sys
from microasgi.cli import main
main(["serve", "--check", "microasgi.demo:routes"])
print([name for name in sys.modules if "inspector" in name or name.startswith("microasgi.command.") and "hosted" in name])
"""


def test_who_serves_does_not_load_it() -> None:
    """Nor what `microasgi trace` needs: a command's module is loaded when the command is called."""
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_page_port_that_is_taken_is_told() -> None:
    """One that was asked for must be free; else another is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = f"can't listen on 127.0.0.1:{port} for the page: Address already in use; choose another --page-port"
        check_refusal(say(ROOT, "inspect", TARGET, "--page-port", str(port)), 1, told)
    check_refusal(say(ROOT, "inspect", TARGET, "--port", "9", "--page-port", "9"), 2, "--page-port 9 is the app's own port")


def test_an_app_that_cant_be_served_is_told_in_a_line(tmp_path: Path) -> None:
    """The page's server, which is around the app's, adds nothing: no group, no traceback."""
    (tmp_path / "shy.py").write_text(SHY)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check_refusal(say(ROOT, "inspect", TARGET, "--port", str(port)), 1, f"can't listen on 127.0.0.1:{port}: the port is in use")
    check_refusal(say(tmp_path, "inspect", "shy:app", "--port", "0"), 1, "the app's startup failed: no database")


SHY = """
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""
