"""The suite itself: what it needs is named, what can't run is skipped by name, and a failure is told as one."""

import ast
import os
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import workers
from tests.needs import BENCH, ROOT, Absent

OURS = {"microasgi", "microasgi_server", "tests", "benchmarks"}
TEST = (
    {"pytest", "hypothesis", "starlette", "multipart", "websockets", "trio", "uvloop", "cryptography", "OpenSSL"}
    | {"anyio", "h11"}
    | {"outcome", "sniffio"}
)
"""What is there with `.[test]`: named in the extra, what the packages themselves need, and what trio brings."""

SKIPS = """
import logging
import pytest

def test_that_logs_a_path_that_is_no_utf8():
    logging.warning("/%s", b"\\xff".decode(errors="surrogateescape"))

def test_that_skips():
    pytest.skip("the moon is missing")

@pytest.mark.xfail
def test_that_is_expected_to_fail():
    assert False
"""

LEAVES = """
import os, subprocess, sys

def test_that_leaves_a_process():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    with open("pid", "w") as file:
        file.write(str(process.pid))
    process.returncode = 0  # nobody complains of it
    END
"""


@cache
def trees(folder: str) -> dict[str, ast.Module]:
    """The syntax of every module in there."""
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in sorted((ROOT / folder).rglob("*.py"))}


def test_whatever_is_imported_is_in_an_extra() -> None:
    """Tests and benchmarks import what `test` or `bench` brings, so that a missing package is one that has a remedy."""
    found = set()
    for tree in [*trees("tests").values(), *trees("benchmarks").values()]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
    assert found - sys.stdlib_module_names - OURS - TEST <= BENCH


def test_no_coroutine_calls_pytest_fail_or_skip() -> None:
    """These raise no Exception: out of a task group they come wrapped, and out of an app they end the server's loop, and the run."""
    outcomes = {"fail", "skip", "xfail", "exit", "importorskip"}
    found = [
        f"{file}:{node.lineno}"
        for file, tree in trees("tests").items()
        for function in ast.walk(tree)
        if isinstance(function, ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {f"pytest.{outcome}" for outcome in outcomes}
    ]
    assert found == []


def test_a_missing_package_is_named_with_its_remedy() -> None:
    """Our own import of a package of `bench` that isn't there is a skip; somebody else's is a missing module, as it always was."""
    remedy = r"tests/repository/test_the_suite\.py needs granian; get it with: pip install -e '\.\[test,bench\]'"
    with pytest.raises(pytest.skip.Exception, match=remedy) as raised:
        Absent().find_spec("granian")
    assert raised.value.allow_module_level
    assert Absent().find_spec("no_such_package") is None
    assert Absent().find_spec("granian.no_such_module") is None
    names = {"find": Absent().find_spec}
    exec(compile("found = find('granian')", "somebody_elses.py", "exec"), names)
    assert names["found"] is None


def run_pytest(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """The tests in there, with what our conftest.py adds, and no more plugins than that takes: each worker would import them."""
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "xdist", "-p", "tests.conftest", f"--rootdir={folder}", *options, "."]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("options", "outcomes"),
    [
        (["-n0"], "1 passed, 1 skipped, 1 xfailed"),
        (["-n0", "--no-skips"], "1 failed, 1 passed, 1 xfailed"),
        (["-n2", "--no-skips"], "1 failed, 1 passed, 1 xfailed"),
    ],
    ids=["alone", "no skips", "no skips, with workers"],
)
def test_where_nothing_may_be_missing_a_skip_is_a_failure(options: list[str], outcomes: str, tmp_path: Path) -> None:
    """`--no-skips` makes a failure of a skip, and shows its reason; what is expected to fail still may. Workers report the same."""
    (tmp_path / "test_moon.py").write_text(SKIPS)
    done = run_pytest(tmp_path, *options)
    assert outcomes in done.stdout.splitlines()[-1], done.stdout
    assert "the moon is missing" in done.stdout
    assert done.returncode == ("--no-skips" in options)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux: /proc tells what has begun a process")
@pytest.mark.parametrize(("end", "told"), [("os._exit(1)", False), ("pass", True)], ids=["timeout", "passes"])
def test_no_process_outlives_its_test(end: str, told: bool, tmp_path: Path) -> None:
    """What a test leaves is killed, also where a timeout has ended the tests with `os._exit`; at an ordinary end it is an error, too."""
    (tmp_path / "test_leaves.py").write_text(LEAVES.replace("END", end))
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert ("tests have left these processes behind" in done.stdout) == told
    left = Path("/proc") / (tmp_path / "pid").read_text() / "cmdline"
    deadline = time.monotonic() + 10
    while left.exists() and left.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("asked", "marks", "expected"),
    [
        (["tests"], "not slow", 2),
        (["tests/wire"], "not slow", 2),
        (["tests/wire", "tests/server/test_tls.py"], "not slow", 2),
        (["tests/wire/test_head.py"], "not slow", 0),
        (["tests/wire/test_head.py::test_one[a/b.c]", "tests/wire/test_body.py"], "not slow", 0),
        (["tests"], "slow", 0),
    ],
)
def test_workers_share_what_takes_long(asked: list[str], marks: str, expected: int) -> None:
    """There is one a core for folders; none for a file, which is read sooner than a worker is up, and none for slow tests."""
    assert workers(asked, marks, cores=2) == expected


def test_an_id_is_the_same_in_every_run(request: pytest.FixtureRequest) -> None:
    """No test's id has an object's address in it: workers have to agree on what there is. `ids=named` leaves it out."""
    assert [item.nodeid for item in request.session.items if re.search(r"\bat 0x[0-9a-f]+", item.nodeid)] == []
