"""Certificates for tests, made when the first of them wants some: an authority, and what it signs."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM
_NOW = datetime.datetime.now(datetime.UTC)


def name(common: str, *more: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([*[x509.NameAttribute(*one) for one in more], x509.NameAttribute(NameOID.COMMON_NAME, common)])


@dataclass
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    def key_pem(self, password: bytes = b"") -> bytes:
        """The key; with a password, encrypted with it."""
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return self.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, encryption)


def signed(subject: x509.Name, by: Pair | None = None, *, authority: bool = False) -> Pair:
    """A pair whose certificate another's key has signed, or its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW - datetime.timedelta(days=1))
        .not_valid_after(_NOW + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key((by.key if by else key).public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )  # what Python asks for from 3.13 on
    if authority:
        uses = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
        )
        usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, decipher_only=False, **uses)
        builder = builder.add_extension(usage, critical=True)
    else:
        names: Sequence[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(builder.sign(by.key if by else key, hashes.SHA256()), key)


class Files:
    """An authority, a server's and a client's pair, and what can be wrong with them, as files.

    Each is named by its attribute, as in `str(files.certificate)`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signer = signed(name("Tests"), authority=True)
        self.server = signed(name("localhost"), self.signer)
        self.authority = self.write("authority.pem", self.signer.pem())
        self.certificate = self.write("certificate.pem", self.server.pem())
        self.key = self.write("key.pem", self.server.key_pem())
        self.both = self.write("both.pem", self.server.pem() + self.server.key_pem())
        self.encrypted_key = self.write("encrypted.pem", self.server.key_pem(b"sesame"))

    def write(self, file: str, data: bytes) -> str:
        path = self.folder / file
        path.write_bytes(data)
        return str(path)

    @property
    def options(self) -> dict[str, Any]:
        """Of a server that speaks TLS."""
        return {"ssl_certfile": self.certificate, "ssl_keyfile": self.key}
