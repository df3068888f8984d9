"""Responses that are made while they are sent."""

from collections.abc import AsyncIterable, Iterable, Mapping

from microasgi.addresses import URL
from microasgi.asgi import Receive, Scope, Send
from microasgi.background import Background
from microasgi.iterating import iterated
from microasgi.responses import Response


class StreamingResponse(Response):
    """A body that is made while it is sent.

    The iterator is always closed, by `aclose()` or `close()` if it has one: at the end, when the client leaves, when sending
    fails, and also when it was never started. A plain iterator runs in a worker thread, one step at a time.

    :param content: an async or plain iterable of bytes or text
    """

    def __init__(
        self,
        content: AsyncIterable[bytes | str] | Iterable[bytes | str],
        status_code: int = 200,
        headers: Mapping[str, str | URL] | None = None,
        media_type: str | None = None,
        background: Background | None = None,
    ) -> None:
        if isinstance(content, str | bytes) or not isinstance(content, AsyncIterable | Iterable):
            raise TypeError(f"a StreamingResponse's content is an iterable of bytes or text, not {type(content).__name__}")
        self.content = content
        super().__init__(None, status_code, headers, media_type, background)

    def _add_length(self) -> None:
        """Nobody knows it yet."""

    def _told_body(self) -> str:
        return f"streamed from {type(self.content).__name__}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with iterated(self.content) as chunks:
            await send(self._start())
            if scope["method"] != "HEAD":
                async for chunk in chunks:
                    body = chunk.encode() if isinstance(chunk, str) else chunk
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
