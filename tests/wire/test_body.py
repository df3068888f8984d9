"""Where a body ends: chunks, as RFC 9112 §7.1 has them, and what they may cost."""

import time
from itertools import pairwise
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from microasgi_server.errors import Refusal
from microasgi_server.http1.body import Sized
from microasgi_server.http1.chunked import Chunked
from microasgi_server.http1.limits import Limits

LIMITS = Limits()


def feed(pieces: list[bytes], limits: Limits = LIMITS) -> Any:
    """The body in these pieces, and what is behind it; the status if it is refused; None if it isn't complete."""
    reader, body = Chunked(limits), b""
    for number, piece in enumerate(pieces):
        try:
            part, rest = reader.read(piece)
        except Refusal as refusal:
            return refusal.status
        body += part
        if reader.complete:
            return body, rest + b"".join(pieces[number + 1 :])
    return None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"00005\r\nhello\r\n0000\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b'2;a;b=c;d="e\\"f";g\r\nhi\r\n0;x\r\n\r\n', b"hi"),
        (b"2 ; a = b\r\nhi\r\n0\r\n\r\n", b"hi"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"1\r\nx\r\n0\r\nX-Sum: 1\r\nEmpty:\r\n\r\n", b"x"),
    ],
)
def test_a_chunked_body_at_every_split(data: bytes, expected: bytes) -> None:
    """However it is cut, the content comes out, extensions and trailers are ignored, and what is behind is not touched."""
    data += b"GET /next"
    for at in range(len(data)):
        assert feed([data[:at], data[at:]]) == (expected, b"GET /next")
    assert feed([data[at : at + 1] for at in range(len(data))]) == (expected, b"GET /next")


SIZES = [b"+5", b"-5", b"0x5", b" 5", b"5 ", b"5\t", b"", b"g", b"5;", b"5; ", b"5;=a", b"5;a=", b"5;a b"]
SIZES += [b"5;a\x00", b"5;a\x7f", b"5;a\rb", b'5;a="b', b"5;a,b", b"5;\xe4", b"0" * 17 + b"5", b"f" * 17]


@pytest.mark.parametrize(
    "data",
    [
        *(size + b"\r\nhello\r\n" for size in SIZES),
        b"5\nhello\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\r0\r\n",
        b"5\r\nhello0\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nhost: a\r\n\r\n",
        b"0\r\nTRANSFER-ENCODING: chunked\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\nX: a\x01b\r\n\r\n",
        b"0\r\n folded: y\r\n\r\n",
    ],
)
def test_a_malformed_chunk_is_refused(data: bytes) -> None:
    """A size with a sign, a prefix or spaces, a wrong end, an extension that isn't one, trailers that would change the request: 400."""
    assert feed([data]) == 400
    assert feed([data[at : at + 1] for at in range(len(data))]) == 400


def h11_reads(data: bytes) -> Any:
    """What h11 makes of it: the body and what is behind, or None."""
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    parser.next_event()
    body = b""
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body, bytes(parser.trailing_data[0])
        else:
            return None


sizes = st.sampled_from([b"0", b"1", b"2", b"02", b"a", b"1;x", b"1;", b"2 ", b"+1", b"", b"f" * 17])
ends = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b""])
contents = st.sampled_from([b"", b"x", b"xy", b"0123456789", b"\r\n"])
lines = st.lists(st.builds(lambda *parts: b"".join(parts), sizes, ends, contents, ends), max_size=5)


@settings(deadline=None, max_examples=500)
@given(lines, st.sampled_from([b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\n", b"behind"]), st.lists(st.integers(0, 100), max_size=5))
def test_a_chunked_body_is_what_h11_reads(chunks: list[bytes], end: bytes, cuts: list[int]) -> None:
    """Whatever is accepted, h11 accepts with the same content and the same rest, however it is cut."""
    data = b"".join(chunks) + end
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    found = feed([data])
    assert feed([data[begin:end] for begin, end in pairwise(edges)]) == found
    if isinstance(found, tuple):
        assert found == h11_reads(data)


def test_a_body_of_a_known_length() -> None:
    """What is missing is body, what is more is behind it."""
    reader = Sized(5)
    assert (reader.read(b"he"), reader.complete) == ((b"he", b""), False)
    assert (reader.read(b"lloGET"), reader.complete) == ((b"llo", b"GET"), True)


# What it may cost.


@pytest.mark.parametrize(
    "data",
    [b"1\r\nx\r\n" * 300_000, b"1;" + b"a" * 65_536, (b"1;" + b"a" * 1024 + b"\r\nx\r\n") * 1_000, b"0\r\n" + b"X: y\r\n" * 50_000],
    ids=["one-byte chunks", "a long extension", "long extensions", "trailers"],
)
def test_framing_out_of_proportion_is_refused(data: bytes) -> None:
    """A body whose chunks cost more than they carry is refused, and no piece of it keeps the loop for more than a moment."""
    reader, longest = Chunked(LIMITS), 0.0
    with pytest.raises(Refusal) as caught:  # noqa: PT012 -- the clock runs around each piece
        for at in range(0, len(data), 65_536):
            began = time.process_time()
            try:
                reader.read(data[at : at + 65_536])
            finally:
                longest = max(longest, time.process_time() - began)
    assert caught.value.status == 400
    assert longest < 0.25  # 0.01 on a quiet machine


def test_small_chunks_in_proportion_are_served() -> None:
    """Ten thousand chunks of one byte, as somebody types, and any number of a hundred bytes are nothing unusual."""
    assert feed([b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"]) == (b"x" * 10_000, b"")
    assert feed([(b"64\r\n" + b"x" * 100 + b"\r\n") * 20_000 + b"0\r\n\r\n"]) == (b"x" * 2_000_000, b"")


@pytest.mark.parametrize("sizes", [[64], [5], [5, 6], [5, 5, 64, 5, 0x1000]], ids=str)
def test_many_small_chunks_keep_nobody_waiting(sizes: list[int]) -> None:
    """A hundred thousand chunks come out as they are, of one size or of several, and no read of them takes the loop for long."""
    chunks = [b"%x\r\n%b\r\n" % (size, bytes([65 + size % 26]) * size) for size in sizes]
    data = b"".join(chunks) * (100_000 // len(sizes)) + b"0\r\n\r\n"
    reader, body, longest = Chunked(LIMITS), [], 0.0
    for at in range(0, len(data), 256_000):  # what uvloop reads at once
        began = time.process_time()
        part, rest = reader.read(data[at : at + 256_000])
        longest = max(longest, time.process_time() - began)
        body.append(part)
    assert reader.complete
    assert rest == b""
    assert b"".join(body) == b"".join(bytes([65 + size % 26]) * size for size in sizes) * (100_000 // len(sizes))
    assert longest < 0.25  # 0.02 on a quiet machine


@pytest.mark.parametrize("wrong", [b"5\r\nhelloX\n", b"5\r\nhello\rX", b"5\nhello\r\n", b"5 \r\nhello\r\n", b"6\r\nhello\r\n"])
def test_a_malformed_chunk_among_others_like_it_is_refused(wrong: bytes) -> None:
    """That the chunks before it were well-formed and of its size makes a wrong one no better."""
    right = b"5\r\nhello\r\n"
    assert feed([right * 3 + wrong + right]) == 400
