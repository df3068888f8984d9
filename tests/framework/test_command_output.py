"""What commands print, where that can't be written."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.framework.test_cli import PATIENCE, environment, run

APP = """
from microasgi import Router
routes = Router()

@routes.get("/caf\\u00e9")
async def cafe(request):
    return "open"
"""

FULL = Path("/dev/full")
ON_A_FULL_DISK = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")
TOLD = "error: the output can't be written: No space left on device"


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "cafe.py").write_text(APP)
    return tmp_path


def on_a_full_disk(app_dir: Path, *command: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    """Run a command that can't print."""
    with FULL.open("w") as out:
        whole, told = [sys.executable, "-m", *command], environment(**changes)
        return subprocess.run(whole, cwd=app_dir, env=told, stdout=out, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)


@ON_A_FULL_DISK
@pytest.mark.parametrize(
    ("command", "code"),
    {
        "microasgi routes cafe:routes": 1,
        "microasgi --version": 1,
        "microasgi serve --help": 1,
        "microasgi serve --check cafe:routes": 1,
        "microasgi trace cafe:routes GET /": 1,
        "microasgi_server --check cafe:routes": 1,
        "microasgi.lint --help": 2,
        "microasgi.lint cafe:routes --path /": 2,
    }.items(),
)
def test_an_output_that_cant_be_written_is_one_clear_line(app_dir: Path, command: str, code: int) -> None:
    """On a full disk a command says so, whatever it prints, and whether that gets out at once or at its end."""
    for unbuffered in ("", "1"):
        done = on_a_full_disk(app_dir, *command.split(), PYTHONUNBUFFERED=unbuffered)
        *before, last = done.stderr.splitlines()
        assert (done.returncode, last) == (code, TOLD), unbuffered
        assert not [line for line in before if line.startswith(("error: ", "Traceback"))]


@ON_A_FULL_DISK
def test_an_address_that_cant_be_told_is_one_clear_line(app_dir: Path) -> None:
    """An app that is inspected at an address that nobody knows, or at a port that was picked and can't be said, isn't served."""
    for options in (["inspect", "--page-port", "0"], ["serve"]):
        done = on_a_full_disk(app_dir, "microasgi", *options, "cafe:routes", "--port", "0", "--log-level", "error")
        assert (done.returncode, done.stderr) == (1, f"{TOLD}\n")


@ON_A_FULL_DISK
def test_a_remark_that_cant_be_written_ends_nothing(app_dir: Path) -> None:
    """Of a variable that is none's, say; the rest is done."""
    command = [sys.executable, "-m", "microasgi", "serve", "--check", "cafe:routes"]
    with FULL.open("w") as err:
        told = environment(MICROASGI_PROT="1")
        done = subprocess.run(command, cwd=app_dir, env=told, stdout=subprocess.PIPE, stderr=err, text=True, timeout=PATIENCE)
    assert (done.returncode, "can be served" in done.stdout) == (0, True)


def test_what_the_outputs_encoding_lacks_is_escaped(app_dir: Path) -> None:
    """A path that a terminal can't show ends nothing."""
    done = run(app_dir, "routes", "cafe:routes", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"/caf\xe9" in done.stdout
