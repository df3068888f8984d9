"""The messages of one response to bytes: HTTP/1.1's framing on the way out (RFC 9112 §6).

    start              ──► nothing yet: the head is checked, and held back
    body, more to come ──► head + piece         the length is known, or the pieces are chunks (§7.1), or closing ends the body
    last body          ──► head + piece + end   what there is of the three

A header field that was checked is kept as the line that it makes, so that most heads are a matter of joining lines. h11's own writer
does the same work through three events and a second state machine, which was a quarter of a small request's time. The tests hold each
against the other, byte for byte.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from http import HTTPStatus
from operator import itemgetter
from typing import Any

from microasgi_server.asgi import Message
from microasgi_server.errors import AppError
from microasgi_server.http1.fields import Field, options, validated_field
from microasgi_server.http1.phases import BODY, LAST_BODY, MORE_TRAILERS, Step
from microasgi_server.http1.reader import Head

STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}

_LINE = itemgetter(2)  # of a Field

_FRAMING = (b"content-length", b"transfer-encoding")

_SPECIAL = frozenset([*_FRAMING, b"connection", b"date", b"server"])
"""The fields of a response that mean something here; all others go out as they are."""


class Framing(Enum):
    """How a client finds the end of the body (RFC 9112 §6.3)."""

    NONE = auto()
    """It has none: the answer to a HEAD, a 204 or a 304; and nothing has been started yet."""
    LENGTH = auto()
    """The head tells its length."""
    CHUNKS = auto()
    """It comes in chunks."""
    CLOSING = auto()
    """The connection ends with it: HTTP/1.0 knows no chunks."""


NONE, LENGTH, CHUNKS, CLOSING = Framing  # as in phases.py


class ResponseEncoder:
    """What turns an exchange's messages into bytes. It trusts the exchange for their order, and nobody for what is in them.

    Of a message that is malformed nothing is encoded: each function raises AppError, TypeError or ValueError then.

    closes: whether the head that it has encoded says that the connection ends.
    head: the request's.
    identity: the Date and Server fields of this second.
    """

    closes = False
    _status = 0
    _framing = NONE
    _fields: Sequence[Field] = ()
    _remaining = 0  # bytes of a body whose length the head tells
    _flushed = False  # whether the head is out
    _says_connection = False  # whether the app itself has a word on that
    _trailers: Iterable[Field] = ()

    def __init__(self, head: Head, identity: Callable[[], list[Field]]) -> None:
        self._request = head
        self._identity = identity

    def __repr__(self) -> str:
        return f"<ResponseEncoder {self._status} {self._framing.name}{', head sent' if self._flushed else ''}>"

    def start(self, message: Message) -> None:
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise AppError(f"a response's status is a whole number from 200 to 999, not {status!r}")
        fields, length, framing = self._read(message.get("headers", ()), status)
        if framing is CHUNKS:
            # The length isn't known in advance (RFC 9112 §6.3): in chunks, or by closing for HTTP/1.0, which knows no chunks.
            fields = [field for field in fields if field[0] not in _FRAMING]
            if self._request.version == b"1.0":
                framing = CLOSING
            else:
                fields.append((b"transfer-encoding", b"chunked", b"Transfer-Encoding: chunked\r\n"))
        self._status = int(status)
        self._fields = fields
        self._remaining = length
        self._framing = NONE if self._request.method == b"HEAD" else framing

    def _read(self, headers: Any, status: int) -> tuple[list[Field], int, Framing]:
        """The response's validated fields with Date and Server, its length, and how its body would end if there is one."""
        fields: list[Field] = []
        length = -1
        chunks = self._says_connection = False
        identity = self._identity()
        for name, value in headers:
            field = validated_field(name, value)
            lower = field[0]
            if lower in _SPECIAL:
                if lower == b"content-length":
                    if status == 204:  # RFC 9110 §8.6: not in a 204
                        continue
                    if length >= 0:
                        raise AppError("a response has one content-length")
                    length = int(field[1])
                elif lower == b"transfer-encoding":
                    if status in (204, 304):  # RFC 9112 §6.1: nor this; a 304 may have it, but then clients wait for chunks
                        continue
                    if chunks:
                        raise AppError("a response has one transfer-encoding")
                    chunks = True
                elif lower == b"connection":
                    self._says_connection = True
                else:
                    identity = [own for own in identity if own[0] != lower]
            fields.append(field)
        fields += identity
        if status == 204 or status == 304:  # RFC 9110 §6.4.1
            return fields, length, NONE
        return fields, length, CHUNKS if chunks or length < 0 else LENGTH

    def _head(self, close: bool, body: bytes) -> bytes:
        """The head and the first of the body. It says whether the connection goes on (RFC 9112 §9.6)."""
        fields = self._fields
        if close or self._framing is CLOSING:
            self.closes = True
            own = sorted(options(fields) - {b"keep-alive"} | {b"close"})
            fields = [field for field in fields if field[0] != b"connection"]
            fields += [(b"connection", option, b"Connection: %b\r\n" % option) for option in own]
        elif self._says_connection:
            self.closes = b"close" in options(fields)
        line = STATUS_LINES.get(self._status) or b"HTTP/1.1 %d \r\n" % self._status
        return b"%b%b\r\n%b" % (line, b"".join(map(_LINE, fields)), body)

    def body(self, message: Message, step: Step, close: bool) -> bytes:
        body = message.get("body", b"")
        if not isinstance(body, bytes):
            if not isinstance(body, bytearray | memoryview):
                raise AppError(f"a response's body is bytes, not {type(body).__name__}")
            body = bytes(body)
        framing = self._framing
        if framing is LENGTH:
            # Checked while the head is held back: this can still become a 500.
            left = self._remaining - len(body)
            if left < 0 or (left and step is not BODY):
                raise AppError(f"the body is {'longer' if left < 0 else 'shorter'} than the response's content-length says")
            self._remaining = left
        elif framing is CHUNKS:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk + b"0\r\n\r\n" if step is LAST_BODY else chunk
        elif framing is NONE:
            body = b""
        if self._flushed:
            return body
        self._flushed = True
        return self._head(close, body)

    def hint(self, message: Message) -> bytes:
        """103 Early Hints (RFC 8297), but not to HTTP/1.0, which knows no 1xx (RFC 9110 §15.2)."""
        if self._request.version == b"1.0":
            return b""
        links = [validated_field(b"link", link)[2] for link in message.get("links", ())]
        return b"%b%b\r\n" % (STATUS_LINES[103], b"".join(links))

    def trailers(self, message: Message, step: Step) -> bytes:
        trailers = [validated_field(name, value) for name, value in message.get("headers", ())]
        if any(field[0] in _FRAMING for field in trailers):
            raise AppError("content-length and transfer-encoding can't be trailers (RFC 9110 §6.5.1)")
        self._trailers = [*self._trailers, *trailers]
        # Only a chunked body has room for trailers (RFC 9112 §7.1.2): elsewhere they are taken and dropped.
        if step is MORE_TRAILERS or self._framing is not CHUNKS:
            return b""
        return b"0\r\n%b\r\n" % b"".join([field[2] for field in self._trailers])
