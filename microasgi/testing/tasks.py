"""Something that runs beside a test's block, and what becomes of its error."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from microasgi.exceptions import ClientDisconnect


class Ending:
    """The end of an app's call. What the app raised is raised where a test waits for the end, or else when it leaves the block.

    reached: the app has ended.
    error: what it raised.
    """

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.error: Exception | None = None
        self._told = False

    async def wait(self) -> None:
        """Wait for it, and raise what the app raised; again, if asked again."""
        await self.reached.wait()
        self._told = True
        if self.error is not None:
            raise self.error

    def take(self, error: Exception, *, gone: bool) -> None:
        """The app has raised this. Where its client had left before, an exception that only says so is none."""
        if not gone or not _is_disconnect(error):
            self.error = error

    @property
    def untold(self) -> Exception | None:
        """What the app raised, if nobody has heard of it."""
        return None if self._told else self.error


def _is_disconnect(error: BaseException) -> bool:
    """As servers see it: frameworks translate what `send()` raises or `receive()` says into exceptions named so, and groups wrap them."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_disconnect(inner) for inner in error.exceptions)
    return isinstance(error, ClientDisconnect) or type(error).__name__ in ("ClientDisconnect", "WebSocketDisconnect")


@asynccontextmanager
async def beside_the_block(ending: Ending | None = None) -> AsyncIterator[TaskGroup]:
    """A task group that leaves the block's own exception as it is, an assertion, say, instead of putting it into a group.

    :param ending: of the call that runs in it: an error that nobody has heard of is raised at the block's end, or noted on the block's own
    """
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            yield tasks
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            failure = error
    untold = None if ending is None else ending.untold
    if failure is not None:
        if untold is not None:
            failure.add_note(f"the app raised {untold!r}")
        raise failure
    if untold is not None:
        raise untold
