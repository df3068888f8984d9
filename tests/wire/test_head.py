"""What the request line means: every form of target that RFC 9112 §3.2 knows, and what stands where one should."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from microasgi_server.errors import Refusal
from microasgi_server.http1.limits import Limits
from microasgi_server.http1.protocol import Protocol
from microasgi_server.http1.targets import split_target

HOST = (b"host", b"test")


def scope_of(target: bytes, method: bytes = b"GET", *, version: bytes = b"1.1", root_path: str = "", headers: Any = (HOST,)) -> Any:
    """The scope of a request with this head."""
    protocol = Protocol(list, Limits())
    lines = [b"%b %b HTTP/%b\r\n" % (method, target, version), *(b"%b: %b\r\n" % field for field in headers), b"\r\n"]
    assert protocol.receive_bytes(b"".join(lines))
    assert protocol.exchange is not None
    return protocol.exchange.scope(("127.0.0.1", 54321), ("127.0.0.1", 80), root_path, {})


def refused(target: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> int:
    with pytest.raises(Refusal) as caught:
        scope_of(target, method, version=version)
    assert caught.value.reason
    return caught.value.status


@pytest.mark.parametrize(
    ("target", "raw_path", "query"),
    [
        (b"/", b"/", b""),
        (b"/a/b", b"/a/b", b""),
        (b"/a?", b"/a", b""),
        (b"/a?b=c&d", b"/a", b"b=c&d"),
        (b"/a?b?c", b"/a", b"b?c"),
        (b"/?/a", b"/", b"/a"),
        (b"//evil", b"//evil", b""),
        (b"//evil/a?b", b"//evil/a", b"b"),
        (b"/../x", b"/../x", b""),
        (b"/a/./b/", b"/a/./b/", b""),
        (b"/a%2Fb", b"/a%2Fb", b""),
        (b"/a;b=1", b"/a;b=1", b""),
        (b"/http://other/", b"/http://other/", b""),
        (b"/a@b:c", b"/a@b:c", b""),
    ],
)
def test_the_origin_form(target: bytes, raw_path: bytes, query: bytes) -> None:
    """A path and an optional query, split at the first question mark and otherwise untouched (RFC 9112 §3.2.1)."""
    assert split_target(b"GET", target) == (raw_path, query, None)


@pytest.mark.parametrize(
    ("target", "raw_path", "query", "authority"),
    [
        (b"http://other/p?q=1", b"/p", b"q=1", b"other"),
        (b"https://other/p", b"/p", b"", b"other"),
        (b"HTTP://Other/P", b"/P", b"", b"Other"),
        (b"http://other:81/p", b"/p", b"", b"other:81"),
        (b"http://[::1]:81/p", b"/p", b"", b"[::1]:81"),
        (b"http://other", b"/", b"", b"other"),
        (b"http://other/", b"/", b"", b"other"),
        (b"http://other?q", b"/", b"q", b"other"),
        (b"http://other/?q=http://x/", b"/", b"q=http://x/", b"other"),
        (b"http://other//p", b"//p", b"", b"other"),
    ],
)
def test_the_absolute_form(target: bytes, raw_path: bytes, query: bytes, authority: bytes) -> None:
    """A whole URL, as proxies send it: an empty path is `/`, and the authority is kept (RFC 9112 §3.2.2)."""
    assert split_target(b"GET", target) == (raw_path, query, authority)


@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS", b"CUSTOM"])
def test_the_targets_authority_replaces_host(method: bytes) -> None:
    """With the absolute form, Host is the target's authority, whatever the client wrote in its field (RFC 9112 §3.2.2)."""
    scope = scope_of(b"http://other:81/p", method, headers=[(b"a", b"1"), (b"host", b"ignored"), (b"b", b"2")])
    assert scope["headers"] == [(b"host", b"other:81"), (b"a", b"1"), (b"b", b"2")]
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/p", b"/p", b"")


def test_the_absolute_form_brings_its_host() -> None:
    """A request without a Host field, which HTTP/1.0 allows, has one when its target names it."""
    assert scope_of(b"http://other/", version=b"1.0", headers=[])["headers"] == [(b"host", b"other")]


def test_the_asterisk_form() -> None:
    """`OPTIONS *` is about the server as a whole, and goes to the app with that path, whatever the prefix (RFC 9112 §3.2.4)."""
    assert split_target(b"OPTIONS", b"*") == (b"*", b"", None)
    for root_path in ("", "/api"):
        scope = scope_of(b"*", b"OPTIONS", root_path=root_path)
        assert (scope["path"], scope["raw_path"], scope["method"]) == ("*", b"*", "OPTIONS")


