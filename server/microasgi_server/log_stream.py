"""The log on stderr, which may be a file on a full disk, or a pipe that nobody reads any more.

Python's own handler answers each line that can't be written with a traceback, to the same stderr. Here lines are counted, and as soon as
one can be written again, the log says how many are missing.
"""

import logging
import os
import sys
from contextlib import suppress
from typing import TextIO


class LogStream(logging.StreamHandler):  # type: ignore[type-arg]  # it is generic for type checkers alone
    """Writes to stderr."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._missing = 0
        self._why = ""

    def emit(self, record: logging.LogRecord) -> None:
        before = self._missing
        super().emit(record)
        if before and self._missing == before:  # it could be written
            self._missing = 0
            words = "%d line(s) of this log came late, or not at all: %s"
            super().emit(logging.LogRecord("microasgi_server", logging.WARNING, __file__, 0, words, (before, self._why), None))

    def handleError(self, record: logging.LogRecord) -> None:
        """A line couldn't be written, or the record can't be a line, which is somebody's mistake and has a traceback."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._missing += 1
        self._why = str(error.strerror)


def let_out(stream: TextIO | None) -> None:
    """Let out what stdout or stderr still holds. What can't be written is dropped, or Python would try again, and exit with 120.

    :raises OSError: something was dropped
    """
    if stream is None or stream.closed:
        return
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):  # it is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise
