"""The servers of this process in numbers."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from microasgi_server.asgi import ASGIApp
from microasgi_server.running import RunningServer

CLASSES = {first: f"{first}xx" for first in range(1, 6)}
"""The classes of statuses (RFC 9110 §15), by their first digit."""

OTHER = "other"
"""Statuses that HTTP doesn't have."""

_running: list[RunningServer] = []


@dataclass(frozen=True)
class Stats:
    """A snapshot. What is counted is counted from the start of each server; of one that has ended nothing is left.

    connections: open now.
    in_flight: calls of the app that run now, those included that still run for the background behind their response.
    responses: complete responses, by the class of their status: `1xx` to `5xx`, and `other`.
    departures: requests whose client left before that, by how: `FIN`, `RST`, `close_notify`, and of a WebSocket its close code, `1000` for
        example, or `3xxx` and `4xxx` for those that are the client's choice.
    interrupted: requests that ended before that for another reason: the server stopped, the app failed in the middle of its response, the
        rest of the request's body could not be served.
    cancelled: of the departures and interruptions, those in which something was told to stop: a handler, in most cases.
    cancelled_seconds: the seconds from the beginning of each of those to its end, its cleanup included. How many they would have taken
        otherwise, nobody knows. Where whole requests of the kind take `d` seconds, some `cancelled * d - cancelled_seconds` were saved.
    refused: what wasn't served, by status and reason, as in `{(400, "a request has one Host"): 3}`.
    """

    connections: int
    in_flight: int
    responses: Mapping[str, int]
    departures: Mapping[str, int]
    interrupted: int
    cancelled: int
    cancelled_seconds: float
    refused: Mapping[tuple[int, str], int]


def stats(app: ASGIApp | None = None) -> Stats:
    """The numbers of every server that runs in this process, or of those that serve `app`. May be called from any thread.

    A process knows its own alone: where several serve, each has numbers of its own.
    """
    servers = [running for running in list(_running) if app is None or running.app is app]
    journals = [running.journal for running in servers]
    responses = dict.fromkeys([*CLASSES.values(), OTHER], 0)
    departures: Counter[str] = Counter()
    refused: Counter[tuple[int, str]] = Counter()
    for journal in journals:
        for status, count in journal.statuses.copy().items():
            responses[CLASSES.get(status // 100, OTHER)] += count
        departures.update(journal.departures.copy())
        refused.update(journal.refusals.copy())
    return Stats(
        connections=sum(len(running.connections) for running in servers),
        in_flight=sum(len(running.calls) for running in servers),
        responses=responses,
        departures=dict(departures),
        interrupted=sum(journal.interrupted for journal in journals),
        cancelled=sum(journal.cancelled for journal in journals),
        cancelled_seconds=sum(journal.cancelled_seconds for journal in journals),
        refused=dict(refused),
    )


@contextmanager
def registered(running: RunningServer) -> Iterator[RunningServer]:
    """A server, whose numbers count as long as the block lasts."""
    _running.append(running)
    try:
        yield running
    finally:
        _running.remove(running)
