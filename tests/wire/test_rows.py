"""The table in `rows.py`, row by row, over real sockets: one server for each group and loop, all its clients at once."""

import re
import time
from contextlib import suppress
from typing import Any

import anyio
import pytest

from tests.harness import PATIENCE, Served, eventually, loud_lines, serving
from tests.wire.rows import CLOSES, GOES_ON, LINE, ROWS, Row

pytestmark = pytest.mark.anyio

LAST = b"GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
REFUSED = re.compile(r"127\.0\.0\.1:\d+ - refused with \d{3}: [a-zA-Z].* \(RFC \d{4} §[\d.]+\)").fullmatch
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
ODD_STARTS = {
    "/header/CR": (200, b"a\rb"),
    "/header/LF": (200, b"a\nInjected: b"),
    "/header/NUL": (200, b"a\0b"),
    "/status/99": (99, b"a"),
    "/status/1000": (1000, b"a"),
}
WRONG = {"/longer": (b"xx", False), "/shorter": (b"", False), "/streams/longer": (b"xxx", True), "/streams/shorter": (b"x", True)}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Tells what it was asked, or does what an app shouldn't, as its path says."""

    async def start(length: int, status: int = 200, value: bytes = b"a") -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % length), (b"x", value)]})

    async def body(data: bytes, *, more: bool = False) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": more})

    path, data = scope["path"], b""
    if path.startswith("/streams"):
        await start(3)
        await body(b"x", more=True)
    if path in WRONG:
        if not path.startswith("/streams"):
            await start(1)
        await body(WRONG[path][0])
    elif path in ODD_STARTS:
        await start(0, *ODD_STARTS[path])
    elif path in ("/204", "/304"):
        await start(4, int(path[1:]))
        await body(b"body")
    elif path == "/raises/GeneratorExit":
        raise GeneratorExit
    elif path.endswith("/raises"):
        raise ValueError("boom")
    elif not path.endswith("/returns"):
        while path != "/unread":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            data += message["body"]
            if not message["more_body"]:
                break
        shown = f"{scope['method']} {scope['raw_path'].decode()!r} {scope['query_string']!r} {scope['headers']!r} {data!r}".encode()
        await start(len(shown))
        await body(shown)


async def converse(served: Served, row: Row) -> bytes:
    """All that the row's client gets, with another request behind what it sends."""
    async with await served.connect() as client:
        got = b""

        async def send() -> None:
            with suppress(BrokenPipeError, ConnectionResetError):
                for piece in [row.sent] if isinstance(row.sent, bytes) else row.sent:
                    await client.send(piece)
                    await anyio.sleep(0.002 if isinstance(row.sent, list) else 0)  # so that they aren't one read
                await eventually(lambda: len(STATUS.findall(got)) >= len(row.statuses))
                await client.send(LAST)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                with suppress(ConnectionResetError):  # what came before it counts
                    while data := await client.receive():
                        got += data
                tasks.cancel_scope.cancel()
        return got


def wrong_with(row: Row, got: bytes) -> str:
    """What isn't as the row says."""
    statuses = tuple(map(int, STATUS.findall(got)))
    if statuses != ((*row.statuses, 200) if row.after is GOES_ON else row.statuses):
        return f"{statuses}"
    answer = STATUS.split(got)[2::2][len(row.statuses) - 1]
    return "" if row.says in answer and answer.endswith(row.ends) else f"{answer!r}"


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of requests that weren't served."""
    return [line for line in caplog.messages if "refused" in line]


