"""A client in a process of its own, so that neither the progress bar nor another client disturbs its clock.

It is told what to do in lines of JSON on its stdin, [command, arguments], and answers each in one line on its stdout. It ends when its
stdin does, so it never outlives us.
"""

import gc
import json
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any

from benchmarks.errors import BenchmarkError
from benchmarks.running import ROOT

PATIENCE = 120.0
"""Seconds that a command may take. The slowest, 10,000 connections, takes a tenth."""


class Remote:
    """Our end of it."""

    def __init__(self, process: "subprocess.Popen[bytes]", complaints: IO[bytes]) -> None:
        self._process = process
        self._complaints = complaints

    def ask(self, command: str, **arguments: Any) -> Any:
        """Have it do something, and wait for the answer.

        :raises BenchmarkError: it can't, or it has died
        """
        self.tell(command, **arguments)
        return self.answer()

    def tell(self, command: str, **arguments: Any) -> None:
        """Have it do something, and don't wait."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # told by answer()
            self._process.stdin.write(json.dumps([command, arguments]).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self) -> Any:
        """What came of the last command.

        :raises BenchmarkError: it can't, or it has died
        """
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if selector.select(PATIENCE) else None
        if not line:
            self._complaints.seek(0)
            said = self._complaints.read().decode(errors="replace").strip().splitlines()
            raise BenchmarkError(f"a client {'has died' if line == b'' else 'does not answer'}: {said[-1] if said else 'it said nothing'}")
        result = json.loads(line)
        if "error" in result:
            raise BenchmarkError(result["error"])
        return result["answer"]


@contextmanager
def remote(module: str, *arguments: object) -> Iterator[Remote]:
    """Run `python -m benchmarks.clients.MODULE` as long as the block lasts."""
    command = [sys.executable, "-m", f"benchmarks.clients.{module}", *map(str, arguments)]
    with tempfile.TemporaryFile() as complaints:
        # In a session of its own: Ctrl+C is ours to handle.
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, start_new_session=True
        )
        with process:  # closes its stdin, waits
            try:
                yield Remote(process, complaints)
            finally:
                process.kill()


def obey(commands: Mapping[str, Callable[..., Any]]) -> None:
    """The other end: do what stdin says, until it ends."""
    # What a collection costs must not look like a server's delay; and there is nothing to collect.
    gc.disable()
    for line in iter(sys.stdin.readline, ""):
        command, arguments = json.loads(line)
        try:
            result = {"answer": commands[command](**arguments)}
        except (BenchmarkError, OSError) as error:
            result = {"error": f"{command}: {error}"}
        print(json.dumps(result), flush=True)
