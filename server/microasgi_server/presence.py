"""Whether the client of an exchange is still there, and who wants to know when it isn't any more, or when the server stops."""

from collections.abc import Callable, Sequence
from functools import partial

CLIENT_CLOSED_REQUEST = 499
"""nginx's status, for the log only: the client left before it had its response."""

_NOBODY: dict[object, Callable[[], object]] = {}  # never changed: whoever subscribes first gets a mapping of its own


class Presence:
    """One client's, as long as one exchange lasts. Most clients stay: what only a departure changes is the class's own until then.

    gone: whether the client left before it had all that it came for.
    parted: whether it has said goodbye, or left with all that it came for: what was handed over before has reached it.
    sending: whether a `send()` of the app is under way, and waits until its bytes have room.
    complete: whether it has that. From then on it can't disconnect.
    status: what the log says became of the exchange, as soon as anybody knows; else 0.
    why_gone: why the client counts as gone, for the log; empty while it doesn't.
    cancelled: whether something was stopped because the client left: a subscriber said so, or the shell did it.
    told: whether anybody heard of it, as a subscriber.
    faults: what subscribers raised when the client left, against the contract.
    closing: whether the connection is to end behind it.
    stopping: whether the server stops.
    body_complete, received: whether the request's body has arrived to its end, and how many bytes of it so far, taken or not.
    """

    gone = False
    parted = False
    sending = False
    complete = False
    status = 0
    why_gone = ""
    cancelled = False
    told = False
    faults: Sequence[Exception] = ()
    closing = False
    stopping = False
    body_complete = True
    received = 0
    _subscribers = _NOBODY
    _at_shutdown = _NOBODY

    @property
    def attended(self) -> bool:
        """Whether a subscriber is there that has not taken its subscription back, told or not."""
        return bool(self._subscribers)

    @property
    def handed_over(self) -> bool:
        """Whether the client needs nothing more, be it complete or not: leaving is no departure any more."""
        return self.complete

    def fulfil(self) -> None:
        """The client has all that it came for: nobody will be told of anything."""
        self.complete = True
        self._subscribers = _NOBODY

    @property
    def whole(self) -> bool:
        """Whether the request has arrived to its end."""
        return self.body_complete

    @property
    def uploads(self) -> bool:
        """Whether more of the request's body is to come for the app: who waits for it can't wait for ever."""
        return not (self.body_complete or self.gone)

    @property
    def left(self) -> bool:
        """Whether it was the client that ended it, once it is `gone`: else the server stopped, or wouldn't go on."""
        return self.status == CLIENT_CLOSED_REQUEST

    @property
    def over(self) -> bool:
        """Whether neither side can say anything more, though it isn't complete: all that is left is to close."""
        return False

    @property
    def converses(self) -> bool:
        """Whether both sides may speak at any time: who says nothing for long is asked by `ping` whether he is there."""
        return False

    @property
    def close_code(self) -> int:
        """What a WebSocket was closed with, for the log; else 0."""
        return 0

    def ends(self) -> bool:
        """The app has returned: whether it may. If so, and there is still something to be said, `fail` says it."""
        return self.complete or self.gone

    def asked(self) -> bytes:
        """The app waits for a message: what the client is to hear of that, mostly nothing."""
        return b""

    def replies(self) -> bytes:
        """What has arrived and wants an answer, whatever the app does: in HTTP nothing, where only the app answers."""
        return b""

    def give_up(self, why: str) -> bytes:
        """The last words to a client that is about to count as gone, since it is silent: it may hear them all the same. In HTTP none."""
        return b""

    def ping(self) -> bytes:
        """The question whether the client is there, if it can be asked."""
        return b""

    def yields(self) -> bool:
        """Something was sent: whether the app is to let others run before it goes on."""
        return True

    def leave(self, why: str, status: int = CLIENT_CLOSED_REQUEST) -> bool:
        """The client is gone. Tell every subscriber, once, now; True unless the exchange was complete (or the client gone) already.

        :param why: the reason, for the log and for `send()`'s error
        :param status: the status to log
        """
        if self.complete or self.gone:
            return False
        self.gone = True
        self.status = status
        self.why_gone = why
        for callback in list(self._subscribers.values()):
            try:
                self._tell(callback)
            except Exception as error:  # one subscriber's bug must not keep the news from the others
                self.faults = [*self.faults, error]
        return True

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], object]:
        """The extension `microasgi.disconnect`: call `callback` when the client leaves before the exchange is complete.

        It is called at most once, synchronously, in the event loop's thread; at once if the client is gone already; never
        after the exchange is complete. It must neither raise nor block. It may return True to say, for the log, that it
        cancelled something.

        :return: a function that takes the subscription back, and may be called at any time
        """
        token = object()
        if self.gone:
            self._tell(callback)
        if not self.complete:
            if not self._subscribers:
                self._subscribers = {}
            self._subscribers[token] = callback
        return partial(self._subscribers.pop, token, None)

    def shut_down(self) -> list[Exception]:
        """The server stops: nothing begins behind this exchange. Tell everybody who has subscribed to that, once, now.

        :return: what subscribers raised, against the contract
        """
        self.closing = self.stopping = True
        subscribers, self._at_shutdown = self._at_shutdown, _NOBODY
        faults = []
        for callback in list(subscribers.values()):
            try:
                callback()
            except Exception as error:
                faults.append(error)
        return faults

    def subscribe_shutdown(self, callback: Callable[[], object]) -> Callable[[], object]:
        """The extension `microasgi.shutdown`: call `callback` when the server begins to stop, as long as the app's call lasts.

        It is called at most once, synchronously, in the event loop's thread; at once if the server stops already. It must neither raise nor
        block. What takes long, a stream of events above all, ends by itself then: when the graceful time is over, it is cancelled.

        :return: a function that takes the subscription back, and may be called at any time
        """
        if self.stopping:
            callback()
            return lambda: None
        if not self._at_shutdown:
            self._at_shutdown = {}
        token = object()
        self._at_shutdown[token] = callback
        return partial(self._at_shutdown.pop, token, None)

    def _tell(self, callback: Callable[[], object]) -> None:
        self.told = True
        self.cancelled = callback() is True or self.cancelled
