"""How long a handler may take, as a route or a router says: then it is stopped as by its client's leaving, and the client gets a 503.

    seconds pass ──► promise/ cancels the block: once, then a grace, then for good; shields and threads are waited for
                 ──► 503, once the handler has ended; if its response had begun, that breaks off

The innermost opinion holds, from the moment at which it is known until the response of whoever has it is sent. It is about handlers
alone: middleware around them takes as long as it takes, and so does what a response leaves for the background.
"""

import logging
import math
from collections.abc import Callable
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from microasgi.asgi import Message, Scope, Send
from microasgi.parsing import LIMITS
from microasgi.promise.on_trio import call_later
from microasgi.promise.visit import Visit
from microasgi.responses import PlainTextResponse

logger = logging.getLogger("microasgi")


def check_timeout(timeout: object) -> None:
    """Check what a route or a router says; None is no opinion.

    :raises ValueError: it isn't a number of seconds
    """
    if timeout is not None and (not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout >= 0):
        raise ValueError(f"timeout is a number of seconds, or 0 for as many as it takes, not {timeout!r}")


def limit_time(seconds: float, visit: Visit, scope: Scope) -> None:
    """Let the handler of a visit, whose block has begun, take so many seconds from now on; 0 for as many as it takes."""
    if visit.time_limit is not None:
        visit.time_limit.end()
    visit.time_limit = TimeLimit(seconds, visit, scope)


class TimeLimit:
    """The seconds that a handler has, sending included. They pass from the beginning, but for pauses; `end` is at its end.

    :param seconds: how many; 0 for as many as it takes
    """

    def __init__(self, seconds: float, visit: Visit, scope: Scope) -> None:
        self._seconds = seconds
        self._visit = visit
        self._told: Any = (scope.get("extensions") or {}).get(LIMITS, {})
        self._left = seconds or math.inf
        self._pauses = 0  # each function around it makes its own
        self._begun = False  # whether anything of the response may be on the wire
        self._answered_for = False
        self._undo: Callable[[], object] | None = None
        self._running_since = 0.0
        self._run()

    def pause(self) -> None:
        """Somebody else has the turn, until `resume`."""
        self._pauses += 1
        if self._undo is not None:
            self._left -= anyio.current_time() - self._running_since
            self._halt()

    def resume(self) -> None:
        """The handler goes on."""
        self._pauses -= 1
        if not self._pauses:
            self._run()

    def end(self) -> None:
        """It holds no more."""
        self._halt()
        self._left = math.inf
        if self._answered_for:
            self._visit.answered = False  # whatever the handler has made of it

    def holding(self, send: Send) -> Send:
        """`send()` for the handler's response, whose start waits for the first of its body: until then it can become a 503.

        Servers wait so, too (ASGI HTTP spec, response start). What comes when the handler has been answered for is dropped.
        """
        held: list[Message] = []

        async def holding_send(message: Message) -> None:
            if self._answered_for:
                await checkpoint()  # where a handler hears of its end that couldn't before, as in a thread
            elif message["type"] == "http.response.start" and not self._begun and not held:
                held.append(message)
            else:
                self._begun = self._begun or bool(held)
                while held:
                    await send(held.pop())
                await send(message)

        return holding_send

    def _run(self) -> None:
        if self._left < math.inf:
            self._running_since = anyio.current_time()
            self._undo = call_later(self._visit.block.task, max(self._left, 0), self._stop)

    def _halt(self) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None

    def _stop(self) -> None:
        visit = self._visit
        self._left, self._undo = math.inf, None
        if not visit.block.cancelled:  # else its client was quicker
            logger.warning("%s took more than its timeout of %g s: cancelled", visit.describe(), self._seconds)
            self._answered_for = not self._begun
            self._told["late"] = True  # our server needn't log the app as faulty, too, if its response breaks off
            visit.instead = PlainTextResponse("Service Unavailable", 503)
            visit.block.cancel(visit.describe)
