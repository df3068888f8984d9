"""What a response may have beside its head and its body, and few have: early hints in front, trailers behind."""

from microasgi_server.asgi import Message
from microasgi_server.errors import AppError
from microasgi_server.http1.fields import validated_field
from microasgi_server.http1.heads import FRAMING, STATUS_LINES
from microasgi_server.http1.phases import HINT, LAST_TRAILERS, MORE_TRAILERS, Step
from microasgi_server.http1.request_head import Head


def rare_step(message: Message) -> Step:
    """What a message amounts to that is neither a start nor of a body.

    :raises AppError: HTTP has no such message
    """
    match message.get("type"):
        case "http.response.early_hint":
            return HINT
        case "http.response.trailers":
            return MORE_TRAILERS if message.get("more_trailers", False) else LAST_TRAILERS
        case other:
            raise AppError(f"an HTTP response has no message of type {other!r}")


def hint(request: Head, message: Message) -> bytes:
    """103 Early Hints (RFC 8297), but not to HTTP/1.0, which knows no 1xx (RFC 9110 §15.2).

    :raises TypeError, ValueError: a link is malformed
    """
    if request.version == b"1.0":
        return b""
    links = [validated_field(b"link", link)[2] for link in message.get("links", ())]
    return b"%b%b\r\n" % (STATUS_LINES[103], b"".join(links))


def trailer_lines(message: Message) -> bytes:
    """The lines of some fields behind the body.

    :raises AppError, TypeError, ValueError: one is malformed, or can't stand there
    """
    trailers = [validated_field(name, value) for name, value in message.get("headers", ())]
    if any(field[0] in FRAMING for field in trailers):
        raise AppError("content-length and transfer-encoding can't be trailers (RFC 9110 §6.5.1)")
    return b"".join([field[2] for field in trailers])
