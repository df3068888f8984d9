"""Something that runs beside a test's block."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def beside_the_block() -> AsyncIterator[TaskGroup]:
    """A task group that leaves the block's own exception as it is, an assertion, say, instead of putting it into a group."""
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            yield tasks
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            failure = error
    if failure is not None:
        raise failure
