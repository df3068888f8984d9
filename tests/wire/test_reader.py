"""What a request may be: the fast way of the reader held against its arbiter, and both against RFC 9112 and h11."""

import time
from itertools import pairwise
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from microasgi_server.errors import Refusal
from microasgi_server.http1 import reader
from microasgi_server.http1.arbiter import arbitrate
from microasgi_server.http1.fields import Kept, _lines, known_line, read_line
from microasgi_server.http1.limits import Limits
from microasgi_server.http1.reader import Reader
from microasgi_server.http1.request_head import Head

LIMITS = Limits()

BROWSER = b"""GET /search?q=asgi+server&page=2 HTTP/1.1
Host: www.example.com
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
Accept-Language: en-GB,en;q=0.7,de;q=0.3
Accept-Encoding: gzip, deflate, br, zstd
Referer: https://www.example.com/
Connection: keep-alive
Cookie: session=5f2b0c9e7a1d4e6f; theme=dark; consent="a,b"
Upgrade-Insecure-Requests: 1
Sec-Fetch-Dest: document
Priority: u=0, i

"""
FORM = b"""POST /login HTTP/1.1
Host: localhost:8000
Content-Length: 27
Cache-Control: max-age=0
Origin: http://localhost:8000
Content-Type: application/x-www-form-urlencoded
Connection: keep-alive

"""
WEBSOCKET = b"""GET /chat HTTP/1.1
Host: server.example.com
Upgrade: websocket
Connection: keep-alive, Upgrade
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version: 13

"""
PROXIED = b"""GET /a%20b/?x=%C3%A4 HTTP/1.1
X-Forwarded-For: 203.0.113.7, 198.51.100.2
X-Forwarded-Proto: https
X-Request-Id: 0a1b2c
Host: [2001:db8::1]:8080
Via: 1.1 varnish, 1.1 cache
Set-Thing: one
Set-Thing: two

"""
UPLOAD = b"""PUT /files/1 HTTP/1.1
Host: example.com
Transfer-Encoding: chunked
Expect: 100-continue

"""
ORDINARY: dict[str, bytes] = {
    "wrk": b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n",
    "curl": b"GET /a HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
    "curl, posting": b"POST / HTTP/1.1\r\nHost: a\r\nUser-Agent: curl/8.5.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    "requests": b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: python-requests/2.32\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n",
    "ab": b"HEAD / HTTP/1.1\r\nConnection: close\r\nHost: a\r\n\r\n",
    "a browser": BROWSER.replace(b"\n", b"\r\n"),
    "a form": FORM.replace(b"\n", b"\r\n"),
    "a WebSocket's": WEBSOCKET.replace(b"\n", b"\r\n"),
    "through proxies": PROXIED.replace(b"\n", b"\r\n"),
    "obs-text": b"GET / HTTP/1.1\r\nHost: a\r\nX-Name:\tJos\xe9 \t\r\nEmpty:\r\n\r\n",
}
"""What browsers, programs and proxies send. The fast way takes all of it."""

RARE: dict[str, bytes] = {
    "chunked": UPLOAD.replace(b"\n", b"\r\n"),
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "absolute": b"GET http://other:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
}
"""Legal, or taken by h11 as if it were; the fast way leaves it alone."""

every_ordinary = pytest.mark.parametrize("data", ORDINARY.values(), ids=ORDINARY.keys())


def fast(data: bytes) -> Head | None:
    """What the fast way makes of it."""
    match = reader._ORDINARY(data)
    return reader._ordinary(match, LIMITS) if match is not None else None


def arbiter(data: bytes) -> Head:
    """What the arbiter makes of a whole head."""
    return arbitrate(data, LIMITS)


def what(head: Head) -> dict[str, Any]:
    """All that a head says."""
    return {**vars(head), "length": head.length, "closes": head.closes, "expects": head.expects, "upgrades": head.upgrades}


def read(data: bytes) -> Head:
    """The head in `data`, which is whole and nothing more."""
    found = Reader(LIMITS).read(data)
    assert found is not None
    assert found[1] == b""
    return found[0]


def status_of(data: bytes) -> int:
    """What `data` is refused with."""
    with pytest.raises(Refusal) as caught:
        Reader(LIMITS).read(data)
    assert caught.value.reason
    assert len(caught.value.reason) < 200
    return caught.value.status


