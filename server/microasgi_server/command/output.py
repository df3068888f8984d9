"""What a command prints. What can't be written, as on a full disk, ends it with one line; where nobody reads any more, with none."""

import sys
from contextlib import suppress

from microasgi_server.errors import StartupError
from microasgi_server.log_stream import let_out


def say(*lines: str, end: str = "\n", flush: bool = False) -> None:
    """Print this; what the output's encoding hasn't, escaped.

    :raises StartupError: it can't be written
    :raises BrokenPipeError: nobody reads it
    """
    text = "\n".join(lines)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), end=end, flush=flush)
    except OSError as error:
        raise _told(error) from None


def let_all_out() -> None:
    """Let out what has been printed, by whomever.

    :raises StartupError: it can't be written
    :raises BrokenPipeError: nobody reads it
    """
    with suppress(OSError):  # the log has done what it could
        let_out(sys.stderr)
    try:
        let_out(sys.stdout)
    except OSError as error:
        raise _told(error) from None


def remark(text: str) -> None:
    """Say it on stderr. A command doesn't end because that can't be written."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _told(error: OSError) -> Exception:
    return error if isinstance(error, BrokenPipeError) else StartupError(f"the output can't be written: {error.strerror}")
