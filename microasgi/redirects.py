"""Sending a client elsewhere (RFC 9110 §15.4)."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from microasgi.addresses import URL
from microasgi.background import Background
from microasgi.responses import Response


class RedirectResponse(Response):
    """Sends the client elsewhere.

    :param url: where to; what isn't allowed in a URL is percent-encoded
    :param status_code: 307 keeps the method, 303 turns it into GET, 308 and 301 are for ever
    """

    def __init__(
        self, url: Any, status_code: int = 307, headers: Mapping[str, str | URL] | None = None, background: Background | None = None
    ) -> None:
        super().__init__(b"", status_code, headers, background=background)
        self.raw_headers.append((b"location", quote(str(url), safe=":/%#?=@[]!$&'()*+,;~").encode("latin-1")))
