"""Whether a client that can say goodbye is still there, and who wants to know in which way it left."""

from collections.abc import Callable
from functools import partial

from microasgi_server.presence import Presence

Told = Callable[[], object]
Goodbye = Callable[[bool], object]


class Farewells(Presence):
    """`Presence`, for a client that leaves in one of two ways.

    parted: whether a goodbye has come, or has gone out as the server stops.
    busy: whether the app had something of the client's left then, untaken or in hand.
    content: whether a subscriber goes on for its own sake: what the client has said before is still for it to take.
    """

    busy = False
    content = False
    uploads = False  # a handshake has no body

    def __init__(self) -> None:
        self._goodbyes: dict[object, Goodbye] = {}

    def part(self, busy: bool, why: str) -> None:
        """A goodbye: nothing more can be said, but what was said before may be finished."""
        self.gone, self.parted, self.busy, self.why_gone = True, True, busy, why
        for goodbye in list(self._goodbyes.values()):
            try:
                self._tell(partial(goodbye, busy))
            except Exception as error:  # as in `Presence.leave`
                self.faults = [*self.faults, error]

    def subscribe(self, callback: Told, goodbye: Goodbye | None = None) -> Callable[[], object]:
        """The extension `microasgi.disconnect`: call `callback` when the client leaves before the app has closed; see `Presence`.

        It may return False to say that the app goes on for its own sake: then what the client has said before isn't dropped.

        :param goodbye: called instead, once, when the client says goodbye, or the server does: with whether the app still has something of
            the client's, untaken or in hand. Not given, `callback` is called then, unless it has
        """
        said: Goodbye = goodbye or (lambda busy: None if busy else callback())
        if self.parted:
            self._tell(partial(said, self.busy))
            return lambda: None
        undo = super().subscribe(callback)
        token = object()
        if not self.complete:
            self._goodbyes[token] = said

        def undo_both() -> None:
            undo()
            self._goodbyes.pop(token, None)

        return undo_both

    def _tell(self, callback: Told) -> None:
        self.told = True
        said = callback()
        self.cancelled = said is True or self.cancelled
        self.content = said is False or self.content

    def fulfil(self) -> None:
        super().fulfil()
        self._goodbyes.clear()
