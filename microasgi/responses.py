"""Responses. Each is an ASGI app: calling it sends it."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from microasgi.addresses import URL
from microasgi.asgi import Message, Receive, Scope, Send
from microasgi.background import Background
from microasgi.checks import check_status, encode_headers
from microasgi.cookies import SetsCookies
from microasgi.datastructures import MutableHeaders
from microasgi.encoding import encode


@lru_cache(maxsize=128)
def _content_type(media_type: str) -> tuple[bytes, bytes]:
    if media_type.startswith("text/") and "charset=" not in media_type.lower():
        media_type += "; charset=utf-8"
    return b"content-type", media_type.encode("latin-1")


class Response(SetsCookies):
    """An HTTP response with its body at hand.

    :param content: the body; text is encoded as UTF-8
    :param status_code: the HTTP status
    :param headers: header fields
    :param media_type: the content-type; `charset=utf-8` is added to text types
    :param background: called without arguments when the response is out: outside the disconnect's reach, and waited for at
        shutdown. Plain functions run in a thread
    """

    media_type: str | None = None

    def __init__(
        self,
        content: Any = None,
        status_code: int = 200,
        headers: Mapping[str, str | URL] | None = None,
        media_type: str | None = None,
        background: Background | None = None,
    ) -> None:
        if type(status_code) is not int or not 100 <= status_code <= 599:
            check_status(status_code)
        self.status_code = status_code
        self.background = background
        self.body = self.render(content)
        self.raw_headers = encode_headers(headers) if headers else []
        own = [name for name, _ in self.raw_headers] if headers else ()
        media_type = media_type or self.media_type
        if media_type is not None and b"content-type" not in own:
            self.raw_headers.append(_content_type(media_type))
        if b"content-length" not in own:
            self._add_length()

    def __repr__(self) -> str:
        background = f", then {self.background!r}" if self.background is not None else ""
        return f"<{type(self).__name__} {self.status_code}, {self._told_body()}{background}>"

    @property
    def headers(self) -> MutableHeaders:
        """The header fields, to be read and changed until the response is sent."""
        return MutableHeaders(self.raw_headers)

    def _told_body(self) -> str:
        return f"{len(self.body)} bytes"

    def _add_length(self) -> None:
        if self.status_code >= 200 and self.status_code not in (204, 304):
            self.raw_headers.append((b"content-length", b"%d" % len(self.body)))

    def render(self, content: Any) -> bytes:
        """The body's bytes for `content`."""
        if content is None:
            return b""
        if isinstance(content, str):
            return content.encode()
        if isinstance(content, bytes | bytearray | memoryview):
            return bytes(content)
        raise TypeError(f"a {type(self).__name__}'s content is str or bytes, not {type(content).__name__}; JSONResponse takes others")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(self._start())
        await send({"type": "http.response.body", "body": self.body})

    def _start(self) -> Message:
        return {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}


class PlainTextResponse(Response):
    """Text."""

    media_type = "text/plain"


class HTMLResponse(Response):
    """A page."""

    media_type = "text/html"


class JSONResponse(Response):
    """Anything that JSON has a word for, and what encoding.py knows besides: dataclasses, Pydantic's models, times, UUIDs, enums, sets."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode(content)