@pytest.mark.parametrize("group", ROWS)
async def test_rows(group: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each row gets the answers of the table and no other, its connection then takes another request or none, and a refusal one line."""
    rows = ROWS[group]
    wrong: dict[bytes, str] = {}

    async def play(row: Row) -> None:
        if complaint := wrong_with(row, await converse(served, row)):
            wrong[row.sent[:100] if isinstance(row.sent, bytes) else b"|".join(row.sent)[:100]] = complaint

    async with serving(app, lifespan="off") as served, anyio.create_task_group() as tasks:
        for row in rows:
            tasks.start_soon(play, row)
    assert wrong == {}
    if group != "app errors":
        assert not loud_lines(caplog)
        assert len(refusals(caplog)) == sum(status >= 400 for row in rows for status in row.statuses)
    assert not any(re.search(r"[\x00-\x1f\x7f]", line) for line in caplog.messages)
    assert [line for line in refusals(caplog) if len(line.encode()) > 300 or not REFUSED(line)] == []


LONG = b"N" * 300
ECHOES = [
    LONG + b" / HTTP/9.9\r\n\r\n",
    LONG + b"\r\n\r\n",
    b"GET " + LONG + b" HTTP/1.1\r\nHost: test\r\n\r\n",
    b"GET / " + LONG + b"\r\n\r\n",
    LINE + b"Host: @" + LONG + b"\r\n\r\n",
    LINE + b"Host: test\r\n" + LONG + b": \x01\r\n\r\n",
    LINE + b"Host: test\r\n" + LONG + b"\r\n\r\n",
    LINE + b"Host: test\r\nContent-Length: " + LONG + b"\r\n\r\n",
    LINE + b"Host: test\r\nTransfer-Encoding: " + LONG + b"\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" + LONG + b"\r\n",
    b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + LONG + b"\r\n",
]


async def test_little_is_repeated_of_what_came(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the answer to nonsense nor the log shows more than 100 bytes of it, and neither shows how Python writes it."""
    async with serving(app, lifespan="off") as served:
        for sent in ECHOES:
            answer = await converse(served, Row(sent, CLOSES, (400,)))
            assert answer.startswith(b"HTTP/1.1 ")
            for text in (answer.decode(), caplog.messages[-1]):
                assert "N" * 101 not in text
                assert not re.search(r"\bb?'|b\"|\\x|<", text)
    assert len(refusals(caplog)) == len(ECHOES)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b" HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b" HTTP/2.0\r\n\r\n", 505),
        (b"x" * 9_000, 414),
        (b" HTTP/1.1\r\nHost: test\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b" HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
    ids=["Host", "version", "target", "fields", "chunk"],
)
async def test_a_refused_head_has_no_body(sent: bytes, status: int) -> None:
    """Who asks for a head alone gets no more where it is refused (RFC 9110 §9.3.2)."""
    async with serving(app, lifespan="off") as served:
        answer = await converse(served, Row(b"HEAD /" + sent, CLOSES, (status,)))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(b"\r\n\r\n")


COSTLY = {
    "one-byte chunks": b"1\r\nx\r\n" * 300_000,
    "long extensions": (b"1;" + b"a" * 1024 + b"\r\nx\r\n") * 2_000,
    "small chunks in proportion": (b"20\r\n" + b"x" * 32 + b"\r\n") * 30_000,
}


@pytest.mark.parametrize("data", COSTLY.values(), ids=COSTLY.keys())
async def test_costly_chunks_keep_nobody_waiting(data: bytes) -> None:
    """While one client's body comes in hundreds of thousands of pieces, another is answered within 50 ms each time."""

    async def longest_wait() -> float:
        longest = 0.0
        async with await served.connect() as other, anyio.create_task_group() as tasks:

            async def flood() -> None:
                async with await served.connect() as client:
                    with suppress(BrokenPipeError, ConnectionResetError):
                        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
                ended.set()

            ended = anyio.Event()
            tasks.start_soon(flood)
            while not ended.is_set():
                began = time.perf_counter()
                await other.send(LINE + b"Host: test\r\n\r\n")
                assert (await other.response()).status == 200
                longest = max(longest, time.perf_counter() - began)
        return longest

    async with serving(app, lifespan="off", access_log=False) as served:
        assert min([await longest_wait() for _ in range(3)]) < 0.05  # the machine has other work, too
