"""A response's cookies, as its header fields have them (RFC 6265 §4.1)."""

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any, Literal

_NOT_IN_ATTRIBUTES = re.compile(r"[;\x00-\x1f\x7f]")  # RFC 6265 §4.1.1, av-octet
_SAMESITE = ("lax", "strict", "none")


class SetsCookies:
    """The part of a Response that sets cookies."""

    raw_headers: list[tuple[bytes, bytes]]

    def set_cookie(
        self,
        key: str,
        value: str = "",
        max_age: int | None = None,
        expires: datetime | str | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] | None = "lax",
    ) -> None:
        """Set a cookie (RFC 6265).

        :param max_age: seconds until it goes; 0 removes it; None: when the browser closes
        :param expires: the time when it goes; without a time zone, UTC is meant
        :raises TypeError: key or value isn't text, or max_age isn't a number
        :raises ValueError: what cookies don't have, or what would end an attribute early and begin another
        """
        attributes = {"max_age": max_age, "expires": expires, "path": path, "domain": domain, "samesite": samesite}
        self.raw_headers.append((b"set-cookie", _field(key, value, secure=secure, httponly=httponly, **attributes)))

    def delete_cookie(self, key: str, path: str | None = "/", domain: str | None = None) -> None:
        """Make the client forget a cookie. Path and domain must be those it was set with."""
        self.set_cookie(key, max_age=0, expires="Thu, 01 Jan 1970 00:00:00 GMT", path=path, domain=domain)


def _field(key: str, value: str, *, secure: bool, httponly: bool, **attributes: Any) -> bytes:
    """The value of a `Set-Cookie` field.

    :param attributes: max_age, expires, path, domain and samesite, as `Response.set_cookie` takes them; None leaves one away
    :raises TypeError: key or value isn't text, or max_age isn't a number
    :raises ValueError: the key is no cookie name, the value doesn't fit into a header, or an attribute would end early and begin another
    """
    for part in (key, value):
        if not isinstance(part, str):
            raise TypeError(f'a cookie\'s name and value are text, not {part!r}; write "{part}"')
    cookie: SimpleCookie = SimpleCookie()
    try:
        cookie[key] = value
    except CookieError as error:
        raise ValueError(f"{key!r} can't be the name of a cookie") from error
    morsel = cookie[key]
    expires = attributes["expires"]
    if isinstance(expires, datetime):
        expires = expires if expires.tzinfo is not None else expires.replace(tzinfo=UTC)
        attributes["expires"] = format_datetime(expires.astimezone(UTC), usegmt=True)
    for attribute, setting in attributes.items():
        if setting is not None:
            if _NOT_IN_ATTRIBUTES.search(str(setting)):
                raise ValueError(f"{setting!r} can't be a cookie's {attribute}: it has a semicolon or a control character")
            morsel[attribute.replace("_", "-")] = str(setting)
    _check_attributes(**attributes)
    morsel["secure"] = secure
    morsel["httponly"] = httponly
    try:
        return morsel.OutputString().encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"cookie {key!r} has letters that no header takes: quote it, as urllib.parse.quote does") from None


def _check_attributes(*, max_age: Any, samesite: Any, expires: Any, **_: Any) -> None:
    if max_age is not None and not isinstance(max_age, int):
        raise TypeError(f"a cookie's max_age is a whole number of seconds, not {max_age!r}")
    if expires is not None and not isinstance(expires, str | datetime):
        raise TypeError(f"a cookie's expires is a datetime, not {expires!r}; max_age takes seconds")
    if samesite is not None and samesite not in _SAMESITE:
        raise ValueError(f"a cookie's samesite is one of {', '.join(_SAMESITE)}, not {samesite!r}")
