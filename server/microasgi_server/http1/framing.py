"""Where a request's body ends, as its head has it; and what h11 would let pass of that, or answer otherwise (RFC 9112 §5.2, §6).

Two readers that disagree on a body's end let a second request be smuggled past one of them: what isn't clear isn't served.
"""

import re

from microasgi_server.errors import Refusal
from microasgi_server.http1.fields import TOKEN, Fields

_FOLDED = re.compile(rb"\n[ \t]").search
_LENGTHS = re.compile(rb"\n(?i:content-length):([^\n]*)").findall
_CODINGS = re.compile(rb"\n(?i:transfer-encoding):([^\n]*)").findall
_CODING = re.compile(TOKEN).fullmatch

DIGITS = 18
"""A Content-Length of more digits is no length of anything."""


def check_raw(head: bytes) -> None:
    """Check a whole head, as it came, for what h11 joins, or takes for the same as something else.

    :raises Refusal: 501 for codings that aren't known, else 400
    """
    if _FOLDED(head):
        raise Refusal(400, "no field goes on in the next line (RFC 9112 §5.2)")
    lengths = _LENGTHS(head)
    if len(lengths) > 1 or any(b"," in length for length in lengths):
        raise Refusal(400, "a request has one Content-Length (RFC 9112 §6.3)")
    if fields := _CODINGS(head):
        codings = [coding.strip().lower() for coding in b",".join(fields).split(b",")]
        if not all(map(_CODING, codings)) or b"chunked" in codings[:-1]:
            raise Refusal(400, "chunked is the last transfer coding, and comes once (RFC 9112 §6.3)")
        if codings != [b"chunked"]:
            raise Refusal(501, "this server knows no transfer coding but chunked (RFC 9112 §6.1)")


def body_length(fields: Fields, *, old: bool) -> int | None:
    """Bytes of the body; None if it comes in chunks. What each of the fields says by itself has been checked.

    :param old: whether this is HTTP/1.0, which knows no chunks
    :raises Refusal: they don't go together
    """
    named = dict(fields)
    length = named.get(b"content-length")
    if b"transfer-encoding" in named:
        if old or length is not None:
            # Somebody between the client and here may have read it otherwise.
            other = "an HTTP/1.0 request" if old else "one with a Content-Length"
            raise Refusal(400, f"a request with a Transfer-Encoding isn't {other} (RFC 9112 §6.1)")
        return None
    if length is not None and len(length) > DIGITS:
        raise Refusal(400, f"a Content-Length has at most {DIGITS} digits here (RFC 9110 §8.6)")
    return int(length or b"0")
