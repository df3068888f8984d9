"""The opening handshake (RFC 6455 §4.2): what a request must say to be one, and what the answer to it says."""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import sha1

from microasgi_server.asgi import Scope
from microasgi_server.errors import AppError, Refusal
from microasgi_server.http1.fields import TOKEN, Field, options, validated_field
from microasgi_server.http1.request_head import Head

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_VERSION = b"13"
UPGRADE_REQUIRED = 426

_OURS = frozenset([b"upgrade", b"connection", b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-protocol"])
"""Fields of the answer that an app has no say in, but for the protocol, which has a place of its own."""

_TOKEN = re.compile(TOKEN).fullmatch


class Handshake:
    """A request that asks for a WebSocket, as it should.

    subprotocols: what the client would speak, in its order of preference.
    extensions: what it says of extensions.
    """

    def __init__(self, key: bytes, subprotocols: list[str], extensions: str) -> None:
        self.subprotocols = subprotocols
        self.extensions = extensions
        self._key = key

    def scope(self, scope: Scope) -> Scope:
        """The request's scope as a WebSocket's, but for its extensions (ASGI WebSocket spec, Connection Scope)."""
        del scope["method"]
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = list(self.subprotocols)
        return scope

    def answer(self, subprotocol: object, extensions: str, headers: Iterable[tuple[bytes, bytes]], identity: list[Field]) -> bytes:
        """The head of the 101 (RFC 6455 §4.2.2).

        :param extensions: what was agreed on, as a field's value
        :raises AppError: the app has chosen what the client didn't offer, or has a field that isn't its to set
        :raises ValueError: a field is malformed
        """
        fields = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", b64encode(sha1(self._key + _GUID, usedforsecurity=False).digest())),
        ]
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                raise AppError(f"the subprotocol is one of those that the client offers, {self.subprotocols}, or None, not {subprotocol!r}")
            fields.append((b"sec-websocket-protocol", str(subprotocol).encode()))
        if extensions:
            fields.append((b"sec-websocket-extensions", extensions.encode()))
        own = [validated_field(name, value) for name, value in headers]
        for name, _, _ in own:
            if name in _OURS:
                raise AppError(f"the field {name.decode()} is the server's to set; a subprotocol goes into the message's `subprotocol`")
        taken = {name for name, _, _ in own}
        lines = [*(validated_field(*field) for field in fields), *own, *(field for field in identity if field[0] not in taken)]
        return b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % b"".join([line for _, _, line in lines])


def read_handshake(head: Head) -> Handshake | None:
    """What a request asks for; None if that is no WebSocket, or if the request can't ask for one: then it is an ordinary one.

    :raises Refusal: 426 for another version than 13, and 400 for a malformed handshake
    """
    if not head.upgrades or b"websocket" not in options(head.fields, b"upgrade") or head.method != b"GET" or head.length != 0:
        return None
    versions, keys = _values(head, b"sec-websocket-version"), _values(head, b"sec-websocket-key")
    if versions != [_VERSION]:
        raise Refusal(UPGRADE_REQUIRED, "this server speaks version 13 of the WebSocket protocol (RFC 6455 §4.2.2)")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise Refusal(400, "a WebSocket's handshake has one Sec-WebSocket-Key, of 16 bytes in Base64 (RFC 6455 §4.1)")
    offered = [name.strip() for value in _values(head, b"sec-websocket-protocol") for name in value.split(b",")]
    if not all(map(_TOKEN, offered)) or len(set(offered)) < len(offered):
        raise Refusal(400, "a Sec-WebSocket-Protocol lists names, each once (RFC 6455 §4.1)")
    extensions = b", ".join(_values(head, b"sec-websocket-extensions")).decode("latin-1")
    return Handshake(keys[0], [name.decode() for name in offered], extensions)


def version_required(identity: list[Field], reason: str) -> bytes:
    """The answer to a handshake of another version (RFC 6455 §4.4, RFC 9110 §15.5.22)."""
    text = reason.encode() + b"\n"
    fields = [
        (b"upgrade", b"websocket"),
        (b"connection", b"upgrade, close"),
        (b"sec-websocket-version", _VERSION),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(text)),
    ]
    lines = [*(validated_field(*field) for field in fields), *identity]
    return b"HTTP/1.1 426 Upgrade Required\r\n%b\r\n%b" % (b"".join([line for _, _, line in lines]), text)


def _values(head: Head, name: bytes) -> list[bytes]:
    return [value for own, value in head.fields if own == name]


def _is_key(value: bytes) -> bool:
    try:
        return len(b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False
