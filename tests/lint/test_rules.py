"""Every rule has a conversation that breaks it, and a like one that doesn't."""

from collections.abc import Sequence
from typing import Any

import pytest

from microasgi.lint import RULES, Level
from microasgi.lint.rule import Moment
from tests.lint.talks import (
    ACCEPT,
    BODY,
    CHAT,
    CLOSE,
    CONNECT,
    GOODBYE,
    HEARD,
    HTTP,
    LEFT,
    LIFE,
    LIFESPAN,
    PART,
    PIECE,
    PLAIN,
    REQUEST,
    SAID,
    SHUTDOWN,
    SOCKET,
    START,
    STARTED,
    STARTUP,
    STOPPED,
    Step,
    bare,
    findings,
    into,
    out,
    without,
)

pytestmark = pytest.mark.anyio

TRAILERS = {**HTTP, "extensions": {"http.response.trailers": {}}}
SENDING = {**HTTP, "extensions": {"http.response.pathsend": {}, "http.response.debug": {}}}
OLD = {**SOCKET, "asgi": {"version": "3.0", "spec_version": "2.0"}}
ANNOUNCED = out("http.response.start", status=200, trailers=True)
LAST = out("http.response.trailers", headers=[(b"x", b"y")])
PATH = out("http.response.pathsend", path="/tmp/file")
DENIED, WHY = out("websocket.http.response.start", status=401), out("websocket.http.response.body", body=b"no")


def answered(**start: Any) -> tuple[Step, ...]:
    return REQUEST, out("http.response.start", **{"status": 200, **start}), BODY


def spoken(**body: Any) -> tuple[Step, ...]:
    return REQUEST, START, out("http.response.body", **body)


def accepted(**accept: Any) -> tuple[Step, ...]:
    return CONNECT, out("websocket.accept", **accept), GOODBYE


def closed(**close: Any) -> tuple[Step, ...]:
    return CONNECT, ACCEPT, out("websocket.close", **close)


def refused(error: BaseException) -> tuple[Step, ...]:
    return REQUEST, START, LEFT, ("out", BODY[1], error)


Conversation = tuple[Any, Sequence[Step]]
"""A scope, and what is said."""

