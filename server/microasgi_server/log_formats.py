"""How a record of the log becomes a line: text for people, JSON for machines.

Both know the id of the request for which something was logged, by whomever (see the option `request_id`), and the worker in which it
was, where there are several. To use one elsewhere, name it in
a configuration of Python's logging: `"formatters": {"json": {"()": "microasgi_server.log_formats.JSONFormatter"}}`.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from microasgi_server import identity
from microasgi_server.access import fields_of
from microasgi_server.noted import request_id

_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "access", "worker"}
"""What every record has; the rest is what somebody has given as `extra`."""


class TextFormatter(logging.Formatter):
    """`LEVEL: message`, or `LEVEL [worker 2]: message`, and the request's id behind it, except where the access log has a format, which may
    name it.
    """

    def __init__(self) -> None:
        super().__init__("%(levelname)s%(worker)s: %(message)s", defaults={"worker": ""})

    def formatMessage(self, record: logging.LogRecord) -> str:
        if identity.worker is not None:
            record.worker = f" [worker {identity.worker}]"
        text = super().formatMessage(record)
        known = request_id.get()
        return text if known is None or hasattr(record, "access") else f"{text} [{known}]"


class JSONFormatter(logging.Formatter):
    """One object a line: `time` (UTC), `level`, `logger`, `message`; then the fields of an access line and what was given as `extra`;
    `worker`, `request_id`, `exception` and `stack` where there are any.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identity.worker is not None:
            line["worker"] = identity.worker
        known = request_id.get()
        if known is not None:
            line["request_id"] = known
        more = {name: value for name, value in vars(record).items() if name not in _OWN}
        line = {**more, **line, **fields_of(record)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=repr)


FORMATTERS: dict[str, type[TextFormatter] | type[JSONFormatter]] = {"text": TextFormatter, "json": JSONFormatter}
"""By the names that the option `log_format` has for them."""
