"""Events in rows, rows as text, and the sentences below them."""

import io
from dataclasses import replace
from typing import Any

import pytest

from microasgi.inspector.ladder import NARROW, Style, ladder, sentences
from microasgi.inspector.summary import span, story, summary
from microasgi.inspector.timeline import QUIET, Fold, Gap, Row, excerpt, timeline
from microasgi.inspector.told import Shown, in_order
from microasgi.inspector.wording import WORDS
from tests.inspector.conversations import ANSWERED, BEGINS, ENDS, LEFT, UNHEARD, data, event

LADDER = """\
     ms client wire server ASGI handler
    0.000  ●     │     │     │     │  connect()
    0.292  ├────▸●     │     │     │  connection made by 127.0.0.1:34864
    2.454  ●     │     │     │     │  send 72 bytes  GET /report/2024 HTTP/1.1
    2.557  ├────▸●     │     │     │  72 bytes in  GET /report/2024 HTTP/1.1
    2.749  │     ├────▸●     │     │  the head is whole  GET /report/2024 HTTP/…
    2.858  │     │     ├────▸●     │  app(scope, receive, send)
    2.982  │     │     │     ●◂────┤  subscribe(Visit.leave)
    3.081  │     │     │     │     ◌  waits at shop.py:48 in query  await anyio…
           ┊     ┊     ┊     ┊     ┊  ⋯ 1.00 s in which the handler waits
 1003.711  ✕     │     │     │     │  close()
 1003.875  ├────▸✕     │     │     │  FIN: the read gave no more
 1003.890  │     ├────▸✕     │     │  hang_up: the client closed its side (FIN)
 1003.937  │     │     ✕     │     │  phase WAITING → GONE
 1003.959  │     │     ├────▸✕     │  Visit.leave() is called
 1003.983  │     │     │     │     ✕  delivery OPEN → CALLED
 1004.011  │     │     │     │     ✕  delivery CALLED → SENT
 1004.029  │     ●◂────┤     │     │  close()
 1004.094  │     │     │     │     ✕  CancelledError at shop.py:48 in query
 1004.104  │     │     │     │     ✕  delivery SENT → HEARD
 1004.284  │     │     │     │     ◌  cleanup waits at shop.py:52 in __aexit__ …
 1004.310  │     ●     │     │     │  the socket is closed
 1021.708  │     │     │     │     ●  goes on
 1021.773  │     │     │     │     ●  delivery HEARD → OVER
 1021.829  │     │     │     ●◂────┤  the app has returned"""

SAID = event(3.5, "asgi", "send", message={"type": "http.response.start", "status": 200})
RAISED = event(4.0, "handler", "raised", error="KeyError: 'name'", at="shop.py:49 in query", task=0)

TOLD = {
    "left": (
        LEFT,
        "The client left at 1.004 s. Its FIN was read 0.16 ms later, the handler was told at shop.py:48 in query *0.22 ms* after that, "
        "and was over after 17.7 ms of cleanup (1 await). 499, no response.",
    ),
    "unheard": (
        UNHEARD,
        "The client left at 1.004 s. The handler never heard of it: it *worked on for nobody for 9.03 s*. "
        "Its response, 200, reached nobody.",
    ),
    "still at work": (
        [*UNHEARD[:5], event(3003.862, "handler", "child", task=1, name="poll", of=0)],
        "The client left at 1.004 s. The handler never heard of it: it was *still at work for nobody 2.00 s* later, at shop.py:15 in "
        "query. There was no response.",
    ),
    "answered": (
        ANSWERED,
        "The response, 200, was complete at 3 ms. The client left after that, at 204 ms: nothing was cancelled.",
    ),
    "asked": (
        [*UNHEARD[:5], event(1004.5, "asgi", "receive", message={"type": "http.disconnect"}), event(1004.6, "asgi", "end")],
        "The client left at 1.004 s. The handler heard of it in receive() *0.64 ms* later, and was over 0.10 ms later. 499, no response.",
    ),
    "a timeout of its own, before the server knows": (
        [
            *BEGINS,
            event(9.0, "client", "close", way="FIN"),
            event(9.1, "handler", "thrown", task=0, error="CancelledError"),
            event(9.2, "wire", "FIN"),
            event(9.3, "asgi", "told", who="Visit.leave"),
            event(9.4, "asgi", "end"),
        ],
        "The client left at 9 ms. Its FIN was read 0.20 ms later. The handler never heard of it: it *worked on for nobody for 0.40 ms*. "
        "499, no response.",
    ),
    "raised, and left later": (
        [*BEGINS, RAISED, event(4.1, "asgi", "end"), event(9.0, "client", "close", way="FIN"), event(9.1, "wire", "FIN")],
        "The handler ended with KeyError at shop.py:49 in query. There was no response.",
    ),
    "raised, and nobody left": (
        [*BEGINS, SAID, RAISED, event(4.1, "asgi", "end")],
        "The handler ended with KeyError at shop.py:49 in query. Of its response, 200, not all was sent.",
    ),
    "returned, and left later": (
        [*BEGINS, event(4.0, "handler", "returned", task=0), event(4.1, "asgi", "end"), event(9.0, "client", "close", way="goodbye")],
        "The client was there to the end, at 9 ms. There was no response.",
    ),
    "no head": (
        [*BEGINS[:4], event(500.0, "client", "close", way="FIN"), event(500.1, "wire", "FIN")],
        "The client left at 500 ms, before its request's head was whole: the app was not called.",
    ),
    "refused": (
        [*BEGINS[:4], event(3.0, "core", "refused", status=400, reason="there is no Host")],
        "The server refused it with 400 by itself: the app was not called.",
    ),
}


