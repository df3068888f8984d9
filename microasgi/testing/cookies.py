"""Cookies that persist between calls, as in a browser: the standard library's jar, with the face of a mapping."""

from collections.abc import Iterator, Mapping, MutableMapping
from email.message import Message
from http.cookiejar import Cookie, CookieJar
from typing import Any
from urllib.request import Request

from microasgi.datastructures import NoSuchKey


class Cookies(MutableMapping[str, str]):
    """A client's cookies, by name. What a response sets is kept, sent where its path and domain say, and dropped when it expires.

    :param cookies: to begin with, for every path
    :param host: whose cookies are set here
    """

    def __init__(self, cookies: Mapping[str, str] | None = None, host: str = "testserver") -> None:
        self._jar = CookieJar()
        self._domain = host if "." in host else f"{host}.local"  # as the jar calls a host without a dot
        self.update(cookies or {})

    def __getitem__(self, name: str) -> str:
        for cookie in self._jar:
            if cookie.name == name:
                return cookie.value or ""
        raise NoSuchKey(name, self)

    def __setitem__(self, name: str, value: str) -> None:
        self._jar.set_cookie(_cookie(name, value, self._domain))

    def __delitem__(self, name: str) -> None:
        found = [cookie for cookie in self._jar if cookie.name == name]
        if not found:
            raise NoSuchKey(name, self)
        for cookie in found:
            self._jar.clear(cookie.domain, cookie.path, cookie.name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(cookie.name for cookie in self._jar))

    def __len__(self) -> int:
        return len([*iter(self)])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"

    def header(self, url: str, more: Mapping[str, str]) -> str:
        """The value of the `cookie` field of a request; empty if there is none to send.

        :param url: where it goes
        :param more: cookies for this request alone, instead of those of the same name
        """
        request = Request(url)
        self._jar.add_cookie_header(request)
        kept = [pair for pair in (request.get_header("Cookie") or "").split("; ") if pair and pair.partition("=")[0] not in more]
        return "; ".join([*kept, *(f"{name}={value}" for name, value in more.items())])

    def take(self, url: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Keep what a response sets."""
        if any(name == b"set-cookie" for name, _ in headers):
            self._jar.extract_cookies(_Answered(headers), Request(url))  # type: ignore[arg-type]


class _Answered:
    """As much of a response as the jar wants."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._info = Message()
        for name, value in headers:
            self._info[name.decode("latin-1")] = value.decode("latin-1")

    def info(self) -> Message:
        return self._info


def _cookie(name: str, value: str, domain: str) -> Cookie:
    """One that is sent with every path, until the client ends."""
    unset: dict[str, Any] = {"port": None, "expires": None, "comment": None, "comment_url": None}
    said: dict[str, Any] = {"port_specified": False, "domain_specified": False, "domain_initial_dot": False, "path_specified": True}
    rest: dict[str, Any] = {"secure": False, "discard": True, "rest": {}}
    return Cookie(version=0, name=name, value=value, domain=domain, path="/", **unset, **said, **rest)
