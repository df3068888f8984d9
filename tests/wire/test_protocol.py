"""The core that decides, driven by hand: no socket, no event loop, no clock."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from microasgi_server import AppError
from microasgi_server.errors import Refusal
from microasgi_server.exchange import Next
from microasgi_server.http1 import heads
from microasgi_server.http1.exchange import Exchange
from microasgi_server.http1.fields import Field, Kept, _cached_field, validated_field
from microasgi_server.http1.limits import Limits
from microasgi_server.http1.phases import TRANSITIONS, Phase, Step
from microasgi_server.http1.protocol import Protocol
from microasgi_server.presence import CLIENT_CLOSED_REQUEST

Fields = list[tuple[bytes, bytes]]
Message = dict[str, Any]

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
EXPECT = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"

DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"
SORRY = b"Internal Server Error\n"
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


LIMITS = Limits()


def identity() -> list[Field]:
    return [validated_field(b"date", DATE), validated_field(b"server", b"test")]


def begin(data: bytes = GET) -> tuple[Protocol, Exchange]:
    """A protocol that has read the head of a request."""
    protocol = Protocol(identity, LIMITS)
    assert protocol.receive_bytes(data)
    assert protocol.exchange is not None
    return protocol, protocol.exchange


def post(length: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % length


def start(status: Any = 200, headers: Any = (), **more: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers, **more}


def body(data: Any = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def trailers(headers: Any = (), *, more: bool = False) -> Message:
    return {"type": "http.response.trailers", "headers": headers, "more_trailers": more}


def hint(*links: Any) -> Message:
    return {"type": "http.response.early_hint", "links": links}


def sized(length: int) -> Fields:
    return [(b"content-length", b"%d" % length)]


@dataclass
class Answer:
    """What a client makes of the bytes."""

    status: int
    headers: Fields
    body: bytes
    complete: bool
    trailers: Fields
    informational: list[int]

    def values(self, name: bytes) -> list[bytes]:
        return [value for own, value in self.headers if own == name]


def read(data: bytes, request: bytes = GET, *, closed: bool = False) -> Answer:
    """Read one response as a client would, and nothing behind it. `closed`: the server closes after these bytes."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=request.split()[0], target="/", headers=[("host", "test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    if closed:
        client.receive_data(b"")
    answer = Answer(0, [], b"", complete=False, trailers=[], informational=[])
    while True:
        event = client.next_event()
        if isinstance(event, h11.InformationalResponse):
            answer.informational.append(event.status_code)
        elif isinstance(event, h11.Response):
            answer.status, answer.headers = event.status_code, list(event.headers)
        elif isinstance(event, h11.Data):
            answer.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert client.trailing_data[0] == b""
            answer.trailers, answer.complete = list(event.headers), True
            return answer
        else:
            assert event is h11.NEED_DATA
            return answer


# The state machine.

README = (Path(__file__).parents[2] / "server" / "README.md").read_text()

ALLOWED = {
    ("WAITING", "HINT"): "WAITING",
    ("WAITING", "START"): "STARTED",
    ("STARTED", "BODY"): "STREAMING",
    ("STARTED", "LAST_BODY"): "DONE",
    ("STARTED", "LAST_BODY_BEFORE_TRAILERS"): "TRAILERS",
    ("STREAMING", "BODY"): "STREAMING",
    ("STREAMING", "LAST_BODY"): "DONE",
    ("STREAMING", "LAST_BODY_BEFORE_TRAILERS"): "TRAILERS",
    ("TRAILERS", "TRAILERS"): "TRAILERS",
    ("TRAILERS", "LAST_TRAILERS"): "DONE",
}

WAY_TO: dict[Phase, list[Message]] = {
    Phase.WAITING: [],
    Phase.STARTED: [start()],
    Phase.STREAMING: [start(), body(b"a", more=True)],
    Phase.TRAILERS: [start(), body(b"a")],
    Phase.DONE: [start(), body(b"a")],
    Phase.GONE: [],
}

WAY_FROM: dict[Phase, list[Message]] = {
    Phase.WAITING: [start(), body(b"z")],
    Phase.STARTED: [body(b"z")],
    Phase.STREAMING: [body(b"z")],
    Phase.TRAILERS: [trailers([(b"x-sum", b"1")])],
    Phase.DONE: [],
    Phase.GONE: [],
}

MESSAGE_OF: dict[Step, Message] = {
    Step.HINT: hint(b"</a.css>; rel=preload"),
    Step.START: start(201),
    Step.BODY: body(b"b", more=True),
    Step.LAST_BODY: body(b"b"),
    Step.LAST_BODY_BEFORE_TRAILERS: body(b"b"),
    Step.TRAILERS: trailers([(b"x-a", b"1")], more=True),
    Step.LAST_TRAILERS: trailers([(b"x-a", b"1")]),
}

every_phase = pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
every_step = pytest.mark.parametrize("step", Step, ids=lambda step: step.name)


def exchange_in(phase: Phase, *, with_trailers: bool = False) -> Exchange:
    """A new exchange, brought there by messages alone."""
    _, exchange = begin()
    for message in WAY_TO[phase]:
        exchange.send({**message, "trailers": with_trailers} if message["type"] == "http.response.start" else message)
    if phase is Phase.GONE:
        exchange.leave("gone")
    assert exchange.phase is phase
    return exchange


SHOWN = {
    "start": Step.START,
    "body, more to come": Step.BODY,
    "last body": Step.LAST_BODY,
    "last body, trailers announced": Step.LAST_BODY_BEFORE_TRAILERS,
    "trailers": Step.TRAILERS,
    "last trailers": Step.LAST_TRAILERS,
}
"""What the server's README calls the steps, in its own order. It says nothing of hints."""


def test_the_servers_readme_shows_the_table() -> None:
    """Its table of phases is the one that decides: where every step leads from every phase, and where a departure does."""
    head, _, *rows = README.partition("| phase | ")[2].partition("\n\n")[0].splitlines()
    assert head.strip(" |").split(" | ") == [*SHOWN, "client leaves"]
    assert [row.split("`")[1] for row in rows] == [phase.name for phase in Phase]
    for phase, row in zip(Phase, rows, strict=True):
        *steps, departure = (cell.strip(" `") for cell in row.strip().strip("|").split("|")[1:])
        told = {step.name: to.name for step, to in TRANSITIONS[phase].items() if step is not Step.HINT}
        assert {step.name: to for step, to in zip(SHOWN.values(), steps, strict=True) if to} == told
        exchange = exchange_in(phase, with_trailers=phase is Phase.TRAILERS)
        exchange.leave("gone")
        assert exchange.phase.name == departure


