"""How long a handler may take, as a route or a router says: then it is stopped as by its client's leaving, and the client gets a 503.

    seconds pass ──► promise/ cancels the block: once, then a grace, then for good; shields and threads are waited for
                 ──► 503, once the handler has ended; if its response had begun, that breaks off

The innermost opinion holds, from the moment at which it is known. It is about handlers alone: what a response leaves for the background
runs outside the block, and takes as long as it takes.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

import anyio

from microasgi.promise.visit import Visit
from microasgi.responses import PlainTextResponse

logger = logging.getLogger("microasgi")


def check_timeout(timeout: object) -> None:
    """Check what a route or a router says; None is no opinion.

    :raises ValueError: it isn't a number of seconds
    """
    if timeout is not None and (not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout >= 0):
        raise ValueError(f"timeout is a number of seconds, or 0 for as many as it takes, not {timeout!r}")


def limit_time(seconds: float, visit: Visit) -> None:
    """Let the handler of a visit, whose block has begun, take so many seconds from now on; 0 for as many as it takes."""
    if visit.at_end is not None:
        visit.at_end()
    visit.at_end = _call_later(seconds, visit, _stop) if 0 < seconds < float("inf") else None


def _stop(visit: Visit, seconds: float) -> None:
    if not visit.block.cancelled:  # else its client was quicker
        logger.warning("%s took more than its timeout of %g s: cancelled", visit.describe(), seconds)
        visit.instead = PlainTextResponse("Service Unavailable", 503)
        visit.block.cancel(visit.describe)


def _call_later(seconds: float, visit: Visit, function: Callable[[Visit, float], None]) -> Callable[[], object]:
    """Call the function in so many seconds, unless what this returns is called before: on the loop of the visit's task."""
    get_loop: Any = getattr(visit.block.task, "get_loop", None)
    if get_loop is not None:  # a task of asyncio's
        handle = get_loop().call_later(seconds, function, visit, seconds)
        return handle.cancel  # type: ignore[no-any-return]
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope:
            await anyio.sleep(seconds)
            function(visit, seconds)

    sys.modules["trio"].lowlevel.spawn_system_task(wait)  # beside everything: nobody waits for it
    return scope.cancel
