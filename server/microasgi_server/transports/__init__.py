"""Where bytes come from and go to, one module for each kind of loop; and here, what a connection needs of any of them.

`asyncio`: asyncio and uvloop, whose loops call. `sockets` (with `tasks`): trio. `paused`: sees departures on sockets that aren't read.
`peers`: what the system knows of the other side. `tls` (with `tls_session`): encrypts what another of them carries.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from microasgi_server.presence import CLIENT_CLOSED_REQUEST


class Cancellable(Protocol):
    """Something that runs and can be told to stop: an asyncio task, an anyio scope."""

    def cancel(self) -> object: ...


class Served(Protocol):
    """What a transport needs of a connection: to tell it what happens."""

    def received(self, data: bytes) -> None:
        """Bytes came."""

    def shut(self) -> bool:
        """The client has shut its sending side. True if it is still to be served."""
        ...

    def hang_up(self, why: str, status: int = CLIENT_CLOSED_REQUEST) -> None:
        """The socket broke, or the server stops: whatever runs for this client is to end now. `status` is for the log."""

    def drained(self) -> None:
        """`congested` has ended."""

    def lost(self, why: str) -> None:
        """The socket is closed."""


class Transport(Protocol):
    """What a connection needs of a socket. Nothing here blocks; the transport reports by calling the connection.

    client, server: the two addresses, as the ASGI scope wants them; None where there is none, as on a unix socket.
    congested: whether the client takes less than is written; the transport calls `Connection.drained` when it ends.
    paused: whether reading is paused.
    """

    client: tuple[str, int] | None
    paused: bool

    @property
    def congested(self) -> bool: ...

    @property
    def server(self) -> tuple[str, int | None] | None: ...

    def write(self, data: bytes) -> None:
        """Send, sooner or later; what the socket doesn't take now is kept. May find the client gone, and call `hang_up` at once."""

    def pause_reading(self) -> None:
        """Read no more, but go on watching for the client's departure where the system can. Idempotent."""

    def resume_reading(self) -> None:
        """Read again. Idempotent."""

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]], *, at_once: bool) -> Cancellable:
        """Run it in a task of its own, in a fresh context. The caller keeps what this returns until `run` has ended.

        It begins in the next turn of the loop; or `at_once`, before this returns, where the loop can do that, which costs less.

        Raises what the loop raises if it makes no task; then `run` was not called.
        """
        ...

    def unsent(self) -> int:
        """Bytes written that the system has not taken yet."""
        ...

    def untaken(self) -> int:
        """Bytes written that the client's system has not acknowledged yet; where ours doesn't tell, as `unsent`."""
        ...

    def shut_write(self) -> None:
        """Send what is written, then FIN; go on reading."""

    def close(self) -> None:
        """Send what is written, then close."""

    def abort(self) -> None:
        """Close now, whatever is unsent."""