BROKEN: list[tuple[str, str, Conversation, Conversation]] = [
    ("A-1", "server", ([], ()), (HTTP, PLAIN)),
    ("A-1", "server", (without(HTTP, "type"), ()), (HTTP, PLAIN)),
    ("A-2", "server", (without(HTTP, "asgi"), PLAIN), ({**HTTP, "asgi": {}}, PLAIN)),
    ("A-2", "server", ({**HTTP, "asgi": {"version": 3}}, PLAIN), ({**HTTP, "asgi": {"version": "3.0"}}, PLAIN)),
    ("A-2", "server", ({**HTTP, "asgi": {"spec_version": "new"}}, PLAIN), ({**HTTP, "asgi": {"spec_version": "2.3"}}, PLAIN)),
    ("A-3", "server", (HTTP, (("in", None), *PLAIN)), (HTTP, PLAIN)),
    ("A-3", "app", (HTTP, (*PLAIN[:1], ("out", {"body": b""}), *PLAIN[1:])), (HTTP, PLAIN)),
    ("A-4", "server", (HTTP, (into("http.request", extra={1}), START, BODY)), (HTTP, (into("http.request", extra=[1, 2.5]), START, BODY))),
    ("A-4", "app", (HTTP, spoken(extra=2**63)), (HTTP, spoken(extra=2**63 - 1, more={"a": (None, True)}))),
    ("A-4", "app", (HTTP, spoken(extra={"at": float("nan")})), (HTTP, spoken(extra={"at": 1.0}))),
    ("A-4", "app", (HTTP, spoken(extra={1: 2})), (HTTP, spoken(extra={"1": 2}))),
    ("A-5", "app", (HTTP, (REQUEST, SAID, START, BODY)), (HTTP, PLAIN)),
    ("A-5", "server", (SOCKET, (CONNECT, ACCEPT, REQUEST, GOODBYE)), (SOCKET, CHAT)),
    (
        "A-6",
        "app",
        (HTTP, (*PLAIN, out("http.response.end"))),
        ({**HTTP, "extensions": {"response.end": {}}}, (out("http.response.end"), *PLAIN)),
    ),
    ("A-6", "app", (HTTP, (*PLAIN, out("http.fullflush"))), ({**HTTP, "extensions": {"fullflush": {}}}, (out("http.fullflush"), *PLAIN))),
    ("A-7", "server", (HTTP, (REQUEST, into("http.response.start"), START, BODY)), (HTTP, PLAIN)),
    ("A-8", "app", (HTTP, (REQUEST, out("http.request"), START, BODY)), (HTTP, PLAIN)),
    ("E-1", "server", ({**HTTP, "extensions": None}, PLAIN), (without(HTTP, "extensions"), PLAIN)),
    ("E-1", "server", ({**HTTP, "extensions": {1: {}}}, PLAIN), ({**HTTP, "extensions": {"1": {}}}, PLAIN)),
    ("E-2", "server", ({**HTTP, "extensions": {"x": True}}, PLAIN), ({**HTTP, "extensions": {"x": {"y": True}}}, PLAIN)),
    ("E-3", "app", (HTTP, (REQUEST, out("http.response.early_hint", links=[]), START, BODY)), (HTTP, PLAIN)),
    ("E-4", "app", (SENDING, (REQUEST, START, out("http.response.pathsend"))), (SENDING, (REQUEST, START, PATH))),
    ("E-5", "app", (TRAILERS, (REQUEST, START, LAST, BODY)), (TRAILERS, (REQUEST, ANNOUNCED, BODY, LAST))),
    ("E-6", "app", (HTTP, (REQUEST, ANNOUNCED, BODY)), (TRAILERS, (REQUEST, ANNOUNCED, BODY, LAST))),
    ("E-7", "app", (SENDING, (REQUEST, START, PART, PATH)), (SENDING, (REQUEST, START, PATH))),
    (
        "E-8",
        "app",
        (SENDING, (REQUEST, START, out("http.response.debug", info={}), BODY)),
        (SENDING, (out("http.response.debug", info={}), *PLAIN)),
    ),
    ("E-9", "app", (SOCKET, (CONNECT, ACCEPT, DENIED)), (SOCKET, (CONNECT, DENIED, WHY))),
    ("E-10", "app", (SOCKET, (CONNECT, WHY, DENIED, WHY)), (SOCKET, (CONNECT, DENIED, WHY))),
    ("E-11", "app", (SOCKET, (CONNECT, DENIED, ACCEPT, WHY)), (SOCKET, (CONNECT, DENIED, WHY))),
    ("H-1", "server", (without(HTTP, "query_string"), PLAIN), (without(HTTP, "root_path"), PLAIN)),
    ("H-1", "server", ({**HTTP, "scheme": ""}, PLAIN), (without(HTTP, "scheme"), PLAIN)),
    ("H-1", "server", ({**HTTP, "path": b"/"}, PLAIN), ({**HTTP, "raw_path": None}, PLAIN)),
    ("H-1", "server", ({**SOCKET, "subprotocols": [b"chat"]}, CHAT), ({**SOCKET, "query_string": None}, CHAT)),
    ("H-2", "server", ({**HTTP, "method": "get"}, PLAIN), ({**HTTP, "method": "M-SEARCH"}, PLAIN)),
    ("H-3", "server", ({**HTTP, "http_version": "HTTP/1.1"}, PLAIN), ({**HTTP, "http_version": "2"}, PLAIN)),
    ("H-4", "server", ({**HTTP, "path": "/caf%C3%A9"}, PLAIN), ({**HTTP, "root_path": "/a", "path": "/a/caf\xe9"}, PLAIN)),
    ("H-5", "server", ({**HTTP, "raw_path": b"/caf%C3%A9?a=1"}, PLAIN), ({**HTTP, "raw_path": b"/caf%C3%A9", "query_string": b"?"}, PLAIN)),
    ("H-6", "server", ({**HTTP, "headers": [("host", "test")]}, PLAIN), ({**HTTP, "headers": ([b"host", b"test"],)}, PLAIN)),
    ("H-6", "server", ({**HTTP, "headers": [(b"host",)]}, PLAIN), ({**HTTP, "headers": []}, PLAIN)),
    ("H-7", "server", ({**HTTP, "headers": [(b"Host", b"test")]}, PLAIN), ({**HTTP, "headers": [(b"host", b"Test")]}, PLAIN)),
    ("H-8", "server", ({**HTTP, "headers": [(b":path", b"/")]}, PLAIN), ({**HTTP, "headers": [(b"path", b":")]}, PLAIN)),
    ("H-9", "server", ({**HTTP, "client": ("127.0.0.1", "80")}, PLAIN), ({**HTTP, "client": ["::1", 80]}, PLAIN)),
    ("H-9", "server", ({**HTTP, "client": "ab"}, PLAIN), ({**HTTP, "client": None}, PLAIN)),
    ("H-10", "server", ({**HTTP, "server": ("a", 1, 2)}, PLAIN), ({**HTTP, "server": ("/run/socket", None)}, PLAIN)),
    ("H-11", "server", (HTTP, (into("http.request", body=""), START, BODY)), (HTTP, (into("http.request"), START, BODY))),
    ("H-12", "server", (HTTP, (REQUEST, PIECE, START, BODY)), (HTTP, (PIECE, REQUEST, START, BODY))),
    ("H-13", "server", (HTTP, (LEFT, REQUEST)), (HTTP, (REQUEST, LEFT, LEFT))),
    ("H-14", "server", (HTTP, (PIECE, START, BODY, PIECE)), (HTTP, (PIECE, START, BODY, LEFT))),
    ("H-15", "app", (HTTP, (REQUEST, out("http.response.start"), BODY)), (HTTP, answered())),
    ("H-15", "app", (HTTP, answered(status="200")), (HTTP, answered(status=404))),
    ("H-15", "app", (HTTP, answered(headers=None)), (HTTP, answered(headers=iter([(b"a", b"b")])))),
    ("H-16", "app", (HTTP, spoken(body="hello")), (HTTP, spoken())),
    ("H-16", "app", (HTTP, spoken(body=memoryview(b"hello"))), (HTTP, spoken(body=b""))),
    ("H-17", "app", (HTTP, answered(status=20)), (HTTP, answered(status=599))),
    ("H-18", "app", (HTTP, answered(headers=[("a", "b")])), (HTTP, answered(headers=([b"a", b"b"],)))),
    ("H-19", "app", (HTTP, answered(headers=[(b"Server", b"x")])), (HTTP, answered(headers=[(b"server", b"X")]))),
    ("H-20", "app", (HTTP, answered(headers=[(b":status", b"200")])), (HTTP, answered(headers=[]))),
    (
        "H-21",
        "app",
        (HTTP, answered(headers=[(b"transfer-encoding", b"chunked")])),
        (HTTP, answered(headers=[(b"content-encoding", b"gzip")])),
    ),
    ("H-22", "app", (HTTP, (REQUEST, START, START, BODY)), (HTTP, PLAIN)),
    ("H-22", "app", (HTTP, (REQUEST, START, START, BODY)), (HTTP, (REQUEST, (*START, RuntimeError("no")), START, BODY))),
    ("H-23", "app", (HTTP, (REQUEST, BODY, START, BODY)), (HTTP, PLAIN)),
    ("H-24", "app", (TRAILERS, (REQUEST, ANNOUNCED, BODY, BODY, LAST)), (TRAILERS, (REQUEST, ANNOUNCED, PART, BODY, LAST))),
    ("H-25", "app", (HTTP, (*PLAIN, BODY)), (HTTP, (REQUEST, START, PART, BODY))),
    ("H-26", "app", (HTTP, (REQUEST,)), (HTTP, (REQUEST, LEFT))),
    ("H-26", "app", (HTTP, (REQUEST, START, PART)), (HTTP, (REQUEST, START, (*PART, ConnectionResetError())))),
    ("H-26", "app", (TRAILERS, (REQUEST, ANNOUNCED, BODY)), (TRAILERS, (REQUEST, ANNOUNCED, BODY, LAST))),
    ("H-27", "server", (HTTP, (REQUEST, START, LEFT, PART)), ({**HTTP, "asgi": {"spec_version": "2.3"}}, (REQUEST, START, LEFT, PART))),
    ("H-28", "server", (HTTP, refused(RuntimeError("closed"))), (HTTP, refused(OSError("closed")))),
    ("H-29", "app", (HTTP, (*refused(OSError()), PART)), (HTTP, refused(OSError()))),
    ("L-1", "server", ({**LIFESPAN, "state": None}, LIFE), (without(LIFESPAN, "state"), LIFE)),
    ("L-3", "server", (LIFESPAN, (STARTUP, STARTUP, STARTED, SHUTDOWN, STOPPED)), (LIFESPAN, LIFE)),
    ("L-4", "server", (LIFESPAN, (STARTUP, SHUTDOWN, STARTED, STOPPED)), (LIFESPAN, LIFE)),
    ("L-5", "app", (LIFESPAN, (STARTUP, STARTED, STARTED, SHUTDOWN, STOPPED)), (LIFESPAN, (STARTUP, out("lifespan.startup.failed")))),
    ("L-6", "app", (LIFESPAN, (STARTED, STARTUP, SHUTDOWN, STOPPED)), (LIFESPAN, LIFE)),
    ("L-7", "app", (LIFESPAN, (STARTUP, STARTED, STOPPED)), (LIFESPAN, (STARTUP, STARTED, out("lifespan.shutdown.failed")))),
    (
        "L-8",
        "app",
        (LIFESPAN, (STARTUP, out("lifespan.startup.failed", message=KeyError()))),
        (LIFESPAN, (STARTUP, out("lifespan.startup.failed"))),
    ),
    ("L-9", "app", (LIFESPAN, (STARTUP,)), (LIFESPAN, (STARTUP, STARTED))),
    ("W-1", "server", (SOCKET, (HEARD, CONNECT, ACCEPT)), (SOCKET, CHAT)),
    ("W-2", "server", (SOCKET, (CONNECT, CONNECT, ACCEPT)), (SOCKET, CHAT)),
    ("W-3", "server", (SOCKET, (CONNECT, HEARD, ACCEPT)), (SOCKET, CHAT)),
    ("W-4", "server", (SOCKET, (*CHAT, HEARD)), (SOCKET, CHAT)),
    ("W-5", "server", (SOCKET, (CONNECT, ACCEPT, into("websocket.receive", text="a", bytes=b"b"))), (SOCKET, CHAT)),
    (
        "W-5",
        "app",
        (SOCKET, (CONNECT, ACCEPT, out("websocket.send", text=None))),
        (SOCKET, (*CHAT[:3], out("websocket.send", text="", bytes=None))),
    ),
    ("W-5", "app", (SOCKET, (CONNECT, ACCEPT, out("websocket.send", bytes="a"))), (SOCKET, CHAT)),
    (
        "W-6",
        "server",
        (SOCKET, (CONNECT, into("websocket.disconnect"))),
        (SOCKET, (CONNECT, into("websocket.disconnect", code=1006, reason=None))),
    ),
    ("W-7", "app", (SOCKET, accepted(subprotocol=b"chat")), (SOCKET, accepted(subprotocol=None, headers=[]))),
    ("W-8", "app", (SOCKET, accepted(headers=[(b"sec-websocket-protocol", b"chat")])), (SOCKET, accepted(subprotocol="chat"))),
    ("W-9", "app", (SOCKET, accepted(subprotocol="other")), (SOCKET, accepted(subprotocol="chat"))),
    ("W-10", "app", (OLD, accepted(headers=[(b"a", b"b")])), (OLD, accepted(headers=[]))),
    ("W-11", "app", (SOCKET, (CONNECT, ACCEPT, ACCEPT)), (SOCKET, CHAT)),
    ("W-12", "app", (SOCKET, (CONNECT, SAID, ACCEPT)), (SOCKET, CHAT)),
    ("W-13", "app", (SOCKET, (CONNECT, ACCEPT, CLOSE, SAID)), (SOCKET, (CONNECT, ACCEPT, SAID, CLOSE))),
    ("W-14", "app", (SOCKET, closed(code="1000")), (SOCKET, closed(reason=None))),
    ("W-15", "app", (SOCKET, closed(code=1006)), (SOCKET, closed(code=4001, reason="why"))),
    ("W-16", "app", (SOCKET, (CONNECT,)), (SOCKET, (CONNECT, CLOSE))),
]
"""A rule, who breaks it, the conversation in which it is, and one like it in which nothing is."""

