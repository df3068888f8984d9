"""Clients with human patience, as a process of its own: `python -m benchmarks.clients.patience < PLAN > OUTCOMES`, both JSON.

Each client comes at its time, whatever became of the others (an open loop), asks once on a connection of its own, and leaves by
closing it when its patience ends. Some ask a second time then, with a fresh patience.

    its time --> ASKING --whole answer--> ANSWERED
                   |------its patience ends--> LEFT --> (its second visit, if it has one)
                   `------anything else------> FAILED

One thread, one epoll, one heap of times: what falls due is a client that comes or one that leaves. How late it was itself is part of
the outcome: a crowd that doesn't keep its times would be measuring itself.
"""

import gc
import heapq
import json
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from benchmarks.clients.messages import head
from benchmarks.errors import BenchmarkError
from benchmarks.running import ROOT

ANSWER = b"done"
"""What the body says, in plain text or in JSON."""

PATIENCE = (0.2, 0.8)
"""Seconds, uniform."""

SOON = 0.5
"""Seconds from the process's first look at its clock to its time zero: enough to get ready."""


class Phase(StrEnum):
    """What has become of a visit."""

    ASKING = "asking"
    ANSWERED = "answered"
    LEFT = "left"
    FAILED = "failed"


class Arrival(NamedTuple):
    """A client to come: at how many seconds, and how many it waits each time that it asks."""

    at: float
    patiences: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """What the clients shall do: the same arrivals for every server.

    ports: of the servers, on 127.0.0.1.
    path: what is asked for; `?token=CLIENT.VISIT` is added.
    stagger: seconds by which each server's time zero is later than that of the one before.
    """

    ports: Sequence[int]
    path: str
    stagger: float
    arrivals: Sequence[Arrival]


class Outcome(NamedTuple):
    """One visit: when it was due, when it really began, and when it was over, in `time.monotonic()`.

    server: its place among the plan's ports.
    """

    server: int
    token: str
    due: float
    began: float
    ended: float
    phase: str


@dataclass(frozen=True)
class Outcomes:
    """What came of a plan.

    zero: each server's time zero, in `time.monotonic()`.
    cpu: the share of one core that the clients' process needed.
    """

    zero: Sequence[float]
    cpu: float
    visits: Sequence[Outcome]


def arrivals(seconds: float, rate: float, burst: tuple[float, float], burst_rate: float, visits: int = 1, seed: int = 1) -> list[Arrival]:
    """A Poisson process of `rate` a second, and of `burst_rate` from the burst's beginning to its end.

    The same seed gives the same clients: that they may come again doesn't change how patient they are at first.
    """
    chance = random.Random(seed)
    most = max(rate, burst_rate)
    found, now = [], chance.expovariate(most)
    while now < seconds:  # thinning: of a process of the highest rate, each point is kept with its own rate's share in it
        kept = chance.random() * most < (burst_rate if burst[0] <= now < burst[1] else rate)
        patiences = chance.uniform(*PATIENCE), chance.uniform(*PATIENCE)
        if kept:
            found.append(Arrival(now, patiences[:visits]))
        now += chance.expovariate(most)
    return found


def send(plan: Plan, every_second: Callable[[], None]) -> Outcomes:
    """Let the clients go, in a process of their own, and return when the last has left.

    :raises BenchmarkError: that process failed
    """
    command = [sys.executable, "-m", "benchmarks.clients.patience"]
    # In a session of its own: Ctrl+C is ours to handle.
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            said, told = "", json.dumps(asdict(plan))
            while process.returncode is None:
                with suppress(subprocess.TimeoutExpired):
                    said, _ = process.communicate(told or None, timeout=1)
                told = ""  # it is on its way
                every_second()
        finally:
            process.kill()
    if process.returncode:
        raise BenchmarkError(f"the clients' process ended with exit code {process.returncode}; what it said is above")
    result = json.loads(said)
    return Outcomes(result["zero"], result["cpu"], [Outcome(*visit) for visit in result["visits"]])


