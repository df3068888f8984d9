"""Random handlers whose clients leave at random moments, and what the rule (model.py) says of each.

A failure prints the program, whose number is its seed: `Author(number).program()`. It can be replayed, and made smaller by hand, as it is
printed: `list(run([Program(…)], asyncio.new_event_loop))`.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import anyio
import pytest
import uvloop

from microasgi.promise.delivery import Block
from tests.promise import programs
from tests.promise.model import Model
from tests.promise.program_runs import Run
from tests.promise.programs import Author, Program
from tests.promise.sightings import Seen

NewLoop = Callable[[], asyncio.AbstractEventLoop]

LOOPS: dict[str, NewLoop] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

on_each_loop = pytest.mark.parametrize("new_loop", LOOPS.values(), ids=list(LOOPS))


def run(programs: Iterable[Program], new_loop: NewLoop, block: Callable[[float], Any] = Block) -> Iterator[str]:
    """Run these, one after the other in the same loop, and say of each that breaks the rule what is wrong."""

    async def one() -> Seen:
        return await Run(program, block)()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        for number, program in enumerate(programs):
            if faults := Model(runner.run(one())).check():
                yield "\n    ".join((f"program {number}: {program!r}", *faults))


def written(seeds: range) -> Iterator[Program]:
    return (Author(seed).program() for seed in seeds)


def check(seeds: range, new_loop: NewLoop) -> None:
    wrong = list(run(written(seeds), new_loop))
    assert not wrong, f"{len(wrong)} of {len(seeds)} programs\n" + "\n".join(wrong[:20])


@on_each_loop
def test_some_programs(new_loop: NewLoop) -> None:
    """Whatever a handler is made of, each of its tasks is told once, in the turn of the departure, and cleans up undisturbed."""
    check(range(200), new_loop)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@on_each_loop
def test_many_programs(new_loop: NewLoop) -> None:
    """The same for ten thousand handlers."""
    check(range(10_000), new_loop)


@pytest.mark.parametrize("seed", range(20))
def test_a_program_can_be_replayed(seed: int) -> None:
    """What is printed of a program makes it again."""
    program = Author(seed).program()
    assert eval(repr(program), vars(programs)) == program


class Level:
    """A block as anyio would have it: a scope that is cancelled."""

    def __init__(self, _: float) -> None:
        self.scope = anyio.CancelScope()
        self.task: Any = None

    async def run(self, call: Any) -> None:
        self.task = asyncio.current_task()
        with self.scope:
            await call

    def cancel(self, _: object) -> None:
        self.scope.cancel()


def test_the_model_knows_another_delivery() -> None:
    """The rule isn't empty: anyio's own cancellation doesn't satisfy it."""
    wrong = list(run(written(range(30)), asyncio.new_event_loop, Level))
    assert len(wrong) > 10, wrong
