"""Sockets that another process has bound, and that this one has from it: by their numbers, or as systemd hands them over.

systemd (sd_listen_fds(3)) counts from 3 on, and says for which process they are: `LISTEN_PID=4711 LISTEN_FDS=2`.
"""

import os
import socket
from collections.abc import Mapping, Sequence

from microasgi_server.errors import StartupError

FIRST = 3
"""The number of systemd's first one: those before are stdin, stdout and stderr."""


def handed_over(environment: Mapping[str, str], process: int) -> Sequence[int]:
    """The numbers of the sockets that systemd has bound for this process: none, if it has not.

    :param process: this one's id; what is said for another one, as for a shell that has started this, doesn't count
    """
    count, owner = environment.get("LISTEN_FDS", ""), environment.get("LISTEN_PID", "")
    if owner != str(process) or not (count.isascii() and count.isdecimal()):
        return ()
    return range(FIRST, FIRST + int(count))


def inherited(number: int) -> socket.socket:
    """A handle of its own for the socket with this number, which itself stays open.

    :raises StartupError: there is none to listen on
    """
    where = f"can't listen on fd {number}"
    try:
        own = os.dup(number)
    except OSError as error:
        raise StartupError(f"{where}: nothing is open there; whoever starts the server has to hand a socket over") from error
    try:
        sock = socket.socket(fileno=own)
    except OSError as error:
        os.close(own)
        raise StartupError(f"{where}: it is open, but no socket") from error
    try:
        _demand_listener(sock, where)
    except BaseException:
        sock.close()
        raise
    os.set_inheritable(number, False)  # the app's child processes have no business with it
    sock.setblocking(False)
    return sock


def _demand_listener(sock: socket.socket, where: str) -> None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        raise StartupError(f"{where}: it is neither for TCP nor a unix socket")
    if sock.type != socket.SOCK_STREAM:
        raise StartupError(f"{where}: it is no stream socket; in a systemd unit, ListenStream= makes one")
    try:
        sock.getpeername()
    except OSError:
        return
    raise StartupError(f"{where}: it is one client's connection; in a systemd socket unit, write Accept=no")
