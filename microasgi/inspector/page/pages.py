"""What an open page is still to be told. One that doesn't keep up isn't waited for, and what it misses is counted."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio

News = dict[str, Any]
Key = tuple[str, int]


class Page:
    """The news for one page, by what they are about: newer ones take the place of older ones, so that there are never many."""

    def __init__(self) -> None:
        self._news: dict[Key, Callable[[], News]] = {}
        self._left_out = 0
        self._event = anyio.Event()

    def tell(self, key: Key, news: Callable[[], News]) -> None:
        """There is something new.

        :param key: what about
        :param news: makes it, once the page takes it
        """
        self._news[key] = news
        self._event.set()

    def withdraw(self, key: Key, events: int) -> None:
        """It is forgotten: if the page was still to be told of it, so many events are left out."""
        if self._news.pop(key, None) is not None:
            self.leave_out(events)

    def leave_out(self, events: int) -> None:
        """So many events won't be told."""
        self._left_out += events
        self._event.set()

    async def lines(self) -> AsyncIterator[str]:
        """What there is to tell, as JSON, a line each; for ever."""
        while True:
            await self._event.wait()
            self._event = anyio.Event()
            if self._left_out:
                news, self._left_out = {"kind": "left_out", "events": self._left_out}, 0
                yield _line(news)
            while self._news:
                yield _line(self._news.pop(next(iter(self._news)))())


def _line(news: News) -> str:
    return json.dumps(news, separators=(",", ":")) + "\n"


class Pages:
    """The pages that are open."""

    def __init__(self) -> None:
        self._open: set[Page] = set()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def one_more(self) -> Iterator[Page]:
        """A page, as long as somebody reads it."""
        page = Page()
        self._open.add(page)
        try:
            yield page
        finally:
            self._open.discard(page)

    def tell(self, key: Key, news: Callable[[], News]) -> None:
        """Tell each of them: see `Page.tell`."""
        for page in self._open:
            page.tell(key, news)

    def withdraw(self, key: Key, events: int) -> None:
        """See `Page.withdraw`."""
        for page in self._open:
            page.withdraw(key, events)

    def leave_out(self, events: int) -> None:
        """See `Page.leave_out`."""
        for page in self._open:
            page.leave_out(events)