@every_phase
@every_step
def test_every_step_in_every_phase(phase: Phase, step: Step) -> None:
    """A step that the table allows moves the phase as it says; any other raises, or is dropped if the client left, and changes nothing."""
    with_trailers = phase is Phase.TRAILERS or step is Step.LAST_BODY_BEFORE_TRAILERS
    if phase is Phase.DONE:
        with_trailers = False  # there is only one way to be done by a body
    exchange = exchange_in(phase, with_trailers=with_trailers)
    to = ALLOWED.get((phase.name, step.name))
    if to is not None:
        exchange.send(MESSAGE_OF[step])
        assert exchange.phase.name == to
        return
    undisturbed = exchange_in(phase, with_trailers=with_trailers)
    with nullcontext() if phase is Phase.GONE else pytest.raises(AppError):
        assert exchange.send(MESSAGE_OF[step]) == b""
    assert (exchange.phase, exchange.status) == (undisturbed.phase, undisturbed.status)
    for message in WAY_FROM[phase]:
        assert exchange.send(message) == undisturbed.send(message)


def test_what_is_wrong_is_said_with_message_and_phase() -> None:
    """The error for a message out of order names the message and the phase."""
    with pytest.raises(AppError, match=r"'http\.response\.body' can't be sent now: the response is WAITING"):
        exchange_in(Phase.WAITING).send(body(b"a"))
    assert repr(exchange_in(Phase.TRAILERS, with_trailers=True).phase) == "<Phase.TRAILERS: 4>"


@every_phase
def test_a_disconnect_ends_every_phase_but_a_complete_one(phase: Phase) -> None:
    """A client can leave in any phase, once; who has its response already, or has left already, can't."""
    exchange = exchange_in(phase, with_trailers=phase is Phase.TRAILERS)
    over = phase in (Phase.DONE, Phase.GONE)
    status = exchange.status
    assert exchange.leave("the client left") is not over
    assert exchange.phase is (phase if over else Phase.GONE)
    assert exchange.status == (status if over else CLIENT_CLOSED_REQUEST)
    assert exchange.leave("again") is False
    if not over:
        assert exchange.why_gone == "the client left"


# Writing a response.


def test_head_and_first_body_leave_together() -> None:
    """The start is held back, and leaves with the first body message in one piece."""
    _, exchange = begin()
    assert exchange.send(start(headers=sized(5))) == b""
    data = exchange.send(body(b"hello"))
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ndate: " + DATE + b"\r\nserver: test"
    assert rest == b"hello"


def test_an_empty_first_body_flushes_the_head() -> None:
    """An event stream gets its head out before it has anything to say: by an empty body with more to come."""
    _, exchange = begin()
    exchange.send(start())
    head = exchange.send(body(b"", more=True))
    assert head.endswith(b"\r\n\r\n")
    assert read(head).status == 200
    assert exchange.phase is Phase.STREAMING
    assert exchange.send(body(b"", more=True)) == b"", "an empty chunk would end the body"
    assert read(head + exchange.send(body(b"x", more=True)) + exchange.send(body())).body == b"x"


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.STARTED], ids=lambda phase: phase.name)
@pytest.mark.parametrize("request_bytes", [GET, HEAD, GET_1_0, EXPECT], ids=["GET", "HEAD", "1.0", "expect"])
def test_a_failure_before_the_first_byte_becomes_a_500(phase: Phase, request_bytes: bytes) -> None:
    """As long as nothing is on the wire, `fail` makes a whole 500, whatever the app had started."""
    _, exchange = begin(request_bytes)
    if phase is Phase.STARTED:
        exchange.send(start(204, [(b"x-secret", b"1")], trailers=True))
    data = exchange.fail()
    assert data is not None
    answer = read(data, request_bytes, closed=True)
    assert (answer.status, answer.complete) == (500, True)
    assert answer.body == (b"" if request_bytes is HEAD else SORRY)
    assert b"x-secret" not in data
    assert (exchange.phase, exchange.status) == (Phase.DONE, 500)


@pytest.mark.parametrize("phase", [Phase.STREAMING, Phase.TRAILERS, Phase.DONE, Phase.GONE], ids=lambda phase: phase.name)
def test_a_failure_after_the_first_byte_can_not_be_told(phase: Phase) -> None:
    """Once the head is out, or the client, `fail` has nothing to say and changes nothing."""
    exchange = exchange_in(phase, with_trailers=phase is Phase.TRAILERS)
    status = exchange.status
    assert exchange.fail() is None
    assert (exchange.phase, exchange.status) == (phase, status)


MALFORMED_STARTS = {
    "status 99": start(99),
    "status 100": start(100),
    "status 199": start(199),
    "status 1000": start(1000),
    "status str": start("200"),
    "status float": start(200.0),
    "status bool": start(True),
    "status None": start(None),
    "no status": {"type": "http.response.start"},
    "name str": start(headers=[("x", b"1")]),
    "value str": start(headers=[(b"x", "1")]),
    "value int": start(headers=[(b"content-length", 5)]),
    "name empty": start(headers=[(b"", b"1")]),
    "name with a space": start(headers=[(b"x y", b"1")]),
    "name with a colon": start(headers=[(b"x:", b"1")]),
    "name with CR LF": start(headers=[(b"x\r\ny", b"1")]),
    "value with CR": start(headers=[(b"x", b"1\r2")]),
    "value with LF": start(headers=[(b"x", b"1\n2")]),
    "value with CR LF": start(headers=[(b"x", b"1\r\nset-cookie: evil=1")]),
    "value with NUL": start(headers=[(b"x", b"1\x002")]),
    "long value with CR LF": start(headers=[(b"x", b"1" * 200 + b"\r\nset-cookie: evil=1")]),
    "content-length negative": start(headers=[(b"content-length", b"-1")]),
    "content-length no number": start(headers=[(b"content-length", b"abc")]),
    "content-length twice in one": start(headers=[(b"content-length", b"5, 6")]),
    "content-length twice": start(headers=[*sized(5), *sized(5)]),
    "transfer-encoding unknown": start(headers=[(b"transfer-encoding", b"gzip")]),
    "transfer-encoding twice": start(headers=[(b"transfer-encoding", b"chunked")] * 2),
    "headers not pairs": start(headers=[(b"x",)]),
    "headers no sequence": start(headers=5),
}


@pytest.mark.parametrize("message", MALFORMED_STARTS.values(), ids=MALFORMED_STARTS.keys())
def test_a_malformed_start_is_refused(message: Message) -> None:
    """A start that HTTP or ASGI doesn't allow raises, leaves the response waiting, and lets nothing of itself out."""
    _, exchange = begin()
    with pytest.raises(AppError):
        exchange.send(message)
    assert (exchange.phase, exchange.status) == (Phase.WAITING, 0)
    data = exchange.fail()
    assert data is not None
    assert b"evil" not in data
    assert read(data).status == 500


