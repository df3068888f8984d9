"""A response as it comes, and where it ends, for a client that wants to leave before its last byte, or behind it (RFC 9112 §6.3)."""

import copy
import re

NO_BODY = (101, 204, 304)

KEPT = 65536
"""Bytes that are kept of a response; it may be endless."""

_HEX = re.compile(rb"[0-9A-Fa-f]+")
_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3})(?: |\r\n)")


class Answer:
    """One response, and the interim ones before it.

    status: 0, as long as its head isn't whole.
    complete: whether all of it has come.
    kept: how it begins.

    :param method: the request's: what HEAD is answered with has no body
    """

    def __init__(self, method: str) -> None:
        self.status = 0
        self.complete = False
        self.kept = b""
        self._method = method
        self._left: int | None = 0  # bytes of the body, or of a chunk; None: up to the end of the connection
        self._line: bytes | None = b""  # what has come of a head, or of a chunk's size; None: a body comes
        self._chunked = self._trailers = False

    def look(self, data: bytes) -> "Answer":
        """How it would be with these bytes, too."""
        then = copy.copy(self)
        then.feed(data)
        return then

    def feed(self, data: bytes) -> None:
        """These bytes come. What stands behind the response's end is no part of it."""
        self.kept = (self.kept + data)[:KEPT] if len(self.kept) < KEPT else self.kept
        while data and not self.complete:
            data = self._body(data) if self._line is None else self._lines(data)

    def close(self) -> None:
        """The connection has ended, and with it a response of no stated length."""
        self.complete = self.complete or self._left is None

    def _lines(self, data: bytes) -> bytes:
        """A head, a chunk's size, or trailers. Returns what stands behind."""
        assert self._line is not None
        line = self._line + data
        end = b"\r\n" if self._chunked and not self._trailers else b"\r\n\r\n"
        if self._trailers and line.startswith(b"\r\n"):  # there are none
            self.complete = True
        elif (at := line.find(end)) >= 0:
            self._line, behind = None, line[at + len(end) :]
            if self._trailers:
                self.complete = True
            elif self._chunked:
                self._chunk(line[:at])
            else:
                self._head(line[: at + 2])
            return behind
        self._line = line
        return b""

    def _head(self, head: bytes) -> None:
        found = _STATUS_LINE.match(head)
        status = int(found[1]) if found else 502
        if status < 200 and status != 101:
            self._line = b""
            return
        self.status = status
        fields = {name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n"))}
        length = fields.get(b"content-length", b"")
        if self._method == "HEAD" or status in NO_BODY:
            self.complete = True
        elif fields.get(b"transfer-encoding", b"").endswith(b"chunked"):
            self._chunked, self._line = True, b""
        else:
            self._left = int(length) if length.isdigit() else None
            self.complete = self._left == 0

    def _chunk(self, line: bytes) -> None:
        """A chunk's size (RFC 9112 §7.1); behind the last one there are trailers."""
        if not line:  # the end of the chunk before
            self._line = b""
            return
        size = line.partition(b";")[0].strip()
        self._left = int(size, 16) if _HEX.fullmatch(size) else None  # of rubbish nobody knows the end
        if self._left == 0:
            self._trailers, self._line = True, b""

    def _body(self, data: bytes) -> bytes:
        if self._left is None:
            return b""
        taken = min(self._left, len(data))
        self._left -= taken
        if self._left == 0:
            self.complete, self._line = not self._chunked, b"" if self._chunked else None
        return data[taken:]