# The fast way and the other.


@every_ordinary
def test_the_fast_way_takes_what_is_ordinary(data: bytes) -> None:
    """Browsers, POSTs of a known length and keep-alive don't fall off the fast way, and it makes of them what the arbiter makes."""
    head = fast(data)
    assert head is not None
    assert what(head) == what(arbiter(data))


@pytest.mark.parametrize("data", RARE.values(), ids=RARE.keys())
def test_the_fast_way_leaves_what_is_rare(data: bytes) -> None:
    """What is legal but rare is the arbiter's to read."""
    assert fast(data) is None
    assert what(read(data)) == what(arbiter(data))


def agree(data: bytes) -> None:
    """Assert that what the fast way takes, h11 and the arbiter take too, and make the same of it."""
    match = reader._ORDINARY(data)
    head = fast(data)
    if match is None or head is None:
        return
    whole = data[: match.end()]
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(whole)
    event = parser.next_event()
    assert isinstance(event, h11.Request)
    assert parser.trailing_data[0] == b""
    assert (head.method, head.target, head.version) == (event.method, event.target, event.http_version)
    assert head.fields == list(event.headers)
    assert what(head) == what(arbiter(whole))


token = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8).map(str.encode)
names = token | st.sampled_from(
    [
        b"Host",
        b"host",
        b"Content-Length",
        b"content-length",
        b"Transfer-Encoding",
        b"Connection",
        b"Expect",
        b"Cookie",
        b"",
        b"a b",
        b"\xe4",
    ]
)
values = (
    st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=12).map(lambda text: text.encode("latin-1"))
    | st.sampled_from([b"a", b"a:80", b"[::1]", b"a b", b"u@a", b"", b"5", b"+5", b"5, 5", b"5 ", b"05", b"1" * 19, b"1" * 18])
    | st.sampled_from([b"chunked", b"close", b"Keep-Alive", b"keep-alive, CLOSE", b"upgrade", b"100-Continue", b"100-continue, x"])
)
spaces = st.sampled_from([b"", b" ", b"\t", b" \t ", b"\x0b", b"\x00"])
line_ends = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n"])
targets = st.sampled_from([b"/", b"/a?b", b"/a#b", b"//x", b"*", b"http://o/p", b"/\xe4", b"/ x", b"", b"/%zz", b"/a?b?c", b"x"])
methods = st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"CONNECTED", b"get", b"G T", b"", b"P{"])
versions = st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.12"])
fields = st.lists(
    st.builds(lambda *parts: b"".join(parts), names, st.sampled_from([b":", b": ", b" :"]), spaces, values, spaces), max_size=5
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A head from the grammar's parts, and from what is almost one of them."""
    lines = [b" ".join([draw(methods), draw(targets), draw(versions)]), *draw(fields)]
    if draw(st.booleans()):
        lines.append(b"Host: " + draw(st.sampled_from([b"a", b"a:1", b"[::1]:8000", b"a,b", b"a.b-c_d"])))
    return b"".join(line + draw(line_ends) for line in lines) + draw(line_ends)


@settings(deadline=None, max_examples=1000)
@given(heads())
def test_what_the_fast_way_takes_the_arbiter_takes(data: bytes) -> None:
    """Whatever the fast way accepts, h11 accepts with the same method, target, version and fields; what h11 refuses, it doesn't."""
    agree(data)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A real head with a few bytes gone, doubled or changed."""
    data = bytearray(draw(st.sampled_from([*ORDINARY.values(), *RARE.values()])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        some = draw(st.binary(max_size=3) | st.sampled_from([b"\r\n", b"\n", b" ", b":", b"\x00", b"\r\nHost: b", b"\r\n ", b"\x85"]))
        data[at : at + draw(st.integers(0, 3))] = some
        if not data:
            break
    return bytes(data)


@settings(deadline=None, max_examples=1000)
@given(mutations())
def test_a_real_head_that_was_tampered_with_is_read_as_h11_reads_it(data: bytes) -> None:
    """Nothing that is one step from a real head is taken otherwise than by h11."""
    agree(data)


def outcome(pieces: list[bytes]) -> Any:
    """What becomes of bytes that come in these pieces: a head and what is behind it, a refusal, or nothing yet."""
    own = Reader(LIMITS)
    for number, piece in enumerate(pieces):
        try:
            found = own.read(piece)
        except Refusal as refusal:
            return refusal.status
        if found is not None:
            return what(found[0]), found[1] + b"".join(pieces[number + 1 :])
    return None


@pytest.mark.parametrize("data", [*ORDINARY.values(), *RARE.values()], ids=[*ORDINARY, *RARE])
def test_a_head_is_the_same_at_every_split(data: bytes) -> None:
    """Wherever a head is cut in two, and byte by byte, the same comes of it, and what is behind it is kept."""
    data += b"behind"
    expected = outcome([data])
    assert expected is not None
    for at in range(1, len(data)):
        assert outcome([data[:at], data[at:]]) == expected
    assert outcome([data[at : at + 1] for at in range(len(data))]) == expected


@settings(deadline=None, max_examples=300)
@given(mutations() | heads(), st.lists(st.integers(0, 1000), max_size=6))
def test_how_a_head_is_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    """However the bytes are cut, they are taken or refused alike."""
    edges = sorted({0, len(data), *(cut % (len(data) or 1) for cut in cuts)})
    assert outcome([data[begin:end] for begin, end in pairwise(edges)]) == (outcome([data]) if data else None)


# Hostile input.

HOSTILE = {
    "a token without end": b"GET / HTTP/1.1\r\n" + b"a" * 65_000,
    "a method without end": b"G" * 16_000,
    "a value that ends wrong": b"GET / HTTP/1.1\r\nHost: " + b" \t" * 32_000 + b"\x00\r\n\r\n",
    "names without colons": b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 12_000 + b"a\r\n\r\n",
    "many values that end wrong": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: \t \t \t\r\n" * 6_000 + b"\x00\r\n\r\n",
    "colons": b"GET / HTTP/1.1\r\n" + b":" * 65_000,
    "a target without end": b"GET /" + b"/" * 16_000,
}


def seconds(data: bytes) -> float:
    """The least time that the expression takes for it."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        reader._ORDINARY(data)
        best = min(best, time.perf_counter() - began)
    return best


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_expression_is_linear(data: bytes) -> None:
    """A head of 64 KiB that is built to make the expression go back takes no longer, byte for byte, than one of 4 KiB."""
    start = data[:40]
    short, whole = start + data[40:4000] + data[-10:], data
    assert seconds(whole) < 10 * max(seconds(short), 1e-5) * len(whole) / len(short)


def test_a_head_that_drips_is_searched_once() -> None:
    """A head that comes byte by byte costs one look at each byte, not one at all that came before."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 30_000
    began = time.process_time()
    own = Reader(LIMITS)
    for at in range(len(head)):
        assert own.read(head[at : at + 1]) is None
    assert time.process_time() - began < 1


# What is refused, in the order of the RFC.

LINES = b"GET / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize("blank", [b"\r\n", b"\r\n\r\n", b"\n"])
def test_empty_lines_in_front_are_ignored(blank: bytes) -> None:
    """Empty lines before a request line are nothing, also when they come alone (RFC 9112 §2.2)."""
    assert read(blank + LINES + b"\r\n").target == b"/"
    own = Reader(LIMITS)
    assert own.read(blank) is None
    assert not own.begun
    assert own.read(LINES + b"\r\n") is not None


@pytest.mark.parametrize("start", [b"\x16\x03\x01\x02", b"\x00", b" GET", b"\x04\x01", b"\rGET"])
def test_another_protocol_need_not_wait(start: bytes) -> None:
    """What can't become a request is refused at its first byte."""
    assert status_of(start) == 400


@pytest.mark.parametrize("control", [bytes([byte]) for byte in [*range(1, 9), *range(0x0E, 0x20), 0x7F, 0, 0x0B, 0x0C, 0x0D]])
def test_controls_in_a_value_are_refused(control: bytes) -> None:
    """No control character but a tab can be in a value, though h11 lets most of them pass (RFC 9110 §5.5)."""
    assert status_of(LINES + b"X: a" + control + b"b\r\n\r\n") == 400


NO_HOSTS = ["", "u@a", "a/p", "a?q", "a#f", "http://a", "a b", "a\tb", "a,b", "a\\b", '"a"', "'a'", "<a>", "a^", "ä", "%zz", "%4"]
NO_HOSTS += ["::1", "[::1", "::1]", "[]", "[::1]x", "a:x", "a:1:2", ":80", "[a:80"]


@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_no_host_is_refused(host: str) -> None:
    """A Host is a name or an address and a port at most, on either version and also beside or in an absolute target (RFC 9112 §3.2)."""
    field = b"Host: " + host.encode() + b"\r\n\r\n"
    for line in (b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"GET http://a/ HTTP/1.1\r\n"):
        assert status_of(line + field) == 400
    if host and not set(host) & set(" \tä/?#"):
        assert status_of(b"GET http://" + host.encode() + b"/ HTTP/1.1\r\nHost: a\r\n\r\n") == 400


@pytest.mark.parametrize("host", ["a", "a.b-c_d~", "127.0.0.1", "a:", "a:80", "[::1]", "[::1]:80", "[::ffff:1.2.3.4]", "%41", "a" * 200])
def test_what_is_a_host_is_taken(host: str) -> None:
    """Names, addresses and ports, long ones too."""
    assert read(b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n").fields == [(b"host", host.encode())]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Content-Length: +5", 400),
        (b"Content-Length: 5_0", 400),
        (b"Content-Length: ", 400),
        (b"Content-Length: 5\r\nContent-Length: 6", 400),
        (b"Content-Length: 5, 5", 400),
        (b"X: 1\r\n  2", 400),
        (b"Content-Length: \xb2", 400),
        (b"Content-Length: 12345678901234567890", 400),
        (b"Content-Length: 00000000000000000005", 400),
        (b"Transfer-Encoding: gzip", 501),
        (b"Transfer-Encoding: chunked, chunked", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: chunked, gzip", 400),
        (b"transfer-encoding: CHUNKED, identity", 400),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        (b"\r\n".join([b"X: y"] * 100), 431),
        (b"X: " + b"x" * 65_536, 431),
        (b"X : y", 400),
        (b": y", 400),
        (b"X", 400),
        (b"X[]: y", 400),
    ],
)
def test_fields_that_are_refused(fields: bytes, status: int) -> None:
    """Framing that can't be believed, too much of anything, and what is no field."""
    assert status_of(LINES + fields + b"\r\n\r\n") == status