@pytest.mark.parametrize("data", ["text", None, 5, [104, 105]], ids=repr)
@pytest.mark.parametrize("phase", [Phase.STARTED, Phase.STREAMING], ids=lambda phase: phase.name)
def test_a_body_that_is_not_bytes_is_refused(phase: Phase, data: Any) -> None:
    """A body that isn't bytes raises, and the response stays where it was."""
    exchange = exchange_in(phase)
    with pytest.raises(AppError, match="bytes"):
        exchange.send(body(data))
    assert exchange.phase is phase
    assert exchange.send(body(b"z"))


@pytest.mark.parametrize("data", [bytearray(b"hello"), memoryview(b"hello")], ids=["bytearray", "memoryview"])
def test_a_body_of_another_kind_of_bytes_is_sent(data: Any) -> None:
    """What Python takes for bytes is taken for bytes."""
    _, exchange = begin()
    exchange.send(start())
    assert read(exchange.send(body(data))).body == b"hello"


@pytest.mark.parametrize("kind", [None, "http.response.push", "websocket.send", 5], ids=repr)
def test_a_message_of_no_known_type_is_refused(kind: Any) -> None:
    """A message that HTTP responses don't have raises."""
    _, exchange = begin()
    with pytest.raises(AppError, match="no message of type"):
        exchange.send({"type": kind})
    assert exchange.phase is Phase.WAITING


@pytest.mark.parametrize(
    ("data", "more", "fault"), [(b"123456", True, "longer"), (b"123456", False, "longer"), (b"1234", False, "shorter")]
)
def test_a_wrong_length_is_noticed_before_the_head_leaves(data: bytes, more: bool, fault: str) -> None:
    """A first body that belies the content-length raises while a 500 is still possible."""
    _, exchange = begin()
    exchange.send(start(headers=sized(5)))
    with pytest.raises(AppError, match=fault):
        exchange.send(body(data, more=more))
    assert exchange.phase is Phase.STARTED
    failure = exchange.fail()
    assert failure is not None
    assert (read(failure).status, read(failure).body) == (500, SORRY)


@pytest.mark.parametrize(("data", "more", "fault"), [(b"456", True, "longer"), (b"456", False, "longer"), (b"4", False, "shorter")])
def test_a_wrong_length_never_reaches_the_wire(data: bytes, more: bool, fault: str) -> None:
    """A later body that belies the content-length raises, none of it is sent, and the client sees an unfinished response."""
    _, exchange = begin()
    exchange.send(start(headers=sized(5)))
    sent = exchange.send(body(b"123", more=True))
    with pytest.raises(AppError, match=fault):
        exchange.send(body(data, more=more))
    assert exchange.phase is Phase.STREAMING
    assert exchange.fail() is None
    assert not read(sent).complete
    assert read(sent + exchange.send(body(b"45"))).body == b"12345"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [(HEAD, 200), (GET, 204), (GET, 304), (HEAD, 204), (HEAD, 304)],
    ids=["HEAD", "204", "304", "HEAD 204", "HEAD 304"],
)
@pytest.mark.parametrize("headers", [[], sized(5), [(b"transfer-encoding", b"chunked")]], ids=["no framing", "length", "chunked"])
def test_a_response_without_a_body_has_no_body(request_bytes: bytes, status: int, headers: Fields) -> None:
    """Whatever the app sends as the body of a HEAD, a 204 or a 304: the response ends with its head (RFC 9112 §6.3)."""
    _, exchange = begin(request_bytes)
    exchange.send(start(status, headers))
    data = exchange.send(body(b"he", more=True)) + exchange.send(body(b"llo, and more than promised"))
    assert data.endswith(b"\r\n\r\n")
    assert data.count(b"\r\n\r\n") == 1
    answer = read(data, request_bytes)
    assert (answer.status, answer.complete) == (status, True)
    if status == 204:  # RFC 9110 §8.6, RFC 9112 §6.1
        assert not answer.values(b"content-length")
        assert not answer.values(b"transfer-encoding")
    elif headers == sized(5):
        assert answer.values(b"content-length") == [b"5"]
    assert exchange.phase is Phase.DONE


def test_a_body_of_unknown_length_is_chunked() -> None:
    """Without a content-length the body goes out in chunks to 1.1, and up to the end of the connection to 1.0."""
    _, exchange = begin()
    exchange.send(start())
    assert exchange.send(body(b"abc", more=True)).endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    assert exchange.send(body(b"d")) == b"1\r\nd\r\n0\r\n\r\n"
    _, old = begin(GET_1_0)
    old.send(start())
    data = old.send(body(b"abc", more=True)) + old.send(body(b"d"))
    answer = read(data, closed=True)
    assert (answer.body, answer.values(b"transfer-encoding"), answer.values(b"connection")) == (b"abcd", [], [b"close"])


def test_date_and_server_are_ours_unless_the_app_says_them() -> None:
    """Every response has one Date and one Server; the app's own come first."""
    _, exchange = begin()
    exchange.send(start(headers=[(b"Server", b"mine")]))
    answer = read(exchange.send(body()))
    assert (answer.values(b"server"), answer.values(b"date")) == ([b"mine"], [DATE])


