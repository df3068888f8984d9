"""TLS: what is agreed on, who is refused and hears why, and what files will do. Ways to leave: tests/promise/test_leaving.py."""

import signal
import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.x509.oid import NameOID
from microasgi_server import Certificates, Config, Limits, StartupError
from microasgi_server.logs import TRACE
from microasgi_server.running import RunningServer
from microasgi_server.transports.tls_session import distinguished_name
from OpenSSL import SSL

from tests.certificates import Files, Pair, name, signed
from tests.framework.test_cli import check_refusal, say
from tests.harness import GET, Client, Sleeper, TLSClient, access_lines, eventually, loud_lines, serving, shared_of, unsuspicious, within

pytestmark = pytest.mark.anyio


class Seen:
    """An app that remembers its scopes, and sends back what it gets."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []

    @property
    def tls(self) -> dict[str, Any]:
        """Of the newest scope."""
        extension: dict[str, Any] = self.scopes[-1]["extensions"]["tls"]
        return extension

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of clients that weren't served, without their addresses."""
    lines = [record.getMessage() for record in caplog.records if record.name == "microasgi_server"]
    return [line.partition(" - ")[2] for line in lines if " - " in line]


VERSIONS = {"1.2": (ssl.TLSVersion.TLSv1_2, 0x0303, "TLSv1.2"), "1.3": (ssl.TLSVersion.TLSv1_3, 0x0304, "TLSv1.3")}


@pytest.mark.parametrize("version", list(VERSIONS))
async def test_a_request_over_tls(version: str, certificates: Files) -> None:
    """The app sees https and the session; ALPN has chosen HTTP/1.1; and a client that knows the authority trusts the server."""
    most, number, called = VERSIONS[version]
    context = ssl.create_default_context(cafile=certificates.authority)
    context.maximum_version = most
    context.set_alpn_protocols(["h2", "http/1.1"])
    app = Seen()
    async with serving(app, lifespan="off", **certificates.options) as served:
        assert served.address == f"https://127.0.0.1:{served.port}"
        async with await served.connect_bare() as bare:
            client = await TLSClient(bare.sock, context).shake_hands()
            for _ in range(2):
                await client.send(GET)
                assert (await client.response()).status == 200
    assert client.tls.version() == called
    assert client.tls.selected_alpn_protocol() == "http/1.1"
    assert app.scopes[0]["scheme"] == "https"
    assert app.tls == {
        "server_cert": certificates.server.pem().decode(),
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": number,
        "cipher_suite": {"TLS_AES_256_GCM_SHA384": 0x1302, "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C}[client.tls.cipher()[0]],  # type: ignore[index]
    }
    assert app.scopes[0]["extensions"]["tls"] is not app.tls


@pytest.mark.parametrize("version", list(VERSIONS))
@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 1_000_000])
async def test_what_is_carried_is_the_same(size: int, version: str, certificates: Files) -> None:
    """Bodies of any size arrive as they were, both ways, on a connection that goes on."""
    body = bytes(range(251)) * (size // 251) + bytes(size % 251)
    async with serving(Seen(), lifespan="off", **certificates.options) as served, await served.connect_bare() as bare:
        client = await TLSClient(bare.sock, unsuspicious(VERSIONS[version][0])).shake_hands()
        for _ in range(2):
            await client.send(post(body))
            assert (await client.response()).body == body


async def test_the_end_is_said(certificates: Files) -> None:
    """Behind its last response the server says goodbye: nobody can cut the connection and have the rest taken for all of it."""
    async with serving(Seen(), lifespan="off", **certificates.options) as served, await served.connect() as client:
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await client.receive_until_closed()).startswith(b"HTTP/1.1 200 ")  # it would raise SSLEOFError


async def test_half_close(certificates: Files) -> None:
    """With `half_close`, a client that has said goodbye behind its request gets its answer (RFC 8446 §6.1)."""
    async with serving(Seen(), lifespan="off", half_close=True, **certificates.options) as served, await served.connect() as client:
        assert isinstance(client, TLSClient)
        await client.send_raw(client.sealed(post(b"question")) + client.goodbye())
        assert (await client.response()).body == b"question"