class Visit:
    """One client's request, on a connection of its own."""

    def __init__(self, server: int, client: int, number: int, due: float, plan: Plan) -> None:
        self.server = server
        self.client = client
        self.number = number
        self.due = due
        self.began = self.ended = time.monotonic()
        self.phase = Phase.ASKING
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.sock.connect_ex(("127.0.0.1", plan.ports[server]))  # if it fails, so will send()
        self._unsent = head("GET", f"{plan.path}?token={self.token}")
        self._received = b""

    @property
    def token(self) -> str:
        """What the handler notes it under."""
        return f"{self.client}.{self.number}"

    @property
    def awaits(self) -> int:
        """What epoll shall look for."""
        return select.EPOLLOUT if self._unsent else select.EPOLLIN

    def advance(self) -> Phase:
        """Send or read what is possible now, and tell what the visit has come to."""
        with suppress(BlockingIOError):
            try:
                if self._unsent:
                    self.sock.send(self._unsent)  # it fits into any buffer; there is none before there is a connection
                    self._unsent = b""
                data = self.sock.recv(65536)
            except (ConnectionError, TimeoutError):
                return Phase.FAILED
            self._received += data
            return judge(self._received, ended=not data)
        return Phase.ASKING

    def end(self, phase: Phase) -> None:
        """Close the connection."""
        self.phase = phase
        self.ended = time.monotonic()
        self.sock.close()

    def outcome(self) -> Outcome:
        """For the report."""
        return Outcome(self.server, self.token, self.due, self.began, self.ended, self.phase)


def judge(received: bytes, ended: bool) -> Phase:
    """What a visit is that has received so much. It doesn't matter how the body is framed: ANSWER is all of it."""
    head, end, body = received.partition(b"\r\n\r\n")
    if end and not head.startswith(b"HTTP/1.1 200"):
        return Phase.FAILED
    if end and ANSWER in body:
        return Phase.ANSWERED
    return Phase.FAILED if ended else Phase.ASKING


class Clients:
    """All of them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._visits: list[Visit] = []
        self._asking: dict[int, Visit] = {}
        """By file descriptor; closed in the moment in which they aren't here any more."""
        self._epoll = select.epoll()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        """A heap: when, in which order otherwise, and what is called with that time then."""
        self._order = 0

    def run(self) -> Outcomes:
        """Until the last patience has ended."""
        began, cpu = time.monotonic(), time.process_time()
        zero = [began + SOON + number * self._plan.stagger for number in range(len(self._plan.ports))]
        for server, start in enumerate(zero):
            for client, arrival in enumerate(self._plan.arrivals):
                self._at(start + arrival.at, partial(self._come, server, client, 0))
        while self._due:
            # Milliseconds are epoll's grain; the wait is rounded up to them.
            for fd, _ in self._epoll.poll(max(0, self._due[0][0] - time.monotonic())):
                self._advance(self._asking[fd])
            # After the answers, so that one that is there in time counts even if we were late.
            while self._due and self._due[0][0] <= time.monotonic():
                due, _, happen = heapq.heappop(self._due)
                happen(due)
        share = (time.process_time() - cpu) / (time.monotonic() - began)
        return Outcomes(zero, share, [visit.outcome() for visit in self._visits])

    def _at(self, when: float, happen: Callable[[float], None]) -> None:
        self._order += 1
        heapq.heappush(self._due, (when, self._order, happen))

    def _come(self, server: int, client: int, number: int, due: float) -> None:
        visit = Visit(server, client, number, due, self._plan)
        self._visits.append(visit)
        self._asking[visit.sock.fileno()] = visit
        self._epoll.register(visit.sock, visit.awaits)
        self._advance(visit)
        self._at(visit.began + self._plan.arrivals[client].patiences[number], partial(self._leave, visit))

    def _advance(self, visit: Visit) -> None:
        awaited, phase = visit.awaits, visit.advance()
        if phase is not Phase.ASKING:
            self._end(visit, phase)
        elif visit.awaits != awaited:
            self._epoll.modify(visit.sock, visit.awaits)

    def _leave(self, visit: Visit, due: float) -> None:
        if visit.phase is Phase.ASKING:
            self._end(visit, Phase.LEFT)
            if visit.number + 1 < len(self._plan.arrivals[visit.client].patiences):
                self._come(visit.server, visit.client, visit.number + 1, due)

    def _end(self, visit: Visit, phase: Phase) -> None:
        del self._asking[visit.sock.fileno()]
        visit.end(phase)


if __name__ == "__main__":
    plan = json.load(sys.stdin)
    plan["arrivals"] = [Arrival(*arrival) for arrival in plan["arrivals"]]
    gc.disable()  # its pauses would be ours; what there is to collect fits into memory
    json.dump(asdict(Clients(Plan(**plan)).run()), sys.stdout)
