"""What a request looks like, and whether a response is whole: all that the clients of these benchmarks must know of HTTP."""

import re

from benchmarks.errors import BenchmarkError


def head(method: str, target: str, *fields: str) -> bytes:
    """A request's head; Host is in it."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]).encode()


REQUEST = head("GET", "/")
"""A hello-world."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


def is_whole(data: bytes | bytearray) -> bool:
    """Is this a whole response, with nothing behind it? Its body is short, so a chunked one is known by how it ends.

    :raises BenchmarkError: it is no 200, or its end could only be told by the connection's
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _LENGTH.search(data, 0, end + 2)
    chunked = _CHUNKED.search(data, 0, end + 2)
    if not data.startswith(b"HTTP/1.1 200") or not (length or chunked):
        raise BenchmarkError(f"not the expected response: {bytes(data[:200])!r}")
    return data.endswith(b"\r\n0\r\n\r\n") if length is None else len(data) >= end + 4 + int(length[1])


def body(data: bytes | bytearray) -> bytes:
    """The body of a whole response with a length."""
    return bytes(data.partition(b"\r\n\r\n")[2])