@pytest.mark.parametrize(("events", "told"), TOLD.values(), ids=TOLD)
def test_a_conversation_is_summed_up(events: list[Shown], told: str) -> None:
    """When the client left, when that was known, and what it cost, in a few sentences."""
    assert summary(events) == told


def test_a_ladder_is_drawn() -> None:
    """A row for each event, a fold for the silence, an arrow from lane to lane."""
    assert ladder(timeline(LEFT), Style()) == LADDER


@pytest.mark.parametrize("width", [40, 80, 100, 140])
@pytest.mark.parametrize("events", [LEFT, UNHEARD, ANSWERED], ids=["left", "unheard", "answered"])
def test_no_line_is_wider_than_the_terminal(events: list[Shown], width: int) -> None:
    """Of the ladder as of the sentences."""
    style = Style(width)
    text = f"{ladder(timeline(events), style)}\n{sentences(summary(events), style)}"
    assert max(map(len, text.splitlines())) <= width


def test_where_there_is_room_places_in_the_code_are_shown() -> None:
    """At the right margin, by the file's name."""
    lines = ladder(timeline(LEFT), Style(110)).splitlines()
    assert lines[12].endswith("  hang_up: the client closed its side (FIN)              connection.py:124")
    assert len(lines[12]) == 110


def test_a_ladder_of_ascii_has_nothing_else() -> None:
    """And says the same."""
    text = ladder(timeline(LEFT), Style(plain=True))
    assert text.isascii()
    assert "\n 1003.875  +---->x     |     |     |  FIN" in text


def hot(events: list[Shown]) -> list[str]:
    """What carries the news."""
    return [row.label for row in timeline(events).happened() if row.hot]


def test_the_way_of_the_news_is_red_and_has_a_mark() -> None:
    """From `close()` to the await that raises; nothing that happens meanwhile, and nothing after it."""
    text = ladder(timeline(LEFT), Style(colours=True))
    red = [line for line in text.splitlines() if "\x1b[31;1m" in line]
    assert len(red) == len(hot(LEFT)) == 9
    assert all("✕" in line for line in red)
    assert hot(LEFT)[0] == "close()"
    assert hot(LEFT)[-2:] == ["CancelledError at shop.py:48 in query", "delivery SENT → HEARD"]
    assert "✕" not in "".join(line for line in text.splitlines() if line not in red)


def test_behind_the_last_byte_there_is_no_news() -> None:
    """Who leaves then leaves nothing behind: a ✕, and no red."""
    assert hot(ANSWERED) == []
    assert next(row.label for row in timeline(ANSWERED).happened() if row.glyph == "✕") == "close()"


def test_work_for_nobody_is_a_silence_of_its_own() -> None:
    """The gap in which a handler works on says for whom."""
    first, second = (row for row in timeline(UNHEARD).rows if isinstance(row, Gap))
    assert (first.note, first.late, second.note, second.late) == ("in which the handler waits", False, "of work for nobody", True)


