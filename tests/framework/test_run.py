"""`run`, of the framework and of the server: all that a command can be given, from a program."""

import pickle
import re
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import microasgi_server
import pytest
from microasgi_server import Config, StartupError, TargetError

import microasgi
from microasgi import Router
from tests.framework.test_cli import MAIN, say, script

RUNS: list[Callable[..., None]] = [microasgi.run, microasgi_server.run]
each_run = pytest.mark.parametrize("run", RUNS, ids=["microasgi", "microasgi_server"])

PROGRAM = """
import os, signal, sys, threading, urllib.request
import microasgi, microasgi_server, main

def ask(addresses):
    def asking():
        print(urllib.request.urlopen(addresses[0]).read().decode(), flush=True)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=asking).start()

for target in ("main:routes", main.routes, main.as_list, tuple(main.as_list), main.bare, main.Endpoint):
    microasgi.run(target, port=0, started=ask)
microasgi.run("app:routes", app_dir="package", port=0, started=ask)
microasgi.run(main.make_list, factory=True, port=0, started=ask)
microasgi.run(main.bare, microasgi_server.Config(access_log=False), port=0, cancel_on_disconnect=True, started=ask)
for target in ("main:bare", main.bare, main.routes):
    microasgi_server.run(target, port=0, started=ask)
"""

INTERRUPT = "interrupt = lambda _: os.kill(os.getpid(), signal.SIGINT)"

ENDS_BADLY = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "too late"})
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an app, which is the current one."""
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "app.py").write_text(MAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    return tmp_path


def test_whatever_the_command_serves_a_program_can_serve(here: Path) -> None:
    """A name, a Router, a list of routes, any app and what a factory returns are served until Ctrl+C, with a log on stderr."""
    done = script(here, PROGRAM)
    assert (done.returncode, done.stdout.split()) == (0, ["hello"] * 12), done.stderr
    assert len(re.findall(r"^INFO: Serving on http://127\.0\.0\.1:\d+ \(Ctrl\+C stops\)$", done.stderr, re.MULTILINE)) == 12
    assert done.stderr.count('"GET / HTTP/1.1" 200') == 11


@pytest.mark.parametrize(
    ("before", "options", "said"),
    [
        ("", "", "INFO: Serving on "),
        ("", ", log_level='warning'", ""),
        ("logging.basicConfig(format='%(name)s says %(message)s')", "", ""),
        ("logging.basicConfig(format='%(name)s says %(message)s')", ", log_level='info'", "microasgi_server says Serving on "),
        ("logging.getLogger('microasgi_server').setLevel('ERROR')", "", ""),
    ],
)
def test_a_log_that_is_configured_is_left_as_it_is(here: Path, before: str, options: str, said: str) -> None:
    """Without a configuration the log goes to stderr, as the command's does; one that is there only gets the level that is asked for."""
    program = """
        import logging, os, signal, main, microasgi_server
        BEFORE
        microasgi_server.run(main.routes, port=0, started=lambda _: os.kill(os.getpid(), signal.SIGINT)OPTIONS)
    """
    done = script(here, program.replace("BEFORE", before).replace("OPTIONS", options))
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(said)
    assert bool(said) == bool(done.stderr)


@each_run
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("main", "'main' is not of the form module:attribute"),
        ("src/main:app", "the directory goes into --app-dir"),
        ("mian:routes", "did you mean 'main'?"),
        ("main:number", "'main:number' is an int, and not an ASGI app"),
        ("main:application", "did you mean 'routes', which is a Router?"),
        (42, "what is to be served is an int, and not an ASGI app"),
        (None, "what is to be served is a NoneType, and not an ASGI app"),
        (Router, "what is to be served is a class, and not an app; make an instance of it, as in app = Router"),
        (lambda: None, "what is to be served is a function, and not an ASGI app"),
    ],
)
def test_what_is_no_app_is_refused_at_once(run: Callable[..., None], target: Any, words: str, here: Path) -> None:
    """Whatever can't be served is an error that says so, before anything listens."""
    with pytest.raises(TargetError, match=re.escape(words)):
        run(target, port=0)