@pytest.mark.parametrize("version", list(VERSIONS))
async def test_cut_anywhere(version: str, certificates: Files, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever in the handshake or in its records a client vanishes, nothing is left of it, and nothing is loud."""
    sleeper, running = Sleeper(), list[RunningServer]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        running[:] = [shared_of(receive)]
        await sleeper.sleep()

    async with serving(app, lifespan="off", **certificates.options) as served:
        for cut in [*range(0, 700, 37), *range(700, 2000, 400)]:
            async with await served.connect_bare() as bare:
                client = CutClient(bare.sock, unsuspicious(VERSIONS[version][0]), cut)
                with suppress(Cut):
                    await client.shake_hands()
                    await client.send(GET)
                    await within(sleeper.begun)
                    client.leave("FIN")
                    break
        assert sleeper.begun.is_set()  # by the last one, which was whole
        await eventually(lambda: not running[0].connections)
        assert loud_lines(caplog) == []


class Cut(Exception):
    """There the client vanishes."""


class CutClient(TLSClient):
    """A client that sends no more than so many bytes."""

    def __init__(self, sock: Any, context: ssl.SSLContext, most: int) -> None:
        super().__init__(sock, context)
        self._most = most

    async def send_raw(self, data: bytes) -> None:
        await super().send_raw(data[: self._most])
        self._most -= len(data)
        if self._most < 0:
            raise Cut


# Who isn't served.


async def test_plaintext_is_answered_in_plaintext(certificates: Files, caplog: pytest.LogCaptureFixture) -> None:
    """Who speaks HTTP to a port that speaks TLS is told so, in HTTP, and one line says it."""
    async with serving(Seen(), lifespan="off", **certificates.options) as served, await served.connect_bare() as client:
        await client.send(GET + GET)
        answer = await client.receive_until_closed()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith("\r\n\r\nthis port speaks TLS: use https:// here (RFC 9110 §4.2.2)\n".encode())
    assert refusals(caplog) == ["refused with 400: this port speaks TLS: use https:// here (RFC 9110 §4.2.2)"]


async def test_tls_on_a_plain_port(caplog: pytest.LogCaptureFixture) -> None:
    """Who speaks TLS to a port that doesn't gets an answer that is none of TLS's, and one line says what it was."""
    async with serving(Seen(), lifespan="off") as served, await served.connect_bare() as client:
        with pytest.raises(ssl.SSLError, match=r"(?i)wrong version number"):
            await TLSClient(client.sock, unsuspicious()).shake_hands()
    assert refusals(caplog) == [
        "refused with 400: this looks like TLS: use http:// here, or start the server with a certificate (RFC 9112 §3)"
    ]


def old_context() -> ssl.SSLContext:
    context = unsuspicious()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return context


def weak_context() -> ssl.SSLContext:
    context = unsuspicious(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("AES256-SHA")
    return context


REFUSED = {
    "old": (old_context, "the client speaks no version from TLS 1.2 on"),
    "weak ciphers": (weak_context, "the client knows none of the server's ciphers"),
    "doesn't trust": (ssl.create_default_context, "the client doesn't trust the server's certificate"),
}


@pytest.mark.parametrize("who", list(REFUSED))
async def test_no_session(who: str, certificates: Files, caplog: pytest.LogCaptureFixture) -> None:
    """With whom no session is possible, who knows it gets an alert, and one line says why."""
    make, reason = REFUSED[who]
    async with serving(Seen(), lifespan="off", **certificates.options) as served, await served.connect_bare() as bare:
        client = TLSClient(bare.sock, make())
        with pytest.raises(ssl.SSLError):
            await client.shake_hands()
        await client.send_raw(client.last_words())
        await eventually(lambda: refusals(caplog))
    assert refusals(caplog) == [f"no TLS session: {reason}"]
    assert loud_lines(caplog) == []


async def test_rubbish_in_a_session(certificates: Files, caplog: pytest.LogCaptureFixture) -> None:
    """A record that can't be decrypted is the client's departure: it could be anybody's."""
    sleeper = Sleeper()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await sleeper.sleep()

    async with serving(app, lifespan="off", **certificates.options) as served, await served.connect() as client:
        await client.send(GET)
        await within(sleeper.begun)
        await client.send_raw(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(ssl.SSLError, match=r"(?i)bad record mac"):
            await client.receive()
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "the beginning"])
async def test_the_handshake_has_its_time(sent: bytes, certificates: Files) -> None:
    """Who doesn't end the handshake in time is cut off; who does has the times of HTTP from then on."""
    options = {"lifespan": "off", "timeout_handshake": 0.1, **certificates.options}
    async with serving(Seen(), **options) as served, await served.connect() as other, await served.connect_bare() as client:
        await client.send(sent)
        with anyio.fail_after(5):
            assert await receive_until_gone(client) == b""
        await other.send(GET)
        assert (await other.response()).status == 200


