"""The table of stages: what happens to a call whose client has left, and which of its cells are passed."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import anyio
import pytest

from microasgi.promise.delivery import Block
from microasgi.promise.stages import CALLED, HEARD, OPEN, OVER, SENT, TRANSITIONS, Stage
from tests.conftest import LOOPS

pytestmark = pytest.mark.anyio

LONG = 60.0

Program = Callable[[Block], Awaitable[None]]


class Noted(Block):
    """A block that notes its stages."""

    def __init__(self) -> None:
        super().__init__(LONG)
        self.path = [self.stage]

    def _move(self, stage: Stage) -> None:
        super()._move(stage)
        self.path.append(stage)


def soon(callback: Callable[[], object]) -> None:
    """Call it when the running task waits."""
    asyncio.get_running_loop().call_soon(callback)


async def waits(block: Block) -> None:
    soon(block.cancel)
    await asyncio.sleep(LONG)


async def never_waits(block: Block) -> None:
    block.cancel()


async def waits_for_who_swallows_it(block: Block) -> None:
    async def swallow() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)

    task = asyncio.create_task(swallow())
    await asyncio.sleep(0)
    soon(block.cancel)
    await task
    await asyncio.sleep(LONG)


async def waits_in_a_scope_that_is_cancelled_too(block: Block) -> None:
    with anyio.CancelScope() as scope:
        soon(scope.cancel)
        soon(block.cancel)
        await asyncio.sleep(LONG)


async def goes_on_behind_a_groups_errors(block: Block) -> None:
    async def fails() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            raise ValueError("no answer")

    with suppress(BaseExceptionGroup):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fails)
            await asyncio.sleep(0)
            soon(block.cancel)
            await asyncio.sleep(LONG)
    await asyncio.sleep(LONG)


PATHS: dict[Program, list[Stage]] = {
    waits: [OPEN, CALLED, SENT, HEARD, OVER],
    never_waits: [OPEN, CALLED, OVER],
    waits_for_who_swallows_it: [OPEN, CALLED, SENT, CALLED, SENT, HEARD, OVER],
    waits_in_a_scope_that_is_cancelled_too: [OPEN, CALLED, HEARD, OVER],
    goes_on_behind_a_groups_errors: [OPEN, CALLED, SENT, HEARD, SENT, HEARD, OVER],
}


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("program", PATHS)
async def test_a_call_takes_its_way_through_the_table(program: Any) -> None:
    """Each kind of call passes its own stages, from nobody having cancelled it to its end."""
    block = Noted()
    with anyio.fail_after(5):
        await block.run(program(block))
    assert block.path == PATHS[program]


def test_every_cell_of_the_table_is_passed() -> None:
    """The table has what these calls pass, and no more."""
    assert {step for path in PATHS.values() for step in pairwise(path)} == {(stage, to) for stage, row in TRANSITIONS.items() for to in row}
