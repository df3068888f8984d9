"""A TLS session as apps see it: the extension `tls` of their scope.

https://asgi.readthedocs.io/en/latest/specs/tls.html
"""

import re
import ssl
from typing import Any

from microasgi_server.certificates import Identity

VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}

KEYWORDS = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
"""How RFC 4514 §3 calls the parts of a name that everybody must know, by OpenSSL's names. Others keep those: LDAP has them registered."""

_SPECIAL = re.compile(r'[,+"\\<>;=]|^[ #]| $')


def session(tls: ssl.SSLObject, identity: Identity) -> dict[str, Any]:
    """What the extension says of a session. A client's certificate that can't be trusted ends the handshake: there is no error to tell."""
    cipher = tls.cipher()
    certificate = tls.getpeercert()
    return {
        "server_cert": identity.certificate,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(one) for one in _chain(tls)],
        "client_cert_name": distinguished_name(certificate["subject"]) if certificate else None,  # type: ignore[arg-type]
        "client_cert_error": None,
        "tls_version": VERSIONS.get(tls.version() or ""),
        "cipher_suite": identity.ciphers.get(cipher[0]) if cipher else None,
    }


def _chain(tls: ssl.SSLObject) -> list[bytes]:
    """The certificates that the client has sent, its own first. Before Python 3.13 only that one can be had."""
    own = tls.getpeercert(binary_form=True)
    if own is None:
        return []
    return tls.get_unverified_chain() if hasattr(tls, "get_unverified_chain") else [own]


def distinguished_name(subject: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """A name as RFC 4514 writes it: the last part first."""
    return ",".join(["+".join([f"{KEYWORDS.get(kind, kind)}={_escaped(value)}" for kind, value in part]) for part in reversed(subject)])


def _escaped(value: str) -> str:
    """RFC 4514 §2.4."""
    return _SPECIAL.sub(lambda found: "\\" + found[0], value).replace("\0", "\\00")
