"""What the shell needs of an exchange, whatever its protocol: one request, and what the app and the client have to say to each other.

An exchange decides, and neither waits nor writes: its functions return the bytes to write. `http1.exchange` is one.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Protocol

from microasgi_server.asgi import Message, Scope
from microasgi_server.http1.fields import Field
from microasgi_server.http1.limits import Limits

Address = tuple[str, int] | None


class Next(Enum):
    """What a connection does once an exchange is complete."""

    __hash__ = object.__hash__  # as http1.phases.Phase's

    REQUEST = auto()
    """The next request was here already: it is the protocol's `exchange` now."""
    IDLE = auto()
    """Wait for one."""
    MID_HEAD = auto()
    """Wait for the rest of its head: some of it is here."""
    DRAIN = auto()
    """Read on: the request's body has not all arrived, and the app no longer wants it."""
    LINGER = auto()
    """Close, but the client may still be sending: it must be able to read the response first."""
    CLOSE = auto()
    """Close."""


class Exchange(Protocol):
    """One request and what comes of it, beside what `Presence` knows of its client."""

    gone: bool
    complete: bool
    status: int
    why_gone: str
    cancelled: bool
    told: bool
    parted: bool
    sending: bool
    faults: Sequence[Exception]
    closing: bool
    stopping: bool
    body_complete: bool
    received: int

    @property
    def line(self) -> str:
        """The request as a log shows it: `GET /a?b HTTP/1.1`. Nothing in it needs escaping."""
        ...

    @property
    def whole(self) -> bool:
        """Whether the request has arrived to its end."""
        ...

    @property
    def uploads(self) -> bool:
        """See `Presence.uploads`."""
        ...

    @property
    def left(self) -> bool:
        """See `Presence.left`."""
        ...

    @property
    def handed_over(self) -> bool:
        """See `Presence.handed_over`."""
        ...

    @property
    def over(self) -> bool:
        """See `Presence.over`."""
        ...

    @property
    def converses(self) -> bool:
        """See `Presence.converses`."""
        ...

    @property
    def close_code(self) -> int:
        """See `Presence.close_code`."""
        ...

    @property
    def attended(self) -> bool:
        """See `Presence.attended`."""
        ...

    def scope(self, client: Address, server: tuple[str, int | None] | None, root_path: str, state: dict[str, Any]) -> Scope:
        """The ASGI scope to call the app with."""
        ...

    def take(self) -> Message | None:
        """The next message for the app, or None: there is none yet.

        :raises Refusal: what has come can't be served
        """
        ...

    def replies(self) -> bytes:
        """What has arrived and wants an answer, whatever the app does, gets it with these bytes: a ping, a goodbye. That may complete it.

        Asked for while the client takes what is written. What waits until then must count as look-ahead: it is the client's own fault.
        """
        ...

    def asked(self) -> bytes:
        """The app waits for a message: what the client is to hear of that, if anything."""
        ...

    def send(self, message: Message) -> bytes:
        """Turn one of the app's messages into the bytes to write now: often none. Once the client has left there are none.

        :raises AppError: the message is malformed, or doesn't belong here, as behind the end; nothing of it is on the wire
        """
        ...

    def fail(self) -> bytes | None:
        """The app has ended too early: the bytes that complete the exchange nevertheless, or None where only closing is left."""
        ...

    def ends(self) -> bool:
        """See `Presence.ends`."""
        ...

    def yields(self) -> bool:
        """See `Presence.yields`."""
        ...

    def ping(self) -> bytes:
        """See `Presence.ping`."""
        ...

    def give_up(self, why: str) -> bytes:
        """See `Presence.give_up`."""
        ...

    def leave(self, why: str, status: int) -> bool:
        """See `Presence.leave`."""
        ...

    def shut_down(self) -> list[Exception]:
        """See `Presence.shut_down`."""
        ...


class Spoken(Protocol):
    """What the shell needs of a protocol: bytes in, one exchange at a time out. `http1.protocol` is one; an upgrade is a subclass's."""

    def __init__(self, identity: Callable[[], list[Field]], limits: Limits) -> None: ...

    @property
    def exchange(self) -> Exchange | None:
        """The newest one, or None while there is none in progress."""
        ...

    @property
    def mid_head(self) -> bool:
        """Whether the next one's first bytes are here, but not enough to begin it."""
        ...

    @property
    def look_ahead(self) -> int:
        """Bytes that have arrived and that nobody has asked for yet."""
        ...

    def receive_bytes(self, data: bytes) -> bool:
        """Take what the socket gave. True if that began a new `exchange`.

        :raises Refusal: this can't be served
        """
        ...

    def after_response(self) -> Next:
        """Decide what follows an exchange that is complete. May be asked again as more arrives.

        :raises Refusal: the next one was here already, and can't be served
        """
        ...

    def refuse(self, status: int, reason: str) -> bytes:
        """The last words to a client that won't be served, if any can be said."""
        ...
