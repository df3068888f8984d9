"""The built-in load generator, for where wrk isn't: `python -m benchmarks.clients.generator PORT CONNECTIONS SECONDS < REQUEST`.

A process of its own, so that it takes the server's time no more than wrk would.
"""

import json
import selectors
import socket
import sys
import time
from contextlib import ExitStack, suppress

from benchmarks.clients.connections import connect
from benchmarks.clients.messages import is_whole
from benchmarks.errors import BenchmarkError


def generate(port: int, connections: int, seconds: float, request: bytes) -> dict[str, float]:
    """Ask for so long, and report as wrk.lua does.

    :raises BenchmarkError: a response isn't a 200, or ends too early
    """
    answered = size_of_all = 0
    with selectors.DefaultSelector() as selector, ExitStack() as stack:

        def ask_on_new_connection() -> None:
            sock = stack.enter_context(connect(port))
            selector.register(sock, selectors.EVENT_READ, bytearray())
            sock.sendall(request)

        began = time.monotonic()
        for _ in range(connections):
            ask_on_new_connection()
        while (took := time.monotonic() - began) < seconds:
            for key, _ in selector.select(0.1):
                sock: socket.socket = key.fileobj  # type: ignore[assignment]
                data: bytearray = key.data
                if not data and _is_closed(sock):  # between two responses it may: hypercorn does, after a thousand
                    selector.unregister(sock)
                    sock.close()
                    ask_on_new_connection()
                    continue
                data += _received(sock)
                if is_whole(data):
                    answered += 1
                    size_of_all += len(data)
                    data.clear()
                    with suppress(BrokenPipeError, ConnectionResetError):  # seen when it is read
                        sock.sendall(request)
    return {"requests": answered, "seconds": took, "received": size_of_all, "refused": 0, "broken": 0}


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise BenchmarkError("the server closed a connection in the middle of a response")
    return data


def _is_closed(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except ConnectionResetError:
        return True


if __name__ == "__main__":
    try:
        print(json.dumps(generate(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.stdin.buffer.read())))
    except BenchmarkError as error:
        raise SystemExit(str(error)) from None
