"""How a service tells systemd, or whoever else has started it, how far it is: sd_notify(3).

`NOTIFY_SOCKET` names a datagram socket of theirs. Without it nothing is told.
"""

import logging
import os
import socket
import time
from collections.abc import Sequence

logger = logging.getLogger("microasgi_server")


def ready(addresses: Sequence[str]) -> None:
    """The server accepts, at these addresses: what waits for it may go on. Also, it has done what `reloading` has begun."""
    tell("READY=1", f"STATUS=Serving on {', '.join(addresses)}")


def reloading() -> None:
    """SIGHUP has come, and what follows from it begins. systemd's `Type=notify-reload` waits for that, and then for `ready`."""
    tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """No more connections are accepted; those that are open finish."""
    tell("STOPPING=1", "STATUS=Finishing the requests that run")


def tell(*assignments: str) -> None:
    """Send these, each of them `NAME=VALUE`. That it fails is logged, and no reason to stop serving."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]  # Linux's abstract sockets, as unix(7) has them
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(path)
            sock.send("\n".join(assignments).encode())
    except OSError as error:
        logger.warning("The socket in NOTIFY_SOCKET can't be told %s: %s", assignments[0], error.strerror)
