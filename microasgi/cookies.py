"""A cookie as a response's header field has it (RFC 6265 §4.1)."""

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any

_NOT_IN_ATTRIBUTES = re.compile(r"[;\x00-\x1f\x7f]")  # RFC 6265 §4.1.1, av-octet
_SAMESITE = ("lax", "strict", "none")


def set_cookie_field(key: str, value: str, *, secure: bool, httponly: bool, **attributes: Any) -> bytes:
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
