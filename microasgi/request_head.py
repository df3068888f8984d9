"""What a request's head says, and its server knows beside; and links, which begin as its URL does."""

from functools import cached_property
from typing import Any
from urllib.parse import quote

from microasgi.addresses import URL, Address, origin
from microasgi.asgi import Scope
from microasgi.datastructures import Headers, QueryParams, parse_cookies
from microasgi.levels import LEVELS


class RequestHead:
    """The part of a Request that is known before its body comes."""

    scope: Scope

    @cached_property
    def headers(self) -> Headers:
        """The header fields; names in any case."""
        return Headers(self.scope["headers"])

    @cached_property
    def query_params(self) -> QueryParams:
        """The query, decoded."""
        return QueryParams(self.scope["query_string"])

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies that the client sent."""
        return parse_cookies("; ".join(self.headers.getlist("cookie")))

    @property
    def client(self) -> Address | None:
        """The client's address, or None if the server doesn't know it."""
        client = self.scope.get("client")
        return Address(*client) if client else None

    @property
    def app(self) -> Any:
        """The outermost Router that the request has come through."""
        return self.scope[LEVELS][-1].router

    def url_for(self, name: str, /, **params: Any) -> URL:
        """The URL of a route of `app`, by its name: `url_path_for` with scheme and host as the client has written them.

        :raises LookupError, ValueError: as `Router.url_path_for`
        """
        outermost = self.scope[LEVELS][-1]
        return URL(self._origin + quote(outermost.root_path) + outermost.router.url_path_for(name, **params))

    @cached_property
    def url(self) -> URL:
        """The URL the client asked for, as far as the server knows it."""
        path = (self.scope.get("raw_path") or self.scope["path"].encode()).decode("latin-1")
        query = self.scope["query_string"].decode("latin-1")
        return URL(f"{self._origin}{path}{'?' + query if query else ''}")

    @property
    def _origin(self) -> str:
        return origin(self.scope, self.headers.get("host"))
