"""The exceptions a handler may raise or meet.

Exception
├── HTTPException        the handler's: answer with this status instead
├── WebSocketException   the handler's: close with this code
└── ClientDisconnect     the client left (also an OSError, like what servers raise from `send()`)
    └── WebSocketDisconnect   of a WebSocket: there is no next message, or nobody to send one to
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from microasgi.addresses import URL
from microasgi.checks import check_status, encode_headers
from microasgi.encoding import encode


class HTTPException(Exception):
    """Raise it to answer with an error status.

    :param status_code: the HTTP status, 400 to 599 in most cases
    :param detail: what to tell the client: text is sent as it is, a dict or a list as JSON, `{"detail": …}`; the status's own phrase
        if not given
    :param headers: headers for the response
    :raises TypeError: the status is no number, the detail nothing that JSON has, or a header no text
    :raises ValueError: a status or a header that HTTP doesn't have
    """

    def __init__(self, status_code: int, detail: Any = None, headers: Mapping[str, str | URL] | None = None) -> None:
        check_status(status_code)
        encode_headers(headers)
        if detail is None:
            try:
                detail = HTTPStatus(status_code).phrase
            except ValueError:
                detail = ""
        elif not isinstance(detail, str):
            try:
                encode(detail)
            except (TypeError, ValueError) as error:
                raise type(error)(f"the detail of an HTTPException is text, or goes into JSON: {error}") from None
        super().__init__(status_code, detail)
        self.status_code = status_code
        self.detail = detail
        self.headers = dict(headers) if headers is not None else None

    def __str__(self) -> str:
        return f"{self.status_code}: {self.detail}"


class WebSocketException(Exception):
    """Raise it to close a WebSocket with a code; before it is accepted, that refuses it with 403.

        raise WebSocketException(3001, "this room is closed")

    :param code: 1000 to 1003, 1007 to 1014, or your own from 3000 to 4999 (RFC 6455 §7.4)
    :param reason: at most 123 bytes
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"


class ClientDisconnect(OSError):
    """The client left while its request's body was being read, or, on another server than ours, while it was being answered."""


class WebSocketDisconnect(ClientDisconnect):
    """A WebSocket's client has left, so that there is no next message, or nobody to send one to.

        try:
            text = await ws.receive_text()
        except WebSocketDisconnect as error:
            print(error.code)

    :param code: what it closed with; 1005 if it didn't say (RFC 6455 §7.1.5), 1006 if it said no goodbye at all
    :param reason: what it said beside
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"the client left ({code}{': ' + reason if reason else ''})")
        self.code = code
        self.reason = reason


class SentElsewhere(RuntimeError):
    """What an app's `send()` raises in another task than the app's own, where middleware reads the response: not a handler's business."""


def sole(error: BaseException) -> BaseException:
    """What a task group has put into a group, if nothing else has gone wrong in there; else the error itself."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def only_disconnects(error: BaseException) -> bool:
    """Whether an exception says only that the client has left."""
    if isinstance(error, BaseExceptionGroup):
        return all(only_disconnects(inner) for inner in error.exceptions)
    return isinstance(error, ClientDisconnect)
