"""What the delivery of a cancellation costs a request that nobody cancels.

    python -m benchmarks.delivery

Compared with a bare await of the handler: the block around it (`promise/delivery.py`), and the whole protection, with the visit and the
server's callback (`visit.py`). Each request runs in a task of its own, as on a server. The three take turns, in one process;
what is counted is CPU time. The part `overhead` runs this, too.
"""

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import anyio

from benchmarks.stacks import missing_packages
from microasgi.promise.delivery import Block
from microasgi.promise.visit import EXTENSION, run_while_connected

TARGET = 12.0
"""µs a request that the delivery may cost, on asyncio."""

REQUESTS = 2_000
"""In each turn."""

ROUNDS = 41

Call = Callable[[], Awaitable[None]]
Handler = Callable[[Any, Any, Any], Awaitable[None]]


async def does_not_wait(scope: Any, receive: Any, send: Any) -> None:
    pass


async def waits_once(scope: Any, receive: Any, send: Any) -> None:
    loop = asyncio.get_running_loop()
    answer = loop.create_future()
    loop.call_soon(answer.set_result, None)
    await answer


async def yields_once(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0)


HANDLERS: dict[str, Handler] = {
    "a handler that doesn't wait": does_not_wait,
    "a handler that waits once": waits_once,
    "a handler that only gives the loop a turn": yields_once,
}


def _unsubscribe() -> None:
    pass


EXTENSIONS = {EXTENSION: {"subscribe": lambda callback: _unsubscribe}}


def contestants(handler: Handler) -> dict[str, Call]:
    """The ways to call a handler; the first is what the others are compared with."""

    async def bare() -> None:
        await handler(None, None, None)

    async def delivery() -> None:
        await Block(5.0).run(handler(None, None, None))  # type: ignore[arg-type]

    async def protection() -> None:
        await run_while_connected(handler, {"method": "GET", "path": "/", "extensions": EXTENSIONS}, None, None)  # type: ignore[arg-type]

    return {"bare": bare, "delivery": delivery, "whole protection": protection}


async def measure(call: Call, requests: int) -> float:
    """CPU time of one request, in µs."""
    create_task = asyncio.get_running_loop().create_task
    began = time.process_time()
    for _ in range(requests):
        await create_task(call())  # type: ignore[arg-type]
    return (time.process_time() - began) / requests * 1e6


async def race(calls: dict[str, Call], requests: int, rounds: int) -> dict[str, list[float]]:
    """Measure all of them in turns, after a warm-up."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        await measure(call, requests)
    for number in range(rounds):
        for name in calls if number % 2 == 0 else reversed(calls):
            gc.collect()
            samples[name].append(await measure(calls[name], requests))
    return samples


def more(own: list[float], bare: list[float]) -> list[float]:
    """What one costs more than the other, in each round."""
    return [one - other for one, other in zip(own, bare, strict=True)]


def spread(samples: list[float]) -> str:
    """The median, and between which values the middle half lies."""
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    return f"{median(ordered):6.1f} µs  ({ordered[quarter]:.1f} to {ordered[-1 - quarter]:.1f})"


def report(title: str, samples: dict[str, list[float]], *, has_target: bool) -> str:
    """One table: what each costs, and what each costs more than the first."""
    (first, bare), *others = samples.items()
    lines = [title, f"  {first:<18}{spread(bare)}"]
    for name, own in others:
        difference = more(own, bare)
        line = f"  {name:<18}{spread(own)}   more than {first}: {spread(difference)}"
        if name == "delivery" and has_target:
            line += f", target at most {TARGET:g}: {'met' if median(difference) <= TARGET else 'MISSED'}"
        lines.append(line)
    return "\n".join(lines)


def loops() -> list[str]:
    """asyncio, and uvloop where it is installed."""
    return ["asyncio"] + ([] if missing_packages(["uvloop"]) else ["uvloop"])


def measure_all(requests: int, rounds: int) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Samples in µs, by loop, handler and contestant."""
    return {
        loop: {
            name: anyio.run(
                race, contestants(handler), requests, rounds, backend="asyncio", backend_options={"use_uvloop": loop == "uvloop"}
            )
            for name, handler in HANDLERS.items()
        }
        for loop in loops()
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description="Measure what the delivery of a cancellation costs.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns for each contestant (default: {ROUNDS})")
    parser.add_argument("--json", action="store_true", help="print all samples, for another program")
    arguments = parser.parse_args()
    measured = measure_all(REQUESTS, arguments.rounds)
    if arguments.json:
        rounded = {
            loop: {handler: {name: [round(each, 2) for each in own] for name, own in found.items()} for handler, found in handlers.items()}
            for loop, handlers in measured.items()
        }
        print(json.dumps(rounded))
        return
    version = sys.version.split()[0]
    print(f"Python {version}, {arguments.rounds} rounds of {REQUESTS} requests, CPU time; the median, and the middle half of the rounds")
    for loop, handlers in measured.items():
        for handler, found in handlers.items():
            print()
            print(report(f"{loop}, {handler}", found, has_target=loop == "asyncio"))


if __name__ == "__main__":
    main()
