"""What proxies say of a request, of whom it is believed, and what becomes of it."""

import json
import time
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from microasgi_server import AllowedHosts, Config, ProxyHeaders, stats
from microasgi_server.http1.targets import is_authority
from microasgi_server.proxies.forwarded import FORWARDED, X_FORWARDED, elements_from_the_end
from microasgi_server.proxies.headers import USUAL, Proxies
from microasgi_server.proxies.trust import LOCAL, Trusted, is_trustable

from tests.harness import GET, access_lines, call, eventually, serving
from tests.websocket_client import HANDSHAKE

pytestmark = pytest.mark.anyio

SHOWN = ("client", "scheme", "server", "root_path", "path", "raw_path")


async def show(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what matters of the scope."""
    host = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    shown = {name: scope[name].decode() if name == "raw_path" else scope[name] for name in SHOWN}
    body = json.dumps({**shown, "host": host}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def seen(
    *fields: tuple[str, str], trusted: Any = LOCAL, believed: Any = USUAL, peer: Any = ("127.0.0.1", 9), **scope: Any
) -> dict[str, Any]:
    """What an app behind `ProxyHeaders` sees of a request with these fields."""
    headers = [(b"host", b"app:8000"), *((name.lower().encode(), value.encode("latin-1")) for name, value in fields)]
    answer = await call(ProxyHeaders(show, trusted, believed), headers=headers, client=peer, **scope)
    found: dict[str, Any] = json.loads(answer.body)
    return found


# Who is believed.


@pytest.mark.parametrize(
    ("allowed", "believed", "others"),
    [
        (LOCAL, ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", None], ["10.0.0.1", "::2", "", "localhost", "testclient"]),
        (["10.0.0.0/8", "fd00::/8"], ["10.1.2.3", "fd00::1", "::ffff:10.0.0.1"], ["11.0.0.1", "127.0.0.1", "fe00::1", None]),
        (["*"], ["10.1.2.3", "garbage", None], []),
        ([], [], ["127.0.0.1", None]),
    ],
)
def test_who_is_believed(allowed: Any, believed: list[str | None], others: list[str | None]) -> None:
    """Addresses and networks of both kinds, an IPv4 address also as IPv6; unix sockets and everybody only if they are named."""
    trusted = Trusted(allowed)
    assert [host for host in [*believed, *others] if host in trusted] == believed


def test_what_can_be_believed() -> None:
    """A name, or a network that has bits behind its prefix, can't."""
    assert [name for name in ("10.0.0.1", "10.0.0.0/8", "::/0", "*", "unix", "10.0.0.1/8", "proxy", "", 1) if is_trustable(name)] == [
        "10.0.0.1",
        "10.0.0.0/8",
        "::/0",
        "*",
        "unix",
    ]
    with pytest.raises(ValueError, match="'proxy'"):
        ProxyHeaders(show, ["proxy"])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("peer", [("10.0.0.1", 9), ["::2", 9], None])
async def test_who_is_not_believed_changes_nothing(peer: Any, anyio_backend: str) -> None:
    """What others say is ignored: X-Forwarded fields and `Forwarded`."""
    plain = await seen(peer=peer, trusted=["::1"])
    assert plain == await seen(("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https"), peer=peer, trusted=["::1"])
    assert plain == await seen(("Forwarded", "for=1.2.3.4"), peer=peer, trusted=["::1"], believed=["Forwarded"])


# Whose request it is.

CHAINS = [
    (["203.0.113.7"], ["203.0.113.7", 0]),
    (["203.0.113.7:4711"], ["203.0.113.7", 4711]),
    (["198.51.100.1, 203.0.113.7"], ["203.0.113.7", 0]),
    (["198.51.100.1, 203.0.113.7, 10.0.0.2"], ["203.0.113.7", 0]),
    (["198.51.100.1", "203.0.113.7,10.0.0.2"], ["203.0.113.7", 0]),
    (["10.0.0.9, 10.0.0.2"], ["10.0.0.9", 0]),
    (["2001:DB8::1"], ["2001:db8::1", 0]),
    (["[2001:db8::1]:80"], ["2001:db8::1", 80]),
    (["[2001:db8::1]"], ["2001:db8::1", 0]),
    (["::ffff:203.0.113.7"], ["203.0.113.7", 0]),
    (["203.0.113.7:99999"], ["203.0.113.7", 0]),
    (["203.0.113.7, , ,"], ["203.0.113.7", 0]),
    (["1.1.1.1, unknown, 10.0.0.2"], ["10.0.0.2", 0]),
    (["unknown"], ["127.0.0.1", 9]),
    ([""], ["127.0.0.1", 9]),
    ([" , "], ["127.0.0.1", 9]),
    (["<script>"], ["127.0.0.1", 9]),
    (["1.2.3"], ["127.0.0.1", 9]),
    (["1.2.3.4.5, \xff"], ["127.0.0.1", 9]),
    (["localhost"], ["127.0.0.1", 9]),
    (["203.0.113.7\x00"], ["127.0.0.1", 9]),
]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("values", "client"), CHAINS)
async def test_the_client_is_the_nearest_that_is_not_believed(values: list[str], client: Any, anyio_backend: str) -> None:
    """The list is read from its end, never beyond who isn't believed, and never beyond what can't be read."""
    found = await seen(*[("X-Forwarded-For", value) for value in values], trusted=[*LOCAL, "10.0.0.0/8"])
    assert found["client"] == client


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_everybody_is_believed(anyio_backend: str) -> None:
    """With `*` the list is read to its beginning, and a peer without an address is believed, too."""
    assert (await seen(("X-Forwarded-For", "1.1.1.1, 2.2.2.2"), trusted=["*"], peer=None))["client"] == ["1.1.1.1", 0]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("value", "kind", "scheme"),
    [
        ("https", "http", "https"),
        ("HTTPS", "http", "https"),
        ("https", "websocket", "wss"),
        ("wss", "http", "https"),
        ("http", "websocket", "ws"),
        ("http, https", "http", "https"),
        ("https, http", "http", "http"),
        ("javascript", "http", "http"),
        ("https://", "http", "http"),
        ("", "http", "http"),
    ],
)
async def test_a_scheme_is_http_or_a_websockets(value: str, kind: str, scheme: str, anyio_backend: str) -> None:
    """Nothing but the four schemes counts, each as the kind of scope calls it; of several the last."""
    assert (await seen(("X-Forwarded-Proto", value), type=kind, scheme="http" if kind == "http" else "ws"))["scheme"] == scheme


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_list_of_schemes_goes_with_the_list_of_addresses(anyio_backend: str) -> None:
    """Where both are equally long, the scheme is that of the request's client."""
    fields = [("X-Forwarded-For", "6.6.6.6, 203.0.113.7, 127.0.0.2"), ("X-Forwarded-Proto", "http, https, http")]
    found = await seen(*fields)
    assert (found["client"], found["scheme"]) == (["203.0.113.7", 0], "https")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("fields", "host", "server"),
    [
        ({"Host": "example.com"}, "example.com", ["example.com", 80]),
        ({"Host": "example.com", "Proto": "https"}, "example.com", ["example.com", 443]),
        ({"Host": "example.com:8443", "Proto": "https", "Port": "1"}, "example.com:8443", ["example.com", 8443]),
        ({"Host": "example.com", "Port": "8443"}, "example.com:8443", ["example.com", 8443]),
        ({"Host": "example.com", "Proto": "https", "Port": "443"}, "example.com", ["example.com", 443]),
        ({"Port": "8443"}, "app:8443", ["app", 8443]),
        ({"Host": "[::1]:8080"}, "[::1]:8080", ["::1", 8080]),
        ({"Host": "[::1]"}, "[::1]", ["::1", 80]),
        ({"Host": "first.com, example.com"}, "example.com", ["example.com", 80]),
        ({"Host": "a/b", "Port": "0"}, "app:8000", ["127.0.0.1", 80]),
        ({"Host": "user@example.com"}, "app:8000", ["127.0.0.1", 80]),
        ({"Host": "example.com:99999"}, "app:8000", ["127.0.0.1", 80]),
        ({"Port": "9" * 5000}, "app:8000", ["127.0.0.1", 80]),
        ({"Port": "-1"}, "app:8000", ["127.0.0.1", 80]),
    ],
)
async def test_a_host_is_what_the_client_asked_for(fields: dict[str, str], host: str, server: Any, anyio_backend: str) -> None:
    """X-Forwarded-Host and -Port, if they are believed, become Host and `server`; what isn't an authority is ignored."""
    found = await seen(*[(f"X-Forwarded-{name}", value) for name, value in fields.items()], believed=X_FORWARDED)
    assert (found["host"], found["server"]) == ([host], server)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("value", "before", "root_path", "path", "raw_path"),
    [
        ("/api", "", "/api", "/api/a b", "/api/a%20b"),
        ("/api/", "", "/api", "/api/a b", "/api/a%20b"),
        ("/d%C3%A4/x", "", "/d\xe4/x", "/d\xe4/x/a b", "/d%C3%A4/x/a%20b"),
        ("/api", "/old", "/api", "/api/a b", "/api/a%20b"),
        ("/", "", "", "/a b", "/a%20b"),
        ("//evil", "", "", "/a b", "/a%20b"),
        ("/a/../b", "", "", "/a b", "/a%20b"),
        ("api", "", "", "/a b", "/a%20b"),
        ("/a?b", "", "", "/a b", "/a%20b"),
    ],
)
async def test_a_prefix_is_put_back(value: str, before: str, root_path: str, path: str, raw_path: str, anyio_backend: str) -> None:
    """What a proxy has stripped from the path is its `root_path`, instead of the one that was known."""
    scope = {"root_path": before, "path": before + "/a b", "raw_path": before.encode() + b"/a%20b"}
    found = await seen(("X-Forwarded-Prefix", value), believed=X_FORWARDED, **scope)
    assert (found["root_path"], found["path"], found["raw_path"]) == (root_path, path, raw_path)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_only_the_chosen_fields_are_believed(anyio_backend: str) -> None:
    """A field that the proxy doesn't set comes from the client through it, and is ignored as one of the client's."""
    spoofed = [("X-Forwarded-Host", "evil.com"), ("X-Forwarded-Prefix", "/evil"), ("Forwarded", "for=6.6.6.6;proto=https;host=evil.com")]
    assert await seen(*spoofed, ("X-Forwarded-For", "203.0.113.7")) == await seen(("X-Forwarded-For", "203.0.113.7"))
    with pytest.raises(ValueError, match="Forwarded alone"):
        ProxyHeaders(show, fields=["Forwarded", "X-Forwarded-For"])
    with pytest.raises(ValueError, match="X-Real-IP"):
        Config(proxy_fields=["X-Real-IP"])


