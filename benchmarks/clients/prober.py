"""A prober: asks for `/` every two milliseconds, on one kept connection, until it is told to stop.

A response time is counted from the moment at which the request was due, not from when it could be sent: while a server stands still,
requests fall due, and each of them is late. (Else a standstill of a second would be a single slow request among hundreds of fast ones.)

Run as `python -m benchmarks.clients.prober PORT`; see `remote` for how it is told: probe, and later anything to stop it.
"""

import select
import socket
import sys
import time

from benchmarks.clients.connections import PATIENCE, connect
from benchmarks.clients.messages import REQUEST, is_whole
from benchmarks.clients.remote import obey
from benchmarks.errors import BenchmarkError

INTERVAL = 0.002
"""Seconds from one request to the next: a tenth of what the slowest server here can do."""

Probe = tuple[float, float, float]
"""When it was due and when it was answered, by time.monotonic(); and how many seconds too late the prober itself was."""


def probe(port: int) -> list[Probe]:
    """Ask until stdin says something. The first answer, on the new connection, isn't counted."""
    sock = _asked(port, None)
    probes: list[Probe] = []
    answered = due = time.monotonic()
    while True:
        due += INTERVAL
        stopped, _, _ = select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))
        if stopped:
            sys.stdin.readline()
            sock.close()
            return probes
        lag = time.monotonic() - max(due, answered)
        try:
            sock = _asked(port, sock)
        except TimeoutError:
            raise BenchmarkError(f"the server has not answered for {PATIENCE:.0f} s") from None
        answered = time.monotonic()
        probes.append((round(due, 6), round(answered, 6), round(lag, 6)))


def _asked(port: int, sock: socket.socket | None) -> socket.socket:
    """Ask once, and get the answer.

    :returns: the connection; another one, if the server has closed this one: hypercorn does, after a thousand requests
    :raises BenchmarkError: it is no complete 200
    """
    received = bytearray()
    if sock is not None:
        try:
            sock.sendall(REQUEST)
            received += sock.recv(65536)
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed while we were asking
        if not received:
            sock.close()
            sock = None
    if sock is None:
        sock = connect(port)
        sock.sendall(REQUEST)
    while not is_whole(received):
        data = sock.recv(65536)
        if not data:
            raise BenchmarkError("the server closed a connection instead of answering")
        received += data
    return sock


if __name__ == "__main__":
    obey({"probe": lambda: probe(int(sys.argv[1]))})