def test_what_only_repeats_is_folded() -> None:
    """Of a thousand pieces the first and the last are shown, and how many came between; a fold hides no news."""
    pieces = [event(10 + i, "wire", "out", data=data(b"x" * (i + 1))) for i in range(1000)]
    rows = timeline([*BEGINS, *pieces, event(1003.7, "client", "close", way="RST"), *ENDS]).rows
    (fold,) = (row for row in rows if isinstance(row, Fold))
    assert fold.fold == 995
    sizes = [row.data["size"] for row in rows if isinstance(row, Row) and row.what == ("wire", "out") and row.data]
    assert sizes == [1, 2, 3, 4, 1000]
    assert len(timeline(pieces, fold=False).rows) == 1000


def test_every_moment_has_its_state() -> None:
    """What is known then: the phase, the stage, where the handler waits."""
    states = [row.state for row in timeline(LEFT).happened()]
    assert (states[7].handler, states[7].at, states[7].phase) == ("waits", "shop.py:48 in query", "WAITING")
    assert (states[17].handler, states[17].stage, states[17].gone) == ("cancelled", "HEARD", True)
    assert (states[-1].handler, states[-1].wire, states[-1].phase) == ("ended", "closed", "GONE")


def test_a_row_is_plain_data() -> None:
    """As a page gets it: the lanes by their numbers, the code around, the bytes."""
    row = next(timeline([event(0.0, "wire", "in", f"{__file__}:1", data=data(b"GET"))]).happened()).shown()
    assert (row["frm"], row["to"], row["label"], row["bytes"]) == (0, 1, "3 bytes in `GET`", {"hex": "474554", "size": 3})
    assert row["src"]["code"][0] == [1, '"""Events in rows, rows as text, and the sentences below them."""']
    assert excerpt(None) is None


def test_what_nobody_has_words_for_is_called_by_its_name() -> None:
    """A newer server may tell more."""
    (row,) = timeline([event(0.0, "core", "levitates")]).happened()
    assert (row.frm, row.to, row.label) == (2, 2, "levitates")


FACTS: dict[str, Any] = {
    "data": data(b""),
    "message": {"type": "http.response.body"},
    "old": "WAITING",
    "new": "DONE",
    "status": 400,
}


@pytest.mark.parametrize("kind", sorted(WORDS.keys() - QUIET), ids="-".join)
def test_no_event_needs_facts_beyond_those_of_its_kind(kind: tuple[str, str]) -> None:
    """There are words for what is told without those that may be missing."""
    (row,) = timeline([event(0.0, *kind, **FACTS)]).happened()
    assert row.label


def test_events_of_several_tellers_are_put_in_order() -> None:
    """By their time, counted from the first."""
    shuffled = [{**told, "at": told["at"] + 5000} for told in LEFT[::-1]]
    assert [(told["at"], told["what"]) for told in in_order(shuffled)] == [(told["at"], told["what"]) for told in LEFT]


class Stream(io.TextIOWrapper):
    """A standard output, on a terminal or not."""

    def __init__(self, *, terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


NO_COLOUR = [(True, {"NO_COLOR": "1"}), (True, {"TERM": "dumb"}), (False, {})]


@pytest.mark.parametrize(
    ("terminal", "environ", "colours"),
    [(True, {}, True), (True, {"NO_COLOR": ""}, True), *((*each, False) for each in NO_COLOUR)],
    ids=str,
)
def test_colours_are_for_terminals(terminal: bool, environ: dict[str, str], colours: bool) -> None:
    """None in a pipe, and none where somebody says so (no-color.org)."""
    assert Style.of(Stream(terminal=terminal), environ).colours is colours


def test_a_pipe_gets_eighty_columns_and_what_its_encoding_has() -> None:
    """An encoding without the characters of a ladder gets one of ASCII."""
    style = Style.of(Stream(terminal=False), {})
    assert (style.width, style.plain) == (NARROW, False)
    assert Style.of(Stream(terminal=False, encoding="latin-1"), {}).plain


def test_the_story_ends_where_the_events_do() -> None:
    """A handler that nobody has told is late as long as it works, and one that was told isn't."""
    assert story(UNHEARD).late == pytest.approx(9032.144)
    assert story(LEFT).late is None
    assert story(ANSWERED).late is None
    assert replace(story(UNHEARD), heard=1500.0).late is None


TIMES = {0.2: "0.20 ms", 17.7: "17.7 ms", 982: "982 ms", 999.6: "1.00 s", 1000.6: "1.00 s", 61234: "61.2 s"}


@pytest.mark.parametrize(("milliseconds", "text"), TIMES.items())
def test_times_have_three_digits(milliseconds: float, text: str) -> None:
    """More of them would be noise."""
    assert span(milliseconds) == text
