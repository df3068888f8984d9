"""Any server, started by its command on a loopback port."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from microasgi.lint.probes.notes import LIFESPAN, VARIABLE, Notes

APP = "microasgi.lint.probes.app:app"

KNOWN = {
    "microasgi": "python -m microasgi_server {app} --port {port}",
    "uvicorn": "uvicorn {app} --port {port}",
    "uvicorn-h11": "uvicorn {app} --port {port} --http h11",
    "uvicorn-httptools": "uvicorn {app} --port {port} --http httptools",
    "hypercorn": "hypercorn {app} --bind 127.0.0.1:{port}",
    "granian": "granian {app} --interface asgi --port {port}",
    "daphne": "daphne {app} -p {port}",
    "gunicorn": "gunicorn {app} --bind 127.0.0.1:{port} -k asgi",
}
"""The commands of servers that are known by name."""

STARTING = 20.0
"""Seconds that a server may take until it answers."""

STOPPING = 10.0
"""Seconds that it may take to end after SIGTERM."""


class ProbeError(Exception):
    """The server can't be probed: there is none, or it doesn't answer."""


@dataclass(frozen=True)
class Server:
    """One that runs, or has run.

    process: that was started; workers descend from it.
    """

    process: "subprocess.Popen[bytes]"
    port: int
    notes: Notes
    _output: IO[bytes]

    def said(self) -> str:
        """All that it has written to stdout and stderr so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def accepts(self) -> bool:
        """Whether somebody listens."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def wait_until_it_accepts(self, patience: float = STARTING) -> bool:
        """Wait until it does; False if it ends, or takes too long."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.accepts():
                return True
            time.sleep(0.02)
        return False

    def stop(self) -> bool:
        """Ask it to end, and wait; False if it doesn't."""
        self.process.terminate()
        return self.has_ended(STOPPING)

    def has_ended(self, patience: float) -> bool:
        """Whether it ends within so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        return self.process.returncode is not None


@contextmanager
def started(command: str, lifespan: str) -> Iterator[Server]:
    """A server for as long as the block lasts.

    :param command: with `{app}` and `{port}` in it, or a name of `KNOWN`
    :param lifespan: how the app's lifespan goes: `lives`, `raises` or `fails`
    :raises ProbeError: there is no such program, or the command has no place for the app or the port
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        path = Path(folder) / "notes"
        path.touch()
        here = str(Path(__file__).parents[3])  # an installed server may not find us by itself
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])), "PYTHONUNBUFFERED": "1"}
        environment = {**os.environ, **variables, VARIABLE: str(path), LIFESPAN: lifespan}
        process = subprocess.Popen(
            arguments(command, port), env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield Server(process, port, Notes(str(path)), output)
        finally:
            with suppress(ProcessLookupError):  # nothing is left of its group
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def arguments(command: str, port: int) -> list[str]:
    """The command as a list, with its program found, first of all beside this Python.

    :raises ProbeError: there is no such program, or the command has no place for the app or the port
    """
    text = KNOWN.get(command, command)
    if "{app}" not in text or "{port}" not in text:
        known = ", ".join(KNOWN)
        raise ProbeError(f"a server is a command with {{app}} and {{port}} in it, or one of {known}; {command!r} is neither")
    program, *rest = (word.replace("{app}", APP).replace("{port}", str(port)) for word in shlex.split(text))
    if program == "python":
        return [sys.executable, *rest]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which(program, path=path)
    if found is None:
        raise ProbeError(f"there is no program {program!r} here")
    return [found, *rest]


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
