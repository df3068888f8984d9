"""The head of a response: what an app says of it, checked, and the bytes that it makes (RFC 9112 §6).

A head that was checked is kept for the next one like it: most apps describe the same few again and again.
"""

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from microasgi_server.asgi import Message
from microasgi_server.errors import AppError
from microasgi_server.http1.fields import REMEMBERED, Field, Kept, options, validated_field

STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}

FRAMING = (b"content-length", b"transfer-encoding")

_BODYLESS = {204: FRAMING, 304: (b"transfer-encoding",)}
"""Statuses without a body (RFC 9110 §6.4.1), and what may not stand in their heads (§8.6, RFC 9112 §6.1): a 304's length may be told, but
for chunks clients would wait."""

_IDENTITY = (b"date", b"server")

_CHUNKED = (b"transfer-encoding", b"chunked", b"Transfer-Encoding: chunked\r\n")


class Framing(Enum):
    """How a client finds the end of the body (RFC 9112 §6.3)."""

    NONE = auto()
    """It has none: the answer to a HEAD, a 204 or a 304."""
    LENGTH = auto()
    """The head tells its length."""
    CHUNKS = auto()
    """It comes in chunks."""
    CLOSING = auto()
    """The connection ends with it: HTTP/1.0 knows no chunks."""


NONE, LENGTH, CHUNKS, CLOSING = Framing  # as in phases.py


class ResponseHead:
    """The head of a response, as an app has described it.

    status: the app's.
    length: of the body, if the head tells it; else -1.
    framing: how a body would end, if the request allows one.
    closes: whether the connection ends, by the app's own word.

    :raises AppError, TypeError, ValueError: it is malformed
    """

    def __init__(self, status: Any, headers: Iterable[Any]) -> None:
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise AppError(f"a response's status is a whole number from 200 to 999, not {status!r}")
        self.status = int(status)
        fields = [validated_field(name, value) for name, value in headers]
        fields = _without(fields, *_BODYLESS.get(self.status, ()))
        names = [field[0] for field in fields]
        for name in FRAMING:
            if names.count(name) > 1:
                raise AppError(f"a response has one {name.decode()}")
        self.length = int(fields[names.index(b"content-length")][1]) if b"content-length" in names else -1
        self.closes = b"close" in options(fields)
        self.framing = LENGTH
        if self.status in _BODYLESS:
            self.framing = NONE
        elif self.length < 0 or b"transfer-encoding" in names:  # RFC 9112 §6.3
            self.framing = CHUNKS
            fields = _without(fields, *FRAMING)
        self._fields = fields
        self._own = [name for name in names if name in _IDENTITY]
        self._kept: tuple[list[Field] | None, bytes] = None, b""

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.framing.name}>"

    def keeping(self, identity: list[Field]) -> bytes:
        """Its bytes, where the connection goes on unless the app says otherwise.

        :param identity: the Date and Server fields of this second, which the app's own take the place of
        """
        kept = self._kept
        if kept[0] is not identity:
            # In one piece: other threads may have servers of their own.
            self._kept = kept = identity, self._lines(self._fields, identity, self.framing is CHUNKS)
        return kept[1]

    def closing(self, identity: list[Field], *, chunks: bool) -> bytes:
        """Its bytes, with the word that the connection ends (RFC 9112 §9.6); `chunks`: the client knows them."""
        words = sorted(options(self._fields) - {b"keep-alive"} | {b"close"})
        last = [(b"connection", option, b"Connection: %b\r\n" % option) for option in words]
        return self._lines(_without(self._fields, b"connection"), identity, chunks and self.framing is CHUNKS, last)

    def _lines(self, fields: list[Field], identity: list[Field], chunked: bool, last: Sequence[Field] = ()) -> bytes:
        line = STATUS_LINES.get(self.status) or b"HTTP/1.1 %d \r\n" % self.status
        lines = [field[2] for field in (*fields, *_without(identity, *self._own), *((_CHUNKED,) if chunked else ()), *last)]
        return b"%b%b\r\n" % (line, b"".join(lines))


def _without(fields: list[Field], *names: bytes) -> list[Field]:
    return [field for field in fields if field[0] not in names]


_heads: Kept[object, ResponseHead] = Kept()


def described(message: Message) -> ResponseHead:
    """The head that a `http.response.start` describes.

    :raises AppError, TypeError, ValueError: it is malformed
    """
    status, headers = message.get("status"), tuple(message.get("headers", ()))
    key = (type(status), status, headers)
    try:
        head = _heads.get(key)
    except TypeError:  # lists can be headers, but no keys
        return ResponseHead(status, headers)
    if head is None:
        head = ResponseHead(status, headers)
        # Only what can't change, nor be used up, speaks for the next one like it.
        if all(type(field) is tuple and len(field[1]) <= REMEMBERED for field in headers):
            _heads.keep(key, head)
    return head
