"""What is written for other programs: JSON, Perfetto's JSON, HAR."""

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from microasgi.inspector.client import Request
from microasgi.inspector.exports import as_json, as_perfetto
from microasgi.inspector.har import as_har
from microasgi.inspector.told import Shown
from tests.inspector.conversations import ANSWERED, LEFT, UNHEARD

CONVERSATIONS = pytest.mark.parametrize("events", [LEFT, UNHEARD, ANSWERED], ids=["left", "unheard", "answered"])


@CONVERSATIONS
def test_json_has_an_event_a_line(events: list[Shown]) -> None:
    """It reads as it was, whole and line by line."""
    text = as_json(events)
    assert json.loads(text) == {"version": 1, "events": events}
    assert [json.loads(line.rstrip(",")) for line in text.splitlines()[1:-1]] == events


def traced(events: list[Shown], phase: str) -> list[dict[str, Any]]:
    """The trace events of one kind."""
    told = json.loads(as_perfetto(events, "GET /report/2024"))
    return [event for event in told["traceEvents"] if event["ph"] == phase]


def test_lanes_are_threads_in_order() -> None:
    """Each with its name, and all in one process."""
    named = [event for event in traced(LEFT, "M") if event["name"] == "thread_name"]
    sorted_ = [event for event in traced(LEFT, "M") if event["name"] == "thread_sort_index"]
    assert [event["args"]["name"] for event in named] == ["client", "wire", "server", "ASGI", "handler"]
    assert [event["tid"] for event in named] == [event["args"]["sort_index"] for event in sorted_] == [1, 2, 3, 4, 5]


def test_the_news_is_one_flow() -> None:
    """From the client's `close()` to the handler, each step in a slice of its own, at its time."""
    (start,), steps, (end,) = traced(LEFT, "s"), traced(LEFT, "t"), traced(LEFT, "f")
    assert (start["tid"], start["ts"], end["tid"], end["bp"]) == (1, 1003711.0, 5, "e")
    assert len({event["id"] for event in (start, *steps, end)}) == 1
    slices = {(event["tid"], event["ts"]) for event in traced(LEFT, "X") if event["cat"] == "news"}
    assert {(event["tid"], event["ts"]) for event in (start, *steps, end)} == slices
    assert traced(ANSWERED, "s") == []


def test_states_are_slices_that_do_not_overlap() -> None:
    """The handler waits, is cancelled, cleans up: one behind the other."""
    states = [event for event in traced(LEFT, "X") if event["cat"] == "state"]
    assert [event["name"] for event in states] == [
        *("the handler works", "the handler waits", "the handler is cancelled", "the handler waits", "the handler works")
    ]
    for before, after in pairwise(states):
        assert before["ts"] + before["dur"] == pytest.approx(after["ts"])


@CONVERSATIONS
def test_every_trace_event_has_what_its_kind_needs(events: list[Shown]) -> None:
    """By Chrome's Trace Event Format: a phase, a thread, a time in microseconds; a slice its length, an instant its scope."""
    arrow = {"ts", "id", "cat"}
    needs = {"M": set(), "i": {"ts", "s", "cat"}, "X": {"ts", "dur", "cat"}, "s": arrow, "t": arrow, "f": arrow}
    for event in json.loads(as_perfetto(events, ""))["traceEvents"]:
        assert {"ph", "pid", "tid", "name", *needs[event["ph"]]} <= event.keys()
        assert event.get("dur", 1) > 0


PAIRS = [{"name": str, "value": str}]
HAR: dict[str, Any] = {
    "log": {
        "version": str,
        "creator": {"name": str, "version": str},
        "entries": [
            {
                "startedDateTime": str,
                "time": float,
                "request": {
                    **dict.fromkeys(("method", "url", "httpVersion"), str),
                    "cookies": PAIRS,
                    "headers": PAIRS,
                    "queryString": PAIRS,
                    "headersSize": int,
                    "bodySize": int,
                },
                "response": {
                    "status": int,
                    "statusText": str,
                    "httpVersion": str,
                    "cookies": PAIRS,
                    "headers": PAIRS,
                    "content": {"size": int, "mimeType": str},
                    "redirectURL": str,
                    "headersSize": int,
                    "bodySize": int,
                },
                "cache": {},
                "timings": dict.fromkeys(("send", "wait", "receive"), float),
            }
        ],
    }
}
"""What HAR 1.2 demands of each object, and of which type it is; there may be more, whose name begins with an underscore if it is new."""

OPTIONAL = {"postData", "blocked", "dns", "connect", "ssl", "comment"}


def fits(value: Any, shape: Any, place: str = "") -> None:
    """Assert that it does."""
    if isinstance(shape, dict):
        assert shape.keys() <= value.keys(), place
        assert all(name in OPTIONAL or name.startswith("_") for name in value.keys() - shape.keys()), place
        for name in shape:
            fits(value[name], shape[name], f"{place}.{name}")
    elif isinstance(shape, list):
        for each in value:
            fits(each, shape[0], place)
    else:
        assert isinstance(value, (int, float) if shape is float else shape), place


REQUEST = Request("POST", "/report/2024?page=2", [("Content-Type", "text/plain"), ("Cookie", "secret=1")], b"hello")
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: secret=2\r\n\r\nhello"


def har(events: list[Shown], received: bytes) -> Any:
    return json.loads(as_har(events, REQUEST, received, datetime(2026, 1, 1, tzinfo=UTC), ("microasgi", "0.1")))


@CONVERSATIONS
def test_a_har_has_the_shape_of_one(events: list[Shown]) -> None:
    """With or without a response."""
    for received in (RESPONSE, b""):
        fits(har(events, received), HAR)


def test_a_har_says_that_the_client_left() -> None:
    """There is no response then; the events stand beside."""
    (entry,) = har(LEFT, b"")["log"]["entries"]
    assert (entry["response"]["status"], entry["_error"], len(entry["_events"])) == (0, "the client left", len(LEFT))
    assert entry["time"] == pytest.approx(sum(each for each in entry["timings"].values() if each > 0), abs=0.01)


def test_a_har_has_request_and_response() -> None:
    """The query by its names, the body with its type, the fields of the response."""
    (entry,) = har(ANSWERED, RESPONSE)["log"]["entries"]
    assert entry["request"]["queryString"] == [{"name": "page", "value": "2"}]
    assert entry["request"]["postData"] == {"mimeType": "text/plain", "text": "hello"}
    assert (entry["response"]["status"], entry["response"]["statusText"]) == (200, "OK")
    assert entry["response"]["content"] == {"size": 5, "mimeType": "text/plain"}
    assert "_error" not in entry


def test_a_har_keeps_secrets() -> None:
    """Of cookies and their like there are the names."""
    assert "secret" not in as_har(LEFT, REQUEST, RESPONSE, datetime(2026, 1, 1, tzinfo=UTC), ("microasgi", "0.1"))
