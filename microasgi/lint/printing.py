"""What the command prints. What can't be written, as on a full disk, ends it with one line; where nobody reads any more, with none."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NOBODY_READS = 141
"""The exit code where nobody reads, as in `… | head`: 128 + SIGPIPE's 13."""


class OutputError(Exception):
    """The output can't be written."""


def say(line: str, end: str = "\n") -> None:
    """Print this.

    :raises OutputError: it can't be written
    """
    try:
        print(line, end=end)
    except OSError as error:
        raise OutputError(error.strerror) from error


def remark(text: str) -> None:
    """Say it on stderr, if that can be written."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


@contextmanager
def printing() -> Iterator[None]:
    """Around all that is said. Ends with SystemExit, if something of it can't be written: 2, or 141 where nobody reads."""
    try:
        try:
            yield
        finally:
            let_out()
    except OutputError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            raise SystemExit(NOBODY_READS) from None
        remark(f"error: the output can't be written: {error}")
        raise SystemExit(2) from None


def let_out() -> None:
    """Have nothing of it wait any longer. What can't be written is dropped, or Python would try again, and exit with 120.

    :raises OutputError: something was
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        with suppress(OSError):  # it is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(error.strerror) from error
