"""What the wire may bring, and what the server answers: the table that `test_rows.py` plays over real sockets.

A row is what one client sends, and what it gets: the statuses, in order, and whether its connection takes another request afterwards.
`GOES_ON` and `CLOSES` say which: the same request is sent behind every row, and answered or not.
"""

from dataclasses import dataclass
from enum import Enum, auto

HOST = b"Host: test\r\n"
LINE = b"GET / HTTP/1.1\r\n"
GET = LINE + HOST + b"\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


class After(Enum):
    """What becomes of the connection."""

    GOES_ON = auto()
    CLOSES = auto()


GOES_ON, CLOSES = After


@dataclass(frozen=True)
class Row:
    """One client.

    sent: in one write; in several, with a look at the loop between them, if it is a list.
    after: what becomes of the connection.
    statuses: of all responses, in order.
    says: what is in the last one.
    ends: what it ends with.
    """

    sent: bytes | list[bytes]
    after: After
    statuses: tuple[int, ...]
    says: bytes = b""
    ends: bytes = b""


def field(line: bytes, *statuses: int, after: After = CLOSES, says: bytes = b"") -> Row:
    """A GET with one more field."""
    return Row(LINE + HOST + line + b"\r\n\r\n", after, statuses, says)


def refused(sent: bytes | list[bytes], status: int = 400, says: bytes = b"") -> Row:
    """What gets one answer, and is the end."""
    return Row(sent, CLOSES, (status,), says)


def served(sent: bytes | list[bytes], says: bytes = b"", *statuses: int) -> Row:
    """What is answered, and followed by the next request."""
    return Row(sent, GOES_ON, statuses or (200,), says)


