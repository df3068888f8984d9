"""An app that blocks its event loop, as `microasgi trace` tells of it: by the line, also from within a call of C."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from microasgi.command import hosting
from microasgi.command.blocking import Blockages
from microasgi.command.trace import STILL_AT_WORK
from microasgi.inspector.ladder import Style, sentences
from microasgi.inspector.page.beats import BLOCKED
from tests.inspector.test_trace import Run, normal, trace
from tests.needs import needs_package

__all__ = ["trace"]

APP = """
import ctypes
import time

import anyio
from microasgi import Router

routes = Router()

@routes.get("/sleeps")
async def sleeps(request):
    await anyio.sleep(0.05)
    time.sleep(0.9)

@routes.get("/computes")
async def computes(request):
    end = time.monotonic() + 0.9
    while time.monotonic() < end:
        pass

@routes.get("/keeps-the-interpreter")
async def keeps(request):
    await anyio.sleep(0.05)
    ctypes.PyDLL(None).usleep(900_000)  # * as a driver in C that lets no other thread run

@routes.get("/keeps-it-for-long")
async def long(request):
    await anyio.sleep(0.05)
    ctypes.PyDLL(None).usleep(8_000_000)

@routes.get("/turns")
async def turns(request):
    end = time.monotonic() + 0.9
    while time.monotonic() < end:
        await anyio.sleep(0)
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "held.py").write_text(APP)
    return tmp_path


LINES = {
    "/sleeps": "held.py:N in sleeps: time.sleep(0.9)",
    "/computes": "held.py:N in computes: ",
    "/keeps-the-interpreter": "held.py:N in keeps: ctypes.PyDLL(None).usleep(900_000) # * as a driver in C that lets no other thread run",
}


def told(out: str) -> str:
    return normal(" ".join(out.split()))


@pytest.mark.parametrize("path", LINES)
def test_the_line_is_told_where_it_blocks(trace: Run, app_dir: Path, path: str) -> None:
    """Whoever waits in C, computes in Python, or computes in C and lets nobody else run, is named by the line of the app's own."""
    code, out, err = trace("held:routes", "GET", path, "--leave-after", "300ms", "--app-dir", str(app_dir))
    assert (code, err) == (0, "")
    assert f"It blocks the event loop, which stood in {LINES[path]}" in told(out)


@pytest.mark.parametrize("server", [pytest.param("uvicorn", marks=needs_package("uvicorn"))])
@needs_package("starlette")
def test_so_it_is_on_another_server(trace: Run, app_dir: Path, server: str) -> None:
    """The process is the same, and so is whoever looks."""
    path = "/keeps-the-interpreter"
    _, out, _ = trace("held:routes", "GET", path, "--leave-after", "300ms", "--app-dir", str(app_dir), "--server", server)
    assert f"It blocks the event loop, which stood in {LINES[path]}" in told(out)


def test_one_that_lets_nobody_run_is_no_silence(trace: Run, app_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What isn't known is said not to be, and where the app stands is known all the same; it counts as still at work."""
    monkeypatch.setattr(hosting, "CATCHING_UP", 0.7)
    options = ["--leave-after", "400ms", "--patience", "0", "--app-dir", str(app_dir)]
    code, out, _ = trace("held:routes", "GET", "/keeps-it-for-long", *options)
    assert code == STILL_AT_WORK
    stands = "held.py:N in long: ctypes.PyDLL(None).usleep(8_000_000)"
    assert f"The app's process doesn't answer: it stands in {stands}, and lets no other thread of Python's run." in told(out)


def test_a_loop_that_turns_is_not_blocked(trace: Run, app_dir: Path) -> None:
    """However much it has to do."""
    _, out, _ = trace("held:routes", "GET", "/turns", "--app-dir", str(app_dir))
    assert "blocks" not in out


def test_the_timer_is_believed_of_the_loops_thread_only() -> None:
    """Its text has all threads, the innermost line first; the app's own line counts, and a library's says nothing."""
    found = Blockages()
    found.thread = 0x7F01
    library = f'  File "{os.__file__}", line 5 in listdir'
    for line in ("Timeout (0:00:00.500000)!", "Thread 0x00007f02 (most recent call first):", '  File "/x/other.py", line 1 in run'):
        found.read(line)
    found.read("Thread 0x00007f01 (most recent call first):")
    assert found.until(0.0) == []
    found.read(library)
    assert found.until(0.0) == []
    found.read('  File "/x/shop.py", line 30 in work')
    (still,) = found.until(1000 * time.perf_counter())
    assert still.at.startswith("shop.py:30 in work")
    assert still.ended - still.began >= 1000 * BLOCKED
    found.take(still.began - 9, still.ended, "")
    assert [(each.began, each.ended, each.at) for each in found.until(9.0)] == [(still.began - 9, still.ended, still.at)]


ASKS_MEANWHILE = """
import io, os, threading, time
import anyio
from microasgi.command.hosted import Reports

class Out(io.FileIO):
    def write(self, data):
        if b'"blocked"' in data and not told:
            told.append(data)
            reports.ask()
        if b'"asked"' in data:
            os._exit(0)
        return super().write(data)

async def main():
    reports.meet()
    await anyio.sleep(0.2)
    time.sleep(0.5)
    await anyio.sleep(5)

told = []
reports = Reports(Out(os.devnull, "w"))
threading.Thread(target=reports.run, daemon=True).start()
anyio.run(main)
os._exit(1)
"""


def test_who_asks_while_it_looks_is_answered() -> None:
    """However the question falls: it isn't lost between two turns of the thread that reports."""
    done = subprocess.run([sys.executable, "-c", ASKS_MEANWHILE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_asterisk_of_code_is_no_mark() -> None:
    """Only those of our own sentences make bold."""
    assert sentences("*It* is `a * b * c` now", Style()) == "It is a * b * c now"
    assert sentences("*It* is `a*b`", Style(colours=True)) == "\x1b[1mIt\x1b[0m is a*b"
