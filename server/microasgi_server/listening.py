"""The listening sockets: bound before anything else starts, so that a port in use is the first thing said."""

import errno
import logging
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from microasgi_server.config import Config
from microasgi_server.errors import StartupError
from microasgi_server.inherited import inherited
from microasgi_server.places import Place, place
from microasgi_server.sealing import Bound


def places(config: Config) -> list[Place]:
    """What is to be bound, beside what is inherited."""
    found = [Place(path=config.uds)] if config.uds is not None else []
    found += [place(text) for text in config.bind]
    return found or ([] if config.fd else [Place(config.host.removeprefix("[").removesuffix("]"), config.port)])


logger = logging.getLogger("microasgi_server")


@contextmanager
def bound_sockets(config: Config) -> Iterator[list[socket.socket]]:
    """The sockets to listen on, closed at the end of the block.

    :raises StartupError: the address can't be had, with the reason
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(inherited(number)) for number in config.fd]
        for host, port, path in places(config):
            if path:
                sockets.append(stack.enter_context(_bind_unix(path, int(config.uds_permissions, 8))))
            else:
                sockets += [stack.enter_context(sock) for sock in _bind_tcp(host, port, config.reuse_port)]
        yield sockets


@contextmanager
def borrowed_sockets(sockets: Sequence[socket.socket]) -> Iterator[list[socket.socket]]:
    """The same, of sockets that are somebody else's: what is closed here is only a second handle of each."""
    with ExitStack() as stack:
        own = [stack.enter_context(sock.dup()) for sock in sockets]
        for sock in own:
            sock.setblocking(False)
        yield own


def describe(sockets: list[socket.socket], scheme: str) -> list[str]:
    """Where it is served: URLs, or `unix:` and a path."""
    urls = []
    for sock in sockets:
        name = sock.getsockname()
        if isinstance(name, bytes):  # one of Linux's abstract ones, as unix(7) has them
            urls.append(f"unix:@{name[1:].decode('utf-8', 'replace')}")
        elif isinstance(name, str):
            urls.append(f"unix:{name}")
        else:
            host = f"[{name[0]}]" if ":" in name[0] else name[0]
            urls.append(f"{scheme}://{host}:{name[1]}")
    return urls


def announce(sockets: list[socket.socket], scheme: str) -> list[str]:
    """The same, and the log says it, too."""
    urls = describe(sockets, scheme)
    for url in urls:
        logger.info("Serving on %s (Ctrl+C stops)", url)
    return urls


def send(sock: socket.socket, data: bytes) -> bytes:
    """Send what the system takes now, and return the rest.

    :raises OSError: the connection is broken
    """
    try:
        return data[sock.send(data) :]
    except (BlockingIOError, InterruptedError):
        return data


def client_of(remote: Any) -> tuple[str, int] | None:
    """The scope's `client`, from a socket's address (ASGI HTTP spec, HTTP Connection Scope); None for a unix socket's.

    On a socket for both kinds of addresses, as systemd's are, an IPv4 client's is shown as what it is (RFC 4291 §2.5.5.2).
    """
    if not isinstance(remote, tuple):
        return None
    return (remote[0].removeprefix("::ffff:") if "." in remote[0] else remote[0], remote[1])


def server_of(local: Any) -> tuple[str, int | None] | None:
    """The scope's `server`: an address and a port, or a unix socket's path and None."""
    return (local[0], local[1]) if isinstance(local, tuple) else (local, None) if isinstance(local, str) and local else None


def _bind_tcp(host: str, port: int, shared: bool) -> list[socket.socket]:
    """One socket for each address of `host`: a name such as localhost may have several. All get the same port.

    :param shared: whether other processes may listen there, too
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:  # the second: no name could look like this
        hint = "try 127.0.0.1, or 0.0.0.0 for every address"
        raise StartupError(f"can't listen on {host!r}: no such host ({getattr(error, 'strerror', None) or error}); {hint}") from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in dict.fromkeys(found):
            try:
                sock = Bound(family, kind, proto)
            except OSError:  # IPv6 has addresses on this machine, but no support
                continue
            sockets.append(sock)
            if os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                _share(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((address[0], port, *address[2:]))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                    sockets.pop().close()
                    continue
                raise StartupError(_explain(error, host, port)) from error
            port = sock.getsockname()[1]
            sock.setblocking(False)
    except BaseException:
        while sockets:
            sockets.pop().close()
        raise
    if not sockets:
        raise StartupError(f"can't listen on {host}:{port}: this machine has none of its addresses")
    return sockets


def _share(sock: socket.socket) -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        raise StartupError("can't share a port: this system has no SO_REUSEPORT; leave --reuse-port out")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _explain(error: OSError, host: str, port: int) -> str:
    where = f"can't listen on {host}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where}: the port is in use; stop the other program, or choose another port (0 picks a free one)"
        case errno.EACCES:
            return f"{where}: ports below 1024 need more rights; choose a higher one"
        case errno.EADDRNOTAVAIL:
            return f"{where}: this machine doesn't have that address; try 127.0.0.1, or 0.0.0.0 for every address"
        case _:
            return f"{where}: {error.strerror}"


@contextmanager
def _bind_unix(path: str, permissions: int) -> Iterator[socket.socket]:
    """A unix socket at `path`, which is removed at the end. One that nobody listens on any more is replaced.

    :param permissions: of its file. Who may write to it may connect
    """
    with Bound(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        _clear_stale(path)
        try:
            sock.bind(path)
            os.chmod(path, permissions)  # before it listens: nobody has connected yet
        except OSError as error:
            raise StartupError(f"can't listen on unix socket {path!r}: {error.strerror or error}") from error
        sock.setblocking(False)
        try:
            yield sock
        finally:
            sock.remove_file()


def _clear_stale(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartupError(f"can't listen on unix socket {path!r}: there is a file that is no socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError as error:
            raise StartupError(f"can't listen on unix socket {path!r}: {error.strerror}") from error
        else:
            raise StartupError(f"can't listen on unix socket {path!r}: another server listens there; stop it or choose another path")
