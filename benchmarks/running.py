"""A stack's life: started on a free port, checked to be ours, and stopped again."""

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.errors import BenchmarkError
from benchmarks.stacks import CERTIFICATE, KEY, Stack

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
    folder: for its files.
    """

    stack: Stack
    pid: int
    port: int
    folder: Path
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
    with tempfile.TemporaryFile() as output, tempfile.TemporaryDirectory() as folder:
        if stack.scheme == "https":
            make_certificate(Path(folder))
        command = stack.command(port, folder, options)
        # In a process group of its own, so that its workers can be stopped even if it dies before them.
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        run = Running(stack, process.pid, port, Path(folder), output)
        try:
            if not _answers(process, port, token.encode(), stack.scheme):
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


def _answers(process: "subprocess.Popen[bytes]", port: int, expected: bytes, scheme: str) -> bool:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            return get(port, "/", scheme) == expected
        time.sleep(0.02)
    return False


def make_certificate(folder: Path) -> None:
    """Put a certificate and its key there, for tests of an hour: nobody checks who has signed it.

    :raises BenchmarkError: there is no openssl to make it with
    """
    if (path := shutil.which("openssl")) is None:
        raise BenchmarkError("TLS needs a certificate, and openssl makes it: apt-get install openssl")
    wanted = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    subprocess.run([path, *wanted, "-out", folder / CERTIFICATE, "-keyout", folder / KEY], check=True, capture_output=True)


def trusting() -> ssl.SSLContext:
    """For clients that believe whatever certificate they are shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def get(port: int, target: str, scheme: str = "http") -> bytes:
    """The body of one response, on a connection of its own.

    :raises OSError, http.client.HTTPException: there is none
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STARTING)
    if scheme == "https":
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=STARTING, context=trusting())
    try:
        connection.request("GET", target)
        return connection.getresponse().read()
    finally:
        connection.close()


def notes(port: int, scheme: str = "http") -> dict[str, Any]:
    """What the handlers have noted: {"notes": …, "counts": …}, as `benchmarks.apps.work.notes` has it.

    :raises OSError, http.client.HTTPException: there is no answer
    """
    found: dict[str, Any] = json.loads(get(port, "/notes", scheme))
    return found


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
