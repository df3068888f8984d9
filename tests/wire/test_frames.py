"""Frames that are taken without the package `websockets`, which stays the judge of all: it would have said the same."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from microasgi_server import Limits
from microasgi_server.websocket.frames import Frames
from microasgi_server.websocket.spans import span, unmasked

from tests.websocket_client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, frames, goodbye

LIMIT = 300
MASK = b"\x01\x80\xff\x0a"


class Judged(Frames):
    """All frames are for the parser to see."""

    def _is_common(self, data: bytes, at: int, length: int) -> bool:
        return False


def masked(data: bytes) -> bytes:
    """The same frame under a mask that changes it."""
    payload, end = span(data, 0) or (0, 0)
    content = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(data[payload:end]))
    return data[: payload - 4] + MASK + content if data[1] & 0x80 else data


FRAMES = st.one_of(
    st.builds(lambda text: frame(TEXT, text.encode()), st.text(max_size=200)),
    st.builds(lambda data: frame(BINARY, data), st.binary(max_size=LIMIT)),
    st.builds(
        lambda opcode, data, fin, masked, rsv: frame(opcode, data, fin=fin, masked=masked, rsv=rsv),
        st.sampled_from([CONTINUATION, TEXT, BINARY, 3, CLOSE, PING, PONG, 15]),
        st.binary(max_size=LIMIT + 5),
        st.booleans(),
        st.sampled_from([True, True, True, False]),
        st.sampled_from([0, 0, 0, 0x40, 0x10]),
    ),
    st.just(frame(TEXT, b"\xff")),
    st.just(goodbye(1001)),
    st.binary(min_size=1, max_size=4),
)


def told(reader: Frames, pieces: list[bytes]) -> tuple[list[Any], bytes]:
    """What comes of it, as long as that means anything, and what is answered."""
    found: list[Any] = []
    for piece in pieces:
        found += reader.receive(piece)
        if found and not isinstance(found[-1], str | bytes):
            break
    return found, reader.replies()


@given(said=st.lists(FRAMES, max_size=6), sizes=st.lists(st.integers(1, 400), min_size=1, max_size=4))
@example(said=[frame(BINARY, b"", fin=False), frame(BINARY, b"a")], sizes=[400])  # nothing is there of the message, but it has begun
@example(said=[frame(BINARY, b"a", fin=False), frame(CONTINUATION, b"b"), frame(TEXT, b"c")], sizes=[400])
@example(said=[frame(BINARY, bytes(LIMIT)), frame(BINARY, bytes(LIMIT + 1)), frame(TEXT, b"c")], sizes=[2000])
@example(said=[frame(BINARY, b"abcdefgh", masked=False), frame(TEXT, b"c")], sizes=[400])
@example(said=[frame(PONG, bytes(125)), frame(PONG, bytes(126)), frame(TEXT, b"c")], sizes=[400])
@example(said=[frame(BINARY, b"a", rsv=0x40), frame(TEXT, b"c")], sizes=[400])
@example(said=[frame(TEXT, "é".encode()[:1]), frame(TEXT, b"c")], sizes=[1])
@settings(max_examples=300, deadline=None)
def test_the_parser_would_have_said_the_same(said: list[bytes], sizes: list[int]) -> None:
    """Whatever comes, in whatever pieces: the same messages, the same end, the same answers."""
    data = b"".join([masked(each) if len(each) > 5 else each for each in said])
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        pieces.append(data[at : at + sizes[len(pieces) % len(sizes)]])
        at += len(pieces[-1])
    assert told(Frames(LIMIT, "", 0), pieces) == told(Judged(LIMIT, "", 0), pieces)


def test_who_says_what_most_say_needs_no_parser() -> None:
    """Or all this would be for nothing; also to be asked for a pong, and to answer."""
    reader = Frames(LIMIT, "", 0)
    assert reader.ping() == b"\x89\0"
    assert reader.receive(masked(frame(TEXT, b"hello")) + frame(PONG) + masked(frame(BINARY, bytes(LIMIT)))) == ["hello", bytes(LIMIT)]
    assert reader._parser is None
    reader.receive(frame(PING))
    assert reader._parser is not None


@pytest.mark.parametrize("step", [1000, 5001, 65_536])
@pytest.mark.parametrize(
    ("opcode", "content"),
    [(TEXT, "é1".encode() * 33_334), (BINARY, bytes(range(256)) * 400), (TEXT, b"a" * 100_000 + b"\xff")],
    ids=["text", "bytes", "no text"],
)
def test_what_comes_in_several_reads_is_the_same(opcode: int, content: bytes, step: int) -> None:
    """A long frame, cut anywhere, with another one behind it: unmasked piece by piece, and no parser, unless something is wrong with it."""
    said = masked(frame(opcode, content)) + masked(frame(TEXT, b"hello"))
    pieces = [said[at : at + step] for at in range(0, len(said), step)]
    reader = Frames(2**20, "", 0)
    found, answers = told(reader, pieces)
    assert (found, answers) == told(Judged(2**20, "", 0), pieces)
    if isinstance(found[0], str | bytes):
        assert found == [content.decode() if opcode == TEXT else content, "hello"]
        assert reader._parser is None


def test_a_message_of_64_kib_fits_into_one_read() -> None:
    """With its head: another turn of the loop for the last bytes would cost a fifth of all that such a message does."""
    assert Limits().read >= len(frame(BINARY, bytes(65_536)))


@pytest.mark.parametrize("length", [0, 125, 126, 2**16 - 1, 2**16])
def test_a_frame_is_as_long_as_its_head_says(length: int) -> None:
    """In both directions, and its end is known as soon as its length is here."""
    assert frames(unmasked(BINARY, bytes(length))) == [(BINARY, bytes(length))]
    said = b"?" + frame(BINARY, bytes(length))
    head = len(said) - length - 4
    assert [span(said[:cut], 1) for cut in range(head)] == [None] * head
    assert span(said[:head], 1) == (head + 4, len(said))