def test_header_names_keep_their_case_and_order() -> None:
    """Fields go out as the app wrote them: no other order, no other case, none merged."""
    _, exchange = begin()
    exchange.send(start(headers=[(b"X-b", b"1"), (b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-A", b"")]))
    assert b"\r\nX-b: 1\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nx-A: \r\n" in exchange.send(body())


# Early hints and trailers.


def test_early_hints_go_out_at_once() -> None:
    """Each early hint is a 103 of its own, written at once; the final response follows undisturbed (RFC 8297)."""
    _, exchange = begin()
    first = exchange.send(hint(b"</a.css>; rel=preload", b"</b.js>; rel=preload"))
    assert first == b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\r\n"
    second = exchange.send(hint(b"</c>; rel=preload"))
    exchange.send(start())
    answer = read(first + second + exchange.send(body(b"x")))
    assert (answer.informational, answer.status, answer.body) == ([103, 103], 200, b"x")


def test_http_1_0_gets_no_early_hints() -> None:
    """A 1xx is never sent to HTTP/1.0 (RFC 9110 §15.2)."""
    _, exchange = begin(GET_1_0)
    assert exchange.send(hint(b"</a.css>; rel=preload")) == b""
    exchange.send(start())
    assert exchange.send(body()).startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_early_hint_is_not_the_awaited_100() -> None:
    """A client that waits for its 100-continue still gets it after an early hint."""
    _, exchange = begin(EXPECT)
    assert exchange.send(hint(b"</a>; rel=preload")).startswith(b"HTTP/1.1 103 ")
    assert exchange.asked() == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("link", [b"</a>\r\nset-cookie: evil=1", b"\x00", 5], ids=repr)
def test_a_malformed_hint_is_refused(link: Any) -> None:
    """A link that can't be a header value raises, and nothing of it is sent."""
    _, exchange = begin(EXPECT)
    with pytest.raises(AppError):
        exchange.send(hint(link))
    assert exchange.asked().startswith(b"HTTP/1.1 100 ")
    data = exchange.fail()
    assert data is not None
    assert read(data).status == 500


def test_trailers_end_a_chunked_body() -> None:
    """Trailers that the start announced come behind the last chunk, all together, and complete the response."""
    _, exchange = begin()
    exchange.send(start(trailers=True))
    data = exchange.send(body(b"abc"))
    assert not read(data).complete
    assert exchange.send(trailers([(b"x-a", b"1")], more=True)) == b""
    data += exchange.send(trailers([(b"x-b", b"2")]))
    answer = read(data)
    assert (answer.body, answer.trailers, answer.complete) == (b"abc", [(b"x-a", b"1"), (b"x-b", b"2")], True)
    assert exchange.phase is Phase.DONE


@pytest.mark.parametrize(
    ("request_bytes", "headers"), [(GET, sized(3)), (GET_1_0, []), (HEAD, [])], ids=["content-length", "HTTP/1.0", "HEAD"]
)
def test_trailers_without_chunks_are_dropped(request_bytes: bytes, headers: Fields) -> None:
    """Where the body isn't chunked there is no room for trailers: they are taken, and dropped (RFC 9112 §7.1.2)."""
    _, exchange = begin(request_bytes)
    exchange.send(start(headers=headers, trailers=True))
    data = exchange.send(body(b"abc"))
    data += exchange.send(trailers([(b"x-a", b"1")]))
    assert b"x-a" not in data
    assert exchange.phase is Phase.DONE
    answer = read(data, request_bytes, closed=request_bytes is GET_1_0)
    assert (answer.complete, answer.body) == (True, b"" if request_bytes is HEAD else b"abc")


@pytest.mark.parametrize("field", [(b"x", b"1\r\nevil: 1"), (b"x y", b"1"), (b"x", b"\x00"), (5, b"1")], ids=repr)
@pytest.mark.parametrize("more", [False, True], ids=["last", "not last"])
def test_malformed_trailers_are_refused(field: Any, more: bool) -> None:
    """A trailer that can't be a header field raises, with all that came beside it; the response can still end well."""
    exchange = exchange_in(Phase.TRAILERS, with_trailers=True)
    with pytest.raises(AppError):
        exchange.send(trailers([(b"x-good", b"1"), field], more=more))
    assert exchange.phase is Phase.TRAILERS
    assert exchange.send(trailers([(b"x-b", b"2")])) == b"0\r\nx-b: 2\r\n\r\n"


# Reading a request.


def test_a_request_arrives_with_its_head() -> None:
    """An exchange knows the request line and the fields, with names in lower case and in order."""
    _, exchange = begin(b"PUT /a?b HTTP/1.1\r\nHost: test\r\nX-B: 1\r\nx-a: 2\r\nX-b: 3\r\n\r\n")
    assert (exchange.head.method, exchange.head.target, exchange.head.version) == (b"PUT", b"/a?b", b"1.1")
    assert exchange.head.fields == [(b"host", b"test"), (b"x-b", b"1"), (b"x-a", b"2"), (b"x-b", b"3")]
    assert (exchange.phase, exchange.status, exchange.why_gone, exchange.cancelled) == (Phase.WAITING, 0, "", False)


def test_take_gives_the_body_as_it_comes() -> None:
    """Each `take` gives all that has arrived; there is one last message, and then none until the disconnect."""
    protocol, exchange = begin(post(6))
    assert exchange.take() is None
    protocol.receive_bytes(b"ab")
    protocol.receive_bytes(b"c")
    assert exchange.take() == {"type": "http.request", "body": b"abc", "more_body": True}
    assert exchange.take() is None
    protocol.receive_bytes(b"def")
    assert exchange.take() == {"type": "http.request", "body": b"def", "more_body": False}
    assert exchange.take() is None
    exchange.leave("gone")
    assert [exchange.take(), exchange.take()] == [{"type": "http.disconnect"}] * 2


def test_a_request_without_a_body_has_one_empty_message() -> None:
    """A body of no bytes is still one message, and only one."""
    _, exchange = begin()
    assert exchange.take() == {"type": "http.request", "body": b"", "more_body": False}
    assert exchange.take() is None


def test_take_says_disconnect_after_the_response() -> None:
    """Once the response is complete the app hears `http.disconnect`, also with body left (ASGI HTTP spec, Disconnect)."""
    protocol, exchange = begin(post(6))
    protocol.receive_bytes(b"abc")
    exchange.send(start())
    exchange.send(body())
    assert [exchange.take(), exchange.take()] == [{"type": "http.disconnect"}] * 2


def test_what_was_not_taken_is_forgotten_with_the_client() -> None:
    """After a disconnect `take` gives no body any more, though some had arrived."""
    protocol, exchange = begin(post(6))
    protocol.receive_bytes(b"abc")
    exchange.leave("gone")
    assert exchange.take() == {"type": "http.disconnect"}
    assert protocol.look_ahead == 0


def test_the_100_is_sent_once_and_only_when_asked_for() -> None:
    """`asked` answers `Expect: 100-continue` the first time, and has nothing to say after that (RFC 9110 §10.1.1)."""
    _, exchange = begin(EXPECT)
    assert exchange.asked() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert exchange.asked() == b""


def test_the_100_is_still_due_while_the_head_is_held_back() -> None:
    """An app that starts its response before it reads the body gets the body: nothing is on the wire yet."""
    _, exchange = begin(EXPECT)
    exchange.send(start())
    assert exchange.asked() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert exchange.send(body(b"", more=True)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_bytes",
    [GET, post(5), EXPECT.replace(b"HTTP/1.1", b"HTTP/1.0"), EXPECT + b"12345"],
    ids=["no body", "no expectation", "HTTP/1.0", "body is here"],
)
def test_no_100_for_who_does_not_wait(request_bytes: bytes) -> None:
    """A client that doesn't wait gets no 100: not on HTTP/1.0, and not when its body has come already."""
    _, exchange = begin(request_bytes)
    assert exchange.asked() == b""


@pytest.mark.parametrize("phase", [Phase.STREAMING, Phase.DONE, Phase.GONE], ids=lambda phase: phase.name)
def test_no_100_after_the_final_head(phase: Phase) -> None:
    """A 100 never comes behind the final response's head, nor to a client that left."""
    _, exchange = begin(EXPECT)
    for message in WAY_TO[phase]:
        exchange.send(message)
    if phase is Phase.GONE:
        exchange.leave("gone")
    assert exchange.asked() == b""


def test_a_final_answer_instead_of_the_100_closes() -> None:
    """Whoever waits for a 100 and gets a final answer may or may not send the body: the connection ends (RFC 9110 §10.1.1)."""
    protocol, exchange = begin(EXPECT)
    exchange.send(start())
    answer = read(exchange.send(body(b"no")))
    assert answer.values(b"connection") == [b"close"]
    assert protocol.after_response() is Next.LINGER


# The disconnect.


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.STARTED, Phase.STREAMING, Phase.TRAILERS], ids=lambda phase: phase.name)
def test_a_subscriber_is_told_once(phase: Phase) -> None:
    """Whoever subscribed before the client left is told exactly once, in every phase."""
    exchange = exchange_in(phase, with_trailers=phase is Phase.TRAILERS)
    told: list[str] = []
    exchange.subscribe(lambda: told.append("first"))
    exchange.subscribe(lambda: told.append("second"))
    assert not exchange.told
    exchange.leave("gone")
    exchange.leave("gone again")
    assert told == ["first", "second"]
    assert exchange.told


def test_a_late_subscriber_is_told_at_once() -> None:
    """Whoever subscribes after the client left is told before `subscribe` returns, and never again."""
    exchange = exchange_in(Phase.GONE)
    told: list[bool] = []
    undo = exchange.subscribe(lambda: told.append(True))
    assert told == [True]
    undo()
    exchange.leave("again")
    assert told == [True]


@pytest.mark.parametrize("before", [True, False], ids=["subscribed before", "subscribed after"])
def test_no_subscriber_hears_of_a_client_that_has_its_response(before: bool) -> None:
    """After the response is complete nobody is told, whenever they subscribed."""
    exchange = exchange_in(Phase.STARTED if before else Phase.DONE)
    told: list[bool] = []
    undo = exchange.subscribe(lambda: told.append(True))
    if before:
        exchange.send(body())
    exchange.leave("gone")
    undo()
    assert told == []
    assert not exchange.told


def test_a_subscription_can_be_taken_back_at_any_time() -> None:
    """Undoing works before, during and after the departure, twice, and only for the one it belongs to."""
    exchange = exchange_in(Phase.WAITING)
    told: list[str] = []
    undos: list[Callable[[], object]] = []

    def tell(name: str) -> Callable[[], object]:
        return lambda: told.append(name)

    undos = [exchange.subscribe(tell(name)) for name in "abc"]
    undos[1]()
    undos[1]()
    exchange.subscribe(lambda: undos[0]())
    exchange.leave("gone")
    for undo in undos:
        undo()
    assert told == ["a", "c"]


def test_the_same_callback_can_subscribe_twice() -> None:
    """Two subscriptions of one function are two: each is told, and each is undone by itself."""
    exchange = exchange_in(Phase.WAITING)
    told: list[bool] = []

    def callback() -> None:
        told.append(True)

    undo = exchange.subscribe(callback)
    exchange.subscribe(callback)
    undo()
    exchange.leave("gone")
    assert told == [True]


@pytest.mark.parametrize(("answers", "cancelled"), [([True], True), ([None], False), ([None, True, None], True), ([1], False), ([], False)])
def test_a_subscriber_says_whether_it_stopped_something(answers: list[object], cancelled: bool) -> None:
    """Only a subscriber that returns True counts as having cancelled something."""
    exchange = exchange_in(Phase.WAITING)
    for answer in answers:
        exchange.subscribe(lambda answer=answer: answer)  # type: ignore[misc]
    exchange.leave("gone")
    assert exchange.cancelled is cancelled


def test_send_after_the_departure_has_nothing_to_write() -> None:
    """Nothing is made of any message whose client has left, whether or not it is one."""
    exchange = exchange_in(Phase.STREAMING)
    exchange.leave("the connection was reset (RST)")
    for message in (body(b"x"), start(), {"type": "nonsense"}):
        assert exchange.send(message) == b""
    assert exchange.status == 499


@pytest.mark.parametrize("late", [False, True], ids=["subscribed before", "subscribed after"])
def test_a_departure_is_attended_until_the_last_subscriber_has_stopped(late: bool) -> None:
    """Whoever was told counts as there until the subscription is taken back."""
    exchange = exchange_in(Phase.WAITING)
    if late:
        exchange.leave("gone")
    undos = [exchange.subscribe(lambda: None) for _ in range(2)]
    exchange.leave("gone")
    for undo in undos:
        assert exchange.attended
        undo()
    assert not exchange.attended
    assert exchange.told


# What comes next.


def complete(exchange: Exchange, headers: Fields | None = None) -> bytes:
    exchange.send(start(headers=sized(2) if headers is None else headers))
    return exchange.send(body(b"ok"))


def test_keep_alive_waits_for_the_next_request() -> None:
    """After a whole exchange a connection is as new: idle, without an exchange, and ready for another."""
    protocol, exchange = begin()
    complete(exchange)
    assert protocol.after_response() is Next.IDLE
    assert protocol.exchange is None
    assert not protocol.mid_head
    assert protocol.receive_bytes(GET)
    assert protocol.exchange is not exchange


@pytest.mark.parametrize("request_bytes", [CLOSE, GET_1_0], ids=["Connection: close", "HTTP/1.0"])
def test_a_client_that_wants_no_more_is_closed(request_bytes: bytes) -> None:
    """`Connection: close`, or HTTP/1.0, ends the connection, and the response says so."""
    protocol, exchange = begin(request_bytes)
    assert b"\r\nConnection: close\r\n" in complete(exchange)
    assert protocol.after_response() is Next.CLOSE


def test_an_app_that_wants_no_more_is_obeyed() -> None:
    """`Connection: close` in the app's own headers ends the connection."""
    protocol, exchange = begin()
    complete(exchange, [*sized(2), (b"connection", b"close")])
    assert protocol.after_response() is Next.CLOSE


def test_a_stopping_server_says_so() -> None:
    """With `closing` set before the start, the response says `Connection: close`; set later, the connection still ends."""
    protocol, exchange = begin()
    exchange.closing = True
    assert read(complete(exchange)).values(b"connection") == [b"close"]
    assert protocol.after_response() is Next.CLOSE
    protocol, exchange = begin()
    exchange.send(start(headers=sized(2)))
    exchange.closing = True
    exchange.send(body(b"ok"))
    assert protocol.after_response() is Next.CLOSE


@pytest.mark.parametrize("request_bytes", [CLOSE, GET_1_0], ids=["Connection: close", "HTTP/1.0"])
def test_what_comes_behind_the_last_request_is_not_read(request_bytes: bytes) -> None:
    """A request behind `Connection: close` is never begun; the client may still be sending, so closing lingers."""
    protocol, exchange = begin(request_bytes + GET)
    complete(exchange)
    assert protocol.after_response() is Next.LINGER
    assert protocol.exchange is exchange


def test_pipelined_requests_come_one_by_one() -> None:
    """A request that was here already begins when the one before it is answered, in order."""
    requests = [GET.replace(b"/ ", b"/%d " % number) for number in range(3)]
    protocol, exchange = begin(b"".join(requests))
    targets = [exchange.head.target]
    for expected in (Next.REQUEST, Next.REQUEST, Next.IDLE):
        assert protocol.exchange is not None
        complete(protocol.exchange)
        assert protocol.after_response() is expected
        if protocol.exchange is not None:
            targets.append(protocol.exchange.head.target)
    assert targets == [b"/0", b"/1", b"/2"]


def test_half_a_pipelined_request_is_waited_for() -> None:
    """With only the beginning of the next head here, the connection is in the middle of a head, not idle."""
    protocol, exchange = begin(GET + GET[:10])
    complete(exchange)
    assert protocol.after_response() is Next.MID_HEAD
    assert protocol.mid_head
    assert protocol.receive_bytes(GET[10:])
    assert not protocol.mid_head


def test_an_empty_line_behind_a_request_is_no_beginning_of_the_next() -> None:
    """An old client's empty line behind its request (RFC 9112 §2.2) leaves the connection idle: nobody is late with a head."""
    protocol, exchange = begin(GET + b"\r\n")
    complete(exchange)
    assert protocol.after_response() is Next.IDLE
    assert protocol.receive_bytes(GET)


def test_nonsense_behind_a_request_is_refused_after_its_response() -> None:
    """What comes behind a request is looked at after its response, and refused then."""
    protocol, exchange = begin(GET + b"nonsense\r\n\r\n")
    complete(exchange)
    with pytest.raises(Refusal) as caught:
        protocol.after_response()
    assert caught.value.status == 400
    assert read(protocol.refuse(400, "no")).status == 400


def test_a_small_unread_body_is_drained() -> None:
    """A body that the app didn't want and that is small is read to its end, and then the connection goes on."""
    protocol, exchange = begin(post(10) + b"12345")
    assert not read(complete(exchange)).values(b"connection")
    assert protocol.after_response() is Next.DRAIN
    assert protocol.look_ahead == 0
    protocol.receive_bytes(b"678")
    assert protocol.after_response() is Next.DRAIN
    protocol.receive_bytes(b"90" + GET)
    assert protocol.after_response() is Next.REQUEST


def test_a_large_unread_body_closes() -> None:
    """A body that the app didn't want and that is known to be large isn't read: the head says close, and closing lingers."""
    protocol, exchange = begin(post(LIMITS.drain + 6) + b"12345")
    assert read(complete(exchange)).values(b"connection") == [b"close"]
    assert protocol.after_response() is Next.LINGER


def test_only_what_is_still_to_come_counts_as_unread() -> None:
    """A large body of which all but the limit has arrived is drained."""
    protocol, exchange = begin(post(LIMITS.drain + 5) + b"12345")
    assert not read(complete(exchange)).values(b"connection")
    assert protocol.after_response() is Next.DRAIN


def test_a_chunked_body_is_drained_up_to_the_limit() -> None:
    """An unread body of unknown length is drained up to the limit, framing and all, and not a chunk further."""
    protocol, exchange = begin(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
    complete(exchange)
    chunk = b"fff8\r\n" + bytes(0xFFF8) + b"\r\n"  # 64 KiB
    for _ in range(LIMITS.drain // len(chunk)):
        protocol.receive_bytes(chunk)
        assert protocol.after_response() is Next.DRAIN
    protocol.receive_bytes(chunk)
    assert protocol.after_response() is Next.LINGER
    assert protocol.look_ahead == 0


def test_an_unread_body_on_a_closing_connection_is_not_drained() -> None:
    """There is no point in reading the rest of a body when the connection ends anyway."""
    protocol, exchange = begin(post(10).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"12345")
    complete(exchange)
    assert protocol.after_response() is Next.LINGER


def test_an_upgrade_is_ignored() -> None:
    """A request that asks to switch protocols is answered as any other, and the next one is served (RFC 9110 §7.8)."""
    upgrade = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    protocol, exchange = begin(upgrade + GET)
    assert read(complete(exchange)).status == 200
    assert protocol.after_response() is Next.REQUEST


# Refusals.


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: test\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * LIMITS.head, 431),
    ],
    ids=["nonsense", "no Host", "two Hosts", "no colon", "negative length", "unknown coding", "head too large"],
)
def test_what_is_no_request_is_refused(data: bytes, status: int) -> None:
    """Bytes that aren't a request raise a refusal with the status to answer, and the answer closes."""
    protocol = Protocol(identity, LIMITS)
    with pytest.raises(Refusal) as caught:
        protocol.receive_bytes(data)
    assert caught.value.status == status
    answer = read(protocol.refuse(status, "because"))
    assert (answer.status, answer.body, answer.values(b"connection")) == (status, b"because\n", [b"close"])
    assert answer.values(b"date") == [DATE]


@every_phase
def test_a_broken_body_is_refused_only_while_nothing_is_on_the_wire(phase: Phase) -> None:
    """A refusal in the middle of a body is an answer before the response's first byte, and no byte after it."""
    protocol, exchange = begin(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for message in WAY_TO[phase]:
        exchange.send({**message, "trailers": phase is Phase.TRAILERS} if message["type"] == "http.response.start" else message)
    if phase is Phase.GONE:
        exchange.leave("gone")
    with pytest.raises(Refusal):
        protocol.receive_bytes(b"zz\r\n")
    data = protocol.refuse(400, "no")
    if phase in (Phase.WAITING, Phase.STARTED):
        assert read(data).status == 400
    else:
        assert data == b""


# Framing that must not be believed.


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"transfer-encoding: CHUNKED\r\ncontent-length: 0\r\n",
    ],
)
def test_a_length_beside_chunks_is_refused(fields: bytes) -> None:
    """A request with both framings is refused, and nothing behind it is a request (RFC 9112 §6.1)."""
    protocol = Protocol(identity, LIMITS)
    with pytest.raises(Refusal, match="Content-Length") as caught:
        protocol.receive_bytes(b"POST / HTTP/1.1\r\nHost: test\r\n" + fields + b"\r\n0\r\n\r\n" + GET)
    assert (caught.value.status, protocol.exchange) == (400, None)
    assert read(protocol.refuse(400, "no")).status == 400


