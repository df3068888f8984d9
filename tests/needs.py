"""What a machine with Python and `.[test]` lacks: a test that needs it is skipped there, by name, with how to get it.

* A package of the extra `bench` takes no word: to import one that isn't installed skips the test, or the whole module, that wanted it.
  Where it would come too late, `@needs_package("uvicorn")` says so on a test or a parameter, and `demand_package` in a fixture.
* A program is asked for: `@needs_program("curl")` on a test, `path_of("curl")` in a fixture.

Where nothing may be missing, `pytest --no-skips` makes a failure of every skip.
"""

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType

import pytest

ROOT = Path(__file__).parent.parent

_EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
_OTHERWISE_CALLED = {"PIL", "engineio", "opentelemetry", "psycopg_pool", "socketio", "strawberry"}
BENCH = {re.split(r"\W", line.replace("-", "_"))[0] for line in _EXTRAS["bench"]} | _OTHERWISE_CALLED
"""The packages of the extra, by the names that they are imported by."""
LINT = {re.split(r"\W", line.replace("-", "_"))[0] for line in _EXTRAS["lint"]}
"""Those that are run, and not imported."""

PROGRAMS = {
    "chromium": "chromium",
    "curl": "curl",
    "git": "git",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "redis-server": "redis-server",
    "systemd-analyze": "systemd",
    "wrk": "wrk",
    "wscat": "node-ws",
}
"""Debian's package of each program. Others come with a package of `bench`."""


class Absent(MetaPathFinder):
    """The last to be asked for a module: nobody else has found it.

    Only our own imports are answered with a skip. Other people's code may try one of these packages and do without it.
    """

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in BENCH and (wanting := _wanting(sys._getframe(1))):
            pytest.skip(f"{wanting} {_get(name)}", allow_module_level=True)
        return None


def _wanting(frame: FrameType | None) -> str:
    """Which of our files wants what is being imported: the test's own rather than a helper's. Nothing, if it isn't ours that imports."""
    files = []
    while frame:
        files.append(Path(frame.f_code.co_filename))
        frame = frame.f_back
    files = [file for file in files if not file.name.startswith("<frozen importlib")]
    if not _is_ours(files[0]):
        return ""
    return str(next((file for file in files if file.name.startswith("test_") and _is_ours(file)), files[0]).relative_to(ROOT))


def _is_ours(file: Path) -> bool:
    return file.is_relative_to(ROOT / "tests") or file.is_relative_to(ROOT / "benchmarks")


def _get(package: str) -> str:
    return f"needs {package}; get it with: pip install -e '.[test,{'lint' if package in LINT else 'bench'}]'"


def needs_package(name: str) -> pytest.MarkDecorator:
    """Skip the test if this package of an extra isn't installed: for one that is imported later than is good, or run by itself."""
    return pytest.mark.skipif(PathFinder.find_spec(name) is None, reason=_get(name))


def demand_package(name: str) -> None:
    """Skip what runs, or the module, if this package of `bench` isn't installed. Not inside a task group, which would wrap the skip."""
    if PathFinder.find_spec(name) is None:
        pytest.skip(f"{_wanting(sys._getframe(1))} {_get(name)}", allow_module_level=True)


def _which(program: str) -> str | None:
    places = (os.environ.get("PATH", os.defpath), "/usr/sbin", os.path.dirname(sys.executable))
    return shutil.which(program, path=os.pathsep.join(places))


def _remedy(program: str) -> str:
    return f"needs {program}; get it with: apt-get install {PROGRAMS[program]}" if program in PROGRAMS else _get(program)


def path_of(program: str) -> str:
    """Where a program is. Skips what runs, if it is nowhere: a fixture or a test, but not inside a task group, which would wrap it."""
    found = _which(program)
    if found is None:
        pytest.skip(_remedy(program))
    return found


def needs_program(program: str) -> pytest.MarkDecorator:
    """Skip the test if this program is nowhere."""
    return pytest.mark.skipif(_which(program) is None, reason=_remedy(program))
