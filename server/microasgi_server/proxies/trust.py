"""Which peers are believed: addresses and networks, `unix` for whoever comes by a unix socket, `*` for everybody."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

LOCAL = ("127.0.0.0/8", "::1", "unix")
"""This machine's own."""

EVERYBODY = "*"
UNIX = "unix"

REMEMBERED = 1024
"""Addresses whose answer is remembered: proxies are few, and come often."""


class Trusted:
    """A list of those who are believed."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """:raises ValueError: one of them is no address, network, `unix` or `*`"""
        names = set(allowed)
        self._everybody = EVERYBODY in names
        self._unix = UNIX in names
        self._networks = [ip_network(name) for name in sorted(names - {EVERYBODY, UNIX})]
        self._has = lru_cache(REMEMBERED)(self._look)

    def __contains__(self, host: str | None) -> bool:
        """Whether this one is believed.

        :param host: an address; None is the other end of a unix socket, for which ASGI has none
        """
        return self._everybody or (self._unix if host is None else self._has(host))

    def _look(self, host: str) -> bool:
        address = parsed(host)
        return address is not None and any(address in network for network in self._networks)


def parsed(host: str) -> IPv4Address | IPv6Address | None:
    """An address, an IPv4 one also where it is written as IPv6 (RFC 4291 §2.5.5.2); None, if it is none."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_trustable(name: object) -> bool:
    """Whether it may stand in the list."""
    try:
        return isinstance(name, str) and Trusted([name]) is not None
    except ValueError:
        return False