@pytest.mark.parametrize("target", [b"other:443", b"other", b"/", b"*", b"http://other/"])
def test_the_authority_form(target: bytes) -> None:
    """CONNECT is for proxies, whatever its target looks like: 501 (RFC 9112 §3.2.3)."""
    assert refused(target, b"CONNECT") == 501


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"DELETE", b"options", b"TRACE"])
def test_the_asterisk_is_for_options_alone(method: bytes) -> None:
    """`*` with any other method is refused; methods are case-sensitive (RFC 9110 §9.1)."""
    assert refused(b"*", method) == 400


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS"])
@pytest.mark.parametrize(
    "target",
    [
        b"foo",
        b"foo/bar",
        b"@host",
        b"?q",
        b"#f",
        b"*/",
        b"**",
        b"%2Fa",
        b"\\a",
        b"test:80",
        b"/a#f",
        b"/#",
        b"/a?b#c",
        b"http://other/a#f",
        b"http://other#f",
        b"http://",
        b"http:///p",
        b"http://?q",
        b"http://user@other/",
        b"http://user:secret@other/",
        b"http:/other/",
        b"http:other",
        b"ftp://other/",
        b"file:///etc/passwd",
        b"javascript:alert(1)",
    ],
)
def test_anything_else_is_refused(target: bytes, method: bytes) -> None:
    """No slash in front, a fragment, user info, another scheme: 400, since no origin server is meant (RFC 9112 §3.2)."""
    assert refused(target, method) == 400


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a%20b", "/a b"),
        (b"/%C3%A4", "/ä"),
        (b"/%2e%2e/x", "/../x"),
        (b"/a%2Fb", "/a/b"),
        (b"/%00", "/\0"),
        (b"/%0d%0aX:%201", "/\r\nX: 1"),
        (b"/%zz", "/%zz"),
        (b"/%", "/%"),
        (b"/%2", "/%2"),
        (b"/%ff", "/\N{REPLACEMENT CHARACTER}"),
        (b"/%3Fq", "/?q"),
        (b"/%23f", "/#f"),
        (b"/%2525", "/%25"),
        (b"/a+b", "/a+b"),
    ],
)
def test_the_path_is_decoded_once_and_raw_path_never(target: bytes, path: str) -> None:
    """`path` is the target percent-decoded once as UTF-8, nothing more; `raw_path` is as it came; no input is an error."""
    scope = scope_of(target)
    assert (scope["path"], scope["raw_path"]) == (path, target)


def test_the_query_is_not_decoded() -> None:
    """`query_string` is the bytes behind the question mark, as they came."""
    assert scope_of(b"/a%20b?c%20d=%C3%A4&e+f")["query_string"] == b"c%20d=%C3%A4&e+f"


@pytest.mark.parametrize("version", [b"2.0", b"9.9", b"0.9", b"1.2", b"3.0"])
@pytest.mark.parametrize("target", [b"/", b"*", b"foo"])
def test_another_version_is_refused(version: bytes, target: bytes) -> None:
    """Any version but 1.0 and 1.1 is 505, before anything else is looked at."""
    assert refused(target, version=version) == 505


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/2.0\r\nHost: test\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ids=["HTTP/2.0", "HTTP/9.9", "PRI"],
)
def test_another_version_ends_in_the_reader(head: bytes) -> None:
    """h11 lets other versions pass, as it does the preface of HTTP/2; no exchange is made of them."""
    protocol = Protocol(list, Limits())
    with pytest.raises(Refusal) as caught:
        protocol.receive_bytes(head)
    assert (caught.value.status, protocol.exchange) == (505, None)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_the_scope_is_what_the_spec_lists(version: bytes) -> None:
    """The scope has the keys of the ASGI HTTP spec that a request decides, each of its type."""
    scope = scope_of(b"/a%20b?c", b"PUT", version=version, headers=[HOST, (b"x", b"\xe4")])
    assert callable(scope["extensions"]["microasgi.disconnect"]["subscribe"])
    assert callable(scope["extensions"]["microasgi.shutdown"]["subscribe"])
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": version.decode(),
        "method": "PUT",
        "scheme": "http",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c",
        "root_path": "",
        "headers": [HOST, (b"x", b"\xe4")],
        "client": ("127.0.0.1", 54321),
        "server": ("127.0.0.1", 80),
        "state": {},
        "extensions": {
            "http.response.early_hint": {},
            "http.response.trailers": {},
            "microasgi.disconnect": {},
            "microasgi.shutdown": {},
            "microasgi.limits": {"body": Limits().body},
        },
    }


@pytest.mark.parametrize("target", [b"/a%20b", b"http://other/a%20b"])
def test_the_root_path_is_part_of_the_path(target: bytes) -> None:
    """A prefix that a proxy has stripped is put back in front of `path` and `raw_path` (ASGI HTTP spec, root_path)."""
    scope = scope_of(target, root_path="/api/v1")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api/v1", "/api/v1/a b", b"/api/v1/a%20b")


@settings(deadline=None)
@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30).map(str.encode),
    st.sampled_from([b"", b"/", b"//", b"http://", b"http://h", b"*", b"/%"]),
    st.sampled_from([b"GET", b"OPTIONS", b"CONNECT"]),
)
def test_no_target_is_too_strange(rest: bytes, prefix: bytes, method: bytes) -> None:
    """Any bytes that h11 takes for a target are split without loss or refused with 400 or 501: never another error."""
    target = prefix + rest
    try:
        scope = scope_of(target, method)
    except Refusal:
        assert refused(target, method) == (501 if method == b"CONNECT" else 400)
        return
    query = scope["query_string"]
    if target[:1] == b"/":
        assert target in (scope["raw_path"] + b"?" + query, scope["raw_path"])
        assert scope["headers"] == [HOST]
    elif target != b"*":
        assert scope["headers"][0][1] in target
        assert scope["raw_path"][:1] == b"/"
    assert isinstance(scope["path"], str)
    assert b"#" not in scope["raw_path"] + query
