"""The layers are checked, not trusted: who may import whom, and what may lie at the top of the repository."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.needs import path_of

ROOT = Path(__file__).parents[2]
PACKAGES = {"microasgi": ROOT / "microasgi", "microasgi_server": ROOT / "server" / "microasgi_server"}


def contracts() -> list[dict[str, Any]]:
    """The contracts in pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return found


def lint_imports(directory: Path) -> "subprocess.CompletedProcess[str]":
    """Check the contracts of a copy of the repository."""
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program if program.exists() else shutil.which("lint-imports")), "--no-cache"]
    path = f"{directory}:{directory / 'server'}"
    return subprocess.run(command, cwd=directory, env={"PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code, to break."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES.values():
        shutil.copytree(package, tmp_path / package.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_contracts_hold(copy: Path) -> None:
    """No module imports what its layer may not: import-linter checks every contract of pyproject.toml."""
    done = lint_imports(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Contracts: {len(contracts())} kept, 0 broken." in done.stdout


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("microasgi/requests.py", "import microasgi_server"),
        ("microasgi/cli.py", "import microasgi_server.http1.protocol"),
        ("microasgi/demo.py", "import h11"),
        ("microasgi/promise/visit.py", "import microasgi.routing"),
        ("server/microasgi_server/logs.py", "import microasgi"),
        ("server/microasgi_server/connection.py", "import h11"),
        ("server/microasgi_server/websocket/session.py", "import websockets"),
        ("server/microasgi_server/call.py", "import microasgi_server.connection"),
        ("server/microasgi_server/running.py", "import microasgi_server.call"),
        ("server/microasgi_server/connection.py", "import microasgi_server.observers"),
        ("server/microasgi_server/http1/body.py", "import h11"),
        ("server/microasgi_server/exchange.py", "import microasgi_server.http1.exchange"),
        ("server/microasgi_server/connection.py", "import microasgi_server.transports.asyncio"),
        ("server/microasgi_server/http1/protocol.py", "import anyio"),
        ("server/microasgi_server/http1/protocol.py", "import asyncio"),
        ("server/microasgi_server/http1/protocol.py", "import socket"),
        ("server/microasgi_server/errors.py", "import microasgi_server.http1.protocol"),
        ("server/microasgi_server/http1/reader.py", "import time"),
        ("server/microasgi_server/connection.py", "import asyncio"),
        ("server/microasgi_server/connection.py", "import trio"),
        ("microasgi/routing.py", "import asyncio"),
        ("microasgi/promise/visit.py", "import asyncio"),
        ("microasgi/responses.py", "import uvloop"),
    ],
)
def test_the_contracts_notice(copy: Path, module: str, statement: str) -> None:
    """Each import that the design forbids breaks a contract."""
    file = copy / module
    file.write_text(file.read_text() + f"\n{statement}\n")
    done = lint_imports(copy)
    assert done.returncode == 1, f"nothing forbids {statement!r} in {module}"
    assert "is not allowed to import" in done.stdout


def test_every_module_has_a_layer() -> None:
    """Each module of both packages stands in the layers' contract, so that a new one has to find its place."""
    for name, directory in PACKAGES.items():
        files = [file for file in directory.rglob("*.py") if not file.stem.startswith("__")]
        modules = {".".join([name, *file.relative_to(directory).with_suffix("").parts]) for file in files}
        layered = {
            module.strip()
            for contract in contracts()
            if contract["type"] == "layers"
            for layer in contract["layers"]
            for module in layer.replace("|", ":").split(":")
            if module.strip().startswith(f"{name}.")
        }
        assert modules == layered


EXTRAS = {
    "forms": {"multipart"},
    "files": {"starlette"},
    "encoding": {"msgspec"},
    "parsing": {"msgspec", "pydantic"},
    "plugin": {"pytest"},
    "metrics": {"prometheus_client"},
    "reloading": {"watchfiles"},
    "frames": {"websockets"},
    "servers": {"uvicorn", "hypercorn", "granian", "daphne"},
}
"""What else a module may import, where it is installed."""


@pytest.mark.parametrize(("package", "allowed"), [("microasgi", {"anyio"}), ("microasgi_server", {"anyio", "h11"})])
def test_a_package_imports_only_its_dependencies(package: str, allowed: set[str]) -> None:
    """Beside the standard library, itself and its extras, the framework imports anyio, the server anyio and h11; the command line both."""
    for file in PACKAGES[package].rglob("*.py"):
        own = {package, "microasgi_server"} if file.stem == "cli" or file.parent.name == "command" else {package}
        assert imported(file) <= sys.stdlib_module_names | allowed | own | EXTRAS.get(file.stem, set()), file


def imported(file: Path) -> set[str]:
    """The top-level names of what a module imports, at its top or anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            names.add(str(node.module).partition(".")[0])
    return names


LOADED = "import sys, {package}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("microasgi", {"microasgi_server", "h11", "trio", "uvloop", *chain(*EXTRAS.values())}),
        ("microasgi_server", {"microasgi", "trio", "uvloop", "prometheus_client", "watchfiles", "websockets"}),
    ],
)
def test_importing_a_package_loads_no_other(package: str, forbidden: set[str]) -> None:
    """Importing the framework loads neither the server nor h11, importing the server not the framework, and neither an extra."""
    done = subprocess.run([sys.executable, "-c", LOADED.format(package=package)], capture_output=True, text=True, check=True, timeout=60)
    assert package in done.stdout.split()
    assert not forbidden & set(done.stdout.split())


PRIVATE = {
    "anyio_scopes.py": r"_task_states|_parent_scope|_child_scopes|_host_task|_cancel_called|_cancel_handle|_deliver_cancellation|_backends",
    "asyncio_tasks.py": r"_fut_waiter|_must_cancel|_enter_task|_leave_task|_get_running_loop|_parent_task|_aborting|_exiting|_abort\\b",
    "trio_scope.py": r"_cancel_status|_activate_cancel_status|GLOBAL_RUN_CONTEXT|trio\\._core",
}
"""The names of anyio, asyncio and trio that aren't public, by the file that knows them."""


@pytest.mark.parametrize("file", PRIVATE)
def test_a_librarys_private_names_stand_in_one_file(file: str) -> None:
    """What could change in a library's next version is read in one place, and that does read it."""
    found = {path.name for path in PACKAGES["microasgi"].rglob("*.py") if re.search(PRIVATE[file], path.read_text())}
    assert found == {file}


def test_the_top_of_the_repository_holds_only_what_it_should() -> None:
    """Beside dotfiles and the licence, the repository's top level has six entries, and nobody adds a seventh in passing."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git clone: nobody knows here what belongs to the repository")
    command = [path_of("git"), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    top = {path.partition("/")[0] for path in done.stdout.split("\0") if path}
    expected = {"pyproject.toml", "microasgi", "server", "tests", "benchmarks", "README.md"}
    assert {name for name in top if not name.startswith(".")} - {"LICENSE"} == expected
