"""One worker, as the supervisor has it: a process, and the channel to it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from microasgi_server.workers.channel import TERMINAL, Assignment, Surroundings, Word, tell, understood
from microasgi_server.workers.job import Job
from microasgi_server.workers.roster import Order

SIGNALS = {
    Order.STOP: "SIGTERM",
    Order.STOP_NOW: "SIGQUIT",
    Order.DUMP: "SIGABRT",  # which `faulthandler` answers, whatever the process is busy with
    Order.KILL: "SIGKILL",
}
"""By name: not every system that imports this has all."""

# The first lines are what `orphans` does, which would come too late: to import it, and all that is around it, takes a while.
_BOOT = """
import ctypes, os, signal, sys
descriptor, parent, home = sys.argv[1:]
if sys.platform == "linux":
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        pass
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGKILL)
sys.path.insert(0, home)
from microasgi_server.workers.worker import main
main(int(descriptor))
"""

_HOME = str(Path(__file__).parents[2])
"""The directory that this package is imported from."""


class Child:
    """A worker's process. It waits for its job once it has imported all but the app.

    process: the process.
    channel: to it; doesn't block.
    dump: what `faulthandler` wrote there.
    failure: why it can't serve, as it says itself.
    silent: whether nothing will come up any more.
    """

    def __init__(self, job: Job) -> None:
        """Start an interpreter.

        :raises OSError: the system has no room for one
        """
        self.dump: list[str] = []
        self.failure = ""
        self.silent = False
        self._rest = b""
        self.channel, theirs = socket.socketpair()
        with theirs:
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does; there is no other way
            command = [sys.executable, *flags, "-P", "-c", _BOOT, str(theirs.fileno()), str(os.getpid()), _HOME]
            with _held_back(TERMINAL):
                # It has our own stdin: a developer's breakpoint needs one.
                self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        modules = [_module(job.set_up), _module(job.load)]
        self._send(Surroundings(os.getpid(), sys.path, sys.argv, modules))

    def begin(self, number: int, job: Job, listeners: Sequence[socket.socket], numbers: Sequence[socket.socket]) -> None:
        """Give it its job."""
        self._send(Assignment(number, job, len(listeners)), [*listeners, *numbers])

    def _send(self, message: Surroundings | Assignment, sockets: Sequence[socket.socket] = ()) -> None:
        with suppress(OSError):  # it has ended already, which is noticed elsewhere
            tell(self.channel, message, sockets)
            self.channel.setblocking(False)

    @property
    def ended(self) -> bool:
        """Whether the process has."""
        return self.process.poll() is not None

    @property
    def code(self) -> int:
        """The exit code of one that has ended."""
        return self.process.returncode or 0

    def obey(self, order: Order) -> None:
        """Give the process an order."""
        self.process.send_signal(getattr(signal, SIGNALS[order]))

    def words(self) -> Iterator[tuple[Word, str]]:
        """What it has said since the last time."""
        try:
            while data := self.channel.recv(65536):
                self._rest += data
            self.silent = True
        except BlockingIOError:
            pass
        except OSError:  # reset: it was killed before it had read everything
            self.silent = True
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            if (word := understood(line)) is not None:
                yield word
            else:
                self.dump.append(line.decode(errors="replace"))

    def kill(self) -> None:
        """End it, whatever it does, and forget it."""
        self.channel.close()
        self.obey(Order.KILL)
        self.process.wait()

    def close(self) -> None:
        """Forget one that has ended."""
        self.channel.close()


@contextmanager
def _held_back(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Let these wait for the end of the block. A process that is started in it has them wait, too, until it says otherwise."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _module(function: object) -> str:
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__module__", __name__))
