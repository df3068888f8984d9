"""From the head of a request to an ASGI scope: what the request line means (RFC 9112 §3).

h11 has read the bytes and checked their grammar. Here stands what the grammar leaves open: which forms of a target an
origin server answers, and which path an app gets to see.
"""

import re
from urllib.parse import quote, unquote

from microasgi_server.asgi import Scope
from microasgi_server.errors import Refusal

Fields = list[tuple[bytes, bytes]]

# RFC 9112 §3.2.2: a server must accept the absolute form, which proxies send.
_ABSOLUTE_FORM = re.compile(rb"https?://(?P<authority>[^/?#@]+)(?P<target>[/?][^#]*)?", re.IGNORECASE)


def split_target(method: bytes, target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Split a request target into raw path, query and, for the absolute form, authority.

    :raises Refusal: 501 for CONNECT, 400 for a target that isn't one of RFC 9112 §3.2's other forms
    """
    if method == b"CONNECT":
        raise Refusal(501, "CONNECT is for proxies, and this is an origin server")
    authority = None
    if target[0] != 0x2F:  # not "/": not the origin form
        if target == b"*" and method == b"OPTIONS":
            return target, b"", None
        absolute = _ABSOLUTE_FORM.fullmatch(target)
        if absolute is None:
            raise Refusal(400, "the request target must start with a slash")
        authority = absolute["authority"]
        target = absolute["target"] or b"/"
        if target[0] == 0x3F:  # "?": an empty path with a query
            target = b"/" + target
    elif b"#" in target:
        raise Refusal(400, "a request target has no fragment")
    raw_path, _, query = target.partition(b"?")
    return raw_path, query, authority


def build_scope(method: bytes, target: bytes, version: bytes, headers: Fields, root_path: str) -> Scope:
    """The part of the scope that the request decides (ASGI HTTP spec, HTTP Connection Scope).

    `path` and `raw_path` include `root_path`, as the spec's `root_path` asks of a server behind a prefix.

    :raises Refusal: see `split_target`; 505 for a version other than 1.0 and 1.1
    """
    if version not in (b"1.1", b"1.0"):
        raise Refusal(505, "this server speaks HTTP/1.1 and HTTP/1.0")
    raw_path, query, authority = split_target(method, target)
    if authority is not None:  # RFC 9112 §3.2.2: it replaces whatever Host says
        headers = [(b"host", authority), *(field for field in headers if field[0] != b"host")]
    path = raw_path.decode("ascii")
    if "%" in path:
        path = unquote(path)
    if root_path and path != "*":  # the asterisk is no path
        path = root_path + path
        raw_path = quote(root_path).encode() + raw_path
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": version.decode("ascii"),
        "method": method.decode("ascii"),
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": root_path,
        "headers": headers,
    }