def test_chunks_are_not_for_http_1_0() -> None:
    """A Transfer-Encoding in HTTP/1.0 is faulty framing (RFC 9112 §6.1)."""
    protocol = Protocol(identity, LIMITS)
    with pytest.raises(Refusal, match=r"HTTP/1\.0") as caught:
        protocol.receive_bytes(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert caught.value.status == 400


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_nobody_is_told_to_go_ahead_with_a_body_that_is_here(framing: bytes) -> None:
    """A client that expects a 100 for a body that has no bytes gets none (RFC 9110 §10.1.1)."""
    data = b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n" + framing + b"\r\n"
    _, exchange = begin(data + (b"0\r\n\r\n" if b"chunked" in framing else b""))
    assert exchange.take() == {"type": "http.request", "body": b"", "more_body": False}
    assert exchange.take() is None
    assert exchange.asked() == b""


@pytest.mark.parametrize("chunked", [False, True])
def test_what_the_app_has_taken_is_kept_nowhere(chunked: bool) -> None:
    """While a request is answered, the bytes of its body that the app has taken aren't held by the protocol any more."""
    size = 200_000
    tracemalloc.start()
    try:
        framing = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size if chunked else b"Content-Length: %d\r\n\r\n" % size
        protocol, exchange = begin(b"POST / HTTP/1.1\r\nHost: test\r\n" + framing + bytes(size) + (b"\r\n0\r\n\r\n" if chunked else b""))
        before = tracemalloc.get_traced_memory()[0]
        exchange.take()
        assert before - tracemalloc.get_traced_memory()[0] > size / 2
        assert tracemalloc.get_traced_memory()[0] < size / 4
    finally:
        tracemalloc.stop()
    assert protocol.exchange is exchange


# Counting the look-ahead.


def test_the_look_ahead_counts_what_nobody_has_asked_for() -> None:
    """Body that wasn't taken and bytes behind the request count; the head and what was taken don't."""
    protocol, exchange = begin(post(10))
    assert protocol.look_ahead == 0
    protocol.receive_bytes(b"123")
    assert protocol.look_ahead == 3
    exchange.take()
    assert protocol.look_ahead == 0
    protocol.receive_bytes(b"4567890" + GET)
    assert protocol.look_ahead == 7 + len(GET)
    protocol.receive_bytes(GET)
    assert protocol.look_ahead == 7 + 2 * len(GET)
    exchange.take()
    assert protocol.look_ahead == 2 * len(GET)
    complete(exchange)
    assert protocol.after_response() is Next.REQUEST
    assert protocol.look_ahead == len(GET)
    assert protocol.exchange is not None
    complete(protocol.exchange)
    assert protocol.after_response() is Next.REQUEST
    assert protocol.look_ahead == 0
    assert exchange.received == 10


def test_a_pipelined_body_counts_as_well() -> None:
    """The body of a request that waits behind another is part of the look-ahead, before and after its turn."""
    protocol, exchange = begin(GET + post(LIMITS.look_ahead) + bytes(LIMITS.look_ahead - 1))
    assert protocol.look_ahead == len(post(LIMITS.look_ahead)) + LIMITS.look_ahead - 1
    complete(exchange)
    assert protocol.after_response() is Next.REQUEST
    assert protocol.look_ahead == LIMITS.look_ahead - 1


# Properties.

unhurried = settings(deadline=None)  # how long one example takes says nothing on a busy machine

token = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=12).map(str.encode)
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20).map(str.encode)
special_names = st.sampled_from([b"content-length", b"Content-Length", b"transfer-encoding", b"Connection", b"Date", b"server", b"SERVER"])
special_values = st.sampled_from([b"0", b"5", b"5, 5", b"05", b" 5", b"chunked", b"Chunked", b"close", b"1" * 30, b"x" * 150])
# Not Host, which h11 would put in front, though no response has one.
names = (token | special_names | st.binary(max_size=4)).filter(lambda name: name.lower() != b"host")
values = visible | special_values | st.binary(max_size=6)


