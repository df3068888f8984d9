"""What the delivery of a cancellation costs a request that nobody cancels.

    python -m benchmarks.delivery

Compared with a bare await of the handler: the block around it (`delivery.py`), and the whole protection, with the visit and the
server's callback (`disconnect.py`). Each request runs in a task of its own, as on a server. The three take turns, in one process;
what is counted is CPU time.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import anyio

from microasgi.delivery import Block
from microasgi.disconnect import EXTENSION, run_while_connected

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
    await asyncio.sleep(0)


HANDLERS: dict[str, Handler] = {"a handler that doesn't wait": does_not_wait, "a handler that waits once": waits_once}


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
        more = [one - other for one, other in zip(own, bare, strict=True)]
        line = f"  {name:<18}{spread(own)}   more than {first}: {spread(more)}"
        if name == "delivery" and has_target:
            line += f", target at most {TARGET:g}: {'met' if median(more) <= TARGET else 'MISSED'}"
        lines.append(line)
    return "\n".join(lines)


def main(requests: int = REQUESTS, rounds: int = ROUNDS) -> None:
    """Measure on asyncio, and on uvloop where it is installed, and print."""
    loops = ["asyncio"]
    try:
        import uvloop  # noqa: F401
    except ImportError:
        pass
    else:
        loops.append("uvloop")
    print(
        f"Python {sys.version.split()[0]}, {rounds} rounds of {requests} requests, CPU time; the median, and the middle half of the rounds"
    )
    for loop in loops:
        for name, handler in HANDLERS.items():
            options = {"use_uvloop": loop == "uvloop"}
            samples = anyio.run(race, contestants(handler), requests, rounds, backend="asyncio", backend_options=options)
            print()
            print(report(f"{loop}, {name}", samples, has_target=loop == "asyncio"))


if __name__ == "__main__":
    main()
