"""What a tap is told of what was said: nothing secret, wherever the bytes are cut, and only the beginning of what is long."""

import json
import random
import re
from typing import Any

import pytest
from microasgi_server.taps import redaction
from microasgi_server.taps.redaction import SECRETS, SHOWN, Redaction, plain
from microasgi_server.taps.streams import Stream

from microasgi.watching import telling

# Everything secret is made of Q and Z, and nothing else is.

HEAD = (
    b"POST /a?QZ=ZQZ&Q HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer QZZQ\r\nCOOKIE:QZ; Z=QQ\r\n"
    b"x-mine : QZ\r\n folded QZ\r\n\tZQ\r\nX-Api-Key:\r\nAccept: */*\r\nSet-Cookies: open\r\nNo-Cookie: open\r\n"
)
SIZED = HEAD + b"Content-Length: 12\r\n\r\nbody\r\nin two"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nProxy-Authorization: ZZ\r\n\r\n"
PIPELINED = SIZED + b"GET /?Z HTTP/1.1\r\nHost: test\r\nCookie: QZ\r\n\r\n" + CHUNKED
LONG = b"GET / HTTP/1.1\r\nCookie: " + b"QZ" * 400 + b"\r\nX-Long: " + b"-" * 300 + b"\r\nx-mine: " + b"Q" * 10 + b"\r\nAccept: *\r\n\r\n"
QUERY = b"GET /a?" + b"QZ=&" * 150 + b" HTTP/1.1\r\nHost: test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nset-cookie: QZ=ZQ; path=/\r\nset-cookie: Q\r\nlocation: /b?Q\r\ncontent-length: 300\r\n\r\n" + b"  {\n" * 75

STREAMS = {"sized": SIZED, "chunked": CHUNKED, "pipelined": PIPELINED, "long": LONG, "a long query": QUERY, "an answer": ANSWER}

HIDING = Redaction(hide=["X-Mine"], hide_query=True)


HIDDEN = {b"x-mine", *(name.encode() for name in SECRETS)}


def without_secrets(data: bytes) -> bytes:
    """All of it, as it should be shown: by lines, for who has it all."""
    lines, hides = [], False
    for line in data.split(b"\n"):
        name, _, _ = line.partition(b":")
        goes_on = hides and line.startswith((b" ", b"\t"))
        hides = goes_on or name.strip().lower() in HIDDEN
        shows = 0 if goes_on else len(name) + 1 if hides else len(line)
        line = line[:shows] + re.sub(rb"[^\r]", b"*", line[shows:])
        lines.append(re.sub(rb"(?<=\?)\S+", lambda query: b"*" * len(query[0]), line))
    return b"\n".join(lines)


def shown(pieces: list[bytes], redaction: Redaction = HIDING) -> list[bytes]:
    """What is told of them, one after another."""
    stream = Stream(redaction)
    told = [stream.piece(piece) for piece in pieces]
    assert [fact["size"] for fact in told] == [len(piece) for piece in pieces]
    return [bytes.fromhex(fact["bytes"]) for fact in told]


def cut(data: bytes, *at: int) -> list[bytes]:
    return [data[begin:end] for begin, end in zip((0, *at), (*at, len(data)), strict=True)]


def hides_all(data: bytes, *at: int) -> None:
    """However it is cut, what is told is what should be, up to the most that is told of a piece."""
    whole = without_secrets(data)
    assert shown(cut(data, *at)) == [piece[:SHOWN] for piece in cut(whole, *at)], at


@pytest.mark.parametrize("data", STREAMS.values(), ids=STREAMS.keys())
def test_no_secret_is_told_wherever_the_bytes_are_cut(data: bytes) -> None:
    """Values of secret fields, and queries, are asterisks, in one piece, in two, byte by byte, or in any; all else is as it came."""
    whole = without_secrets(data)
    assert not re.search(rb"[QZ]", whole)
    assert whole.count(b"*") > data.count(b"Q")
    for at in range(len(data) + 1):
        hides_all(data, at)
    hides_all(data, *range(1, len(data)))
    chance = random.Random(4)
    for _ in range(300):
        hides_all(data, *sorted(chance.choices(range(len(data)), k=chance.randrange(2, 9))))


def test_other_fields_are_shown() -> None:
    """Without being told so, queries are shown, and fields of one's own, and what only looks like a secret's name."""
    data = b"GET /?a=1 HTTP/1.1\r\nX-Mine: Q\r\nNot-Cookie: b\r\nX: Cookie: c\r\nCookies: d\r\n\r\nCooki"
    assert shown([data], Redaction()) == [data]


