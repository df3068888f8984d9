"""A coroutine that says when it waits and when it goes on.

It stands in for another one: to be awaited, or as a task's own. Nothing about that one changes, and who looks for it finds it: it has its
attributes, and is what the collector sees first.
"""

from collections.abc import Coroutine
from types import CoroutineType, TracebackType
from typing import Any, Protocol

Call = Coroutine[Any, Any, Any]


class Listener(Protocol):
    """Who hears of a coroutine. Called in its task, between its steps."""

    def begins(self) -> None:
        """It is about to run."""

    def waits(self, call: Call) -> None:
        """It waits."""

    def goes_on(self) -> None:
        """What it waited for has ended."""

    def is_thrown(self, error: BaseException) -> None:
        """So it has, with an exception, which will be raised where it waits."""

    def returns(self) -> None:
        """It has ended."""

    def raises(self, error: BaseException) -> None:
        """It has ended with an exception."""


class Followed(Coroutine[Any, Any, Any]):
    """A coroutine, followed by a listener."""

    __slots__ = ("_begun", "_call", "_listener")

    def __init__(self, call: Call, listener: Listener) -> None:
        self._call = call
        self._listener = listener
        self._begun = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    # asyncio, anyio and inspect ask what it is before they ask how far it is.
    __class__ = property(lambda self: CoroutineType)

    def __await__(self) -> "Followed":
        return self

    __iter__ = __await__

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        if not self._begun:
            self._begun = True
            self._listener.begins()
        elif (error := getattr(value, "error", None)) is None:
            self._listener.goes_on()
        else:  # trio sends an `outcome.Error`, which is raised inside
            self._listener.is_thrown(error)
            error = None
        try:
            return self._step(self._call.send, value)
        finally:
            value = None  # an exception in this frame, with its traceback, is a cycle

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None) -> Any:
        error = kind if value is None else value
        try:
            self._listener.is_thrown(error if isinstance(error, BaseException) else error())
            return self._step(self._call.throw, error)
        finally:
            kind = value = error = None

    def _step(self, step: Any, value: Any) -> Any:
        try:
            trap = step(value)
        except StopIteration:
            self._listener.returns()
            raise
        except BaseException as error:
            self._listener.raises(error)
            raise
        finally:
            value = None
        self._listener.waits(self._call)
        return trap

    def close(self) -> None:
        self._call.close()
