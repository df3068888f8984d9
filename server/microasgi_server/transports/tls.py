"""TLS, once for every loop: between a transport, which carries records, and a connection, which knows only what is in them.

              ciphertext                     plaintext
    transport ──received──► TLSTransport ──────received──► Connection
        ▲                   │ SSLObject │                      │
        └──────write────────┴───────────┴◄───────write─────────┘

To the transport below this is what it serves, and to the connection above it is a transport. OpenSSL works on memory alone
(`ssl.MemoryBIO`): nothing here waits. What `paused.py` reads of a socket to see more of it comes in below, as any other ciphertext does.

The end of a session (close_notify, RFC 8446 §6.1) is the client's departure, as a FIN is, whether one follows or not; a FIN alone is a
departure, too. Where reading is paused, a FIN is still seen, but a close_notify without one is data, and waits behind what nobody reads.
"""

import ssl
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Protocol

from microasgi_server import logs
from microasgi_server.certificates import Identity, words
from microasgi_server.presence import CLIENT_CLOSED_REQUEST
from microasgi_server.transports import Served, Transport
from microasgi_server.transports.tls_session import session

RECORD = 16 * 1024
"""Bytes of plaintext in a record at most (RFC 8446 §5.1)."""

FED = 32 * 1024
"""Bytes of ciphertext to hand to OpenSSL at once: as long as the connection lasts, it keeps the memory that they took."""

SEALED = 72 * 1024
"""Bytes of plaintext to hand to it at once: the 64 KiB that apps like to send, with what frames them. To seal them in two calls and join
what comes of that takes twice the time."""

HANDSHAKE_RECORD = 0x16
"""The first byte of whoever speaks TLS (RFC 8446 §5.1)."""

BACKLOG = 16 * 1024
"""Bytes of OpenSSL's answers (to key updates, above all) for a client that takes nothing: who asks for more wants our memory."""

_REASONS = {
    "TLSV1_ALERT_UNKNOWN_CA": "the client doesn't trust the server's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client doesn't trust the server's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client doesn't trust the server's certificate",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client has shown no certificate",
    "UNSUPPORTED_PROTOCOL": "the client speaks no version from TLS 1.2 on",
    "VERSION_TOO_LOW": "the client speaks no version from TLS 1.2 on",
    "NO_SHARED_CIPHER": "the client knows none of the server's ciphers",
    "WRONG_VERSION_NUMBER": "what came is no TLS, or an old one",
}
"""What OpenSSL calls the usual reasons for which there is no session, in words."""


class State(Enum):
    """How far a session is."""

    NEW = auto()
    """Nothing has come: whether it will be TLS isn't known."""
    HANDSHAKE = auto()
    """The two sides agree on keys."""
    OPEN = auto()
    """Records go both ways."""
    PLAIN = auto()
    """What came is no TLS: what is said to that isn't encrypted, either."""
    ENDED = auto()
    """Our side has said its last word."""


NEW, HANDSHAKE, OPEN, PLAIN, ENDED = State  # as in http1/phases.py


class Secured(Served, Protocol):
    """What is needed of a connection over TLS, beside what any transport needs."""

    def shut(self, why: str = ...) -> bool:
        """See `Served`; with what the log is to say of it."""
        ...

    def before(self, data: bytes) -> bytes:
        """What a proxy may say comes before TLS: give what is behind that, or nothing, if there is more of it to come."""
        ...

    def secured(self) -> None:
        """The handshake is over: a request may come."""

    def refuse_plaintext(self) -> None:
        """The client doesn't speak TLS. It can be told so: what is written now isn't encrypted."""


