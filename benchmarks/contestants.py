"""A contestant: a server to start, to check, to measure and to stop again."""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.apps import TOKEN
from benchmarks.errors import BenchmarkError
from benchmarks.processes import tree

ROOT = Path(__file__).parent.parent

STARTING = 30.0
"""Seconds that a server may take until it answers."""

STOPPING = 15.0
"""Seconds that a server may take to end after SIGTERM."""

IDLE = 120
"""Seconds that connections may be idle: longer than any part leaves them so."""


@dataclass(frozen=True)
class Contestant:
    """One server with one app on one loop.

    name: for the table.
    package: what must be installed.
    arguments: what follows `python -m`; `{port}` stands for the port.
    """

    name: str
    package: str
    arguments: str

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", *self.arguments.split()]


@dataclass(frozen=True)
class Server:
    """A contestant that runs."""

    pid: int
    port: int


def ours(app: str, loop: str) -> Contestant:
    options = f"--loop {loop} --no-access-log --log-level warning --timeout-keep-alive {IDLE} --port {{port}}"
    label = "" if app == "hello" else f" {app},"
    return Contestant(f"microasgi,{label} {loop}", "microasgi", f"microasgi serve benchmarks.apps:{app} {options}")


def uvicorn(loop: str) -> Contestant:
    options = f"--http h11 --loop {loop} --no-access-log --log-level warning --timeout-keep-alive {IDLE} --port {{port}}"
    return Contestant(f"uvicorn h11, {loop}", "uvicorn", f"uvicorn benchmarks.apps:hello {options}")


def hypercorn(loop: str) -> Contestant:
    options = f"-k {loop} --log-level warning --keep-alive {IDLE} --bind 127.0.0.1:{{port}}"  # its access log is off by default
    return Contestant(f"hypercorn, {loop}", "hypercorn", f"hypercorn benchmarks.apps:hello {options}")


def check_installed(contestants: list[Contestant]) -> None:
    """
    :raises BenchmarkError: something to measure isn't here
    """
    for package in sorted({contestant.package for contestant in contestants}):
        try:
            version(package)
        except PackageNotFoundError:
            raise BenchmarkError(f"{package} is not installed; install what is compared with: pip install -e '.[test]'") from None


@contextmanager
def running(contestant: Contestant) -> Iterator[Server]:
    """Run a contestant as long as the block lasts. It has answered, with a body that only it can know.

    :raises BenchmarkError: it doesn't start, or something else answers
    """
    port = _free_port()
    token = f"hello from {os.urandom(8).hex()}"
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, TOKEN: token, "PYTHONPATH": path}
    with tempfile.TemporaryFile() as output:
        command = [argument.replace("{port}", str(port)) for argument in contestant.command]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            if not _answers(process, port, token.encode()):
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise BenchmarkError(f"{contestant.name} doesn't answer on port {port} as it should; it said: {said or 'nothing'}")
            yield Server(process.pid, port)
        finally:
            _stop(process)


def _answers(process: "subprocess.Popen[bytes]", port: int, expected: bytes) -> bool:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            return _get(port) == expected
        time.sleep(0.02)
    return False


def _get(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STARTING)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """By pid, and only what we have started: the server, and its workers if it doesn't take them along."""
    family = tree(process.pid)
    process.terminate()
    try:
        process.wait(STOPPING)
    except subprocess.TimeoutExpired:
        family = tree(process.pid)
        process.kill()
        process.wait()
    else:
        return
    for member in family:
        with suppress(ProcessLookupError):
            os.kill(member, 9)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