# RFC 7239.


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("values", "client", "scheme", "host"),
    [
        (["for=203.0.113.7;proto=https;host=example.com"], ["203.0.113.7", 0], "https", "example.com"),
        (['For="[2001:db8:cafe::17]:4711"'], ["2001:db8:cafe::17", 4711], "http", "app:8000"),
        (["for=203.0.113.7:80"], ["203.0.113.7", 80], "http", "app:8000"),
        (["for=6.6.6.6;proto=http", "for=203.0.113.7;proto=https, for=10.0.0.2;proto=http"], ["203.0.113.7", 0], "https", "app:8000"),
        (["for=203.0.113.7, for=_hidden;proto=https"], ["127.0.0.1", 9], "https", "app:8000"),
        (["for=unknown"], ["127.0.0.1", 9], "http", "app:8000"),
        (["proto=https"], ["127.0.0.1", 9], "https", "app:8000"),
        (['for="203.0.113.\\7"; proto=https ,,'], ["203.0.113.7", 0], "https", "app:8000"),
        (['secret="a,b", for=203.0.113.7'], ["203.0.113.7", 0], "http", "app:8000"),
        (['secret=", for=6.6.6.6, for=203.0.113.7'], ["203.0.113.7", 0], "http", "app:8000"),
        (['for=6.6.6.6"'], ["127.0.0.1", 9], "http", "app:8000"),
        (["for=6.6.6.6;;proto=https"], ["127.0.0.1", 9], "http", "app:8000"),
        (["for=6.6.6.6 proto=https"], ["127.0.0.1", 9], "http", "app:8000"),
        (["garbage, for=10.0.0.2"], ["10.0.0.2", 0], "http", "app:8000"),
        (["for=203.0.113.7;proto=javascript;host=a/b"], ["203.0.113.7", 0], "http", "app:8000"),
    ],
)
async def test_forwarded(values: list[str], client: Any, scheme: str, host: str, anyio_backend: str) -> None:
    """`Forwarded` is read from its end, in quotes or without; an element's scheme and host go with its client."""
    found = await seen(*[("Forwarded", value) for value in values], believed=["Forwarded"], trusted=[*LOCAL, "10.0.0.0/8"])
    assert (found["client"], found["scheme"], found["host"]) == (client, scheme, [host])