@unhurried
@given(names, values)
def test_a_validated_field_is_h11s_own(name: bytes, value: bytes) -> None:
    """Each field we keep is what h11 makes of it, cached or not, and raises exactly when h11 does."""
    for _ in range(2):
        try:
            expected = list(h11.Response(status_code=200, headers=[(name, value)]).headers.raw_items())
        except h11.LocalProtocolError:
            with pytest.raises(ValueError, match=r"\w"):
                validated_field(name, value)
        else:
            lower, kept, line = validated_field(name, value)
            assert [(name, kept)] == expected
            assert (lower, line) == (name.lower(), name + b": " + kept + b"\r\n")


def test_long_values_are_not_remembered() -> None:
    """What is long, as a session cookie is, is checked like any field and not kept in memory."""
    value = b"session=" + b"x" * 100
    validated_field(b"set-cookie", b"short")
    size = _cached_field.cache_info().currsize
    assert validated_field(b"set-cookie", value) == (b"set-cookie", value, b"set-cookie: " + value + b"\r\n")
    assert _cached_field.cache_info().currsize == size


def answer(headers: Any, status: int = 200) -> bytes:
    """The bytes of an empty response with these headers."""
    _, exchange = begin()
    exchange.send(start(status, headers))
    return exchange.send(body())


