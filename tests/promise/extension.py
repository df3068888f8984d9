"""The server's end of `microasgi.disconnect`, by hand."""

from collections.abc import Callable
from typing import Any

Callback = Callable[[], object]


class Extension:
    """What a server offers in a scope, and the contract it keeps.

    A callback is called once: when the client leaves, or at once if it has left. Each has an undo of its own, behind which it isn't called.

    waiting: the callbacks that wait for the departure.
    """

    def __init__(self) -> None:
        self.waiting: dict[object, Callback] = {}
        self.asked = 0
        self._gone = False

    @property
    def offered(self) -> dict[str, Any]:
        """The scope's extensions."""
        return {"microasgi.disconnect": {"subscribe": self.subscribe}}

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        self.asked += 1
        ticket = object()
        if self._gone:
            callback()
        else:
            self.waiting[ticket] = callback

        def undo() -> None:
            self.waiting.pop(ticket, None)

        return undo

    def leave(self) -> None:
        """Have the client leave, now."""
        self._gone = True
        while self.waiting:
            self.waiting.pop(next(iter(self.waiting)))()