async def receive_until_gone(client: Client) -> bytes:
    try:
        return await client.receive_until_closed()
    except ConnectionResetError:
        return b""


async def test_a_handshake_does_not_hold_up_the_end(certificates: Files) -> None:
    """A server that stops waits for nobody who hasn't ended the handshake."""
    options = {"lifespan": "off", "limits": Limits(farewell=0.05), **certificates.options}
    async with serving(Seen(), **options) as served, await served.connect_bare() as client:
        await client.send(b"\x16\x03\x01\x02\x00\x01")
        async with await served.connect() as other:  # by then the first one is there, too
            await other.send(GET)
            assert (await other.response()).status == 200
            served.stop.set()
            await within(served.ended, 2)


async def test_who_looks_on_sees_what_is_in_the_session(certificates: Files, caplog: pytest.LogCaptureFixture) -> None:
    """Traces, ids and formats of the access log are those of any connection."""
    caplog.set_level(TRACE, logger="microasgi_server")
    app = Seen()
    options = {"lifespan": "off", "access_log_format": "{request_id} {status}", **certificates.options}
    async with serving(app, **options) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).header(b"x-request-id") == app.scopes[0]["state"]["request_id"].encode()
    assert access_lines(caplog) == [f"{app.scopes[0]['state']['request_id']} 200"]
    assert "connection made" in refusals(caplog)