@pytest.mark.parametrize("name", [b"x-first", "x-first", bytearray(b"x-first")])
def test_headers_that_look_like_those_before_are_checked_all_the_same(name: Any) -> None:
    """A head that was described before is made of the same bytes; another type of name isn't taken for it."""
    expected = answer([(b"x-first", b"1"), (b"content-length", b"0")])
    assert answer(iter([[b"x-first", b"1"], [b"content-length", b"0"]])) == expected
    if isinstance(name, bytes):
        assert answer([(name, b"1"), (b"content-length", b"0")]) == expected
    else:
        with pytest.raises(AppError):
            answer([(name, b"1"), (b"content-length", b"0")])
    with pytest.raises(AppError):
        answer([(b"x-first", b"1"), (b"content-length", b"0")], status=200.0)  # type: ignore[arg-type]


def test_the_heads_that_are_kept_are_bounded() -> None:
    """Heads of which each is another don't fill the memory, and long ones, as session cookies are, aren't kept at all."""
    for number in range(3000):
        assert b"\r\nx-request-id: %d\r\n" % number in answer([(b"x-request-id", b"%d" % number)])
    assert len(heads._heads) <= Kept.MOST
    before = len(heads._heads)
    answer([(b"set-cookie", b"session=" + b"x" * 100)])
    assert len(heads._heads) == before


class Changing:
    """A field that can be iterated and hashed, and is another each time."""

    def __init__(self) -> None:
        self.times = 0

    def __iter__(self) -> Iterator[bytes]:
        self.times += 1
        return iter((b"x-time", b"%d" % self.times))


def test_a_field_that_can_change_or_be_used_up_is_sent_and_not_kept() -> None:
    """Headers may be any iterables of two, so that one isn't taken for what it was before."""
    for _ in range(2):
        assert b"\r\nx-once: 1\r\n" in answer([iter((b"x-once", b"1"))])
    changing = Changing()
    assert [b"\r\nx-time: %d\r\n" % time in answer([changing]) for time in (1, 2)] == [True, True]


