"""What a WebSocket's client has said, and what of that its handler has left: a goodbye's meaning depends on it (conversation.py)."""

from collections import deque

from microasgi.asgi import Message

MESSAGES = 64
"""Messages that are read ahead of the app at most, however short they are."""

READ_AHEAD = 64 * 1024
"""Bytes of them, or characters."""

VANISHED = 1006
"""RFC 6455 §7.1.5: the connection has ended without a goodbye."""

NO_STATUS = 1005
"""The goodbye had no code."""


class Inbox:
    """One client's messages, from their arrival until the app has done with them.

    end: the `websocket.disconnect` behind the last; None until the client has left.
    taken: how many messages the app has taken.
    """

    def __init__(self) -> None:
        self.end: Message | None = None
        self.taken = 0
        self._untaken: deque[Message] = deque()
        self._size = 0
        self._in_hand = False

    @property
    def full(self) -> bool:
        """Whether the client should be read no further."""
        return self._size >= READ_AHEAD or len(self._untaken) >= MESSAGES

    @property
    def busy(self) -> bool:
        """Whether the app has something of the client's left: untaken, or taken and neither answered nor come back from."""
        return bool(self._untaken) or self._in_hand

    def put(self, message: Message) -> None:
        """A message has arrived."""
        self._untaken.append(message)
        self._size += _size(message)

    def take(self) -> Message | None:
        """The next for the app, or None: there is none yet. To ask is to have done with the one before."""
        self._in_hand = False
        if not self._untaken:
            return self.end
        message = self._untaken.popleft()
        self._size -= _size(message)
        self._in_hand = message["type"] == "websocket.receive"
        self.taken += 1
        return message

    def answered(self, taken: int) -> None:
        """What the app has sent is on its way, and was begun when so many had been taken: no answer to what came later."""
        if taken == self.taken:
            self._in_hand = False

    def close(self, code: int, reason: str = "") -> None:
        """The client has left."""
        self.end = {"type": "websocket.disconnect", "code": code, "reason": reason}

    def drop(self) -> None:
        """Nobody wants what is left."""
        self._untaken.clear()
        self._size = 0


def _size(message: Message) -> int:
    return len(message.get("text") or message.get("bytes") or b"")
