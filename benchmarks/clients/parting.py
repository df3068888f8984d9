"""Clients that leave their WebSockets: four handlers, and four ways to leave each.

They connect, and wait until every handler has begun and those that are flooded with messages are full. None of them reads, nor answers a
ping. Then they leave, one after the other; when its handler has ended says its note, as in `leaving`.
"""

import socket
import time
from contextlib import ExitStack, suppress
from functools import partial

from benchmarks.clients.connections import connect, reset_at_close
from benchmarks.clients.frames import GOING_AWAY, ask_for_upgrade, goodbye, take_upgrade
from benchmarks.clients.leaving import AFTERWARDS, GAP, POLL, Sample, outcome, until_ended
from benchmarks.errors import BenchmarkError
from benchmarks.running import notes

HANDLERS = {
    "receives": "/receives",
    "sleeps": "/sleeps",
    "sends to a full client": "/floods",
    "sends now and then": "/pushes",
}
"""What a handler does, and its route."""

GOODBYE, FIN, RST, SILENCE = "goodbye", "FIN", "RST", "silence"
WAYS = (GOODBYE, FIN, RST, SILENCE)
"""To leave: with a close frame; with FIN or RST, and without one; by saying nothing any more, as when the link is cut."""

FILLING = 0.2
"""Seconds in which a flood fills all buffers."""


def part(port: int, clients: int, seconds: float, patience: float) -> dict[str, dict[str, list[Sample]]]:
    """What becomes of the handlers, which would take so many seconds, of so many clients for each handler and way: {handler: {way: …}}.

    patience: seconds that clients wait for all the handlers to begin. If one hasn't by then, its client leaves all the same.

    :raises OSError, http.client.HTTPException, BenchmarkError: the server doesn't answer
    """
    cases = [(handler, way, number) for number in range(clients) for handler in HANDLERS for way in WAYS]
    with ExitStack() as stack:
        guests: dict[str, socket.socket] = {}
        for number, (handler, _, _) in enumerate(cases):
            sock = stack.enter_context(connect(port))
            ask_for_upgrade(sock, f"{HANDLERS[handler]}?token={number}&seconds={seconds}")
            with suppress(BenchmarkError):  # then its handler doesn't begin
                take_upgrade(sock)
            guests[str(number)] = sock
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and not notes(port)["notes"].keys() >= guests.keys():
            time.sleep(POLL)
        time.sleep(FILLING)
        left = {token: _leave(guests[token], way) for token, (_, way, _) in zip(guests, cases, strict=True)}
        found = until_ended(partial(notes, port), time.monotonic() + seconds + AFTERWARDS)
        looked = time.monotonic()
    samples: dict[str, dict[str, list[Sample]]] = {handler: {way: [] for way in WAYS} for handler in HANDLERS}
    for token, (handler, way, _) in zip(guests, cases, strict=True):
        samples[handler][way].append(outcome(found.get(token), left[token], looked))
    return samples


def _leave(sock: socket.socket, way: str) -> float:
    """When, by time.monotonic(). What is unread stays so: a full client is one that doesn't read."""
    left = time.monotonic()
    with suppress(OSError):  # the server has already closed
        if way == GOODBYE:
            sock.sendall(goodbye(GOING_AWAY))
        elif way == FIN:
            sock.shutdown(socket.SHUT_WR)  # closed with something unread, it would send RST
        elif way == RST:
            reset_at_close(sock)
            sock.close()
    time.sleep(GAP)
    return left
