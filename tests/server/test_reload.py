"""`--reload`: what a developer saves is served, whatever it is and whatever is going on."""

import re
import signal
from pathlib import Path

import pytest
from microasgi_server import StartupError
from microasgi_server.workers.reloading import Watched, named

from tests.framework.test_cli import Running, say, serving
from tests.needs import needs_package
from tests.server.test_workers import until

APP = """
import anyio
from microasgi import Request, Router

routes = Router()

@routes.get("/")
async def home(request: Request) -> str:
    return "first"

@routes.get("/sleep")
async def sleep(request: Request) -> None:
    print("sleeping", flush=True)
    try:
        await anyio.sleep(60)
    finally:
        print("told", flush=True)
"""


def answers(server: Running, text: str) -> None:
    """Wait until this is the answer."""
    until(lambda: server.get("/") == (200, text.encode()), f"the answer is {text}")


@needs_package("watchfiles")
def test_what_is_saved_is_served(tmp_path: Path) -> None:
    """A request that runs is cancelled for it; a syntax error is told and waited out; what isn't of the app changes nothing."""
    file = tmp_path / "main.py"
    file.write_text(APP)
    (tmp_path / ".venv").mkdir()
    with serving(tmp_path, "main:routes", "--reload", "--reload-include", "*.html") as server:
        answers(server, "first")
        with server.connect() as sock:
            sock.sendall(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n")
            server.wait_for("^sleeping$")
            file.write_text(APP.replace("first", "fifth"))
            server.wait_for("^told$")
            answers(server, "fifth")  # as long as the other, and in the same second
        file.write_text("def (:\n")
        server.wait_for(r"^ERROR: importing 'main' failed: SyntaxError: .*; waiting for a file to change$")
        file.write_text(APP.replace("first", "third"))
        answers(server, "third")
        (tmp_path / ".venv" / "other.py").write_text("")
        (tmp_path / "notes.txt").write_text("")
        (tmp_path / "page.html").write_text("")
        server.wait_for(r"^INFO: page\.html changed: starting again$")
        assert server.stop(signal.SIGHUP) == 0  # the terminal is closed
    assert {*re.findall(r"^INFO: (.+) changed: ", server.stderr, re.MULTILINE)} == {"main.py", "page.html"}
    assert '" 499 ' not in server.stderr


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("main.py", True),
        ("package/deep/models.py", True),
        ("page.html", False),
        ("templates/page.html", True),
        ("deep/templates/page.html", False),
        ("query.sql", True),
        ("sql/deep/query.sql", True),
        ("main.pyc", False),
        ("main.py~", False),
        (".main.py.swp", False),
        (".#main.py", False),
        (".venv/lib/main.py", False),
        ("venv/lib/main.py", False),
        ("package/__pycache__/main.py", False),
        ("node_modules/main.py", False),
        (".git/main.py", False),
    ],
)
def test_which_files_count(tmp_path: Path, path: str, counts: bool) -> None:
    """Python's own and those that were asked for, but nothing in a hidden directory, and nothing that is installed."""
    (tmp_path / ".hidden").mkdir()
    for directory in (tmp_path, tmp_path / ".hidden"):  # it is what is below the watched directory that may not be hidden
        watched = Watched([str(directory)], ["templates/*.html", "*.sql"])
        assert watched.has(str(directory / path)) is counts
    assert not watched.has("/elsewhere/main.py")


def test_a_directory_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    """It is told before anything starts."""
    with pytest.raises(StartupError, match="there is no directory 'nowhere' to watch"):
        Watched([str(tmp_path), str(tmp_path), "nowhere"], [])


def test_a_log_names_only_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another branch that is checked out changes a thousand."""
    monkeypatch.chdir(tmp_path)
    paths = [str(tmp_path / f"{name}.py") for name in "abcde"]
    assert named(paths[:2]) == "a.py, b.py"
    assert named(paths) == "a.py, b.py, c.py and 2 more"


def test_reload_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without watchfiles the command ends with one line that names the extra."""
    monkeypatch.setattr("microasgi_server.workers.reloading.find_spec", lambda name: None)
    done = say(tmp_path, "serve", "microasgi.demo:routes", "--reload")
    assert done.stderr == "error: reload needs watchfiles; install it with: pip install 'microasgi[reload]'\n"
    assert done.returncode == 1