@pytest.mark.parametrize("end", [b"", b" HTTP/1.1\r\nHost: a\r\n\r\n"])
@pytest.mark.parametrize("target", [b"/" + b"x" * 16_384, b"/?" + b"x" * 16_384])
def test_a_long_request_line_is_refused(target: bytes, end: bytes) -> None:
    """A request line over the limit is 414, with its end and without."""
    assert status_of(b"GET " + target + end) == 414


def test_a_refused_head_has_no_body() -> None:
    """Whoever asks for a head alone gets no body behind a refusal either (RFC 9110 §9.3.2)."""
    own = Reader(LIMITS)
    with pytest.raises(Refusal):
        own.read(b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert own.bodyless


def test_limits_are_handed_in() -> None:
    """Every limit of a head is the one that the reader was made with."""
    for limits, data, status in [
        (Limits(fields=1), LINES + b"X: y\r\n\r\n", 431),
        (Limits(head=40), LINES + b"X: yyyyyyyyyyyy\r\n\r\n", 431),
        (Limits(request_line=20), b"GET /aaaaaaaaaa HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    ]:
        with pytest.raises(Refusal) as caught:
            Reader(limits).read(data)
        assert caught.value.status == status


def test_lines_that_are_remembered_are_few_short_and_no_secrets() -> None:
    """The same line makes the same field again; what is long or secret isn't kept, and not more than a bounded number is."""
    for number in range(3000):
        assert read_line(b"X-Number:  %d " % number) == (b"x-number", b"%d" % number)
        assert len(_lines) <= Kept.MOST
    assert known_line(b"X-Number:  2999 ") == (b"x-number", b"2999")
    for line in (b"Cookie: a=b", b"AUTHORIZATION: Bearer x", b"X-Long: " + b"x" * 100):
        read_line(line)
        assert known_line(line) is None