@pytest.mark.parametrize("value", ["," * 32000, 'a="' * 10000, ',a="\\' * 8000, "for=127.0.0.1," * 2000, "a=b;" * 8000 + "!", '"' * 32000])
def test_a_long_list_takes_no_time(value: str) -> None:
    """A head full of quotes and commas is read in milliseconds, or given up."""
    began = time.perf_counter()
    assert len([*elements_from_the_end([value])]) <= 100
    assert time.perf_counter() - began < 0.2


NASTY = st.text(st.characters(max_codepoint=255), max_size=60) | st.lists(
    st.sampled_from(["for=", "10.0.0.1", "[::1]", ":", "80", ",", ";", '"', "\\", " ", "proto=", "https", "/", "host=", "a.com", "%", ".."])
).map("".join)


@given(st.lists(st.tuples(st.sampled_from([*X_FORWARDED, FORWARDED]), NASTY), max_size=6), st.sampled_from(["http", "websocket"]))
def test_whatever_is_said_a_scope_stays_one(fields: list[tuple[str, str]], kind: str) -> None:
    """No text in these fields raises, and whatever becomes of the scope is of the shape that ASGI gives it."""
    headers = [(b"host", b"app"), *((name.lower().encode(), value.encode("latin-1")) for name, value in fields)]
    scope = {"type": kind, "client": ("127.0.0.1", 1), "headers": headers, "path": "/x", "raw_path": b"/x", "scheme": "http"}
    for believed in (X_FORWARDED, [FORWARDED]):
        found = Proxies(LOCAL, believed).seen_through(scope)
        ip_address(found["client"][0])
        assert found["scheme"] in ("http", "https", "ws", "wss")
        assert [is_authority(value) for name, value in found["headers"] if name == b"host"] == [True]
        assert found["path"] == found.get("root_path", "") + "/x"
        assert unquote(found["raw_path"].decode()) == found["path"]
        for _, port in (found["client"], found.get("server", ("", 0))):
            assert 0 <= port < 65536


