"""The exceptions a handler may raise or meet.

Exception
├── HTTPException        the handler's: answer with this status instead
└── ClientDisconnect     the client left (also an OSError, like what servers raise from `send()`)
"""

from collections.abc import Mapping
from http import HTTPStatus


class HTTPException(Exception):
    """Raise it to answer with an error status.

    :param status_code: the HTTP status, 400 to 599 in most cases
    :param detail: what to tell the client; the status's own phrase if not given
    :param headers: headers for the response
    """

    def __init__(self, status_code: int, detail: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        if detail is None:
            try:
                detail = HTTPStatus(status_code).phrase
            except ValueError:
                detail = ""
        super().__init__(status_code, detail)
        self.status_code = status_code
        self.detail = detail
        self.headers = dict(headers) if headers is not None else None

    def __str__(self) -> str:
        return f"{self.status_code}: {self.detail}"


class ClientDisconnect(OSError):
    """The client left while its request's body was being read, or, on another server than ours, while it was being answered."""
