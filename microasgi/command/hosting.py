"""The process in which a traced app runs, from outside: it is started, listened to and stopped."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from microasgi_server import StartupError

from microasgi.command.blocking import Blockages
from microasgi.command.hosted import ASK
from microasgi.inspector.told import Ends, Shown

STARTING = 60.0
"""Seconds that a server may take until it can be asked."""

STOPPING, HURRYING = 2.0, 0.5
"""Seconds that the process may take to stop, its app's shutdown included, before it is killed: and if a handler doesn't end."""

MOST = 10_000
"""Events that are kept of the beginning, and of the end."""

CATCHING_UP = 2.0
"""Seconds in which a process that can report at all has done so."""

SETTLED = 0.2
"""Seconds of silence after which nothing more is expected of a server whose wire can't be seen."""


class Host:
    """A process that serves, and what it has reported.

    events: what it has reported, as it came.
    blockages: where its loop was blocked.
    answers: whether it has told all that had happened when it was asked last.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", *, sees_the_wire: bool) -> None:
        assert process.stdout is not None
        self.events = Ends(2 * MOST)
        self.blockages = Blockages()
        self.answers = True
        self._counts: Counter[tuple[str, str]] = Counter()
        self._process = process
        self._sees_the_wire = sees_the_wire
        self._port = 0
        self._caught_up = 0
        self._heard = time.monotonic()
        self._changed = threading.Condition()
        self._listener = threading.Thread(target=self._listen, args=(process.stdout,), daemon=True)
        self._listener.start()

    def port(self, seconds: float = STARTING) -> int:
        """Where it listens, as soon as it does.

        :param seconds: to wait for that
        :raises SystemExit: it has ended instead, and has said why
        :raises StartupError: it takes longer
        """
        with self._changed:
            self._changed.wait_for(lambda: self._port or self._process.poll() is not None, seconds)
        if self._process.poll() is not None:
            raise SystemExit(1)
        if not self._port:
            raise StartupError(f"the app can't be asked yet, {seconds:g} s after its server was started")
        return self._port

    def demand_life(self) -> None:
        """Make sure that it still runs.

        :raises StartupError: it has ended, in the middle of the request
        """
        code = self._process.poll()
        if code is not None:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            raise StartupError(f"the process that served the app has ended {how}, in the middle of the request")

    def settles(self, seconds: float) -> bool:
        """Wait for the end of all calls, and of all connections that are seen. Whether it is known that no call is left."""
        until = time.monotonic() + seconds
        self._catch_up()
        with self._changed:
            while not self._is_settled() and (left := until - time.monotonic()) > 0:
                self._changed.wait(min(left, SETTLED))
        self._catch_up()
        return self.answers and not self._open("asgi", "call", "end")

    def _catch_up(self) -> None:
        """Wait until all is reported that has happened up to now: it usually reports in the silence behind it."""
        assert self._process.stdin is not None
        with self._changed, suppress(OSError):  # it has ended
            wanted = self._caught_up + 1
            os.write(self._process.stdin.fileno(), ASK)
            self.answers = self._changed.wait_for(lambda: self._caught_up >= wanted or self._process.poll() is not None, CATCHING_UP)

    def stop(self) -> None:
        """End it: in order, so that the app's shutdown runs; at once, if a handler holds another server up."""
        works = self._open("asgi", "call", "end")
        if self._sees_the_wire or not works:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(HURRYING if works else STOPPING)
        self._process.kill()
        self._listener.join(STOPPING)  # or what it reads from would be closed while it does

    def _is_settled(self) -> bool:
        if self._process.poll() is not None:
            return True
        if self._open("asgi", "call", "end"):
            return False
        if self._sees_the_wire:
            return self._counts["wire", "open"] > 0 and not self._open("wire", "open", "lost")
        return time.monotonic() - self._heard >= SETTLED

    def _open(self, lane: str, begins: str, ends: str) -> int:
        """How many have begun, and have not ended."""
        return self._counts[lane, begins] - self._counts[lane, ends]

    def _take(self, event: Shown) -> None:
        self._counts[event["lane"], event["what"]] += 1
        self.events.append(event)

    def _hear(self, told: dict[str, Any]) -> None:
        if "port" in told:
            self._port = told["port"]
        elif "thread" in told:
            self.blockages.thread = told["thread"]
        elif "blocked" in told:
            self.blockages.take(*told["blocked"])
        elif "asked" in told:
            self._caught_up = told["asked"]
        else:
            self._take(told)

    def _listen(self, reports: IO[bytes]) -> None:
        for line in reports:
            with self._changed:
                if line.startswith(b"{"):
                    self._heard = time.monotonic()
                    self._hear(json.loads(line))
                else:
                    self.blockages.read(line.decode("utf-8", "replace"))
                self._changed.notify_all()
        self._process.wait()
        with self._changed:
            self._changed.notify_all()


@contextmanager
def hosting(task: str, *, sees_the_wire: bool) -> Iterator[Host]:
    """A process that serves, as long as the block lasts.

    Ctrl+C doesn't reach it: it has a session of its own, and is stopped at the end of the block.

    :param task: what it is to serve, as `hosted.Task.write` has it
    :param sees_the_wire: whether it tells when a connection ends
    """
    command = [sys.executable, "-m", "microasgi.command.hosted", task]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        host = Host(process, sees_the_wire=sees_the_wire)
        try:
            yield host
        finally:
            host.stop()