# In the server.


async def test_the_server_believes_its_proxy(caplog: pytest.LogCaptureFixture) -> None:
    """With `proxy_headers` the app, and the access log, have the client for which the proxy speaks, request by request."""
    async with serving(show, proxy_headers=True) as served, await served.connect() as client:
        for field in (b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https", b"X-Forwarded-For: [2001:db8::1]:99", b"X: y"):
            await client.send(GET.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n"))
            found = json.loads((await client.response()).body)
            assert found["scheme"] == ("https" if b"https" in field else "http")
        await eventually(lambda: len(access_lines(caplog)) == 3)
    assert found["client"][0] == "127.0.0.1"
    assert [line.split(" - ")[0] for line in access_lines(caplog)][:2] == ["203.0.113.7", "[2001:db8::1]:99"]
    assert access_lines(caplog)[2].startswith("127.0.0.1:")


@pytest.mark.parametrize("options", [{}, {"proxy_headers": True, "forwarded_allow_ips": ["10.0.0.0/8"]}])
async def test_the_server_believes_nobody_else(options: dict[str, Any]) -> None:
    """Without the option, or from somebody else, the fields change nothing."""
    async with serving(show, **options) as served, await served.connect() as client:
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\r\n"))
        found = json.loads((await client.response()).body)
    assert (found["client"][0], found["scheme"]) == ("127.0.0.1", "http")


# Names.


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("example.com", True),
        ("EXAMPLE.com:8000", True),
        ("example.com.", True),
        ("a.b.example.org:1", True),
        ("[::1]:8000", True),
        ("10.0.0.1", True),
        ("example.org", False),
        ("evilexample.org", False),
        ("example.com.evil.com", False),
        ("[::2]", False),
        ("", False),
    ],
)
async def test_only_the_names_of_the_app_are_answered(host: str, allowed: bool, anyio_backend: str) -> None:
    """A Host is compared without its port, whatever its case; a name with a star has what is below it, and not itself."""
    app = AllowedHosts(show, ["Example.com", "*.example.org", "::1", "10.0.0.1"])
    answer = await call(app, headers=[(b"host", host.encode())])
    assert answer.status == (200 if allowed else 421)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_websocket_for_another_name_is_closed(anyio_backend: str) -> None:
    """It is closed before it was accepted."""
    sent = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await AllowedHosts(show, ["example.com"])({"type": "websocket", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close"}]


@pytest.mark.parametrize("name", ["example.com:80", "*", "*.", "*example.com", "a/b", "", "abc:80", "-"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """A port, a path or half a star is no name; a star alone is all of them."""
    if name == "*":
        Config(allowed_hosts=[name])
        return
    with pytest.raises(ValueError, match="a host is a name"):
        AllowedHosts(show, [name])
    with pytest.raises(ValueError, match="allowed_hosts"):
        Config(allowed_hosts=[name])


async def test_the_server_checks_the_name_that_the_proxy_was_asked_for() -> None:
    """`allowed_hosts` looks at the Host behind the proxy's, once that is believed; the numbers are still the app's."""
    options: dict[str, Any] = {"allowed_hosts": ["example.com"], "proxy_headers": True, "proxy_fields": ["X-Forwarded-Host"]}
    async with serving(show, **options) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).status == 421
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-Host: example.com\r\n\r\n"))
        assert (await client.response()).status == 200
        assert stats(show).responses == stats().responses
        await client.send(HANDSHAKE)
        assert (await client.response()).status == 421
