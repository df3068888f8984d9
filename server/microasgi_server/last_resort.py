"""What ends a process that has been told to stop and doesn't."""

import logging
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn, Self

from microasgi_server.errors import ShutdownError
from microasgi_server.shutdown import report

logger = logging.getLogger("microasgi_server")


class LastResort:
    """Ends the process, whatever still runs in it: a task that swallows its cancellation, a loop that is blocked, a lifespan that hangs.

    code: the exit code.
    """

    def __init__(self) -> None:
        self.code = 1
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The process ends by itself."""
        if self._timer is not None:
            self._timer.cancel()

    def due_in(self, seconds: float) -> None:
        """End the process then; no longer when it was to be before."""
        self.__exit__()
        if seconds < threading.TIMEOUT_MAX:
            self._timer = threading.Timer(seconds, self._too_late, [seconds])
            self._timer.daemon = True
            self._timer.start()

    def _too_late(self, seconds: float) -> None:
        logger.error("Something in this process doesn't end, %g s after it was told to stop: exiting all the same", seconds)
        self.exit()

    def abandon(self, requests: list[str]) -> None:
        """End the process, because these requests don't end."""
        report(requests)
        self.code = 1 if isinstance(sys.exc_info()[1], ShutdownError) else 0
        self.exit()

    def exit(self) -> NoReturn:
        """Now. What was logged and printed gets out; nothing else is done."""
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # it is closed, or there is none
                stream.flush()
        os._exit(self.code)
