"""What a supervisor and a worker say to each other, over a pair of stream sockets.

Down go two pickles, each behind its length: what the interpreter needs, and what the worker is to do, with the listening sockets beside it.
Up go words, one JSON array a line. What else comes up is what `faulthandler` writes of a worker that is killed or breaks.
"""

import errno
import json
import os
import pickle
import signal
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from microasgi_server.workers.job import Job

_LENGTH = struct.Struct("!I")
_MOST_SOCKETS = 250
"""Linux passes 253 descriptors with a message."""


TERMINAL = (signal.SIGINT, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGINT,)
"""What a terminal sends to all its processes: a worker is told by its supervisor instead, and has these held back until it can say so."""


class Word(Enum):
    """What a worker says. Behind it may be a text."""

    STARTED = "started"
    """It accepts connections."""
    BEAT = "beat"
    """Its loop turns."""
    WORN = "worn"
    """Another should take over, and why."""
    FAILED = "failed"
    """It can't serve, or its app's lifespan failed, and why."""


@dataclass(frozen=True)
class Surroundings:
    """What an interpreter needs before it can import anything of the app's.

    parent: the supervisor's process number.
    path, argv: as `sys` has them in the supervisor.
    modules: to be imported while there is nothing else to do.
    """

    parent: int
    path: list[str]
    argv: list[str]
    modules: list[str]


@dataclass(frozen=True)
class Assignment:
    """What one worker is to do.

    number: its own.
    job: what all do.
    listeners: how many of the sockets beside this are the app's; the others are for the metrics.
    """

    number: int
    job: Job
    listeners: int


def tell(channel: socket.socket, message: Surroundings | Assignment, sockets: Sequence[socket.socket] = ()) -> None:
    """Send it down.

    :raises OSError: the worker is gone
    """
    data = pickle.dumps(message)
    data = _LENGTH.pack(len(data)) + data
    sent = socket.send_fds(channel, [data], [sock.fileno() for sock in sockets]) if sockets else channel.send(data)
    if sent < len(data):
        channel.sendall(data[sent:])


def be_told(channel: socket.socket) -> tuple[Any, list[socket.socket]]:
    """The next message from above, and the sockets beside it. Waits.

    :raises EOFError: there is none: the supervisor is gone, or doesn't need this worker
    :raises OSError: this process may have no more descriptors, so that the sockets are lost
    """
    head, descriptors, flags, _ = socket.recv_fds(channel, _LENGTH.size, _MOST_SOCKETS)
    if flags & socket.MSG_CTRUNC:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    (length,) = _LENGTH.unpack(head + _exactly(channel, _LENGTH.size - len(head)))
    return pickle.loads(_exactly(channel, length)), [socket.socket(fileno=descriptor) for descriptor in descriptors]


def _exactly(channel: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        chunk = channel.recv(length - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def say(channel: socket.socket, word: Word, text: str = "") -> None:
    """Send it up, if there is room: a supervisor that is stopped must not stop its workers."""
    with suppress(OSError):  # it is full, or there is nobody any more, which ends this process in a moment
        channel.send(json.dumps([word.value, text]).encode() + b"\n", socket.MSG_DONTWAIT)


def understood(line: bytes) -> tuple[Word, str] | None:
    """What a line from below says; None, if it is no word."""
    try:
        word, text = json.loads(line)
        return Word(word), text
    except ValueError:
        return None
