"""What a supervisor's log says of its workers."""

import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from microasgi_server.workers.child import Child
from microasgi_server.workers.roster import Loss, Order, State, Worker

logger = logging.getLogger("microasgi_server")

ENDINGS = {
    Order.STOP: "stopping; once more stops at once",
    Order.STOP_NOW: "stopping at once; once more kills",
    Order.KILL: "killing",
}

CRASHES = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT")
"""The signals that faulthandler answers."""

FRAMES = 5
"""Places in the code that a line has room for."""


def named(worker: Worker, child: Child) -> str:
    """How a sentence about a worker begins."""
    return f"Worker {worker.number} (process {child.process.pid})"


@dataclass(frozen=True)
class Ending:
    """How a worker has ended.

    name: how a sentence about it begins.
    what: how that goes on.
    failure: why it couldn't serve, as it said itself.
    in_order: whether nothing was wrong.
    asked: whether somebody has sent it SIGTERM, and it could say nothing to that yet.
    """

    name: str
    what: str
    failure: str = ""
    in_order: bool = False
    asked: bool = False


def ending_of(worker: Worker, child: Child, timeout: float) -> Ending:
    """The same, of one whose process has ended.

    :param timeout: seconds that its event loop had to turn
    """
    what = f"didn't turn its event loop for {timeout:g} s, and was killed" if worker.state is State.HUNG else how_it_ended(child.code)
    crashed = -child.code in [getattr(signal, name, None) for name in CRASHES]
    if (crashed or worker.state is State.HUNG) and (places := where_it_stood(child.dump)[:FRAMES]):
        what += f" ({'; from '.join(places)})"
    if child.failure:
        what = f"has failed: {child.failure}"
    return Ending(named(worker, child), what, child.failure, child.code <= 0, child.code == -signal.SIGTERM)


def report(ending: Ending, loss: Loss, pause: float) -> None:
    """Log that a worker has ended, if that was not to be expected.

    :param pause: seconds until another starts
    """
    if loss is Loss.EXPECTED and not ending.in_order:
        logger.error("%s %s", ending.name, ending.what)
    elif loss is Loss.REPLACED:
        logger.error("%s %s; another starts%s", ending.name, ending.what, f" in {pause:g} s" if pause else "")
    elif loss is Loss.STAYS:
        logger.error("%s was to replace another, but %s; those that serve stay", ending.name, ending.what)
    elif loss is Loss.WAITS:
        logger.error("%s; waiting for a file to change", ending.failure or f"{ending.name} {ending.what}")


def how_it_ended(code: int) -> str:
    """The end of a sentence, from a process's exit code: negative is a signal's number."""
    if code >= 0:
        return f"has ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def where_it_stood(dump: Sequence[str]) -> list[str]:
    """The lines of a dump of faulthandler's that tell where a thread was, the innermost first, as `/app/main.py, line 12 in handler`.

    It is the last one that counts: processes that the worker has forked may have left others there.
    """
    begins = [number for number, line in enumerate(dump) if line.startswith("Fatal Python error")]
    last = dump[begins[-1] :] if begins else []
    frames = [line.strip().removeprefix("File ").replace('"', "") for line in last if line.startswith("  File ")]
    return [frame for frame in frames if not frame.startswith("<frozen importlib")]