@pytest.mark.parametrize(
    "data", [b"Authorization : Bearer Q\r\n", b"\r\ncookie: Q\r\n", b"GET / HTTP/1.1\nCookie: Q\n\n", b"X: a\rCookie: Q\r\n"]
)
def test_what_is_no_http_hides_its_secrets_too(data: bytes) -> None:
    """What the server will refuse is told all the same, so it is hidden by what it looks like."""
    for at in range(len(data)):
        assert b"Q" not in b"".join(shown(cut(data, at), Redaction()))


def test_without_bodies_only_heads_are_shown() -> None:
    """Nothing but heads is shown then: up to their empty line, wherever they are cut, and again where the next one is expected."""
    bodiless = Redaction(bodies=False)
    head = b"\r\nPOST / HTTP/1.1\r\nCookie: Q\r\nContent-Length: 4\r\n\r\n"
    for at in range(len(head) + 4):
        told = b"".join(shown(cut(head + b"body", at), bodiless))
        assert told == head.replace(b" Q", b"**"), at
    stream = Stream(bodiless)
    for expected, data, visible in [
        (None, b"HTTP/1.1 103 Early Hints\r\n\r\n", True),  # the final head is still to come
        (None, b"HTTP/1.1 200 OK\r\n\r\n", True),
        (None, b"HTTP/1.1 a body\r\n\r\n", False),
        (True, b"HTTP/1.1 200 OK\r\n\r\n", True),
        (True, b"HTTP/1.1 101 Switching Protocols\r\n\r\n", True),
        (None, b"\x81\x05hello", False),
        (False, b"GET / HTTP/1.1\r\n\r\n", False),
    ]:
        if expected is not None:
            stream.expect_head(expected)
        assert bytes.fromhex(stream.piece(data)["bytes"]) == (data if visible else b""), data


MESSAGES: list[Any] = [
    {"type": "http.response.start", "status": 200, "headers": [(b"Set-Cookie", b"Q"), ["x-mine", "Q"], (b"location", b"/?Q"), 1, (b"a",)]},
    {"type": "http.response.body", "body": b"a" * 1000, "more_body": True},
    {"type": "http.response.body", "body": memoryview(b"abcd").cast("I")},
    {"type": "websocket.send", "text": "a" * 1000, "bytes": None},
    {"type": "http.request", "body": "no bytes", "query_string": b"Q"},
    {"query_string": b"", "state": {"mine": object()}, "extensions": {"tls": {"secret": 1}}, "client": ("::1", 1), "path": "/" * 9999},
    {"deep": {"a": {"b": {"c": {"d": {"e": 1}}}}}, "odd": {1: {2, 3}, "x": float}, "headers": iter([(b"a", b"b")])},
    None,
    [b"Q"[:0], "x", object()],
]


@pytest.mark.parametrize("options", [{}, {"hide": ["X-Mine"], "hide_query": True, "bodies": False}], ids=["by default", "strictly"])
@pytest.mark.parametrize("message", MESSAGES)
def test_messages_are_plain(message: Any, options: Any) -> None:
    """Whatever an app sends becomes data that JSON can have, cut to its beginning."""
    told = Redaction(**options).message(message)
    assert plain(told, 9) == told
    json.dumps(told)
    assert len(json.dumps(told)) < 5000
    if options:
        assert "Q" not in json.dumps(told)


def test_bodies_are_told_by_their_beginning_and_size() -> None:
    """A body is 256 bytes at most, in hexadecimal, and its size; a text is text."""
    tell = Redaction().message
    assert tell({"body": b"a" * 1000}) == {"body": {"bytes": "61" * 256, "size": 1000}}
    assert tell({"text": "a" * 1000}) == {"text": {"text": "a" * 256, "size": 1000}}
    assert Redaction(bodies=False).message({"body": b"abc", "text": "ab"}) == {
        "body": {"bytes": "", "size": 3},
        "text": {"text": "", "size": 2},
    }


def test_an_error_that_cant_be_shown_is_named() -> None:
    """A tap doesn't fail, whatever an app raises; both packages name it the same."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert redaction.error_text(Mute()) == telling.error_text(Mute()) == "Mute"
    assert redaction.error_text(ValueError("no")) == telling.error_text(ValueError("no")) == "ValueError: no"
