"""What a supervisor's log says of its workers."""

import logging
import signal
from collections.abc import Sequence

from microasgi_server.workers.child import Child
from microasgi_server.workers.roster import Loss, Order, State, Worker

logger = logging.getLogger("microasgi_server")

ENDINGS = {
    Order.STOP: "stopping; once more stops at once",
    Order.STOP_NOW: "stopping at once; once more kills",
    Order.KILL: "killing",
}

FRAMES = 5
"""Places in the code that a line has room for."""


def named(worker: Worker, child: Child) -> str:
    """How a sentence about a worker begins."""
    return f"Worker {worker.number} (process {child.process.pid})"


def what_happened(worker: Worker, child: Child, timeout: float) -> str:
    """How a worker has ended, and where in the code, as the end of a sentence."""
    if child.failure:
        return f"has failed: {child.failure}"
    how = f"didn't turn its event loop for {timeout:g} s, and was killed" if worker.state is State.HUNG else how_it_ended(child.code)
    places = where_it_stood(child.dump)[:FRAMES]
    return f"{how} ({'; from '.join(places)})" if places else how


def report(worker: Worker, child: Child, loss: Loss, what: str, pause: float) -> None:
    """Log that a worker has ended, if that was not to be expected.

    :param what: what happened
    :param pause: seconds until another starts
    """
    name = named(worker, child)
    if loss is Loss.EXPECTED and child.code > 0:
        logger.error("%s %s", name, what)
    elif loss is Loss.REPLACED:
        logger.error("%s %s; another starts%s", name, what, f" in {pause:g} s" if pause else "")
    elif loss is Loss.STAYS:
        logger.error("%s was to replace another, but %s; those that serve stay", name, what)
    elif loss is Loss.WAITS:
        logger.error("%s; waiting for a file to change", child.failure or f"{name} {what}")


def how_it_ended(code: int) -> str:
    """The end of a sentence, from a process's exit code: negative is a signal's number."""
    if code >= 0:
        return f"has ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def where_it_stood(dump: Sequence[str]) -> list[str]:
    """The lines of a dump of faulthandler's that tell where a thread was, the innermost first, as `/app/main.py, line 12 in handler`."""
    frames = [line.strip().removeprefix("File ").replace('"', "") for line in dump if line.startswith("  File ")]
    return [frame for frame in frames if not frame.startswith("<frozen importlib")]
