"""The client's end of a response: an app's messages, held to what HTTP and ASGI allow, as strictly as microasgi's server does.

What a server would refuse is refused here, too, so that no test passes with a response that no client would ever get.
"""

import re
from collections.abc import Iterable
from enum import Enum, auto
from typing import Any

from microasgi.asgi import Message

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"(?:[^\x00\s]+(?:[ \t]+[^\x00\s]+)*)?")  # RFC 9110 §5.5, with the control characters that h11 lets pass


class MessageError(RuntimeError):
    """The app sent a message that HTTP or ASGI doesn't allow here. Raised by `send()` in the app."""


class Phase(Enum):
    """How far a response has come."""

    WAITING = auto()
    STREAMING = auto()
    TRAILERS = auto()
    DONE = auto()


class Step(Enum):
    """What a message amounts to."""

    HINT = auto()
    START = auto()
    BODY = auto()
    LAST_BODY = auto()
    LAST_BODY_BEFORE_TRAILERS = auto()
    TRAILERS = auto()
    LAST_TRAILERS = auto()


TRANSITIONS = {
    Phase.WAITING: {Step.HINT: Phase.WAITING, Step.START: Phase.STREAMING},
    Phase.STREAMING: {
        Step.BODY: Phase.STREAMING,
        Step.LAST_BODY: Phase.DONE,
        Step.LAST_BODY_BEFORE_TRAILERS: Phase.TRAILERS,
    },
    Phase.TRAILERS: {Step.TRAILERS: Phase.TRAILERS, Step.LAST_TRAILERS: Phase.DONE},
    Phase.DONE: {},
}


class Answer:
    """What has come of a response.

    phase: how far it has come.
    status: the status, or 0 before it came.
    headers: the fields, names in lower case.
    content: the body.

    :param method: the request's: the answer to a HEAD has no body
    """

    def __init__(self, method: str) -> None:
        self.phase = Phase.WAITING
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.content = bytearray()
        self._method = method
        self._has_body = True
        self._has_begun = False  # the head leaves with the first of the body
        self._remaining: int | None = None  # bytes of a body whose length is announced
        self._last_body = Step.LAST_BODY

    @property
    def complete(self) -> bool:
        """Whether the last byte is here."""
        return self.phase is Phase.DONE

    @property
    def handed_over(self) -> bool:
        """Whether the client needs nothing more, be it complete or not: leaving is no departure any more."""
        return self.complete or (self._has_begun and (self._remaining == 0 or not self._has_body))

    def take(self, message: Message) -> None:
        """The app's next message.

        :raises MessageError: it is malformed, or doesn't belong here; nothing of it has come
        """
        step = self._step(message)
        phase = TRANSITIONS[self.phase].get(step)
        if phase is None:
            raise MessageError(f"{message['type']!r} can't be sent now: the response is {self.phase.name}")
        match step:
            case Step.HINT:
                _checked((b"link", link) for link in message.get("links", ()))
            case Step.START:
                self._start(message)
            case Step.TRAILERS | Step.LAST_TRAILERS:
                if {name for name, _ in _checked(message.get("headers", ()))} & {b"content-length", b"transfer-encoding"}:
                    raise MessageError("content-length and transfer-encoding can't be trailers (RFC 9110 §6.5.1)")
            case _:
                self._body(message, last=step is not Step.BODY)
        self.phase = phase

    def _step(self, message: Message) -> Step:
        match message.get("type"):
            case "http.response.start":
                return Step.START
            case "http.response.body":
                return Step.BODY if message.get("more_body", False) else self._last_body
            case "http.response.trailers":
                return Step.TRAILERS if message.get("more_trailers", False) else Step.LAST_TRAILERS
            case "http.response.early_hint":
                return Step.HINT
            case other:
                raise MessageError(f"an HTTP response has no message of type {other!r}")

    def _start(self, message: Message) -> None:
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise MessageError(f"a response's status is a whole number from 200 to 999, not {status!r}")
        headers = _checked(message.get("headers", ()))
        lengths = [value for name, value in headers if name == b"content-length"]
        codings = [value for name, value in headers if name == b"transfer-encoding"]
        if any(not value.isdigit() for value in lengths) or any(value.lower() != b"chunked" for value in codings):
            raise MessageError(f"a content-length is a number, and a transfer-encoding is chunked, not {lengths + codings!r}")
        if status != 204 and len(lengths) > 1:
            raise MessageError("a response has one content-length")
        if status not in (204, 304) and len(codings) > 1:
            raise MessageError("a response has one transfer-encoding")
        self._has_body = self._method != "HEAD" and status not in (204, 304)  # RFC 9110 §6.4.1
        self._remaining = int(lengths[0]) if self._has_body and lengths and not codings else None
        self._last_body = Step.LAST_BODY_BEFORE_TRAILERS if message.get("trailers", False) else Step.LAST_BODY
        self.status, self.headers = int(status), headers

    def _body(self, message: Message, *, last: bool) -> None:
        body = message.get("body", b"")
        if not isinstance(body, bytes | bytearray | memoryview):
            raise MessageError(f"a response's body is bytes, not {type(body).__name__}")
        body = bytes(body)
        self._has_begun = True
        if self._remaining is not None:
            left = self._remaining - len(body)
            if left < 0 or (left and last):
                raise MessageError(f"the body is {'longer' if left < 0 else 'shorter'} than the response's content-length says")
            self._remaining = left
        if self._has_body:
            self.content += body


def _checked(headers: Iterable[Any]) -> list[tuple[bytes, bytes]]:
    """The fields, names in lower case.

    :raises MessageError: they aren't what ASGI says, or have a byte that HTTP doesn't allow (RFC 9110 §5)
    """
    fields = []
    try:
        pairs = [(name, value) for name, value in headers]
    except (TypeError, ValueError) as error:
        raise MessageError(f"header fields are pairs of names and values: {error}") from error
    for name, value in pairs:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise MessageError(f"header names and values are bytes, not {name!r}: {value!r}")
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise MessageError(f"HTTP allows no such header field: {name!r}: {value!r}")
        fields.append((name.lower(), value))
    return fields