def test_a_list_to_serve_has_routes(here: Path) -> None:
    """A list with something else in it is refused, and so is an empty one."""
    for target in ([], [42]):
        with pytest.raises(TargetError, match="a list to serve has Routes and Mounts"):
            microasgi.run(target, port=0)  # type: ignore[arg-type]


@each_run
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prot": 8000}, TypeError, "there is no option prot; did you mean port?"),
        ({"port": "8000"}, ValueError, "port is a number from 0 to 65535, not '8000'"),
        ({"log_level": "loud"}, ValueError, "log_level is critical, error, warning, info, debug or trace, not 'loud'"),
        ({"app_dir": "nowhere"}, TargetError, "--app-dir nowhere: there is no such directory"),
    ],
)
def test_a_wrong_option_is_refused_with_the_commands_words(
    run: Callable[..., None], options: dict[str, Any], error: type[Exception], words: str, here: Path
) -> None:
    """An option that isn't there or can't be so is an error that says what it may be."""
    with pytest.raises(error, match=re.escape(words)):
        run("main:routes", **options)


@each_run
def test_a_port_in_use_is_an_error(run: Callable[..., None], here: Path) -> None:
    """What the command says in a line, a program can catch, also one that had its options in a `Config`."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartupError, match="the port is in use"):
        run("main:bare", Config(port=taken.getsockname()[1]))


@pytest.mark.parametrize("module", ["microasgi", "microasgi_server"])
def test_what_nobody_catches_is_one_line(module: str, here: Path) -> None:
    """A program whose server can't start, or fails in the end, says why in a line, and its exit code is 1, as the command's."""
    (here / "broken.py").write_text("raise LookupError('no settings')")
    (here / "ends.py").write_text(ENDS_BADLY)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for call, words in {
            f"run(main.bare, port={taken.getsockname()[1]})": "the port is in use",
            "run('main:no')": "module 'main' has no attribute 'no'",
            "run('broken:app')": "; log_level='debug' shows more",
            "run('main:bare', loop='uvloop', spare_worker=True)": "spare_worker needs workers",
            "run('ends:app', port=0, started=interrupt)": "the app's shutdown failed: too late",
        }.items():
            done = script(here, f"import os, signal, main, {module}\n{INTERRUPT}\n{module}.{call}")
            lines = [line for line in done.stderr.splitlines() if not line.startswith(("INFO: ", "ERROR: "))]
            assert (done.returncode, len(lines)) == (1, 1), done.stderr
            assert lines[0].startswith("error: ")
            assert words in lines[0]


@each_run
def test_what_a_program_catches_may_be_handed_on(run: Callable[..., None], here: Path) -> None:
    """It keeps its class and its text on the way to another process, and is an Exception to who catches all."""
    with pytest.raises(Exception, match="no attribute 'no'") as caught:
        run("main:no")
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (type(copied), str(copied)) == (TargetError, str(caught.value))


@each_run
def test_another_thread_is_no_place_for_it(run: Callable[..., None], here: Path) -> None:
    """Where Ctrl+C can't be heard, the error says what to use instead."""
    with ThreadPoolExecutor() as pool, pytest.raises(StartupError, match=r"only the main thread hears Ctrl\+C; .*microasgi_server\.serve"):
        pool.submit(run, "main:bare", port=0).result()


def test_the_server_is_a_command_by_itself(here: Path) -> None:
    """`python -m microasgi_server` serves an app by its name, and says in one line what it can't serve."""
    program = """
        import sys
        from microasgi_server.command.main import main
        main(sys.argv[1:])
    """
    for arguments, words in {
        ("main:no",): "error: module 'main' has no attribute 'no'",
        ("main:bare", "-w", "4"): "error: there is no option -w here: write --workers NUMBER",
    }.items():
        done = script(here, program, *arguments)
        assert done.stderr.startswith(words)
        assert done.stderr.count("\n") == 1
    assert "module:attribute, as in main:app: an ASGI app\n" in script(here, program, "--help").stdout


def test_only_run_is_loaded_late() -> None:
    """Another name that isn't there is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="module 'microasgi' has no attribute 'runn'"):
        _ = microasgi.runn
    assert say(Path(), "--version").returncode == 0
