"""What the inspector remembers, and what it leaves out: all of it is bounded, and what is left out is counted."""

import json
from collections import namedtuple
from functools import partial
from typing import Any

import anyio
import pytest

from microasgi.inspector.page.feed import Feed
from microasgi.inspector.page.pages import Pages
from microasgi.inspector.page.recording import OF_ONE, Recording
from microasgi.inspector.told import Shown

Told = namedtuple("Told", "at connection request lane what source facts")


def event(lane: str, what: str, connection: int = 1, request: int = 0, **facts: Any) -> Shown:
    return {"at": 0.0, "connection": connection, "request": request, "lane": lane, "what": what, "source": None, "facts": facts}


def conversation(recording: Recording, connection: int, *, port: int = 40000) -> None:
    """A request and its end."""
    recording.put(event("wire", "open", connection, client=["127.0.0.1", port]))
    recording.put(event("wire", "in", connection, data={"bytes": "", "size": 9}))
    recording.put(event("core", "head", connection, 1, line="GET / HTTP/1.1"))
    recording.put(event("asgi", "call", connection, 1))
    recording.put(event("asgi", "end", connection, 1))
    recording.put(event("wire", "lost", connection, 1))


def whats(recording: Recording) -> list[list[str]]:
    return [[event["what"] for event in entry.told()] for entry in recording.entries.values()]


def test_a_connection_that_is_used_again_has_more_than_one_request() -> None:
    """The bytes of the next head belong to it, although the server counts it later; late ends belong to their own request."""
    recording = Recording()
    for what in ("open", "in"):
        recording.put(event("wire", what))
    for lane, what in (("core", "head"), ("asgi", "call"), ("asgi", "send")):
        recording.put(event(lane, what, request=1))
    recording.put(event("asgi", "end", request=1))
    recording.put(event("wire", "in", request=1))
    recording.put(event("core", "head", request=2))
    recording.put(event("asgi", "call", request=2))
    recording.put(event("handler", "returned", request=1))  # of a task that outlives its call
    recording.put(event("wire", "FIN", request=2))
    assert whats(recording) == [["open", "in", "head", "call", "send", "end", "returned"], ["in", "head", "call", "FIN"]]


def test_pipelined_requests_are_told_apart_by_their_heads() -> None:
    """The second one's bytes came with the first one's."""
    recording = Recording()
    for number in (1, 2):
        recording.put(event("core", "head", request=number))
        recording.put(event("asgi", "call", request=number))
    assert whats(recording) == [["head", "call"], ["head", "call"]]


def test_a_connection_that_asks_for_nothing_is_shown_too() -> None:
    """Whoever leaves in the middle of a head is an entry without a number, found by the client's port."""
    recording = Recording()
    recording.put(event("wire", "open", client=["127.0.0.1", 4711]))
    recording.put(event("wire", "lost"))
    (entry,) = recording.entries.values()
    assert (entry.number, entry.peer, entry.closed) == (0, 4711, True)


@pytest.mark.parametrize("limits", [{"requests": 3}, {"events": 18}, {"size": 18 * 700}], ids=str)
def test_the_oldest_are_forgotten(limits: dict[str, int]) -> None:
    """Past any of the limits the oldest requests go, whole; what is told of them later is dropped."""
    recording = Recording(**limits)
    gone = []
    for connection in range(1, 11):
        conversation(recording, connection)
        gone += [entry.connection for entry in recording.forget()]
    left = [entry.connection for entry in recording.entries.values()]
    assert gone + left == list(range(1, 11))
    assert 1 <= len(left) <= 5
    assert recording.put(event("asgi", "end", connection=gone[0], request=1)) is None or gone[0] not in left


def test_of_a_long_request_the_first_and_the_newest_are_kept() -> None:
    """A stream that doesn't end keeps its beginning, and how many events lie between is known."""
    recording = Recording()
    recording.put(event("core", "head", request=1))
    for number in range(OF_ONE + 126):
        recording.put(event("asgi", "send", request=1, number=number))
    (entry,) = recording.entries.values()
    assert (len(entry), entry.left_out) == (OF_ONE, 127)
    assert [told["facts"].get("number") for told in (entry.told()[1], entry.told()[-1])] == [0, OF_ONE + 125]


def test_the_apps_thread_never_waits_for_the_pages() -> None:
    """The queue between them takes what it has room for, and counts the rest."""
    feed = Feed(most=3)
    for number in range(130):
        feed(Told(0.0, number, 0, "wire", "in", None, {}))
    events, left_out = feed.take()
    assert ([told.connection for told in events], left_out) == ([0, 1, 2], 127)
    assert feed.take() == ([], 0)


@pytest.mark.anyio
async def test_a_page_that_does_not_keep_up_is_told_what_it_missed() -> None:
    """Newer news take the place of older; what was forgotten before the page heard of it is counted, and said first."""
    pages = Pages()
    with pages.one_more() as page:
        for number in (1, 2, 3):
            for turn in range(100):
                pages.tell(("request", number), partial(dict, id=number, turn=turn))
        pages.withdraw(("request", 1), events=100)
        pages.withdraw(("request", 7), events=100)  # which it never had to hear of
        pages.leave_out(27)
        lines = page.lines()
        told = [json.loads(await anext(lines)) for _ in range(3)]
        assert told == [{"kind": "left_out", "events": 127}, {"id": 2, "turn": 99}, {"id": 3, "turn": 99}]
        with anyio.move_on_after(0.05) as quiet:
            await anext(lines)
        assert quiet.cancelled_caught
    assert len(pages) == 0
