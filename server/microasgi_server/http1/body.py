"""How far a request's body has come: of a known length here, in chunks in chunked.py (RFC 9112 §6.3)."""

from typing import Protocol


class Body(Protocol):
    """What reads one request's body.

    complete: whether all of it has come.
    """

    complete: bool

    def read(self, data: bytes) -> tuple[bytes, bytes]:
        """Take what came: what of it is body, and what is behind the body's end.

        :raises Refusal: the framing is broken, or costs more than it carries
        """
        ...


class Sized:
    """A body whose length the head has told."""

    __slots__ = ("_missing", "complete")

    def __init__(self, length: int) -> None:
        self._missing = length
        self.complete = not length

    def read(self, data: bytes) -> tuple[bytes, bytes]:
        rest = data[self._missing :]
        if rest:
            data = data[: self._missing]
        self._missing -= len(data)
        self.complete = not self._missing
        return data, rest