TOGETHER = {"A-9", "L-2", "L-10", "L-11", "L-12"}
"""What shows between conversations, and not in one: `test_middleware.py`."""


@pytest.fixture
def anyio_backend() -> Any:
    return "asyncio"  # what is found has nothing to do with the loop


@pytest.mark.parametrize(("id", "side", "broken", "whole"), BROKEN, ids=[f"{row[0]}-{row[1]}" for row in BROKEN])
async def test_a_rule_finds_what_breaks_it(id: str, side: str, broken: Conversation, whole: Conversation) -> None:
    """The rule names who has broken it, and is silent where nobody has."""
    found = await findings(*broken)
    assert (id, side) in {(finding.rule.id, finding.side.value) for finding in found}
    assert [str(finding) for finding in await findings(*whole, level=Level.WARN)] == []
    assert id not in {finding.rule.id for finding in await findings(*whole)}


def test_every_rule_has_such_conversations() -> None:
    """Each is in the table above, or shows only between conversations, or to who asks a server or an app alone."""
    probed = {rule.id for rule in RULES.values() if rule.moments[0] in (Moment.PROBED, Moment.EXAMINED)}
    assert RULES.keys() - probed == {row[0] for row in BROKEN} | TOGETHER


@pytest.mark.parametrize(("scope", "steps"), [(HTTP, PLAIN), (SOCKET, CHAT), (LIFESPAN, LIFE)], ids=["http", "websocket", "lifespan"])
async def test_what_is_optional_may_be_missing(scope: dict[str, Any], steps: Sequence[Step]) -> None:
    """A scope without what has a default is as good as a whole one."""
    for less in bare(scope):
        assert [str(finding) for finding in await findings(less, steps)] == []
