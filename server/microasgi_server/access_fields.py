"""What a line of the access log may say: the names in a format such as `{client} "{line}" {status} {duration}`.

They are Python's braces, without anything behind the name. `{{` and `}}` are braces themselves.
"""

from string import Formatter

FIELDS = {
    "client": "the client's address and port, or unix",
    "line": "the request's first line",
    "method": "its method",
    "path": "its path, percent-encoded as it came, without the query",
    "target": "its path and its query",
    "status": "the status; 499, if the client left before it had its response",
    "duration": "seconds from the request's head to the response's last byte, or to the handler's end",
    "bytes": "bytes of its response, those of the head included; of a WebSocket, only those of a denial",
    "outcome": "what ended it early, and whether that cancelled the handler",
    "close_code": "the code that a WebSocket was closed with (RFC 6455 §7.4)",
    "request_id": "its X-Request-ID, or what was made up instead; switches the option request_id on",
    "worker": "the number of the worker that served it, where there are workers",
    "user_agent": "its User-Agent",
    "referer": "its Referer",
}
"""By name, with the meaning. Of what a request doesn't have, a line has a hyphen, and JSON nothing."""

USUAL = '{client} - "{line}" {status} {duration}s'
"""What the log says where nobody has chosen, but for the outcome, which it adds to the end of those lines that have one."""


def parsed(chosen: str) -> list[tuple[str, str]]:
    """A format's parts: a text, and the name of the field that follows it, which may be missing at the end.

    :raises ValueError: it is none
    """
    parts = []
    for text, name, specification, conversion in Formatter().parse(chosen):
        if name is not None and (name not in FIELDS or specification or conversion):
            raise ValueError(f"{{{name}}} is not a field")
        parts.append((text, name or ""))
    return parts


def is_format(chosen: object) -> bool:
    """Whether it is a format, or an empty text."""
    try:
        return isinstance(chosen, str) and "\n" not in chosen and parsed(chosen) is not None
    except ValueError:
        return False
