"""Whatever comes: requests of the table's grammar, right and wrong, in any order and cut anywhere.

What is read must be what h11 reads, where it reads that far: two readers that disagree on where a request ends are how requests are
smuggled. What isn't read is refused, once, and nothing behind it is read. `-m slow` looks for longer.
"""

import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import anyio.from_thread
import h11
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from microasgi_server import Limits
from microasgi_server.errors import Refusal
from microasgi_server.http1.phases import DONE
from microasgi_server.http1.protocol import Protocol

from tests.conftest import LOOPS
from tests.harness import serving
from tests.wire import rows
from tests.wire.rows import ROWS

LIMITS = Limits(body=0)
SECTION = re.compile(r"[^\n]+\(RFC \d{4} §[\d.]+\)").fullmatch
STATUS = re.compile(rb"HTTP/1\.1 ([2-5]\d\d) ")
PATIENCE = 5

Request = tuple[bytes, bytes, bytes]
"""A method, a target and a body."""


# What may come.

line_ends = st.sampled_from([b"\r\n"] * 30 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b" \r\n", b"\x00\r\n"])
methods = st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT"] * 4 + [b"CONNECT", b"get", b"G T", b"", b"PRI"])
targets = st.sampled_from([b"/", b"/a?b", b"//x", b"*", b"http://o/p", b"/%0d%0a"] * 4 + [b"/a#b", b"/\xe4", b"/ x", b"", b"x", b"/\x00"])
versions = st.sampled_from([b"HTTP/1.1"] * 30 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.12", b""])
hosts = st.sampled_from([b"test"] * 20 + [*rows.NO_HOSTS, b"[::1]:80"]).map(b"Host: ".__add__)
lengths = st.sampled_from([b"0", b"5", b"05", b"5 ", b"\t5", b"10"] * 3 + rows.LENGTHS).map(b"Content-Length: ".__add__)
codings = st.sampled_from([b"chunked", b"Chunked", b" chunked\t"] * 5 + rows.CODINGS).map(b"Transfer-Encoding: ".__add__)
controls = st.sampled_from(rows.CONTROLS).map(lambda control: b"X: a" + control + b"b")
others = st.sampled_from([b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue", b"X: y", b"Upgrade: h2c", b" folded"])
wrong = st.sampled_from(rows.BAD_FIELDS) | controls
fields = st.lists(lengths | codings | others | lengths | codings | others | wrong, max_size=3)

sizes = st.sampled_from([b"5", b"05", b"5;a=b", b'5;a="b"', b"5 ;a"] * 4 + rows.BAD_SIZES)
chunks = st.builds(
    lambda size, end, data, after: size + end + data + after, sizes, line_ends, st.just(b"hello") | st.binary(max_size=6), line_ends
)
ends = st.sampled_from(
    [b"0\r\n\r\n"] * 6 + [b"0\r\nX: y\r\n\r\n", b"0\r\n", b"00\r\n\r\n", b""] + [b"0\r\n" + line + b"\r\n\r\n" for line in rows.TRAILERS]
)
bodies = st.sampled_from([b"", b"hello", b"hello" * 2, rows.GET, rows.HELLO]) | st.builds(
    lambda some, end: b"".join(some) + end, st.lists(chunks, max_size=3), ends
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, of parts that are right and parts that aren't."""
    lines = [b" ".join([draw(methods), draw(targets), draw(versions)]), draw(hosts), *draw(fields)]
    blank = draw(st.sampled_from([b""] * 8 + [b"\r\n", b"\n", b"\r\n\r\n"]))
    return blank + b"".join(line + draw(line_ends) for line in lines) + draw(line_ends) + draw(bodies)


plain = st.sampled_from([rows.GET, rows.CHUNKED + rows.HELLO, rows.POST + b"Content-Length: 5\r\n\r\nhello"])
conversations = st.lists(requests() | plain, min_size=1, max_size=4).map(b"".join) | st.sampled_from(list(rows.STRANGERS))
cuts = st.lists(st.integers(0, 2000), max_size=6)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[begin:end] for begin, end in pairwise(edges)]


CORPUS = [
    rows.CHUNKED + b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n",  # the limit looked only at lines that weren't whole
    b"G" * 9000 + b" / HTTP/1.1\r\nHost: test\r\n\r\n",  # and that of a request line only at its target
    rows.POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + rows.HELLO,  # 400, as if it were not last
    rows.POST + b"Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello" + rows.GET,  # h11 takes two for one
    rows.LINE + rows.HOST + b"Transfer-Encoding: chunked\r\n x\r\n\r\n" + rows.HELLO,  # folded
    b"\r\n" + rows.GET,  # cut between CR and LF, the empty line was taken for a request's
    b"\xfb / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: x\r\n\r\n",  # 400 byte by byte, and 501 in one piece
]
"""What was once answered otherwise."""


# What is made of it.


def ours(pieces: list[bytes]) -> tuple[list[Request], int]:
    """The requests that are read, each answered as soon as it is whole, and the status of the refusal that ended it; 0 if none did."""
    protocol = Protocol(list, LIMITS)
    taken: list[Request] = []
    try:
        for piece in pieces:
            protocol.receive_bytes(piece)
            while (exchange := protocol.exchange) is not None and exchange.body_complete and exchange.phase is not DONE:
                message = exchange.take()
                assert message is not None
                taken.append((exchange.head.method, exchange.head.target, message["body"]))
                exchange.send({"type": "http.response.start", "status": 204})
                exchange.send({"type": "http.response.body"})
                if protocol.after_response().name in ("LINGER", "CLOSE"):
                    return taken, 0
    except Refusal as refusal:
        return taken, refusal.status if SECTION(refusal.reason) else -1
    return taken, 0


def h11s(data: bytes) -> list[Request]:
    """What h11 makes of the same bytes, as far as it gets."""
    taken: list[Request] = []
    while data := data.lstrip(b"\r\n"):
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
        parser.receive_data(data)
        try:
            request = parser.next_event()
            if not isinstance(request, h11.Request):
                break
            body = b""
            while isinstance(event := parser.next_event(), h11.Data):
                body += event.data
        except h11.RemoteProtocolError:
            break
        if not isinstance(event, h11.EndOfMessage):
            break
        taken.append((request.method, request.target, body))
        data = bytes(parser.trailing_data[0])
    return taken


def check(data: bytes, at: list[int]) -> None:
    """Assert that nothing is read that h11 reads otherwise, wherever it is cut."""
    taken, status = ours([data])
    assert status >= 0
    assert taken == h11s(data)[: len(taken)]
    assert ours(cut(data, at)) == (taken, status)


@settings(deadline=None, max_examples=300)
@given(conversations, cuts)
def test_nothing_is_read_otherwise(data: bytes, at: list[int]) -> None:
    """Of any conversation we read what h11 reads, or less; and the same however it comes."""
    check(data, at)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(deadline=None, max_examples=50_000, suppress_health_check=list(HealthCheck))
@given(conversations, cuts)
def test_nothing_is_read_otherwise_for_longer(data: bytes, at: list[int]) -> None:
    """The same, with more time."""
    check(data, at)


EVERY_ROW = [b"".join(row.sent) if isinstance(row.sent, list) else row.sent for group in ROWS.values() for row in group]


@pytest.mark.parametrize("corpus", [CORPUS, [sent for sent in EVERY_ROW if len(sent) < 2_000]], ids=["found", "the table's"])
def test_what_was_found_stays_found(corpus: list[bytes]) -> None:
    """The cases that were once wrong, and each row of the table with others behind it."""
    for data in corpus:
        check(data + rows.GET, [1, len(data) // 2, len(data) - 1, len(data)])


# The same over a socket.


class Heard(logging.Handler):
    """What the server logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, record.getMessage()))


class Target:
    """A server in a thread of its own, and what became of its app.

    calls: of the app.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.port = 0
        self.heard = Heard()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def ask(self, pieces: list[bytes]) -> bytes:
        """All that a client gets who sends this, and then no more."""
        got = b""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as sock:
            try:
                for piece in pieces:
                    sock.sendall(piece)
                sock.shutdown(socket.SHUT_WR)
                while data := sock.recv(65_536):
                    got += data
            except (ConnectionResetError, BrokenPipeError):
                pass
        return got


@contextmanager
def running(loop: str) -> Iterator[Target]:
    """A target, as long as the block lasts. The client is in this thread, the server in another."""
    backend, options = LOOPS[loop]
    target = Target()
    ended = threading.Event()

    async def serve(stop: anyio.Event, *, task_status: Any) -> None:
        async with serving(target.app, lifespan="off", half_close=True) as served:
            target.port = served.port
            task_status.started()
            await stop.wait()
        ended.set()

    logger = logging.getLogger("microasgi_server")
    logger.addHandler(target.heard)
    try:
        with anyio.from_thread.start_blocking_portal(backend, options) as portal:
            stop = portal.call(anyio.Event)
            future, _ = portal.start_task(partial(serve, stop))
            yield target
            portal.call(stop.set)
            future.result(PATIENCE)
    finally:
        logger.removeHandler(target.heard)


def check_conversation(target: Target, data: bytes, at: list[int]) -> None:
    """Assert that each request has one answer at most, that the connection ends, and that nobody complains."""
    calls = target.calls
    target.heard.lines.clear()
    statuses = [int(status) for status in STATUS.findall(target.ask(cut(data, at)))]
    refusals = [status for status in statuses if status >= 400]
    assert len(statuses) <= target.calls - calls + len(refusals)
    assert refusals in ([], statuses[-1:])
    assert [line for line in target.heard.lines if line[0] > logging.INFO or "\n" in line[1] or len(line[1]) > 9_000] == []


@pytest.mark.parametrize("loop", LOOPS)
def test_each_request_has_one_answer(loop: str) -> None:
    """Whatever is sent: no more answers than requests, nothing behind a refusal, no hang, no error in the log."""
    with running(loop) as target:

        @settings(deadline=None, max_examples=100)
        @example(CORPUS[0], [])
        @given(conversations, cuts)
        def converse(data: bytes, at: list[int]) -> None:
            check_conversation(target, data, at)

        converse()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("loop", LOOPS)
def test_each_request_has_one_answer_for_longer(loop: str) -> None:
    """The same, with more time."""
    with running(loop) as target:

        @settings(deadline=None, max_examples=5_000, suppress_health_check=list(HealthCheck))
        @given(conversations, cuts)
        def converse(data: bytes, at: list[int]) -> None:
            check_conversation(target, data, at)

        converse()
