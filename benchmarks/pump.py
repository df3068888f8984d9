"""What the promise costs on another server: Starlette in `CancelOnDisconnect` on uvicorn, compared with Starlette as it comes.

    python -m benchmarks.pump

Other states of this repository can take part, each named after the directory that it lies in: `--with before=DIRECTORY`. All that are
compared run side by side, and the load goes from one to the next, there and back: whoever has no load takes no time. What is counted is
the server's CPU time; a ratio is taken within each round. The part `overhead` measures the first handler, too, beside other things.
"""

import argparse
import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load import Workload, put_load
from benchmarks.processes import cpu_seconds

ROOT = Path(__file__).parent.parent

PLACES = [(http, loop) for http in ("h11", "httptools") for loop in ("asyncio", "uvloop")]

PLAIN, OURS = "Starlette", "this one"

SECONDS = 0.4
"""Of load on each handler, there and again on the way back."""

ROUNDS = 5

HANDLERS = [
    Workload("never waits", "/hello"),
    Workload("sleep(0)", "/yields"),
    Workload("an event that is set in the next turn", "/turn"),
    Workload("sleep(0.0001)", "/sleep/0.0001"),
    Workload("sleep(0.001)", "/sleep/0.001"),
    Workload("reads 1 KiB", "/read", body=1024),
]

Costs = dict[str, dict[str, list[float]]]
"""µs of CPU time of a request in each round, by handler and contestant."""


def make_app(*, protected: bool) -> Any:
    """The app, with the promise or without."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    from microasgi import CancelOnDisconnect

    async def hello(request: Request) -> Response:
        return PlainTextResponse("hello")

    async def yields(request: Request) -> Response:
        await asyncio.sleep(0)
        return PlainTextResponse("hello")

    async def turn(request: Request) -> Response:
        event = asyncio.Event()
        asyncio.get_running_loop().call_soon(event.set)
        await event.wait()
        return PlainTextResponse("hello")

    async def sleep(request: Request) -> Response:
        await asyncio.sleep(request.path_params["seconds"])
        return PlainTextResponse("hello")

    async def read(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    routes = [Route("/hello", hello), Route("/yields", yields), Route("/turn", turn), Route("/sleep/{seconds:float}", sleep)]
    app = Starlette(routes=[*routes, Route("/read", read, methods=["POST"])])
    return CancelOnDisconnect(app) if protected else app


def serve(http: Any, loop: Any, *, protected: bool) -> None:
    """Be the server; the first that is written is its port."""
    import uvicorn

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(128)
        print(sock.getsockname()[1], flush=True)
        config = uvicorn.Config(make_app(protected=protected), http=http, loop=loop, access_log=False, log_level="warning")
        uvicorn.Server(config).run([sock])


@contextmanager
def serving(tree: Path, http: str, loop: str, *, protected: bool) -> Iterator[tuple[int, int]]:
    """A server of its own, with the `microasgi` of a directory. Gives its process and its port."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "server")])}
    command = [sys.executable, "-P", __file__, "--serve", http, loop, *(["--protected"] if protected else [])]
    with subprocess.Popen(command, cwd=tree, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


def take_round(trees: dict[str, Path], http: str, loop: str, wrk: str | None) -> dict[str, dict[str, float]]:
    """One round on fresh servers: µs of CPU time of a request, by handler and contestant."""
    with ExitStack() as block:
        servers = {PLAIN: block.enter_context(serving(ROOT, http, loop, protected=False))}
        servers |= {name: block.enter_context(serving(tree, http, loop, protected=True)) for name, tree in trees.items()}
        for _, port in servers.values():
            put_load(port, HANDLERS[0], SECONDS, wrk)
        return {handler.name: _alternate(servers, handler, wrk) for handler in HANDLERS}


def _alternate(servers: dict[str, tuple[int, int]], handler: Workload, wrk: str | None) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)
    requests: dict[str, int] = defaultdict(int)
    for name in [*servers, *reversed(servers)]:
        pid, port = servers[name]
        before = cpu_seconds(pid)
        requests[name] += put_load(port, handler, SECONDS, wrk).requests
        seconds[name] += cpu_seconds(pid) - before
    return {name: seconds[name] / requests[name] * 1e6 for name in servers}


def measure(trees: dict[str, Path], http: str, loop: str, rounds: int) -> Costs:
    """All rounds on one server and loop."""
    costs: Costs = {handler.name: defaultdict(list) for handler in HANDLERS}
    for _ in range(rounds):
        for handler, found in take_round(trees, http, loop, shutil.which("wrk")).items():
            for name, cost in found.items():
                costs[handler][name].append(cost)
    return costs


def report(title: str, costs: Costs) -> str:
    """One table: what plain Starlette costs, and how many times that the others do."""
    lines = [title]
    for handler, found in costs.items():
        plain = found[PLAIN]
        cells = [f"{PLAIN} {median(plain):6.1f} µs"]
        for name, own in found.items():
            if name != PLAIN:
                ratios = [one / other for one, other in zip(own, plain, strict=True)]
                cells.append(f"{name} {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        lines.append(f"  {handler:<40}" + "   ".join(cells))
    return "\n".join(lines)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pump", description="Measure what the promise costs on another server.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds on each server and loop (default: {ROUNDS})")
    parser.add_argument("--with", dest="trees", action="append", default=[], metavar="NAME=DIRECTORY", help="another state to compare")
    parser.add_argument("--serve", nargs=2, metavar=("HTTP", "LOOP"), help=argparse.SUPPRESS)
    parser.add_argument("--protected", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve, protected=arguments.protected)
        return
    trees = {name: Path(path).resolve() for name, _, path in (tree.partition("=") for tree in arguments.trees)} | {OURS: ROOT}
    print(f"{arguments.rounds} rounds; medians of µs and of times what {PLAIN} takes, smallest and largest")
    for http, loop in PLACES:
        print(report(f"\nuvicorn {http}, {loop}", measure(trees, http, loop, arguments.rounds)), flush=True)


if __name__ == "__main__":
    main()
