"""The messages of one response to bytes: HTTP/1.1's framing on the way out (RFC 9112 §6).

    start              ──► nothing yet: the head is checked, and held back
    body, more to come ──► head + piece         the length is known, or the pieces are chunks (§7.1), or closing ends the body
    last body          ──► head + piece + end   what there is of the three

A header field that was checked is kept as the line that it makes, so that most heads are a matter of joining lines. h11's own writer
does the same work through three events and a second state machine, which was a quarter of a small request's time. The tests hold each
against the other, byte for byte.
"""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from microasgi_server.asgi import Message
from microasgi_server.errors import AppError
from microasgi_server.http1.exchange import Step

Field = tuple[bytes, bytes, bytes]
"""A validated header field: its name in lower case, its value, and the line that it makes on the wire."""

FRAMING = (b"content-length", b"transfer-encoding")

STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


class ResponseEncoder:
    """`exchange.Encoder` for HTTP/1.1.

    method, version: the request's.
    identity: the Date and Server fields of this second.
    validated: checks one field, or raises ValueError.
    closes: whether the connection ends behind this response: as the request said, and then as the response's head does.
    awaits_go_ahead: whether the client holds its body back.

    `_start` sets what describes the response; the exchange lets nothing that reads it come before.
    """

    __slots__ = (
        "_bodyless",
        "_chunked",
        "_ends_by_closing",
        "_fields",
        "_flushed",
        "_identity",
        "_method",
        "_remaining",
        "_status",
        "_trailers",
        "_validated",
        "_version",
        "awaits_go_ahead",
        "closes",
    )

    def __init__(
        self,
        method: bytes,
        version: bytes,
        identity: Callable[[], list[Field]],
        validated: Callable[[bytes, bytes], Field],
        *,
        closes: bool,
        awaits_go_ahead: bool,
    ) -> None:
        self.closes = closes
        self.awaits_go_ahead = awaits_go_ahead
        self._method = method
        self._version = version
        self._identity = identity
        self._validated = validated
        self._flushed = False

    def go_ahead(self) -> bytes:
        self.awaits_go_ahead = False
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def encode(self, step: Step, message: Message, *, close: bool) -> bytes:
        try:
            if step is Step.START:
                return self._start(message)
            if step is Step.HINT:
                return self._hint(message)
            if step is Step.TRAILERS or step is Step.LAST_TRAILERS:
                return self._finish(message, step)
            return self._body(message, step, close)
        except (TypeError, ValueError) as error:  # parts that aren't what ASGI says, or that HTTP doesn't allow
            raise AppError(f"{message['type']!r} can't be sent: {error}") from error

    def _start(self, message: Message) -> bytes:
        """Check the head: the error belongs to this message, though the bytes leave with the next."""
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise AppError(f"a response's status is a whole number from 200 to 999, not {status!r}")
        self._status = int(status)
        fields, length, chunked = self._read(message.get("headers", ()), status)
        never_has_body = status == 204 or status == 304
        self._bodyless = never_has_body or self._method == b"HEAD"  # RFC 9110 §6.4.1
        self._chunked = self._ends_by_closing = False
        if (chunked or length is None) and not never_has_body:
            # The length isn't known in advance (RFC 9112 §6.3): in chunks, or by closing for HTTP/1.0, which knows no chunks.
            fields = [field for field in fields if field[0] not in FRAMING]
            if self._version < b"1.1":
                self._ends_by_closing = not self._bodyless
            else:
                fields.append((b"transfer-encoding", b"chunked", b"Transfer-Encoding: chunked\r\n"))
                self._chunked = not self._bodyless
            length = None
        self._fields = fields
        self._remaining = None if self._bodyless else length
        self._trailers: list[Field] = []
        return b""

    def _read(self, headers: Any, status: int) -> tuple[list[Field], int | None, bool]:
        """The response's validated fields with Date and Server, the content-length if any, and whether the app wants chunks."""
        fields: list[Field] = []
        length: int | None = None
        chunked = False
        identity = self._identity()
        for name, value in headers:
            field = self._checked(name, value)
            lower = field[0]
            if lower == b"content-length":
                if status == 204:  # RFC 9110 §8.6: not in a 204
                    continue
                if length is not None:
                    raise AppError("a response has one content-length")
                length = int(field[1])
            elif lower == b"transfer-encoding":
                if status in (204, 304):  # RFC 9112 §6.1: nor this; a 304 may have it, but then clients wait for chunks
                    continue
                if chunked:
                    raise AppError("a response has one transfer-encoding")
                chunked = True
            elif lower == b"date" or lower == b"server":
                identity = [own for own in identity if own[0] != lower]
            fields.append(field)
        fields.extend(identity)
        return fields, length, chunked

    def _head(self, close: bool) -> bytes:
        """The head, which says whether the connection goes on (RFC 9112 §9.6)."""
        fields = self._fields
        if self.closes or close or self._ends_by_closing:
            own = sorted(options(fields) - {b"keep-alive"} | {b"close"})
            fields = [field for field in fields if field[0] != b"connection"]
            fields += [(b"connection", option, b"Connection: %b\r\n" % option) for option in own]
        self.closes = b"close" in options(fields)
        line = STATUS_LINES.get(self._status) or b"HTTP/1.1 %d \r\n" % self._status
        return b"%b%b\r\n" % (line, b"".join([field[2] for field in fields]))

    def _body(self, message: Message, step: Step, close: bool) -> bytes:
        body = message.get("body", b"")
        if not isinstance(body, bytes):
            if not isinstance(body, bytearray | memoryview):
                raise AppError(f"a response's body is bytes, not {type(body).__name__}")
            body = bytes(body)
        if self._remaining is not None:
            # Checked while the head is held back: this can still become a 500.
            left = self._remaining - len(body)
            if left < 0 or (left and step is not Step.BODY):
                raise AppError(f"the body is {'longer' if left < 0 else 'shorter'} than the response's content-length says")
            self._remaining = left
        if self._bodyless:
            body = b""
        elif self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk + b"0\r\n\r\n" if step is Step.LAST_BODY else chunk
        if self._flushed:
            return body
        self._flushed = True
        return self._head(close) + body

    def _hint(self, message: Message) -> bytes:
        """103 Early Hints (RFC 8297), but not to HTTP/1.0, which knows no 1xx (RFC 9110 §15.2)."""
        if self._version < b"1.1":
            return b""
        links = [self._checked(b"link", link)[2] for link in message.get("links", ())]
        return b"%b%b\r\n" % (STATUS_LINES[103], b"".join(links))

    def _finish(self, message: Message, step: Step) -> bytes:
        trailers = [self._checked(name, value) for name, value in message.get("headers", ())]
        if any(field[0] in FRAMING for field in trailers):
            raise AppError("content-length and transfer-encoding can't be trailers (RFC 9110 §6.5.1)")
        self._trailers += trailers
        # Only a chunked body has room for trailers (RFC 9112 §7.1.2): elsewhere they are taken and dropped.
        if step is Step.TRAILERS or not self._chunked:
            return b""
        return b"0\r\n%b\r\n" % b"".join([field[2] for field in self._trailers])

    def _checked(self, name: Any, value: Any) -> Field:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise AppError(f"header names and values are bytes, not {name!r}: {value!r}")
        return self._validated(name, value)


def options(fields: Iterable[tuple[bytes, ...]], name: bytes = b"connection") -> set[bytes]:
    """What the fields of this name list, in lower case (RFC 9110 §5.6.1)."""
    values = [field[1] for field in fields if field[0] == name]
    return {option for value in values for part in value.lower().split(b",") if (option := part.strip())} if values else set()
