"""Certificates and keys: from files to what TLS sessions use, and from there again when the files have changed.

    ssl_certfile, ssl_keyfile, … ──read──► Identity ──► every session that begins from now on
                                             ▲
                        SIGHUP ──read_again──┘          those that have begun keep theirs

What is wrong with a file is said in one sentence. Nobody is ever asked for a password: a server has no terminal, or not for long.
"""

import logging
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from microasgi_server.config import Config
from microasgi_server.errors import OptionError, StartupError

logger = logging.getLogger("microasgi_server")

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\r?\n?", re.DOTALL)

_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")

_DEMANDS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}

_ADVICE = {
    "KEY_VALUES_MISMATCH": "the key isn't that of the certificate",
    "EE_KEY_TOO_SMALL": "its key is too short to be safe; make a new one",
    "CA_MD_TOO_WEAK": "it is signed with a digest that is too weak to be safe; make a new one",
}
"""What OpenSSL calls some of its reasons, in words."""


@dataclass(frozen=True)
class Identity:
    """What a TLS session needs of its server.

    certificate: the server's own, in PEM.
    ciphers: the number of each cipher suite in the registry (RFC 8446 §B.4), by OpenSSL's names.
    """

    context: ssl.SSLContext
    certificate: str
    ciphers: Mapping[str, int]


class Certificates:
    """A server's certificates, as its options name them.

    identity: what sessions use that begin now.

    :raises StartupError: a file can't be read, or isn't what it should be
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.identity = _read(config)

    def read_again(self) -> None:
        """Take what is in the files now, for sessions that begin from now on. If something is wrong there, all stays as it is.

        To be called in the thread of the server's event loop.
        """
        try:
            self.identity = _read(self._config)
        except StartupError as error:
            logger.error("The certificates stay as they were: %s", error)
        else:
            logger.info("The certificates were read again")


def certificates_of(config: Config) -> Certificates | None:
    """What these options name; None, if that is nothing: then nothing is encrypted.

    :raises StartupError: as `Certificates`
    """
    named = (config.ssl_certfile, config.ssl_keyfile, config.ssl_ca_certs)
    return Certificates(config) if any(named) or config.ssl_cert_reqs != "none" else None


def _read(config: Config) -> Identity:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])  # RFC 7301; who offers only others decides what to do without
    try:
        context.set_ciphers(config.ssl_ciphers)
    except ssl.SSLError as error:
        raise OptionError(f"ssl_ciphers {config.ssl_ciphers!r} is no list of OpenSSL's, or nothing of it is left here") from error
    certificate = _take_own(context, config)
    _take_trusted(context, config)
    return Identity(context, certificate, {cipher["name"]: cipher["id"] & 0xFFFF for cipher in context.get_ciphers()})


def _take_own(context: ssl.SSLContext, config: Config) -> str:
    """Have the server's certificate and key in the context; gives the certificate."""
    if config.ssl_certfile is None:
        raise OptionError("a key or other certificates are of no use without ssl_certfile, the server's own certificate")
    data = _contents(config.ssl_certfile, "ssl_certfile")
    found = _CERTIFICATE.search(data)
    if found is None:
        raise OptionError(f"ssl_certfile {config.ssl_certfile!r} has no certificate in it{_hint(data, 'x509')}")
    keyfile, called = config.ssl_keyfile or config.ssl_certfile, "ssl_certfile" if config.ssl_keyfile is None else "ssl_keyfile"
    if not _KEY.search(data := _contents(keyfile, called)):
        where = "; name its file as ssl_keyfile" if config.ssl_keyfile is None else _hint(data, "pkey")
        raise OptionError(f"{called} {keyfile!r} has no private key in it{where}")
    encrypted = False

    def password() -> str:
        nonlocal encrypted
        encrypted = True
        if not config.ssl_keyfile_password:
            raise OptionError(f"the key in {keyfile!r} is encrypted; give its password as ssl_keyfile_password")
        return config.ssl_keyfile_password

    try:
        context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile, password)
    except ssl.SSLError as error:
        if encrypted and error.reason != "KEY_VALUES_MISMATCH":
            raise OptionError(f"the key in {keyfile!r} can't be decrypted with this ssl_keyfile_password") from error
        files = f"ssl_certfile {config.ssl_certfile!r}" + ("" if config.ssl_keyfile is None else f" with ssl_keyfile {keyfile!r}")
        raise OptionError(f"{files} can't be used: {_ADVICE.get(error.reason or '') or words(error)}") from error
    return found[0].decode("ascii", "replace")


def _take_trusted(context: ssl.SSLContext, config: Config) -> None:
    """Have in the context who may sign clients' certificates, and whether clients must have any."""
    if config.ssl_cert_reqs == "none":
        if config.ssl_ca_certs is not None:
            raise OptionError("ssl_ca_certs is for clients' certificates; say with ssl_cert_reqs whether they are optional or required")
        return
    if config.ssl_ca_certs is None:
        raise OptionError(f"ssl_cert_reqs is {config.ssl_cert_reqs}, but nobody may sign a client's certificate; name who as ssl_ca_certs")
    data = _contents(config.ssl_ca_certs, "ssl_ca_certs")
    if not _CERTIFICATE.search(data):
        raise OptionError(f"ssl_ca_certs {config.ssl_ca_certs!r} has no certificate in it{_hint(data, 'x509')}")
    context.verify_mode = _DEMANDS[config.ssl_cert_reqs]
    try:
        context.load_verify_locations(config.ssl_ca_certs)
    except ssl.SSLError as error:
        raise OptionError(f"ssl_ca_certs {config.ssl_ca_certs!r} can't be used: {words(error)}") from error


def _contents(path: str, called: str) -> bytes:
    """A file's bytes: what OpenSSL says of one that it can't read doesn't tell which."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # the second: a NUL in the path
        raise OptionError(f"{called} {path!r} can't be read: {getattr(error, 'strerror', None) or error}") from error


def _hint(data: bytes, kind: str) -> str:
    """What to do about a file that isn't in PEM, if it is in DER, which begins so."""
    return f"; it is in DER, and PEM is wanted: openssl {kind} -inform DER -in FILE -out FILE.pem" if data[:1] == b"\x30" else ""


def words(error: ssl.SSLError) -> str:
    """OpenSSL's reason, as a log shows it."""
    reason = (error.reason or "an unknown reason").lower().replace("_", " ")
    return f"{reason} ({detail})" if (detail := getattr(error, "verify_message", "")) else reason
