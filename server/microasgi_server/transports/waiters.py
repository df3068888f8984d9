"""One wait of one task, on asyncio and uvloop: what `anyio.Event` is there, in two objects less, and two coroutines."""

from asyncio import AbstractEventLoop, Future


class Waiter:
    """An event that is made for one who waits now, once.

    Cancelled, the task cancels what it waits for: to set the event then means nothing.
    """

    __slots__ = ("_future",)

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._future: Future[None] = loop.create_future()

    def set(self) -> None:
        """What was waited for has come."""
        if not self._future.done():
            self._future.set_result(None)

    def wait(self) -> Future[None]:
        """To be awaited."""
        return self._future
