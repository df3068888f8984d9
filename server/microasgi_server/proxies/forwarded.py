"""What proxies say in a request's fields: `Forwarded` (RFC 7239), or X-Forwarded-For and its like, which no document defines.

Every proxy adds at the end of a list whom it was connected to:

    client 203.0.113.7 ──► proxy 10.0.0.2 ──► proxy 127.0.0.1 ──► here

    X-Forwarded-For: 198.51.100.1, 203.0.113.7, 10.0.0.2      the first of which the client has made up

So they are read from the end, as long as it is a believed proxy that has written them, and never beyond.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from microasgi_server.proxies.trust import Trusted, parsed

X_FORWARDED = tuple(f"X-Forwarded-{name}" for name in ("For", "Proto", "Host", "Port", "Prefix"))
FORWARDED = "Forwarded"

FOR, PROTO, HOST, PORT, PREFIX = (name.lower().encode() for name in X_FORWARDED)

Address = tuple[str, int]


class Said(NamedTuple):
    """What believed proxies say; empty is what they don't.

    client: the address nearest to the client that one of them has seen; the port is 0 if it wasn't told.
    scheme, host, port: what the client has asked for; not checked.
    prefix: what was taken from the path; not checked.
    """

    client: Address | None = None
    scheme: str = ""
    host: str = ""
    port: str = ""
    prefix: str = ""


_NODE = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+))(?::(?P<port>[^:]*))?|(?P<bare>[0-9A-Fa-f:.]+)")


def address(text: str) -> Address | None:
    """An address, with its port or without; None for `unknown`, made-up names (RFC 7239 §6.3) and garbage."""
    found = _NODE.fullmatch(text)
    host = parsed(found["six"] or found["four"] or found["bare"]) if found else None
    if found is None or host is None:
        return None
    port = found["port"] or ""
    return str(host), int(port) if port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65536 else 0


def members(lines: Iterable[str]) -> list[str]:
    """Of a list in one field or in several, what isn't empty (RFC 9110 §5.6.1)."""
    return [member for line in lines for part in line.split(",") if (member := part.strip(" \t"))]


def _last(lines: Sequence[str]) -> str:
    return (members(lines) or [""])[-1]


def read_x_forwarded(fields: Mapping[bytes, Sequence[str]], trusted: Trusted) -> Said:
    """What the X-Forwarded fields say.

    :param fields: the values of each field that is believed
    """
    chain = [address(member) for member in members(fields.get(FOR, ()))]
    client, place = None, len(chain)
    while place and (hop := chain[place - 1]):
        client, place = hop, place - 1
        if hop[0] not in trusted:
            break
    schemes = members(fields.get(PROTO, ()))
    # A list of as many schemes as addresses has been kept together with it; of any other only the last was certainly written by our peer.
    scheme = schemes[place] if client is not None and len(schemes) == len(chain) else (schemes or [""])[-1]
    return Said(client, scheme, *(_last(fields.get(name, ())) for name in (HOST, PORT, PREFIX)))


def read_forwarded(lines: Sequence[str], trusted: Trusted) -> Said:
    """What `Forwarded` says. Each element tells by what and for which name its writer was asked, and by whom."""
    said = Said()
    for element in elements_from_the_end(lines):
        hop = address(element.get("for", ""))
        said = Said(hop or said.client, element.get("proto") or said.scheme, element.get("host") or said.host)
        if hop is None or hop[0] not in trusted:
            break
    return said


_PAIR = (
    r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=(?:([^\s\",;=\\]++)|\"((?:[^\"\\]|\\.)*+)\")"  # unquoted addresses have colons, whatever RFC 7239 says
)
_ELEMENT = re.compile(rf"[ \t]*{_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*+[ \t]*")
_PAIRS = re.compile(_PAIR)

TRIES = 100
"""Commas to look behind: chains of proxies are short, and who sends more is a client."""


def elements_from_the_end(lines: Sequence[str]) -> Iterator[dict[str, str]]:
    """The elements of `Forwarded` (RFC 7239 §4), the last first, up to a malformed one: what is in front of it may be in its quotes."""
    tries = TRIES
    for line in reversed(lines):
        end = start = len(line)
        while start >= 0 and tries:
            tries -= 1
            start = line.rfind(",", 0, start)
            if _ELEMENT.fullmatch(line, start + 1, end):
                yield {name.lower(): value or _unquoted(quoted) for name, value, quoted in _PAIRS.findall(line, start + 1, end)}
                end = start
            elif not line[start + 1 : end].strip(" \t"):
                end = start  # an empty one is none (RFC 9110 §5.6.1)
        if end >= 0:
            return


def _unquoted(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted)
