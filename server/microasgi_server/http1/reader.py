"""Bytes to a checked head, or a refusal: the one place that says what a request may be (RFC 9112 §2 to §6).

                    ┌─ an ordinary head ──► one regular expression ────────────┐
    Reader.read ────┤                                                          ├──► Head
                    └─ anything else ─────► `arbiter`: h11, and what it leaves ┘      or Refusal, in the words of `faults`

The fast way takes the strict grammar of what browsers and programs send, and nothing else. Whatever it doesn't take is h11's to
decide: rare but legal forms, and the reasons for refusals. What the fast way takes, the other takes too, and makes the same of it: the
tests hold each against the other. Nothing downstream checks again.
"""

import re

from microasgi_server.errors import Refusal
from microasgi_server.http1.arbiter import arbitrate, too_large
from microasgi_server.http1.faults import stranger
from microasgi_server.http1.fields import REMEMBERED, TOKEN, VALUE, Fields, known_line, listed, read_line
from microasgi_server.http1.framing import DIGITS
from microasgi_server.http1.limits import Limits
from microasgi_server.http1.request_head import Head
from microasgi_server.http1.targets import is_known_authority

# Possessive (++, *+): nothing that was taken is given back, so that no head takes more than one pass.
_ORDINARY = re.compile(rb"(?!CONNECT )(%b) (/[!\"$-~]*+) HTTP/1\.1\r\n((?:%b:%b\r\n)++)\r\n" % (TOKEN, TOKEN, VALUE)).match

_END = re.compile(rb"\n\r?\n")  # as h11 has it: RFC 9112 §2.2 lets a bare LF end a line

_BEGINS = re.compile(TOKEN.removesuffix(b"++")).match

_EMPTY_LINES = re.compile(rb"(?:\r?\n)*+").match

_SPEAKING = frozenset([b"content-length", b"transfer-encoding", b"connection", b"expect"])
"""The fields of a request that speak of its body or of the connection. Most requests have at most one of them."""


class Reader:
    """Reads one head after another. It keeps what has come of a head that is still incomplete, or was refused."""

    __slots__ = ("_held", "_limits", "_searched")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = bytearray()
        self._searched = 0  # bytes of it that have no end of a head in them

    @property
    def begun(self) -> bool:
        """Whether something of a head is here, but not yet all."""
        return bool(self._held)

    @property
    def bodyless(self) -> bool:
        """Whether an answer to what was refused can't have a body (RFC 9110 §9.3.2)."""
        return self._held.startswith(b"HEAD ")

    def read(self, data: bytes) -> tuple[Head, bytes] | None:
        """Take what came: the head and what is behind it, or None while it is incomplete.

        :raises Refusal: it is no HTTP, or not what this server serves
        """
        if not self._held:
            match = _ORDINARY(data)
            if match is not None:
                head = _ordinary(match, self._limits)
                if head is not None:
                    end = match.end()
                    return head, data[end:] if end < len(data) else b""
        return self._read_on(data)

    def _read_on(self, data: bytes) -> tuple[Head, bytes] | None:
        held = self._held
        held += data
        if not self._searched and (empty := _EMPTY_LINES(held)):
            del held[: empty.end()]  # RFC 9112 §2.2: an old client may send some in front
        if held == b"\r":  # half an empty line: it is looked at once more
            return None
        if held and not _BEGINS(held):
            raise stranger(bytes(held[:20]))  # who shouldn't have to wait
        end = _END.search(held, max(0, self._searched - 2))
        self._limit(len(held) if end is None else end.end())
        if end is None:
            self._searched = len(held)
            return None
        data = bytes(held[: end.end()])
        match = _ORDINARY(data)
        head = (match and _ordinary(match, self._limits)) or arbitrate(data, self._limits)
        rest = bytes(held[end.end() :])
        self._held = bytearray()
        self._searched = 0
        return head, rest

    def _limit(self, size: int) -> None:
        """RFC 9110 §15.5.15, RFC 6585 §5: what is too long, the request line or all of it."""
        limits = self._limits
        if size > limits.request_line and self._held.find(b"\n", 0, limits.request_line) < 0:
            raise Refusal(414, f"a request line has at most {limits.request_line} bytes here (RFC 9110 §15.5.15)")
        if size > limits.head:
            raise too_large(limits)


def _ordinary(match: re.Match[bytes], limits: Limits) -> Head | None:
    """The head that the expression has found; None if something in it is for the arbiter to decide."""
    method, target, block = match.groups()
    fields = [known_line(line) or read_line(line) for line in block.splitlines()]
    named = dict(fields)
    host = named.get(b"host", b"")
    if len(host) > REMEMBERED or not is_known_authority(host) or (len(named) < len(fields) and _repeats(fields)):
        return None
    end = match.end()
    if end > limits.head or (end > limits.request_line and match.start(3) > limits.request_line) or len(fields) > limits.fields:
        return None
    raw_path, _, query = target.partition(b"?")
    head = Head(method, target, b"1.1", fields, raw_path, query)
    return head if _SPEAKING.isdisjoint(named) or _heed(head, named) else None


def _repeats(fields: Fields) -> bool:
    """Whether there is more than one of what there is usually only one of."""
    names = [name for name, _ in fields]
    return any(names.count(name) > 1 for name in (b"host", *_SPEAKING))


def _heed(head: Head, named: dict[bytes, bytes]) -> bool:
    """Take in what the fields say of the body and of the connection, each once; False if that is for the arbiter to decide."""
    length = named.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > DIGITS or b"transfer-encoding" in named:
        return False
    head.length = int(length)
    connection = named.get(b"connection", b"").lower()
    head.closes = connection != b"keep-alive" and b"close" in listed(connection)
    head.upgrades = b"upgrade" in connection and b"upgrade" in listed(connection)
    head.expects = b"expect" in named and b"100-continue" in listed(named[b"expect"].lower())
    return True