def target(target: bytes, says: bytes = b"", method: bytes = b"GET") -> Row:
    """A target that goes to the app."""
    return served(method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n", says)


def failed(path: bytes) -> Row:
    """What the app can't answer."""
    return served(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n", b"Internal Server Error", 500)


def broken_off(path: bytes) -> Row:
    """What the app can't go on with: of three bytes that it has announced, the client gets the one that was out before, and the end."""
    return Row(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n", CLOSES, (200,), ends=b"\r\n\r\nx")


def bodyless(method: bytes, path: bytes, status: int) -> Row:
    """What has no body, though the app sends one."""
    return Row(method + b" " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n", GOES_ON, (status,), ends=b"\r\n\r\n")


def dribbled(data: bytes) -> list[bytes]:
    return [data[at : at + 997] for at in range(0, len(data), 997)]


NO_AUTHORITIES = [b"u@a", b"u:p@a", b"a^", b"a,b", b"a\\b", b'"a"', b"'a'", b"<a>", b"\xe4", b"%zz", b"a%4", b"a:x", b"a:1:2", b":80"]
NO_AUTHORITIES += [b"::1", b"[::1", b"::1]", b"[]", b"[::1]x", b"[a:80", b"[::1]:x", b"a:80:80", b"a:+80"]
NO_HOSTS = [*NO_AUTHORITIES, b"", b"a/p", b"a?q", b"a#f", b"http://a", b"a b", b"a\tb"]

CONTROLS = [bytes([byte]) for byte in (*range(9), *range(0x0B, 0x20), 0x7F)]

LENGTHS = [
    b"+5",
    b"-1",
    b"0x5",
    b"5_0",
    b"abc",
    b"",
    b"5, 6",
    b"5, 5",
    b"5\r\nContent-Length: 6",
    b"5\r\ncontent-length: 5",
    b"\xb2",
    b"\xd9\xa5",
    b"5 5",
    b"5.",
]

CODINGS = [b"chunked, chunked", b"chunked, gzip", b"chunked, identity", b"Chunked,CHUNKED", b"gzip, chunked, chunked"]
CODINGS += [
    b"chunked\r\nTransfer-Encoding: chunked",
    b"chunked\r\nTransfer-Encoding: identity",
    b"identity\r\ntransfer-encoding: chunked, x",
]

BAD_SIZES = [b"+5", b"-5", b"0x5", b" 5", b"5 ", b"5\t", b"", b"g", b"5;", b"5; ", b"5;=a", b"5;a b", b"5;a,b", b"5;\xe4", b"5;a\rb"]
BAD_SIZES += [b"5;a\x00", b"5;a\x7f", b"0" * 17 + b"5", b"f" * 17, b"5\r", b"5_0"]

BAD_FIELDS = [b"X : y", b": y", b"X", b"X[]: y", b"\xe4: y", b"X y: z", b"\x00: y", b"X\x01: y", b'"X": y']

TRAILERS = [b"no colon", b"X : y", b": y", b"X: a\x01b", b" folded: y", b"Content-Length: 5", b"Host: test", b"Transfer-Encoding: chunked"]

STRANGERS = {
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": b"TLS",
    b"PROXY TCP4 203.0.113.7 127.0.0.1 56324 8000\r\n" + GET: b"PROXY",
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\x7f\x00\x00\x01\xdc\x04\x1f\x40" + GET: b"PROXY",
    b"\x05\x01\x00": b"SOCKS",
    b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00": b"SOCKS",
    b"SSH-2.0-OpenSSH_9.6\r\n\r\n": b"SSH",
    b"EHLO test\r\n\r\n": b"SMTP",
    b"\x00\x01\x02\x03": b"binary",
    b"\x80\x2e\x01\x00\x02": b"binary",
    b"\xffSMB": b"binary",
}

ROWS: dict[str, list[Row]] = {
    "line ends": [
        *(field(b"X: a" + control + b"b", 400) for control in CONTROLS),
        *(served(blank + GET) for blank in (b"\r\n", b"\r\n\r\n", b"\n")),
        *(served([blank, GET]) for blank in (b"\r\n", b"\r\n\r\n")),
        served(GET + b"\r\n" + GET, b"", 200, 200),
        served([GET, b"\r\n", GET], b"", 200, 200),
        refused(b"GET / HTTP/1.1\rHost: test\r\n\r\n"),
    ],
    "fields": [
        *(field(line, 400) for line in BAD_FIELDS),
        refused(LINE + b" folded: first\r\n" + HOST + b"\r\n"),
        refused(LINE + b"\tfolded: first\r\n" + HOST + b"\r\n"),
        field(b"X: a\r\n b", 400),
        field(b"X: a\r\n\tb", 400),
        field(b"X: Jos\xe9", 200, after=GOES_ON, says=rb"(b'x', b'Jos\xe9')"),
        field(b"A: 1\r\nB: 2\r\nA: 3", 200, after=GOES_ON, says=b"(b'a', b'1'), (b'b', b'2'), (b'a', b'3')"),
    ],
    "Host": [
        refused(LINE + b"\r\n"),
        refused(LINE + HOST + HOST + b"\r\n"),
        refused(LINE + HOST + b"X: y\r\nhost: other\r\n\r\n"),
        *(refused(LINE + b"Host: " + host + b"\r\n\r\n") for host in NO_HOSTS),
        *(served(LINE + b"Host: " + host + b"\r\n\r\n") for host in (b"a", b"a:", b"a:80", b"[::1]", b"[::1]:80", b"a.b-c_d", b"%41")),
    ],
    "version": [
        *(refused(b"GET / HTTP/" + version + b"\r\n" + HOST + b"\r\n", 505) for version in (b"2.0", b"9.9", b"1.2", b"0.9", b"3.0")),
        refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        *(
            refused(b"GET / " + version + b"\r\n" + HOST + b"\r\n")
            for version in (b"http/1.1", b"HTTP/1", b"HTTP/1.1 ", b"HTTP/11.1", b"x")
        ),
    ],
    "target": [
        served(b"GET http://other/p?q=1 HTTP/1.1\r\n" + HOST + b"\r\n", b"'/p' b'q=1' [(b'host', b'other')]"),
        served(b"GET http://other HTTP/1.1\r\n" + HOST + b"\r\n", b"'/' b'' [(b'host', b'other')]"),
        *(
            refused(b"GET http://" + authority + b"/ HTTP/1.1\r\n" + HOST + b"\r\n")
            for authority in NO_AUTHORITIES
            if not set(authority) & set(b" \t\xe4")
        ),
        *(refused(b"GET http://a/ HTTP/1.1\r\nHost: " + host + b"\r\n\r\n") for host in NO_HOSTS),
        refused(b"GET http://a/ HTTP/1.1\r\n\r\n"),
        *(
            refused(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            for target in (b"foo", b"@host", b"/a#f", b"*", b"", b"/a b", b"?q")
        ),
        *(refused(b"GET /" + byte + b" HTTP/1.1\r\n" + HOST + b"\r\n") for byte in (b"\x00", b"\x01", b"\x7f", b"\xc3\xa9", b"\t", b"\r")),
        target(b"*", b"OPTIONS '*'", b"OPTIONS"),
        refused(b"CONNECT other:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        *(
            target(path, repr(path)[2:-1].encode())
            for path in (b"/%00", b"/%0d%0a", b"/%zz", b"/%ff", b"/../x", b"//evil", b"/%", b"/%2", b"/a%0aX%1b[31m")
        ),
    ],
    "Content-Length": [
        *(field(b"Content-Length: " + length, 400) for length in LENGTHS),
        field(b"Content-Length: 99999999999999999999", 400),
        field(b"Content-Length: 00000000000000000005", 400),
        served(POST + b"Content-Length: 5\r\n\r\nhello", b"b'hello'"),
        served([POST + b"Content-Length: 5\r\n\r\nhe", b"llo"], b"b'hello'"),
    ],
    "Transfer-Encoding": [
        refused(POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO),
        refused(POST + b"transfer-encoding: CHUNKED\r\ncontent-length: 5\r\n\r\n" + HELLO),
        refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO),
        refused(b"POST / HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO),
        *(refused(POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + HELLO) for coding in CODINGS),
        *(
            refused(POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + HELLO, 501)
            for coding in (b"gzip", b"identity", b"x, y", b"xchunked")
        ),
        *(refused(POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + HELLO, 501) for coding in (b"gzip, chunked", b"br,CHUNKED")),
        *(
            refused(POST + b"Transfer-Encoding:" + odd + b"\r\n\r\n" + HELLO)
            for odd in (b"", b" chunked\x0b", b"\x00chunked", b" chunked;", b'"chunked"')
        ),
    ],
    "chunks": [
        served(CHUNKED + HELLO, b"b'hello'"),
        served([CHUNKED + HELLO[at : at + 1] if at == 0 else HELLO[at : at + 1] for at in range(len(HELLO))], b"b'hello'"),
        served(CHUNKED + b'5;a;b=c;d="e"\r\nhello\r\n0\r\n\r\n', b"b'hello'"),
        *(refused(CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n") for size in BAD_SIZES),
        *(
            refused(CHUNKED + body)
            for body in (b"5\nhello\r\n", b"5\r\nhello\n0\r\n", b"5\r\nhelloX\r\n", b"5\r\nhello\r0\r\n", b"5\r\nhello0\r\n")
        ),
        refused(CHUNKED + b"5;" + b"a" * 65_536 + b"\r\nhello\r\n0\r\n\r\n"),
        refused(CHUNKED + (b"1;" + b"a" * 1024 + b"\r\nx\r\n") * 300 + b"0\r\n\r\n"),
        refused(CHUNKED + b"1\r\nx\r\n" * 300_000 + b"0\r\n\r\n"),
    ],
    "trailers": [
        served(CHUNKED + b"0\r\nX-Sum: 1\r\nEmpty:\r\n\r\n"),
        *(refused(CHUNKED + b"0\r\n" + trailer + b"\r\n\r\n") for trailer in TRAILERS),
        refused(CHUNKED + b"0\r\n" + b"X: y\r\n" * 40_000 + b"\r\n", 400),
    ],
    "sizes": [
        field(b"\r\n".join([b"X: y"] * 99), 200, after=GOES_ON),
        field(b"\r\n".join([b"X: y"] * 100), 431),
        refused(dribbled(LINE + HOST + b"X: y\r\n" * 200 + b"\r\n"), 431),
        field(b"X: " + b"x" * 32_768, 431),
        refused(dribbled(LINE + HOST + b"X: " + b"x" * 32_768), 431),
        field(b"X: " + b"x" * 30_000, 200, after=GOES_ON),
        target(b"/" + b"x" * 8_000),
        refused(b"GET /" + b"x" * 8_190 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        refused(b"GET /?" + b"x" * 8_190 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        refused(b"GET /" + b"x" * 9_000, 414),
        refused(dribbled(b"GET /?" + b"x" * 9_000), 414),
        refused(b"G" * 9_000, 414),
    ],
    "pipelining": [
        served(GET * 3, b"", 200, 200, 200),
        served(POST + b"Content-Length: 5\r\n\r\nhello" + GET, b"", 200, 200),
        Row(LINE + HOST + b"Connection: close\r\n\r\n" + GET, CLOSES, (200,)),
        Row(b"GET / HTTP/1.0\r\n\r\n" + GET, CLOSES, (200,)),
        Row(GET + LINE + b"\r\n" + GET, CLOSES, (200, 400)),
        Row(GET + b"nonsense\r\n\r\n" + GET, CLOSES, (200, 400)),
        Row(CHUNKED + HELLO + b"nonsense\r\n\r\n" + GET, CLOSES, (200, 400)),
        served(b"POST /unread HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\n" + bytes(1000)),
        Row(b"POST /unread HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n" + bytes(10_000), CLOSES, (200,)),
        Row(b"POST /unread HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"zz\r\n", CLOSES, (400,)),
    ],
    "Expect": [
        served(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello", b"b'hello'"),
        served([POST + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n", b"hello"], b"b'hello'", 100, 200),
        Row(b"POST /unread HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", CLOSES, (200,)),
        Row([b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", b"hello"], CLOSES, (200,), b"b'hello'"),
        served(LINE + HOST + b"Expect: 100-continue\r\n\r\n"),
    ],
    "app errors": [
        *(failed(path) for path in (b"/header/CR", b"/header/LF", b"/header/NUL", b"/status/99", b"/status/1000", b"/longer", b"/shorter")),
        *(failed(path) for path in (b"/returns", b"/raises", b"/raises/GeneratorExit")),
        *(broken_off(b"/streams/" + how) for how in (b"shorter", b"longer", b"raises", b"returns")),
        *(bodyless(*request) for request in ((b"HEAD", b"/", 200), (b"GET", b"/204", 204), (b"GET", b"/304", 304))),
    ],
    "Upgrade": [
        field(b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__", 200, after=GOES_ON),
        field(b"Connection: Upgrade\r\nUpgrade: foo/2", 200, after=GOES_ON),
        field(b"Upgrade: h2c", 200, after=GOES_ON),
    ],
    "other protocols": [refused(sent, 400, says) for sent, says in STRANGERS.items()],
}
