"""Why bytes are no request, in words: what h11 found wrong with a head, and what its sender speaks if not HTTP.

Nothing that came is repeated here: the words go to the client and to the log.
"""

from microasgi_server.errors import Refusal

_NO_REQUEST_LINE = "a request begins with a line of its method, its target and HTTP/1.1 (RFC 9112 §3)"

_FAULTS = {
    "illegal request line": _NO_REQUEST_LINE,
    "no request line": _NO_REQUEST_LINE,
    "illegal header line": "a field is a name, a colon and a value without control characters (RFC 9112 §5)",
    "Missing mandatory Host": "an HTTP/1.1 request has a Host (RFC 9112 §3.2)",
    "Found multiple Host": "a request has one Host (RFC 9112 §3.2)",
    "bad Content-Length": "a Content-Length is a number of bytes, in digits (RFC 9110 §8.6)",
}
"""How h11's messages begin, and ours. Its own say no section, and some go on with what came."""

_STRANGERS = {
    b"\x16": "TLS: use http:// here, or start the server with a certificate",
    b"\x00\r\nQUIT\n": "the PROXY protocol, version 2, not expected of this peer",  # behind the empty lines that it begins with
    b"PROXY ": "the PROXY protocol, not expected of this peer",
    b"\x04": "SOCKS 4, and this is no proxy",
    b"\x05": "SOCKS 5, and this is no proxy",
    b"SSH-": "SSH",
    b"EHLO ": "SMTP",
    b"HELO ": "SMTP",
}
"""How other protocols begin, as far as clients are known to speak them to the wrong port."""


def fault(head: bytes, message: str) -> Refusal:
    """What to answer to a head that h11 has refused with this message."""
    for beginning, reason in _FAULTS.items():
        if message.startswith(beginning):
            return stranger(head) if reason is _NO_REQUEST_LINE else Refusal(400, reason)
    return Refusal(400, "this is no request of HTTP/1.1 (RFC 9112 §2.1)")


def stranger(data: bytes) -> Refusal:
    """What to answer to bytes that don't begin as a request does."""
    for beginning, name in _STRANGERS.items():
        if data.startswith(beginning):
            return Refusal(400, f"this looks like {name} (RFC 9112 §3)")
    if data[0] < 0x20 or data[0] > 0x7E:
        return Refusal(400, "this looks like binary data, and no request begins so (RFC 9112 §3)")
    return Refusal(400, _NO_REQUEST_LINE)
