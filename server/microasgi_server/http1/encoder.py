"""The messages of one response to bytes: HTTP/1.1's framing on the way out (RFC 9112 §6).

    start              ──► nothing yet: the head is checked (heads.py), and held back
    body, more to come ──► head + piece         the length is known, or the pieces are chunks (§7.1), or closing ends the body
    last body          ──► head + piece + end   what there is of the three

h11's own writer does the same work through three events and a second state machine, which was a quarter of a small request's time.
The tests hold each against the other, byte for byte.
"""

from microasgi_server.asgi import Message
from microasgi_server.errors import AppError
from microasgi_server.http1.fields import Field
from microasgi_server.http1.heads import CHUNKS, CLOSING, LENGTH, NONE, described
from microasgi_server.http1.phases import BODY, LAST_BODY, MORE_TRAILERS, Step
from microasgi_server.http1.rare import trailer_lines
from microasgi_server.http1.request_head import Head


class ResponseEncoder:
    """What turns the messages of a response that has started into bytes. It trusts the exchange for their order, and nobody for what is
    in them.

    Of a message that is malformed nothing is encoded: each function raises AppError, TypeError or ValueError then.

    head: the response's.
    """

    __slots__ = ("_framing", "_old", "_remaining", "_trailers", "head")

    def __init__(self, request: Head, message: Message) -> None:
        self.head = head = described(message)
        self._old = request.version == b"1.0"
        self._framing = NONE if request.method == b"HEAD" else CLOSING if self._old and head.framing is CHUNKS else head.framing
        self._remaining = head.length  # bytes of a body whose length the head tells
        self._trailers = b""

    def __repr__(self) -> str:
        return f"<ResponseEncoder {self.head.status} {self._framing.name}>"

    @property
    def whole(self) -> bool:
        """Whether all bytes were made that the head has told of: what the app may still say adds none."""
        return self._framing is NONE or (self._framing is LENGTH and not self._remaining)

    def first(self, message: Message, step: Step, identity: list[Field], closes: bool) -> bytes:
        """The head, which says whether the connection goes on (RFC 9112 §9.6), and the first of the body."""
        body = self.body(message, step)
        head = self.head
        return (head.closing(identity, chunks=not self._old) if closes else head.keeping(identity)) + body

    def body(self, message: Message, step: Step) -> bytes:
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
        return body

    def trailers(self, message: Message, step: Step) -> bytes:
        self._trailers += trailer_lines(message)
        # Only a chunked body has room for trailers (RFC 9112 §7.1.2): elsewhere they are taken and dropped.
        return b"0\r\n%b\r\n" % self._trailers if step is not MORE_TRAILERS and self._framing is CHUNKS else b""
