"""Stacks that are left at the same time, some at a time: their clients mostly wait, so that they hardly disturb each other.

Starting disturbs; when the clients come, it is over.
"""

import http.client
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.measuring import Run
from benchmarks.running import Running, running
from benchmarks.stacks import Stack

NO_OPTIONS: Mapping[str, str] = MappingProxyType({})

Depart = Callable[[int], dict[str, Any]]
"""What clients do at a port, and what has come of it."""


def side_by_side(
    run: Run, stacks: Sequence[Stack], together: int, depart: Depart, options: Mapping[str, str] = NO_OPTIONS
) -> list[dict[str, Any]]:
    """What came of it on each stack, with the stack's parts; who couldn't be measured is reported.

    options: for servers.
    """
    groups = -(-len(stacks) // max(1, together))
    run.progress.total(groups)
    measured: dict[Stack, dict[str, Any]] = {}
    for number in range(groups):
        group = stacks[number::groups]  # each has something of everything: a framework that is slow isn't slow in company of itself
        with run.step(f"{len(group)} stacks of {len(stacks)}, {number + 1} of {groups}"):
            for stack, result in zip(group, _measured(group, depart, options), strict=True):
                if isinstance(result, BenchmarkError):
                    run.progress.missing(stack.name, f"see why: {result}")
                else:
                    measured[stack] = {"framework": stack.framework, "server": stack.server, "loop": stack.loop, **result}
    return [measured[stack] for stack in stacks if stack in measured]


def _measured(group: Sequence[Stack], depart: Depart, options: Mapping[str, str]) -> list[dict[str, Any] | BenchmarkError]:
    """What has come of each; or why it couldn't: one stack that doesn't work is no reason to measure none."""

    def start(life: ExitStack, stack: Stack) -> Running | BenchmarkError:
        try:
            # Asked to end, it would wait for the handlers that run on.
            return life.enter_context(running(stack, options=options.get(stack.server, ""), gracefully=False))
        except BenchmarkError as error:
            return error

    def leave(server: Running | BenchmarkError) -> dict[str, Any] | BenchmarkError:
        if isinstance(server, BenchmarkError):
            return server
        try:
            return depart(server.port)
        except (OSError, http.client.HTTPException, BenchmarkError) as error:
            return BenchmarkError(f"it stopped answering ({error!r}); it said: {server.said()[-500:] or 'nothing'}")

    lives = [ExitStack() for _ in group]
    with ThreadPoolExecutor(len(group)) as pool:
        starts = [pool.submit(start, life, stack) for life, stack in zip(lives, group, strict=True)]
        try:
            return list(pool.map(leave, [future.result() for future in starts]))
        finally:
            wait(starts)  # or Ctrl+C would leave those behind that are about to run
            list(pool.map(ExitStack.close, lives))
