"""Where a request came from, and the URL that it asked for."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Address(NamedTuple):
    """One end of a connection."""

    host: str
    port: int


class URL:
    """The URL that a client asked for, in parts. `str()` gives it whole."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._parts = urlsplit(url)

    @property
    def scheme(self) -> str:
        return self._parts.scheme

    @property
    def netloc(self) -> str:
        return self._parts.netloc

    @property
    def hostname(self) -> str | None:
        return self._parts.hostname

    @property
    def port(self) -> int | None:
        """The port, if the URL names one that is a port."""
        try:
            return self._parts.port
        except ValueError:
            return None

    @property
    def path(self) -> str:
        """The path, percent-encoded."""
        return self._parts.path

    @property
    def query(self) -> str:
        return self._parts.query

    def __str__(self) -> str:
        return self._url

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, URL | str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._url)

    def __repr__(self) -> str:
        return f"URL({self._url!r})"


def origin(scope: Mapping[str, Any], host: str | None) -> str:
    """Scheme and host of a request's URL.

    :param host: as the client has written it; None if it hasn't, and then the server's own address counts
    """
    if host is None:
        name, port = scope.get("server") or ("localhost", None)
        host = name if port is None else f"{name}:{port}"
    return f"{scope.get('scheme', 'http')}://{host}"
