"""What is found against the rules of ASGI: in the ladder where it happened, in a sentence, on the page."""

import json
from pathlib import Path
from typing import Any

import pytest
from microasgi_server.taps import Redaction

from microasgi.asgi import Receive, Scope, Send
from microasgi.command.comparing import hidden
from microasgi.inspector.findings import findings
from microasgi.inspector.ladder import Style, ladder
from microasgi.inspector.timeline import timeline
from microasgi.lint.marking import marked
from microasgi.lint.rule import Finding
from microasgi.watching import watch
from tests.inspector.conversations import event
from tests.inspector.inspected import inspecting
from tests.inspector.test_trace import Run, trace

__all__ = ["trace"]

SECRET = "e5b5ca-secret"
SAYS = "The names of header fields are in small letters."
FACTS = {"rule": "H-19", "level": "ERROR", "side": "app", "detail": "headers has [b'X-`*']", "says": SAYS}
FOUND = event(3.0, "asgi", "lint", **FACTS, document="ASGI HTTP & WebSocket", section="Response Start")


async def careless(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that breaks two rules."""
    assert scope["type"] == "http"
    headers = [(b"X-Odd", b"1"), ("set-cookie", SECRET)]
    await send({"type": "http.response.start", "status": 200, "headers": headers[:1]})
    await send({"type": "http.response.body", "body": b"", "more_body": 1})
    await send({"type": "http.response.body"})


def test_a_finding_is_a_mark_in_the_ladder() -> None:
    """Where it happened, in the lane of what was said; red and reasons are for departures."""
    (row,) = timeline([FOUND]).happened()
    assert ladder(timeline([FOUND]), Style()).splitlines()[1:] == [
        "    3.000  │     │     │     !     │  H-19, by the app  headers has [b'X-'*']"
    ]
    assert row.spec is not None
    assert row.spec.says == SAYS


def test_each_broken_rule_is_a_sentence() -> None:
    """Once, with its section, however often it was broken."""
    other = {**FOUND, "facts": {**FOUND["facts"], "side": "server", "detail": ""}}
    assert findings([FOUND, FOUND, other]) == [
        f"*The app breaks a rule* (`headers has [b'X-'*']`), 2 times. {SAYS} H-19: ASGI HTTP & WebSocket, Response Start.",
        f"*The server breaks a rule*. {SAYS} H-19: ASGI HTTP & WebSocket, Response Start.",
    ]


def test_trace_shows_what_is_found(trace: Run, tmp_path: Path) -> None:
    """In the ladder, below it, and in what is written for other programs."""
    file = tmp_path / "json"
    code, out, err = trace("test_findings:careless", "GET", "/", "--app-dir", str(Path(__file__).parent), "--json", str(file))
    assert (code, err) == (0, "")
    assert "│     !     │  H-19, by the app  headers has [b'X-Odd']" in out
    assert f"The app breaks a rule (headers has [b'X-Odd']). {SAYS} H-19: ASGI HTTP & WebSocket, Response Start." in " ".join(out.split())
    told = [event["facts"]["rule"] for event in json.loads(file.read_text())["events"] if event["what"] == "lint"]
    assert told == ["H-19", "H-16"]


@pytest.mark.anyio
async def test_the_page_shows_what_is_found() -> None:
    """A row has its mark, and the sentence with its section."""
    async with inspecting(careless) as inspected:
        rows = (await inspected.timeline(await inspected.visit("GET", "/", "after")))["rows"]
    found = [row for row in rows if row.get("glyph") == "!"]
    assert [row["label"] for row in found] == ["H-19, by the app `headers has [b'X-Odd']`", "H-16, by the app `more_body is 1, not a bool`"]
    said = [row for row in rows if row.get("label", "").startswith(("send response", "H-"))]
    assert [row["src"]["file"] for row in said] == ["test_findings.py"] * 5
    assert found[0]["spec"] == ["ASGI HTTP & WebSocket", "Response Start", SAYS]


@pytest.mark.anyio
async def test_values_are_not_told_where_they_are_hidden() -> None:
    """A finding has no value of a header field in it, and none at all where bodies or queries are hidden. Another report is whole."""
    heard: list[Finding] = []

    async def leaking(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [("set-cookie", SECRET)]})
        await send({"type": "http.response.body", "body": SECRET})

    told: list[dict[str, Any]] = []
    scope = {"type": "http", "asgi": {"version": "3.0"}, "extensions": {"microasgi.tap": {"tell": lambda *event: told.append(event[3])}}}
    for details in (True, False):
        await watch(marked(leaking, heard.append, details=details))(scope, nothing, nobody)
    shown = [facts["detail"] for facts in told if facts.get("rule") in ("H-16", "H-18")]
    assert shown == ["headers has (str, str), not a pair of bytes, called 'set-cookie'", f"body is {SECRET!r}, not bytes", "", ""]
    assert [finding.rule.id for finding in heard if finding.rule.id in ("H-16", "H-18")] == ["H-18", "H-16"] * 2
    assert hidden(FOUND, Redaction(bodies=False))["facts"]["detail"] == ""
    assert hidden(FOUND, Redaction())["facts"]["detail"] == FACTS["detail"]


async def nothing() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def nobody(message: Any) -> None:
    pass
