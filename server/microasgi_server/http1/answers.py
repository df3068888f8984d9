"""The few responses that are the server's own: the 500 of an app that has failed, refusals, a WebSocket that isn't to be."""

from collections.abc import Callable

from microasgi_server.asgi import Message
from microasgi_server.http1.fields import Field, validated_field
from microasgi_server.http1.heads import STATUS_LINES

_BESIDE = {503: [(b"retry-after", b"1")]}  # RFC 9110 §10.2.3: another process may be there, or less to do


def answer(send: Callable[[Message], bytes], status: int, text: bytes) -> bytes:
    """The bytes of a whole response, by an exchange's `send`, as if it were an app's."""
    head = send({"type": "http.response.start", "status": status, "headers": _fields(status, text)})
    return head + send({"type": "http.response.body", "body": text})


def refusal(status: int, reason: str, identity: list[Field], *, bodyless: bool) -> bytes:
    """The bytes of a response that ends the connection, for who can't have an exchange for it, or not its own head.

    :param identity: the Date and Server fields of this second
    :param bodyless: whether it answers a HEAD (RFC 9110 §9.3.2)
    """
    text = reason.encode() + b"\n"
    fields = [validated_field(*field) for field in (*_fields(status, text), (b"connection", b"close"))] + identity
    head = b"%b%b\r\n" % (STATUS_LINES[status], b"".join([field[2] for field in fields]))
    return head if bodyless else head + text


def _fields(status: int, text: bytes) -> list[tuple[bytes, bytes]]:
    length = b"%d" % len(text)
    return [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", length), *_BESIDE.get(status, ())]
