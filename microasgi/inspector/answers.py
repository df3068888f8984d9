"""Where a response ends, for a client that wants to leave before its last byte, or behind it (RFC 9112 §6.3)."""

from dataclasses import dataclass

NO_BODY = (204, 304)


@dataclass(frozen=True)
class Head:
    """A response's head.

    length: of its body; None, if nothing says it.
    """

    status: int
    chunked: bool
    length: int | None


def status_of(data: bytes) -> int:
    """The final status that the client has been told; 0, if none has come."""
    found = _head(data)
    return found[0].status if found else 0


def end_of(data: bytes, method: str, *, closed: bool = False) -> int | None:
    """How many of these bytes the response has; None, if it isn't complete.

    :param closed: whether the connection has ended, and with it a response of no stated length
    """
    found = _head(data)
    if found is None:
        return None
    head, start = found
    if method == "HEAD" or head.status in NO_BODY or head.status == 101:
        return start
    if head.chunked:
        return _end_of_chunks(data, start)
    if head.length is None:
        return len(data) if closed else None
    return None if start + head.length > len(data) else start + head.length


def _head(data: bytes) -> tuple[Head, int] | None:
    """The final response's head, and where its body begins; interim ones (1xx) come before it, but for 101, which is final."""
    start = 0
    while (end := data.find(b"\r\n\r\n", start)) >= 0:
        line, *lines = data[start:end].split(b"\r\n")
        words = line.split(None, 2)
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        start = end + 4
        if status >= 200 or status == 101:
            fields = {name.strip().lower(): value.strip().lower() for name, _, value in (field.partition(b":") for field in lines)}
            length = fields.get(b"content-length", b"")
            chunked = fields.get(b"transfer-encoding", b"").endswith(b"chunked")
            return Head(status, chunked, int(length) if length.isdigit() else None), start
    return None


def _end_of_chunks(data: bytes, start: int) -> int | None:
    """Behind the last chunk and the trailers (RFC 9112 §7.1)."""
    while (end := data.find(b"\r\n", start)) >= 0:
        size = int(data[start:end].split(b";")[0] or b"0", 16)
        if size == 0:
            if data[end + 2 : end + 4] == b"\r\n":
                return end + 4
            trailers = data.find(b"\r\n\r\n", end)
            return None if trailers < 0 else trailers + 4
        start = end + 2 + size + 2
    return None
