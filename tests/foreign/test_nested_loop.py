"""A handler that runs an event loop within the event loop, as notebooks do with `nest_asyncio`."""

import subprocess
import sys

import nest_asyncio  # noqa: F401  # it changes asyncio for good, so that a process of its own uses it

HANDLER = """
import asyncio, time
import nest_asyncio
from microasgi.promise.delivery import Block

nest_asyncio.apply()
marks = []

async def member():
    try:
        await asyncio.sleep(60)
    finally:
        marks.append("member told")

async def handler(block):
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(member())
        await asyncio.sleep(0)
        loop.call_later(0.05, block.cancel)
        began = time.process_time()
        loop.run_until_complete(asyncio.sleep(0.5))
        marks.append("idle" if time.process_time() - began < 0.25 else "busy")
        await asyncio.sleep(60)
    marks.append("after")

async def main():
    block = Block(5.0)
    await asyncio.wait_for(block.run(handler(block)), 10)
    print(*marks, sep=", ")

asyncio.run(main())
"""


def test_nothing_spins_while_an_inner_loop_runs() -> None:
    """A handler that can't be told, since it runs a loop within the loop, costs nothing until it waits again, and is told there."""
    done = subprocess.run([sys.executable, "-c", HANDLER], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("idle, member told\n", "")
