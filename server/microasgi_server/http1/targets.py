"""What a request is for: the forms of a target, and the authority in it or in Host (RFC 9112 §3.2)."""

import re
from functools import lru_cache

from microasgi_server.errors import Refusal

# RFC 3986 §3.2.2, but for a comma and an apostrophe in a name: where two Hosts were joined, or quoted, somebody has tampered.
_AUTHORITY = re.compile(rb"(?:(?:[A-Za-z0-9\-._~!$&()*+;=]|%[0-9A-Fa-f]{2})++|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]*+)?").fullmatch

# RFC 9112 §3.2.2: a server must accept the absolute form, which proxies send.
_ABSOLUTE_FORM = re.compile(rb"https?://(?P<authority>[^/?#@]+)(?P<target>[/?][^#]*)?", re.IGNORECASE)


def is_authority(value: bytes) -> bool:
    """Whether it is `uri-host [":" port]` (RFC 9112 §3.2)."""
    return _AUTHORITY(value) is not None


is_known_authority = lru_cache(maxsize=256)(is_authority)
"""The same, remembered: a server has few names, and hears them often. For short ones."""


def split_target(method: bytes, target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Split a request target into raw path, query and, for the absolute form, authority.

    :raises Refusal: 501 for CONNECT, 400 for a target that isn't one of RFC 9112 §3.2's other forms
    """
    if method == b"CONNECT":
        raise Refusal(501, "CONNECT is for proxies, and this is an origin server (RFC 9112 §3.2.3)")
    authority = None
    if target[0] != 0x2F:  # not "/": not the origin form
        if target == b"*" and method == b"OPTIONS":
            return target, b"", None
        absolute = _ABSOLUTE_FORM.fullmatch(target)
        if absolute is None:
            raise Refusal(400, "a request target is a path, which starts with a slash, or a whole http URL (RFC 9112 §3.2)")
        authority = absolute["authority"]
        if not is_authority(authority):
            raise Refusal(400, "the authority of the request target isn't one (RFC 9112 §3.2.2)")
        target = absolute["target"] or b"/"
        if target[0] == 0x3F:  # "?": an empty path with a query
            target = b"/" + target
    elif b"#" in target:
        raise Refusal(400, "a request target has no fragment (RFC 9112 §3.2)")
    raw_path, _, query = target.partition(b"?")
    return raw_path, query, authority