class TLSTransport:
    """`transports.Transport` over another.

    tls: the session as apps see it (ASGI TLS extension), once there is one.
    """

    __slots__ = (
        "_answered",
        "_below",
        "_feeding",
        "_identity",
        "_incoming",
        "_object",
        "_outgoing",
        "_state",
        "client",
        "connection",
        "paused",
        "server",
        "spawn",
        "tls",
    )

    def __init__(self, identity: Identity, below: Transport, connection_class: Callable[[Transport], Secured]) -> None:
        self._below = below
        self._identity = identity
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = identity.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._state = NEW
        self._answered = 0  # bytes of OpenSSL's own while the client takes nothing
        self._feeding = False  # whether `received` is at work: until it is done, nothing more may come from below
        self.tls: dict[str, Any] = {}
        self.paused = False
        self.client = below.client
        self.server = below.server
        self.spawn = below.spawn
        self.connection = connection_class(self)

    def __repr__(self) -> str:
        return f"<TLSTransport {self._state.name} over {self._below!r}>"

    # The transport below calls these.

    def received(self, data: bytes) -> None:
        if self._state is not OPEN and not (data := self._first(data)):
            return
        self._feeding = True
        if len(data) <= FED:
            self._feed(data)
        else:
            for start in range(0, len(data), FED):
                self._feed(data[start : start + FED])
        self._feeding = False
        if self.paused:
            self._below.pause_reading()

    def _first(self, data: bytes) -> bytes:
        """What of this is for OpenSSL, while there is no session, or none any more."""
        if self._state is NEW:
            data = self.connection.before(data)
            if not data or self._state is ENDED:
                return b""
            self._state = HANDSHAKE if data[0] == HANDSHAKE_RECORD else PLAIN
            if self._state is PLAIN:
                self.connection.refuse_plaintext()
        return data if self._state is HANDSHAKE else b""

    def shut(self) -> bool:
        return self.connection.shut()

    def hang_up(self, why: str, status: int = CLIENT_CLOSED_REQUEST) -> None:
        self.connection.hang_up(why, status)

    def drained(self) -> None:
        self.connection.drained()

    def lost(self, why: str) -> None:
        self._state = ENDED
        self.connection.lost(why)
        del self.connection  # the two hold each other

    # What goes on in between.

    def _shake_hands(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._answer()
        except ssl.SSLError as error:
            reason = _REASONS.get(error.reason or "") or words(error)
            logs.no_session(self.client, reason)
            self._break(f"there is no TLS session: {reason}")
        else:
            self._state = OPEN
            self._answer()
            self.tls = session(self._object, self._identity)
            self.connection.secured()

    def _feed(self, data: bytes) -> None:
        """Hand on what has come, as a whole even where reading is paused: without TLS one read is handed on so, too."""
        incoming, read = self._incoming, self._object.read
        incoming.write(data)
        if self._state is HANDSHAKE:
            self._shake_hands()
        while incoming.pending and self._state is OPEN:
            try:
                data = read(RECORD)
            except ssl.SSLWantReadError:
                break  # the rest of a record has yet to come, or what came was for OpenSSL itself
            except ssl.SSLError as error:
                self._break(f"the TLS session broke: {words(error)}")
                return
            if not data:
                if self.connection.shut("the client ended the TLS session (close_notify)"):
                    self.pause_reading()  # as behind a FIN
                return
            self.connection.received(data)
        if self._outgoing.pending:
            self._answer()

    def _answer(self) -> None:
        """Send what OpenSSL has to say by itself."""
        data = self._outgoing.read()
        if not data or self._state is ENDED:
            return
        self._answered = self._answered + len(data) if self.congested else 0
        if self._answered > BACKLOG:
            self.connection.hang_up("the client takes none of the answers to its TLS messages")
            self.abort()
        else:
            self._below.write(data)

    def _break(self, why: str) -> None:
        """The session is over, and what OpenSSL had to say of that is still to be sent: an alert."""
        self._answer()
        self._state = ENDED
        self.connection.hang_up(why)

    def _say_goodbye(self) -> None:
        """Nothing more is written: say so, so that nobody takes what came before for less than all (RFC 8446 §6.1)."""
        state, self._state, self.paused = self._state, ENDED, False
        if state is OPEN:
            with suppress(ssl.SSLError):  # it would wait for the client's goodbye, or what came last is none
                self._object.unwrap()
            self._below.write(self._outgoing.read())

    # The connection calls these.

    @property
    def congested(self) -> bool:
        """See `Transport`."""
        return self._below.congested

    def write(self, data: bytes) -> None:
        if self._state is OPEN and data:
            try:
                if len(data) <= SEALED:
                    self._object.write(data)
                    self._below.write(self._outgoing.read())
                else:
                    self._below.write(self._sealed(data))
            except ssl.SSLError as error:
                self._break(f"the TLS session broke: {words(error)}")
        elif self._state is PLAIN or self._state is NEW:
            self._below.write(data)

    def _sealed(self, data: bytes) -> bytes:
        """The records for more bytes than are sealed at once."""
        records = []
        with memoryview(data) as view:
            for start in range(0, len(data), SEALED):
                self._object.write(view[start : start + SEALED])
                records.append(self._outgoing.read())
        return b"".join(records)

    def pause_reading(self) -> None:
        self.paused = True
        if not self._feeding:
            self._below.pause_reading()

    def resume_reading(self) -> None:
        if self.paused:
            self.paused = False
            self._below.resume_reading()

    def unsent(self) -> int:
        return self._below.unsent()

    def untaken(self) -> int:
        return self._below.untaken()

    def shut_write(self) -> None:
        self._say_goodbye()
        self._below.shut_write()

    def close(self) -> None:
        self._say_goodbye()
        self._below.close()

    def abort(self) -> None:
        self._state = ENDED
        self._below.abort()
