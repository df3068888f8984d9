"""Heads that aren't ordinary: h11 decides, and here is what it leaves open, or would let pass.

Rare but legal forms come through, and everything else is refused, with its reason.
"""

import re

import h11

from microasgi_server.errors import Refusal
from microasgi_server.http1.faults import fault
from microasgi_server.http1.fields import VALUE, options
from microasgi_server.http1.framing import body_length, check_raw
from microasgi_server.http1.limits import Limits
from microasgi_server.http1.request_head import Head
from microasgi_server.http1.targets import is_authority, split_target

_FIELD_VALUE = re.compile(VALUE).fullmatch


def arbitrate(data: bytes, limits: Limits) -> Head:
    """What h11 makes of a whole head, and what its grammar leaves open: versions, forms of a target, what Host is, where the body ends.

    :raises Refusal: 505 for a version other than 1.0 and 1.1, 501 for CONNECT and for codings that aren't known, 431, 400 for the rest
    """
    check_raw(data)
    request = _parsed(data)
    if request.http_version not in (b"1.1", b"1.0"):
        raise Refusal(505, "this server speaks HTTP/1.1 and HTTP/1.0 (RFC 9110 §15.6.6)")
    fields = [(name.lower(), value) for name, value in request.headers.raw_items()]
    if len(fields) > limits.fields:
        raise too_large(limits)
    for name, value in fields:
        if not _FIELD_VALUE(value):  # h11 lets most control characters pass
            raise Refusal(400, f"the field {name[:100].decode()} has a control character in its value (RFC 9110 §5.5)")
        if name == b"host" and not is_authority(value):
            raise Refusal(400, "a Host is a name or an address, and a port at most (RFC 9112 §3.2)")
    raw_path, query, authority = split_target(request.method, request.target)
    if authority is not None:
        fields = [(b"host", authority), *(field for field in fields if field[0] != b"host")]  # RFC 9112 §3.2.2: it replaces Host
    head = Head(request.method, request.target, request.http_version, fields, raw_path, query)
    old = head.version == b"1.0"  # persists only if that was agreed on, and knows no 100 (RFC 9112 §9.3, RFC 9110 §10.1.1)
    head.length = body_length(fields, old=old)
    named = options(fields)
    head.closes = old or b"close" in named
    head.upgrades = not old and b"upgrade" in named
    head.expects = not old and b"100-continue" in options(fields, b"expect")
    return head


def _parsed(data: bytes) -> h11.Request:
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=len(data))
    parser.receive_data(data)
    try:
        request = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise fault(data, str(error)) from error
    assert isinstance(request, h11.Request)
    return request


def too_large(limits: Limits) -> Refusal:
    """Of a head that is too long, or has too many fields."""
    return Refusal(431, f"a request's head has at most {limits.head} bytes here, and {limits.fields} fields (RFC 6585 §5)")