@pytest.mark.parametrize("line", [b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n", b"PROXY UNKNOWN\r\n"])
@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_proxy_speaks_before_the_handshake(line: bytes, pieces: int, certificates: Files) -> None:
    """The PROXY protocol comes in front of TLS, not in it; and fields may tell of another scheme, if who has sent them is believed."""
    app = Seen()
    options = {"lifespan": "off", "proxy_protocol": True, "proxy_headers": True, **certificates.options}
    async with serving(app, **options) as served, await served.connect_bare() as bare:
        for piece in (line[:9], line[9:]) if pieces == 2 else (line,):
            await bare.send(piece)
        client = await TLSClient(bare.sock, unsuspicious()).shake_hands()
        for said, scheme in (("https", "https"), ("http", "https" if b"TCP4" in line else "http")):
            await client.send(GET[:-2] + f"X-Forwarded-Proto: {said}\r\n\r\n".encode())
            assert (await client.response()).status == 200
            assert app.scopes[-1]["scheme"] == scheme
    assert app.scopes[0]["client"][0] == ("192.0.2.7" if b"TCP4" in line else "127.0.0.1")


async def test_who_is_no_proxy_where_one_is_wanted(certificates: Files, caplog: pytest.LogCaptureFixture) -> None:
    """A ClientHello without the PROXY protocol in front, from who is believed, is refused in plaintext."""
    options = {"lifespan": "off", "proxy_protocol": True, **certificates.options}
    async with serving(Seen(), **options) as served, await served.connect_bare() as client:
        await client.send(b"\x16\x03\x01\x02\x00\x01" + bytes(300))
        assert (await client.receive_until_closed()).startswith(b"HTTP/1.1 400 ")
    assert len(refusals(caplog)) == 1


async def test_renegotiation_is_refused(certificates: Files) -> None:
    """Keys are agreed on once: a client that begins again (RFC 5246 §7.4.1.1) is told no."""
    async with serving(Seen(), lifespan="off", **certificates.options) as served, await served.connect_bare() as bare:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        client = SSL.Connection(context)
        client.set_connect_state()
        await converse(client, bare, client.do_handshake)
        client.renegotiate()
        with pytest.raises(SSL.Error, match=r"no renegotiation"):
            await converse(client, bare, client.do_handshake)


async def converse(client: SSL.Connection, bare: Client, do: Any) -> None:
    """Do it, with the server's help."""
    while True:
        try:
            do()
        except SSL.WantReadError:
            await bare.send_raw(client.bio_read(65536))
            client.bio_write(await bare.receive())
        else:
            return


# Clients' certificates.


@pytest.fixture(scope="module")
def demanding(certificates: Files) -> dict[str, Any]:
    """Options of a server that wants certificates."""
    return {**certificates.options, "ssl_ca_certs": certificates.authority, "ssl_cert_reqs": "required"}


@pytest.fixture(scope="module")
def clients(certificates: Files) -> dict[str, Pair]:
    """Clients' certificates: of our authority, and of another's."""
    subject = name("Ada, the first", (NameOID.COUNTRY_NAME, "GB"), (NameOID.ORGANIZATION_NAME, "Engines"))
    return {"ours": signed(subject, certificates.signer), "others": signed(subject, signed(name("Others"), authority=True))}


def showing(pair: Pair | None, files: Files) -> ssl.SSLContext:
    """What a client needs that shows this certificate, if any."""
    context = unsuspicious()
    if pair is not None:
        context.load_cert_chain(files.write("client.pem", pair.pem() + pair.key_pem()))
    return context


@pytest.mark.parametrize("demand", ["required", "optional"])
async def test_a_client_with_a_certificate(demand: str, demanding: dict[str, Any], clients: dict[str, Pair], certificates: Files) -> None:
    """The app is told whose certificate it is, and gets it."""
    app = Seen()
    async with serving(app, lifespan="off", **{**demanding, "ssl_cert_reqs": demand}) as served, await served.connect_bare() as bare:
        client = await TLSClient(bare.sock, showing(clients["ours"], certificates)).shake_hands()
        await client.send(GET)
        assert (await client.response()).status == 200
    assert app.tls["client_cert_name"] == "CN=Ada\\, the first,O=Engines,C=GB"
    assert app.tls["client_cert_chain"] == [clients["ours"].pem().decode()]
    assert app.tls["client_cert_error"] is None


UNTRUSTED = {
    ("required", "none"): "the client has shown no certificate",
    ("required", "others"): "certificate verify failed (unable to get local issuer certificate)",
    ("optional", "others"): "certificate verify failed (unable to get local issuer certificate)",
}


@pytest.mark.parametrize(("demand", "who"), list(UNTRUSTED))
async def test_a_client_that_cannot_be_trusted(
    demand: str, who: str, demanding: dict[str, Any], clients: dict[str, Pair], certificates: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the certificate that is demanded there is no session: the client hears so, and one line says why."""
    app = Seen()
    async with serving(app, lifespan="off", **{**demanding, "ssl_cert_reqs": demand}) as served, await served.connect_bare() as bare:
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            await TLSClient(bare.sock, showing(clients.get(who), certificates)).shake_hands()
    assert refusals(caplog) == [f"no TLS session: {UNTRUSTED[demand, who]}"]
    assert app.scopes == []


async def test_a_certificate_may_be_optional(demanding: dict[str, Any]) -> None:
    """Then a client without one is served, and the app sees that it has none."""
    app = Seen()
    async with serving(app, lifespan="off", **{**demanding, "ssl_cert_reqs": "optional"}) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).status == 200
    assert (app.tls["client_cert_name"], app.tls["client_cert_chain"]) == (None, [])


def test_names_are_written_as_rfc_4514_has_it() -> None:
    """The last part comes first, and what has a meaning in there is escaped."""
    subject = ((("countryName", "DE"),), (("commonName", ' a"b'), ("userId", "u+1")), (("emailAddress", "#x;y "),))
    assert distinguished_name(subject) == 'emailAddress=\\#x\\;y\\ ,CN=\\ a\\"b+UID=u\\+1,C=DE'


# Files.


def test_files_that_will_do(certificates: Files) -> None:
    """The key may be in a file of its own, in the certificate's, or encrypted."""
    for files in (
        {"ssl_certfile": certificates.both},
        certificates.options,
        {"ssl_certfile": certificates.certificate, "ssl_keyfile": certificates.encrypted_key, "ssl_keyfile_password": "sesame"},
    ):
        assert Certificates(Config(**files)).identity.certificate == Path(certificates.certificate).read_text()
    assert "sesame" not in repr(Config(ssl_keyfile_password="sesame"))


def wrong_files(files: Files) -> Iterator[tuple[dict[str, Any], str]]:
    """Options that can't be served with, and what is said."""
    certificate, key, other = files.certificate, files.key, files.write("other.pem", signed(name("other")).key_pem())
    der = files.write("der", ssl.PEM_cert_to_DER_cert(Path(certificate).read_text()))
    rubbish = files.write("rubbish.pem", b"-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n" + Path(key).read_bytes())
    no = str(files.folder / "no")
    both = {"ssl_certfile": certificate, "ssl_keyfile": key}
    encrypted = {"ssl_certfile": certificate, "ssl_keyfile": files.encrypted_key}
    yield {"ssl_keyfile": key}, "a key or other certificates are of no use without ssl_certfile, the server's own certificate"
    yield {"ssl_certfile": no}, f"ssl_certfile {no!r} can't be read: No such file or directory"
    yield {"ssl_certfile": str(files.folder)}, f"ssl_certfile {str(files.folder)!r} can't be read: Is a directory"
    yield {"ssl_certfile": "\0"}, "ssl_certfile '\\x00' can't be read: embedded null byte"
    yield {**both, "ssl_keyfile": no}, f"ssl_keyfile {no!r} can't be read: No such file or directory"
    yield {"ssl_certfile": key}, f"ssl_certfile {key!r} has no certificate in it"
    yield {"ssl_certfile": der}, f"ssl_certfile {der!r} has no certificate in it; it is in DER, and PEM is wanted: openssl x509 -inform DER"
    yield {"ssl_certfile": certificate}, f"ssl_certfile {certificate!r} has no private key in it; name its file as ssl_keyfile"
    yield {**both, "ssl_keyfile": certificate}, f"ssl_keyfile {certificate!r} has no private key in it"
    yield {**both, "ssl_keyfile": other}, f"ssl_certfile {certificate!r} with ssl_keyfile {other!r} can't be used: the key isn't that of"
    yield {"ssl_certfile": rubbish}, f"ssl_certfile {rubbish!r} can't be used: "
    yield encrypted, f"the key in {files.encrypted_key!r} is encrypted; give its password as ssl_keyfile_password"
    yield (
        {**encrypted, "ssl_keyfile_password": "wrong"},
        f"the key in {files.encrypted_key!r} can't be decrypted with this ssl_keyfile_password",
    )
    yield {**both, "ssl_ca_certs": certificate}, "ssl_ca_certs is for clients' certificates; say with ssl_cert_reqs whether they are"
    yield {**both, "ssl_cert_reqs": "required"}, "ssl_cert_reqs is required, but nobody may sign a client's certificate; name who as"
    yield {**both, "ssl_cert_reqs": "optional", "ssl_ca_certs": no}, f"ssl_ca_certs {no!r} can't be read: No such file or directory"
    yield {**both, "ssl_cert_reqs": "optional", "ssl_ca_certs": key}, f"ssl_ca_certs {key!r} has no certificate in it"
    yield {**both, "ssl_cert_reqs": "optional", "ssl_ca_certs": rubbish}, f"ssl_ca_certs {rubbish!r} can't be used: "
    yield {**both, "ssl_ciphers": "nonsense"}, "ssl_ciphers 'nonsense' is no list of OpenSSL's, or nothing of it is left here"


def test_wrong_files_are_told_in_words(certificates: Files) -> None:
    """Each says which option and which file is wrong, and what to do; none asks for a password."""
    for options, said in wrong_files(certificates):
        with pytest.raises(StartupError) as caught:
            Certificates(Config(**options))
        assert str(caught.value).startswith(said)
        assert "\n" not in str(caught.value)


def test_a_command_names_its_own_options(certificates: Files, tmp_path: Path) -> None:
    """An error names what is to be written; a file that is called so keeps its name."""
    (tmp_path / "ssl_keyfile").write_text("no key")
    check = ("serve", "microasgi.demo:routes", "--check")
    done = say(tmp_path, *check, "--ssl-certfile", certificates.certificate, "--ssl-keyfile", "ssl_keyfile")
    check_refusal(done, 1, "error: --ssl-keyfile 'ssl_keyfile' has no private key in it")
    check_refusal(say(tmp_path, *check, "--ssl-cert-reqs", "required"), 1, "are of no use without --ssl-certfile, the server's own")


async def test_wrong_files_end_the_start(certificates: Files) -> None:
    """A server with a wrong file doesn't begin to listen."""
    with pytest.RaisesGroup(pytest.RaisesExc(StartupError, match="can't be read"), flatten_subgroups=True):
        async with serving(Seen(), ssl_certfile=str(certificates.folder / "no")):
            raise AssertionError("it serves")


def test_a_check_reads_them(certificates: Files) -> None:
    """`serve --check` says https, if the files will do."""
    done = subprocess.run(
        [sys.executable, "-m", "microasgi", "serve", "microasgi.demo:routes", "--check", "--ssl-certfile", certificates.both],
        capture_output=True,
        text=True,
    )
    assert "it listens at https://127.0.0.1:8000" in done.stdout, done.stderr


# Files that change.


@contextmanager
def process(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command, in a process of its own, and its port."""
    (folder / "main.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'0')]})\n"
        "    await send({'type': 'http.response.body'})\n"
    )
    command = [sys.executable, "-m", "microasgi_server", "main:app", "--port", "0", "--lifespan", "off", "--no-access-log", *options]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        try:
            yield running, int(running.stderr.readline().split("https://127.0.0.1:")[1].split()[0])
        finally:
            running.kill()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_the_files_are_read_again_on_sighup(tmp_path: Path) -> None:
    """New connections get what is in the files then, and open ones go on; if that is wrong, one line says so and all stays as it is."""
    own = Files(tmp_path)
    with process(tmp_path, "--ssl-certfile", own.both, "--loop", "asyncio") as (running, port):
        assert running.stderr is not None

        def connected() -> ssl.SSLSocket:
            return unsuspicious().wrap_socket(socket.create_connection(("127.0.0.1", port)))

        def shown() -> bytes | None:
            with connected() as client:
                return client.getpeercert(binary_form=True)

        first = shown()
        with connected() as before:
            renewed = signed(name("renewed"), own.signer)
            own.write("both.pem", renewed.pem() + renewed.key_pem())
            running.send_signal(signal.SIGHUP)
            assert "The certificates were read again" in running.stderr.readline()
            assert first == ssl.PEM_cert_to_DER_cert(own.server.pem().decode())
            assert shown() == ssl.PEM_cert_to_DER_cert(renewed.pem().decode())
            own.write("both.pem", b"")
            running.send_signal(signal.SIGHUP)
            line = running.stderr.readline()
            assert "ERROR: The certificates stay as they were: ssl_certfile" in line
            assert shown() == ssl.PEM_cert_to_DER_cert(renewed.pem().decode())
            before.sendall(GET)
            assert before.recv(100).startswith(b"HTTP/1.1 200 ")
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
