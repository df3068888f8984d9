"""Every async test runs on the three loops, unless it parametrises `anyio_backend` itself. What can't run here is skipped by name."""

import gc
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests import leftovers, needs
from tests.certificates import Files
from tests.harness import Linting

if TYPE_CHECKING:
    from tests.postgres import Postgres

sys.meta_path.append(needs.Absent())

hypothesis.settings.register_profile("unhurried", deadline=None)  # a busy machine has found no fault
hypothesis.settings.load_profile("unhurried")

LOOPS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


@pytest.fixture(params=list(LOOPS.values()), ids=list(LOOPS))
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def server_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Have everything the server logs in `caplog`, except its traces."""
    caplog.set_level("INFO", logger="microasgi")
    caplog.set_level("INFO", logger="microasgi_server")


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Before all others of its scope, and so behind them when they end."""
    with leftovers.none_left():
        yield


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """A real PostgreSQL, started when the first test wants it."""
    from tests.postgres import running_postgres  # which needs its drivers

    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Certificates and keys, in files."""
    return Files(tmp_path_factory.mktemp("certificates"))


# `--no-skips`, for a machine that has everything; `--tapped`, for a tap that changes nothing.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-seconds", type=float, default=600.0, help="how long the slow one of tests/deployment/test_faults.py lasts")
    parser.addoption("--no-skips", action="store_true", help="a test that can't run here has failed")
    parser.addoption("--lint", action="store_true", help="our server's tests fail if it breaks a rule of ASGI")
    parser.addoption("--tapped", action="store_true", help="every server that a test starts in its own process tells what it does")


def pytest_configure(config: pytest.Config) -> None:
    Linting.is_on = config.getoption("--lint")
    if config.getoption("--tapped"):
        from tests.tapping import tap_everything

        tap_everything()


def _unskipped(report: Any, config: pytest.Config) -> Any:
    """The report, or a failure's if it is a skip that must not be. (An expected failure is reported as a skip, too.)"""
    if report.skipped and config.getoption("--no-skips") and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"skipped, and --no-skips allows none: {report.longrepr[-1]}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _unskipped((yield), item.config)  # type: ignore[no-any-return]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _unskipped((yield), collector.config)  # type: ignore[no-any-return]


# Workers: processes that share the tests among them. Every report of theirs goes to the process that began them.

MOST_WORKERS = 4
"""Each collects all the tests first, which takes seconds of its core."""


def workers(asked: Sequence[str], marks: str, cores: int) -> int:
    """How many there are where nobody says `-n`: one a core.

    None for files or tests that are named, which are over before a worker is up; and none for the slow tests, which want the cores
    for themselves.

    :param asked: the files, folders and tests of the command line
    :param marks: what is asked for with `-m`
    """
    named = all(Path(each.partition("::")[0]).suffix == ".py" for each in asked)
    return 0 if named or marks != "not slow" else min(cores, MOST_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return workers(config.args, config.option.markexpr, cores)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape what is no UTF-8, which is all that workers can send: a log may have the bytes of a path."""
    return _sendable((yield))


def _sendable(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {key: _sendable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(map(_sendable, data))
    return data


def pytest_collection_finish() -> None:
    """Leave what all test modules have imported out of every collection from now on: many tests collect, to see what is left behind.

    Hypothesis is here by then, and has to be: with trio, it looks for who refers to a certain object, and doesn't find what is left out.
    """
    gc.collect()
    gc.freeze()
