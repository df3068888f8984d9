"""A stack's life: started on a free port, checked to be ours, and stopped again."""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.errors import BenchmarkError
from benchmarks.stacks import Stack

ROOT = Path(__file__).parent.parent

TOKEN = "BENCHMARK_TOKEN"
"""The environment variable that tells an app what to answer to `GET /`."""

STARTING = 30.0
"""Seconds that a server may take until it answers."""

STOPPING = 15.0
"""Seconds that a server may take to end after SIGTERM."""


@dataclass(frozen=True)
class Running:
    """A stack that runs.

    pid: of the process that was started; workers descend from it.
    port: on 127.0.0.1.
    """

    stack: Stack
    pid: int
    port: int
    _output: IO[bytes]

    def said(self) -> str:
        """All that it has written to stdout and stderr so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace").strip()


@contextmanager
def running(stack: Stack, environment: Mapping[str, str] | None = None, *, options: str = "", gracefully: bool = True) -> Iterator[Running]:
    """Run a stack as long as the block lasts. It has answered `GET /`, with a body that only it can know.

    environment: variables for the server, beside our own.
    options: for the server, too.
    gracefully: ask it to end. If not, it is killed: else it might go on for long with handlers that nobody waits for any more. It is, too,
        if the block ends by an exception.

    :raises BenchmarkError: it doesn't start, or something else answers
    """
    port = free_port()
    token = f"hello from {os.urandom(8).hex()}"
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    variables = {**os.environ, **(environment or {}), TOKEN: token, "PYTHONPATH": path}
    with tempfile.TemporaryFile() as output:
        # In a process group of its own, so that its workers can be stopped even if it dies before them.
        process = subprocess.Popen(
            stack.command(port, options),
            cwd=ROOT,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        run = Running(stack, process.pid, port, output)
        try:
            if not _answers(process, port, token.encode()):
                raise BenchmarkError(f"{stack.name} doesn't answer on port {port} as it should; it said: {run.said() or 'nothing'}")
            yield run
            if gracefully:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOPPING)
        finally:
            with suppress(ProcessLookupError):  # nothing is left of its group
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(process: "subprocess.Popen[bytes]", port: int, expected: bytes) -> bool:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            return get(port, "/") == expected
        time.sleep(0.02)
    return False


def get(port: int, target: str) -> bytes:
    """The body of one response, on a connection of its own.

    :raises OSError, http.client.HTTPException: there is none
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STARTING)
    try:
        connection.request("GET", target)
        return connection.getresponse().read()
    finally:
        connection.close()


def notes(port: int) -> dict[str, Any]:
    """What the handlers have noted: {"notes": …, "counts": …}, as `benchmarks.apps.work.notes` has it.

    :raises OSError, http.client.HTTPException: there is no answer
    """
    found: dict[str, Any] = json.loads(get(port, "/notes"))
    return found


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
