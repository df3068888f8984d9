"""The PROXY protocol, versions 1 and 2, by HAProxy's document: before a connection's first byte, a proxy says whose connection it is.

    PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\\r\\n     version 1: a line
    \\r\\n\\r\\n\\0\\r\\nQUIT\\n, then 4 bytes, then addresses     version 2: which command, which family, how many bytes

Nobody may guess whether there is one: of a proxy that is to send it, a connection without it is refused. No I/O here.
"""

import re
import socket
import struct
from typing import NamedTuple

from microasgi_server.errors import Refusal
from microasgi_server.proxies.trust import parsed

_V1 = b"PROXY "
_V1_SIZE = 107
"""Bytes of the longest line, its end included."""

_LINE = re.compile(rb"PROXY (?:UNKNOWN(?: [ -~]*)?|TCP([46]) (\S+) (\S+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4}))\r\n")

_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD = 16
_V2_SIZE = 4096
"""Bytes that may follow its head: the addresses take 216 at most, and the rest says more of a TLS session than anybody needs."""

_LOCAL, _PROXY = 0x20, 0x21
"""The commands, behind the version: the proxy speaks for itself, as to see whether we are well; it speaks for a client."""

_FAMILIES = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}
"""Of TCP, with the bytes of an address."""

_ADDRESSLESS = {0x00: 0, 0x31: 216}
"""What else may be spoken for: the unknown, and a unix socket's clients, with the bytes of what says so."""

Address = tuple[str, int]


class Preface(NamedTuple):
    """What a proxy says of a connection.

    size: bytes that it takes to say so.
    client, server: the two ends of the connection that the client has made; None, if the proxy doesn't speak for one, or doesn't know.
    """

    size: int
    client: Address | None = None
    server: Address | None = None


def read_preface(data: bytes) -> Preface | None:
    """The preface at the beginning of what has come; None while it is incomplete.

    :raises Refusal: it is none
    """
    if data.startswith(_V2):
        return _binary(data)
    if data.startswith(_V1):
        return _line(data)
    if _V1.startswith(data) or _V2.startswith(data):
        return None
    raise Refusal(400, "this comes from a proxy that is to speak the PROXY protocol, and it doesn't")


def _line(data: bytes) -> Preface | None:
    end = data.find(b"\n", 0, _V1_SIZE) + 1
    if not end and len(data) < _V1_SIZE:
        return None
    found = _LINE.fullmatch(data, 0, end) if end else None
    if found is None:
        raise Refusal(400, "this begins as the PROXY protocol's version 1 does, and then it isn't that")
    version, *ends = found.groups()
    if version is None:
        return Preface(end)
    source, destination = (parsed_of(int(version), host.decode("latin-1")) for host in ends[:2])
    ports = [int(port) for port in ends[2:]]
    if source is None or destination is None or max(ports) > 65535:
        raise Refusal(400, "this is the PROXY protocol's version 1, but for its addresses")
    return Preface(end, (source, ports[0]), (destination, ports[1]))


def parsed_of(version: int, host: str) -> str | None:
    """An address of this version of IP; None, if it is none."""
    address = parsed(host)
    return str(address) if address is not None and (":" in host) is (version == 6) else None


def _binary(data: bytes) -> Preface | None:
    if len(data) < _V2_HEAD:
        return None
    command, family, size = struct.unpack_from("!BBH", data, len(_V2))
    if command not in (_LOCAL, _PROXY) or size > _V2_SIZE:
        raise Refusal(400, "this begins as the PROXY protocol's version 2 does, and then it isn't that, or it is too long")
    if len(data) < _V2_HEAD + size:
        return None
    whole = _V2_HEAD + size
    if command == _LOCAL:
        return Preface(whole)
    if family in _FAMILIES and size >= 2 * _FAMILIES[family][1] + 4:
        kind, width = _FAMILIES[family]
        source, destination, *ports = struct.unpack_from(f"!{width}s{width}sHH", data, _V2_HEAD)
        hosts = [str(parsed(socket.inet_ntop(kind, host))) for host in (source, destination)]
        return Preface(whole, (hosts[0], ports[0]), (hosts[1], ports[1]))
    if size < _ADDRESSLESS.get(family, size + 1):
        raise Refusal(400, "this is the PROXY protocol's version 2, but for its addresses, or for their family")
    return Preface(whole)
