"""The PROXY protocol: bytes before the first head."""

import json
import socket
import ssl
import struct
from typing import Any

import pytest
from microasgi_server import Config
from microasgi_server.connection import Connection
from microasgi_server.errors import Refusal
from microasgi_server.noted import noted
from microasgi_server.proxies.preface import Preface, read_preface

from tests.certificates import Files
from tests.harness import GET, TLSClient, access_lines, eventually, loud_lines, serving

pytestmark = pytest.mark.anyio

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = socket.inet_aton("203.0.113.7") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 4711, 443)
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "::1") + struct.pack("!HH", 4711, 443)
FROM_FOUR = ("203.0.113.7", 4711), ("198.51.100.1", 443)
FROM_SIX = ("2001:db8::1", 4711), ("::1", 443)


def binary(command: int, family: int, data: bytes, more: bytes = b"") -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(data + more)) + data + more


GOOD = [
    (b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n", FROM_FOUR),
    (b"PROXY TCP6 2001:DB8::1 ::1 4711 443\r\n", FROM_SIX),
    (b"PROXY UNKNOWN\r\n", (None, None)),
    (b"PROXY UNKNOWN ffff:f::1 ffff::1 65535 65535\r\n", (None, None)),
    (binary(0x21, 0x11, FOUR), FROM_FOUR),
    (binary(0x21, 0x21, SIX, more=b"\x04\x00\x02ab"), FROM_SIX),
    (binary(0x20, 0x00, b""), (None, None)),
    (binary(0x20, 0x11, FOUR), (None, None)),
    (binary(0x21, 0x00, b"", more=b"x" * 4096), (None, None)),
    (binary(0x21, 0x31, b"/" * 216), (None, None)),
]

BAD = [
    GET,
    b"PROXY tcp4 203.0.113.7 198.51.100.1 4711 443\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.1 04711 443\r\n",
    b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 65536\r\n",
    b"PROXY TCP4 203.0.113 198.51.100.1 4711 443\r\n",
    b"PROXY TCP4 2001:db8::1 ::1 4711 443\r\n",
    b"PROXY TCP6 203.0.113.7 198.51.100.1 4711 443\r\n",
    b"PROXY TCP4  203.0.113.7 198.51.100.1 4711 443\r\n",
    b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n",
    b"PROXY " + b"x" * 101,
    SIGNATURE + b"\x11\x11\x00\x0c" + FOUR,
    SIGNATURE + b"\x22\x11\x00\x0c" + FOUR,
    binary(0x21, 0x11, FOUR[:-1]),
    binary(0x21, 0x21, FOUR),
    binary(0x21, 0x12, FOUR),
    binary(0x21, 0x31, b"/" * 215),
    SIGNATURE + b"\x21\x11\xff\xff",
    SIGNATURE[:-1] + b"\r",
    b"\x16\x03\x01",
]


@pytest.mark.parametrize(("data", "ends"), GOOD)
def test_a_preface_is_read_to_its_end_and_no_further(data: bytes, ends: Any) -> None:
    """Each version tells the two ends, or that there is nothing to tell; every part of one is incomplete."""
    assert read_preface(data + GET) == Preface(len(data), *ends)
    assert [cut for cut in range(len(data)) if read_preface(data[:cut]) is not None] == []


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_preface_is_refused(data: bytes) -> None:
    """Anything else is refused, without a word of it repeated."""
    with pytest.raises(Refusal) as caught:
        read_preface(data)
    assert caught.value.status == 400


async def ends(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the scope's two addresses."""
    body = json.dumps([scope["client"], scope["server"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("how", ["at once", "alone", "byte by byte"])
@pytest.mark.parametrize("number", [0, 5])
async def test_a_connection_is_the_clients(how: str, number: int, caplog: pytest.LogCaptureFixture) -> None:
    """Behind the preface, however it comes, all requests of the connection are those of its client, in app and log."""
    preface, told = GOOD[number]
    async with serving(ends, proxy_protocol=True) as served, await served.connect() as client:
        for piece in {"at once": [preface + GET], "alone": [preface, GET], "byte by byte": [bytes([byte]) for byte in preface + GET]}[how]:
            await client.send(piece)
        for _ in range(2):
            assert json.loads((await client.response()).body) == json.loads(json.dumps(told))
            await client.send(GET)
        await eventually(lambda: len(access_lines(caplog)) == 3)
    host = "203.0.113.7:4711" if number == 0 else "[2001:db8::1]:4711"
    assert {line.split(" - ")[0] for line in access_lines(caplog)} == {host}


async def test_a_proxy_that_speaks_for_itself_has_its_own_address() -> None:
    """As a health check does."""
    async with serving(ends, proxy_protocol=True) as served, await served.connect() as client:
        await client.send(binary(0x20, 0x00, b"") + GET)
        assert json.loads((await client.response()).body)[0][0] == "127.0.0.1"


async def test_a_proxy_that_forgets_it_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody may guess: without a preface a believed proxy's connection is closed, with a line in the log."""
    async with serving(ends, proxy_protocol=True) as served, await served.connect() as client:
        await client.send(GET + GET)
        answer = await client.receive_until_closed()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert [record.getMessage().partition(" - ")[2] for record in caplog.records if "refused" in record.getMessage()] == [
        "refused with 400: this comes from a proxy that is to speak the PROXY protocol, and it doesn't"
    ]


async def test_nobody_else_may_speak_it() -> None:
    """Who isn't believed is served as himself, and refused if he claims to speak for another."""
    async with serving(ends, proxy_protocol=True, forwarded_allow_ips=["10.0.0.0/8"]) as served:
        async with await served.connect() as client:
            await client.send(GET)
            assert json.loads((await client.response()).body)[0][0] == "127.0.0.1"
        async with await served.connect() as client:
            await client.send(GOOD[0][0] + GET)
            assert (await client.response()).status == 400


async def test_fields_are_the_clients_behind_a_preface() -> None:
    """With both options the fields of a request are believed only of those for whom the preface speaks."""
    fields = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    async with serving(ends, proxy_protocol=True, proxy_headers=True) as served:
        async with await served.connect() as client:
            await client.send(GOOD[0][0] + fields)
            assert json.loads((await client.response()).body)[0] == list(FROM_FOUR[0])
        async with await served.connect() as client:
            await client.send(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + fields)
            assert json.loads((await client.response()).body)[0] == ["6.6.6.6", 0]


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4", SIGNATURE])
async def test_who_leaves_before_its_end_is_nobody(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that ends within the preface, as a proxy's look at an open port does, is none, and one that stops there is closed."""
    async with serving(ends, proxy_protocol=True, timeout_header=0.05) as served:
        async with await served.connect() as client:
            await client.send(sent)
            client.leave()
        async with await served.connect() as client:
            await client.send(sent)
            assert await client.receive_until_closed() == b""
    assert access_lines(caplog) == loud_lines(caplog) == []


async def test_it_comes_before_a_tls_session(certificates: Files, caplog: pytest.LogCaptureFixture) -> None:
    """In front of TLS, too, a preface is read, and the session behind it begins with its last byte; what is none is a line in the log."""
    context = ssl.create_default_context(cafile=certificates.authority)
    async with serving(ends, proxy_protocol=True, **certificates.options) as served:
        async with await served.connect_bare() as bare:
            await bare.send(GOOD[4][0])
            client = await TLSClient(bare.sock, context).shake_hands()
            await client.send(GET)
            assert json.loads((await client.response()).body) == json.loads(json.dumps(FROM_FOUR))
        async with await served.connect_bare() as bare:
            await bare.send(GET)
            assert b"HTTP/1.1 200" not in await bare.receive_until_closed()
        await eventually(lambda: any("is to speak the PROXY protocol" in record.getMessage() for record in caplog.records))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_over_tls_a_proxy_says_how_its_client_came(scheme: str, certificates: Files) -> None:
    """The scheme is the client's, not that between the proxy and here."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = scope["scheme"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    context = ssl.create_default_context(cafile=certificates.authority)
    async with serving(app, proxy_headers=True, **certificates.options) as served, await served.connect_bare() as bare:
        client = await TLSClient(bare.sock, context).shake_hands()
        await client.send(GET.replace(b"\r\n\r\n", f"\r\nX-Forwarded-Proto: {scheme}\r\n\r\n".encode()))
        assert (await client.response()).body == scheme.encode()
        await client.send(GET)
        assert (await client.response()).body == b"https"


def test_nobody_pays_who_has_not_asked_for_it() -> None:
    """Without the options a connection is what it was."""
    assert noted(Connection, Config()) is Connection
