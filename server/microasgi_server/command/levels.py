"""The levels of the log, and what sets it up where nobody has."""

import logging
from collections.abc import Sequence

from microasgi_server.errors import ServerError, TargetError
from microasgi_server.kinds import choice
from microasgi_server.log_formats import FORMATTERS
from microasgi_server.log_stream import LogStream
from microasgi_server.logs import TRACE
from microasgi_server.options import Option

LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}

LOG_LEVEL = Option("log_level", choice(*LEVELS), "trace shows every message, debug where an import failed")

LOG_FORMAT = Option("log_format", choice(*FORMATTERS), "json has an object a line, with the access log's fields")

LOGGER = "microasgi_server"


def set_up_logging(level: str | None, loggers: Sequence[str], written: str = "text") -> None:
    """Have the log on stderr, unless it goes somewhere else already.

    :param level: of these loggers, a key of `LEVELS`; None is `info`, unless logging is configured, which is then left as it is
    :param written: as what, a key of `FORMATTERS`
    """
    configured = any(logging.getLogger(name).hasHandlers() or logging.getLogger(name).level for name in loggers)
    handler = LogStream()
    handler.setFormatter(FORMATTERS[written]())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    if level is None and configured:
        return
    for name in loggers:
        logging.getLogger(name).setLevel(LEVELS["info" if level is None else level])


def explained(error: ServerError, debug: str = "--log-level debug") -> str:
    """What ended a server, in one line. Where the app's own code is behind it, the log has more at the level debug.

    :param debug: how that is asked for
    """
    if error.__cause__ is None or not isinstance(error, TargetError):
        return str(error)
    logger = logging.getLogger(LOGGER)
    logger.debug("Where it comes from:", exc_info=error.__cause__)
    # The level is 0 in a command that doesn't serve.
    return f"{error}; {debug} shows more" if logger.level > logging.DEBUG else str(error)
