"""The ways to leave, on what there is between a client and a handler on the internet: TLS, a unix socket, a proxy of two kinds."""

import http.client
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.clients.carried import MULTIPLEXED, Multiplexed, Neighbour, Secured
from benchmarks.clients.leaving import WAYS, Arrive, Guest, depart
from benchmarks.errors import BenchmarkError
from benchmarks.fronts import PACKAGES, Front, in_front, path_of
from benchmarks.measuring import Data, Run, Table, Target
from benchmarks.parts.disconnect_matrix import Cell, brief
from benchmarks.running import Running, running
from benchmarks.stacks import EVERY, SOCKET, Stack, missing_packages

CLIENTS = 3
"""For each way to leave."""

SECONDS = 3.0
"""That a handler takes if nothing stops it."""

PATIENCE = 1.0
"""Seconds that clients wait for all the handlers to begin."""

SOON = 100.0
"""Milliseconds within which a handler is to have ended."""


@dataclass(frozen=True)
class Carrier:
    """What carries a request to our server.

    name: as tables show it.
    server: as `stacks` calls it.
    front: the proxy before it, if there is one.
    names: of the ways to leave that there are.
    arrive: makes a client, by the server, and the proxy if there is one.
    package: the distribution that must be installed.
    """

    name: str
    server: str
    front: str
    names: Sequence[str]
    arrive: Callable[[Running, Front], Arrive]
    package: str = "microasgi"

    @property
    def missing(self) -> tuple[str, str] | None:
        """What is, and what would help."""
        if self.front and path_of(self.front) is None:
            return f"leaving by {self.name}", f"apt-get install {PACKAGES[self.front]}"
        if missing_packages([self.package]):
            return f"leaving by {self.name}", f"pip install {self.package}"
        if self.server == "microasgi-tls" and shutil.which("openssl") is None:
            return f"leaving by {self.name}", "apt-get install openssl"
        return None


def _behind(front: str, name: str) -> list[Carrier]:
    def over_http1(_: Running, front: Front) -> Arrive:
        return partial(Guest.arrive, front.http1)

    def over_http2(_: Running, front: Front) -> Arrive:
        return partial(Multiplexed.arrive, front.http2)

    return [
        Carrier(f"{name}, HTTP/1.1", "microasgi-unix", front, Guest.names, over_http1),
        Carrier(f"{name}, HTTP/2", "microasgi-unix", front, Multiplexed.names, over_http2, "h2"),
    ]


CARRIERS = [
    Carrier("TCP", "microasgi-unix", "", Guest.names, lambda server, _: partial(Guest.arrive, server.port)),
    Carrier("a unix socket", "microasgi-unix", "", Neighbour.names, lambda server, _: partial(Neighbour.call, server.folder / SOCKET)),
    *_behind("nginx", "nginx"),
    *_behind("haproxy", "HAProxy"),
    Carrier("TLS", "microasgi-tls", "", Secured.names, lambda server, _: partial(Secured.arrive, server.port)),
]
"""Those of one server stand together, and of these those of one proxy."""

SERVERS = tuple(dict.fromkeys(carrier.server for carrier in CARRIERS))

ALL = tuple(dict.fromkeys([*WAYS, *Secured.names, *MULTIPLEXED]))
"""The ways to leave, of whichever carrier."""


def measure(run: Run) -> Data:
    """Let clients leave in every way, by every carrier, on every loop."""
    here = present(run)
    clients, loops = (1, EVERY[:1]) if run.quick else (CLIENTS, EVERY)
    installed = run.installed(Stack("microasgi", server, loop) for loop in loops for server in SERVERS)
    rows: list[dict[str, Any]] = []
    for stack in installed:
        carriers = [carrier for carrier in here if carrier.server == stack.server]
        with run.step(f"departures: {stack.name}"):
            try:
                rows += _departures(stack, carriers, clients)
            except (BenchmarkError, OSError, http.client.HTTPException) as error:
                run.progress.missing(f"leaving {stack.name}", f"see why: {error}")
    return {"clients": clients, "seconds": SECONDS, "rows": rows}


def present(run: Run) -> list[Carrier]:
    """The carriers that can be tried here. The others are reported."""
    found = []
    for carrier in CARRIERS:
        if carrier.missing is None:
            found.append(carrier)
        else:
            run.progress.missing(*carrier.missing)
    return found


def steps(run: Run) -> int:
    """How many `measure` will take at most."""
    return len(SERVERS) * (1 if run.quick else len(EVERY))


def _departures(stack: Stack, carriers: Sequence[Carrier], clients: int) -> Iterator[dict[str, Any]]:
    with running(stack, gracefully=False) as server:
        for program, some in groupby(carriers, lambda carrier: carrier.front):
            with tempfile.TemporaryDirectory() as folder, ExitStack() as life:
                front = life.enter_context(in_front(program, server.port, Path(folder))) if program else Front(0, 0)
                for carrier in some:
                    arrive = carrier.arrive(server, front)
                    found = depart(server.port, clients, SECONDS, PATIENCE, names=carrier.names, arrive=arrive, scheme=stack.scheme)
                    yield {"carrier": carrier.name, "loop": stack.loop, "ways": found["ways"], "lag": found["lag"]}


def everything(data: Data) -> Table:
    """Every carrier, every loop, every way."""
    return Table(
        "How long after its client does a handler end?",
        ("by", "loop", *ALL),
        [(row["carrier"], row["loop"], *_cells([row])) for row in data["rows"]],
        _note(data),
    )


def by_carrier(data: Data) -> Table:
    """All loops' clients together."""
    names = dict.fromkeys(row["carrier"] for row in data["rows"])
    rows = [(name, *_cells([row for row in data["rows"] if row["carrier"] == name])) for name in names]
    return Table("How long after its client does a handler end, on whatever loop?", ("by", *ALL), rows, _note(data))


def _cells(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What became of their handlers, way by way."""
    found = []
    for name in ALL:
        samples = tuple(sample for row in rows for sample in row["ways"].get(name, ()))
        found.append(Cell(samples).long if samples else "")
    return found


def _note(data: Data) -> str:
    return (
        f"Milliseconds from the client's leaving to the handler's end: the median (and the maximum), of {data['clients']} clients on each"
        " loop. An empty cell: there is no such way. Over HTTP/2, a request on another stream for a pipelined one; a stray byte is the"
        " first of a frame; RST_STREAM gives up the request and keeps the connection. Over TLS, close_notify ends the session and keeps"
        " the connection, or a FIN follows; in all other ways the client leaves without it. In front of both proxies: no TLS."
    )


def targets(data: Data) -> list[Target]:
    """Every handler has ended within a tenth of a second."""
    found = []
    for name in dict.fromkeys(row["carrier"] for row in data["rows"]):
        rows = [row for row in data["rows"] if row["carrier"] == name]
        samples = [sample for row in rows for each in row["ways"].values() for sample in each]
        times = [sample for sample in samples if not isinstance(sample, str)]
        soon = [time for time in times if time <= SOON]
        told = f"{len(soon)} of {len(samples)}" + (f", the last after {brief(max(times))} ms" if times else "")
        what = f"handlers that have ended {SOON:g} ms after their client left by {name}, on {', '.join(row['loop'] for row in rows)}"
        found.append(Target(what, "all", told, len(soon) == len(samples)))
    return found
