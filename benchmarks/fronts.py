"""nginx and HAProxy before a server: with the configurations that the server's page shows and the tests run."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.running import STARTING
from tests.deployment.configurations import command, free_ports

PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy"}
"""Debian's package of each."""

_CHANGES = {"nginx": [], "haproxy": [("GET /ready", "GET /")]}
"""What the app here calls otherwise."""


@dataclass(frozen=True)
class Front:
    """A proxy that runs.

    http1, http2: its ports on 127.0.0.1, for either version, without TLS.
    """

    http1: int
    http2: int


def path_of(program: str) -> str | None:
    """Where it is; also where only root looks for programs."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


@contextmanager
def in_front(program: str, port: int, folder: Path) -> Iterator[Front]:
    """Run a proxy before the server at this port, as long as the block lasts.

    folder: where it may write.

    :raises BenchmarkError: it isn't there, or doesn't start
    """
    path = path_of(program)
    if path is None:
        raise BenchmarkError(f"{program} isn't installed: apt-get install {PACKAGES[program]}")
    front = Front(*free_ports(2))
    arguments = command(program, folder, (front.http1, front.http2), (port, port), _CHANGES[program])
    log = folder / f"{program}.log"
    with log.open("wb") as output:
        process = subprocess.Popen([path, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    try:
        if not (_listens(process, front.http1) and _listens(process, front.http2)):
            raise BenchmarkError(f"{program} doesn't listen as it should; it said: {log.read_text(errors='replace').strip() or 'nothing'}")
        yield front
    finally:
        process.terminate()
        process.wait()


def _listens(process: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        time.sleep(0.01)
    return False