def test_threads_that_fill_the_kept_heads_at_once_do_not_unbind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers in several threads share them: two that put one in at the bound must not be the end of it."""
    full: Kept[object, heads.ResponseHead] = Kept({number: heads.ResponseHead(200, ()) for number in range(Kept.MOST + 1)})
    monkeypatch.setattr(heads, "_heads", full)
    answer([(b"x-one", b"more")])
    assert len(full) == 1


def test_a_kept_head_has_the_date_of_its_second() -> None:
    """The head that is kept gets the server's fields of the moment."""
    seconds = [[validated_field(b"date", b"%d" % second)] for second in range(2)]
    for second in (0, 0, 1, 0):
        _, exchange = begin()
        exchange._identity = lambda second=second: seconds[second]  # type: ignore[misc]
        exchange.send(start(200, [(b"content-length", b"0")]))
        assert exchange.send(body()) == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: %d\r\n\r\n" % second


@settings(deadline=None, max_examples=500)
@example([(b"Connection", b"x, Keep-Alive, close")], 200, CLOSE)
@given(st.lists(st.tuples(names, values), max_size=5), st.integers(200, 999), st.sampled_from([GET, HEAD, CLOSE, GET_1_0]))
def test_a_head_is_what_h11_would_have_sent(headers: Fields, status: int, request_bytes: bytes) -> None:
    """A head from remembered fields is, byte for byte, the one that h11 makes of the same fields and checks itself."""
    _, exchange = begin(request_bytes)
    given_names = [name.lower() for name, _ in headers]
    ours = [(name, value) for name, value, _ in identity() if name not in given_names]
    forbidden = (b"content-length", b"transfer-encoding") if status == 204 else ()  # the one thing we know better
    lengths = given_names.count(b"content-length")
    reference = h11.Connection(h11.SERVER)
    reference.receive_data(request_bytes)
    reference.next_event()
    reference.next_event()
    try:
        h11.Response(status_code=status, headers=headers)
        kept = [field for field in headers if field[0].lower() not in forbidden]
        event = h11.Response(status_code=status, headers=kept + ours, reason=REASONS.get(status, b""))
        expected = reference.send(event)
    except h11.LocalProtocolError:
        with pytest.raises(AppError):
            exchange.send(start(status, headers))
        return
    if lengths > 1 and status != 204:
        with pytest.raises(AppError, match="one content-length"):
            exchange.send(start(status, headers))
        return
    exchange.send(start(status, headers))
    assert exchange.send(body(b"", more=True)) == expected


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from([[], [(b"Transfer-Encoding", b"chunked")], [(b"content-length", b"6")], [(b"connection", b"close")]]),
    st.sampled_from([200, 204, 304, 404]),
    st.sampled_from([GET, HEAD, CLOSE, GET_1_0, HEAD.replace(b"1.1", b"1.0")]),
    st.lists(st.sampled_from([b"", b"abc"]), min_size=2, max_size=2),
)
def test_a_response_is_what_h11_would_have_sent(headers: Fields, status: int, request: bytes, pieces: list[bytes]) -> None:
    """A whole response is framed, byte for byte, as h11 frames it, and the connection goes on if h11's would."""
    protocol, exchange = begin(request)
    length = sum(map(len, pieces))
    headers = [(name, b"%d" % length if name == b"content-length" else value) for name, value in headers]
    reference = h11.Connection(h11.SERVER)
    reference.receive_data(request)
    reference.next_event()
    reference.next_event()
    refused = {204: (b"content-length", b"transfer-encoding"), 304: (b"transfer-encoding",)}.get(status, ())
    kept = [field for field in headers if field[0].lower() not in refused]
    event = h11.Response(status_code=status, headers=[*kept, (b"date", DATE), (b"server", b"test")], reason=REASONS[status])
    expected = reference.send(event) or b""
    bodyless = status in (204, 304) or request.startswith(b"HEAD")
    for piece in () if bodyless else pieces:
        expected += reference.send(h11.Data(data=piece)) or b""
    expected += reference.send(h11.EndOfMessage()) or b""
    exchange.send(start(status, headers))
    sent = b"".join(exchange.send(body(piece, more=True)) for piece in pieces)
    assert sent + exchange.send(body()) == expected
    assert protocol.after_response() is (Next.IDLE if reference.our_state is h11.DONE else Next.CLOSE)


@dataclass
class Sent:
    """A request as the client means it."""

    method: bytes
    target: bytes
    body: bytes
    chunks: list[int] | None

    def encode(self) -> bytes:
        head = b"%s %s HTTP/1.1\r\nHost: test\r\n" % (self.method, self.target)
        if self.chunks is None:
            framing = b"Content-Length: %d\r\n\r\n" % len(self.body) if self.body else b"\r\n"
            return head + framing + self.body
        parts, rest = [head, b"Transfer-Encoding: chunked\r\n\r\n"], self.body
        for size in self.chunks:
            piece, rest = rest[:size], rest[size:]
            if piece:
                parts.append(b"%x\r\n%s\r\n" % (len(piece), piece))
        if rest:
            parts.append(b"%X;ext=1\r\n%s\r\n" % (len(rest), rest))
        return b"".join([*parts, b"0\r\n\r\n"])


requests = st.lists(
    st.builds(
        Sent,
        method=st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE"]),
        target=visible.map(lambda path: b"/" + path.replace(b"#", b"")),  # a target has no fragment
        body=st.binary(max_size=60),
        chunks=st.none() | st.lists(st.integers(1, 20), max_size=4),
    ),
    min_size=1,
    max_size=4,
)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(edges)]


@unhurried
@given(requests, st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
def test_how_the_bytes_are_cut_makes_no_difference(sent: list[Sent], cuts: list[int], eager: bool) -> None:
    """However a stream of requests is cut into pieces, the app sees the same requests with the same bodies."""
    stream = b"".join(request.encode() for request in sent)
    protocol = Protocol(identity, LIMITS)
    seen: list[tuple[bytes, bytes, bytes]] = []
    taken = bytearray()
    for piece in pieces_of(stream, cuts):
        protocol.receive_bytes(piece)
        while (exchange := protocol.exchange) is not None:
            if eager or exchange.body_complete:
                message = exchange.take()
                taken += message["body"] if message is not None else b""
            if not exchange.body_complete:
                break
            seen.append((exchange.head.method, exchange.head.target, bytes(taken)))
            taken.clear()
            complete(exchange)
            assert protocol.after_response() in (Next.REQUEST, Next.MID_HEAD, Next.IDLE)
        assert protocol.look_ahead <= len(stream)
    assert seen == [(request.method, request.target, request.body) for request in sent]
    assert protocol.exchange is None
    assert not protocol.mid_head
    assert protocol.look_ahead == 0
