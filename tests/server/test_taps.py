"""A tap is told what happens to a connection, all of it, in order, and holds on to nothing of that."""

import gc
import inspect
import json
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from microasgi_server.connection import Connection
from microasgi_server.taps import Event, Redaction, Ring, tapped
from microasgi_server.taps.redaction import plain

from microasgi.watching.places import place_of
from tests.certificates import Files
from tests.harness import GET, Client, eventually, serving
from tests.websocket_client import HANDSHAKE, TEXT, frame, goodbye

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
POST = b"POST /in HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it is sent, at /sleep never."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        return
    if scope["path"] == "/sleep":
        gone = anyio.Event()
        scope["extensions"]["microasgi.disconnect"]["subscribe"](gone.set)
        await gone.wait()
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body)), (b"x-own", b"")]})
    await send({"type": "http.response.body", "body": body})


class Gone(Exception):
    """One that must not live on."""


class Told(list[Event]):
    """A tap that remembers."""

    __call__ = list.append

    def count_of(self, what: str) -> int:
        return [event.what for event in self].count(what)


def brief(event: Event) -> str:
    """An event as one reads it: the lane, the request's number, what, and the facts that are always the same."""
    words = [event.lane, str(event.request), event.what]
    for name, value in event.facts.items():
        if name == "data":
            line = bytes.fromhex(value["bytes"]).partition(b"\r\n")[0].decode("latin-1")
            words.append(line if line.isprintable() else f"{value['size']} bytes")
        elif name in ("message", "scope"):
            words.append(value["type"])
        elif name not in ("client", "seconds", "fields", "unsent"):
            words.append(str(value))
    return " ".join(words)


EXPECTED = {
    "kept alive": """
        wire 1 in GET / HTTP/1.1
        core 1 head GET / HTTP/1.1
        core 1 waits for FIRST_BYTE APP
        asgi 1 call http
        asgi 1 receive?
        asgi 1 receive http.request
        asgi 1 send http.response.start
        core 1 phase WAITING STARTED START
        asgi 1 send http.response.body
        core 1 phase STARTED DONE LAST_BODY
        wire 1 out HTTP/1.1 200 OK
        core 1 waits for APP NEXT_REQUEST
        wire 2 in POST /in HTTP/1.1
        core 2 head POST /in HTTP/1.1
        core 2 waits for NEXT_REQUEST APP
        asgi 2 call http
        asgi 2 receive?
        asgi 2 receive http.request
        asgi 2 receive?
        wire 2 in world
        asgi 2 receive http.request
        asgi 2 send http.response.start
        core 2 phase WAITING STARTED START
        asgi 2 send http.response.body
        core 2 phase STARTED DONE LAST_BODY
        wire 2 out HTTP/1.1 200 OK
        core 2 waits for APP NEXT_REQUEST
        wire 2 FIN
        core 2 hang_up the client closed its side (FIN)
        core 2 input OPEN IGNORED
        core 2 waits for NEXT_REQUEST FLUSHING
        wire 2 close
    """,
    "left": """
        wire 1 in GET /sleep HTTP/1.1
        core 1 head GET /sleep HTTP/1.1
        core 1 waits for FIRST_BYTE APP
        asgi 1 call http
        asgi 1 subscribe Event.set
        core 1 hang_up the connection was reset (RST)
        core 1 input OPEN IGNORED
        core 1 phase WAITING GONE leaves
        asgi 1 told Event.set
        core 1 left the connection was reset (RST) False
        core 1 waits for APP FLUSHING
        wire 1 close
    """,
    "pipelined": """
        wire 1 in GET / HTTP/1.1
        core 1 head GET / HTTP/1.1
        core 1 waits for FIRST_BYTE APP
        asgi 1 call http
        asgi 1 receive?
        asgi 1 receive http.request
        asgi 1 send http.response.start
        core 1 phase WAITING STARTED START
        asgi 1 send http.response.body
        core 1 phase STARTED DONE LAST_BODY
        wire 1 out HTTP/1.1 200 OK
        core 2 head GET / HTTP/1.1
        asgi 2 call http
        asgi 2 receive?
        asgi 2 receive http.request
        asgi 2 send http.response.start
        core 2 phase WAITING STARTED START
        asgi 2 send http.response.body
        core 2 phase STARTED DONE LAST_BODY
        wire 2 out HTTP/1.1 200 OK
        core 2 waits for APP NEXT_REQUEST
        wire 2 FIN
        core 2 hang_up the client closed its side (FIN)
        core 2 input OPEN IGNORED
        core 2 waits for NEXT_REQUEST FLUSHING
        wire 2 close
    """,
    "refused": """
        wire 1 in nonsense
        core 1 refused 400 a request begins with a line of its method, its target and HTTP/1.1 (RFC 9112 §3)
        wire 1 out HTTP/1.1 400 Bad Request
        core 1 input OPEN IGNORED
        core 1 waits for FIRST_BYTE READING
        wire 1 shut
        wire 1 FIN
        core 1 hang_up the client closed its side (FIN)
        core 1 waits for READING FLUSHING
        wire 1 close
    """,
    "talked": """
        wire 1 in GET /chat?room=1 HTTP/1.1
        core 1 head GET /chat?room=1 HTTP/1.1
        core 1 waits for FIRST_BYTE APP
        asgi 1 call websocket
        asgi 1 receive?
        asgi 1 receive websocket.connect
        asgi 1 send websocket.accept
        core 1 phase CONNECTING OPEN ACCEPT
        wire 1 out HTTP/1.1 101 Switching Protocols
        asgi 1 receive?
        wire 1 in 8 bytes
        asgi 1 receive websocket.receive
        asgi 1 send websocket.send
        wire 1 out 4 bytes
        asgi 1 receive?
        wire 1 in 8 bytes
        core 1 phase OPEN GONE GOODBYE
        wire 1 out 4 bytes
        core 1 input OPEN IGNORED
        core 1 waits for APP READING
        wire 1 shut
        asgi 1 receive websocket.disconnect
        wire 1 FIN
        core 1 hang_up the client closed its side (FIN)
        core 1 waits for READING FLUSHING
        wire 1 close
    """,
    "upgraded, and broken off": """
        wire 1 in GET /chat?room=1 HTTP/1.1
        core 1 head GET /chat?room=1 HTTP/1.1
        core 1 waits for FIRST_BYTE APP
        asgi 1 call websocket
        asgi 1 receive?
        asgi 1 receive websocket.connect
        asgi 1 send websocket.accept
        core 1 phase CONNECTING OPEN ACCEPT
        wire 1 out HTTP/1.1 101 Switching Protocols
        asgi 1 receive?
        wire 1 FIN
        core 1 hang_up the client closed its side (FIN)
        core 1 input OPEN IGNORED
        core 1 phase OPEN GONE VANISHED
        core 1 left the client closed its side (FIN) False
        core 1 waits for APP FLUSHING
        wire 1 close
        asgi 1 receive websocket.disconnect
    """,
}
"""Of each conversation, everything but the end of calls and of sockets: in which order those two come is the loop's affair."""


async def converse(kind: str, client: Client, told: Told) -> None:
    """The client's part."""

    async def ask(request: bytes) -> None:
        await client.send(request)
        await client.response(request.partition(b" ")[0])

    match kind:
        case "kept alive":
            await ask(GET)
            await client.send(POST)
            await eventually(lambda: told.count_of("receive?") == 3)
            await ask(b"world")
        case "left":
            await client.send(GET.replace(b" / ", b" /sleep ") + GET)
            await eventually(lambda: told.count_of("subscribe"))
            client.leave("RST")
        case "pipelined":
            await ask(GET * 2)
            await client.response()
        case "refused":
            await client.send(b"nonsense\r\n\r\n")
            await client.receive_until_closed()
        case _:
            await client.send(HANDSHAKE)
            await client.receive()
            await eventually(lambda: told.count_of("receive?") == 2)
            if kind == "talked":
                await client.send(frame(TEXT, b"hi"))
                await eventually(lambda: told.count_of("receive?") == 3)
                await client.send(goodbye(1000))
                await client.receive_until_closed()


@pytest.mark.parametrize("kind", EXPECTED)
async def test_a_conversation_is_told_event_by_event(kind: str) -> None:
    """What is known to happen is told, and nothing else, whichever loop runs: so that whoever renames a function that is tapped notices."""
    told = Told()
    async with serving(app, tapped(Connection, told), lifespan="off") as served:
        async with await served.connect() as client:
            await converse(kind, client, told)
        await eventually(lambda: told.count_of("lost") and told.count_of("end") == told.count_of("call"))
    assert brief(told[0]) == "wire 0 open"
    assert [brief(event) for event in told[1:] if event.what not in ("lost", "end")] == inspect.cleandoc(EXPECTED[kind]).splitlines()
    assert [event.at for event in told] == sorted(event.at for event in told)
    assert {event.connection for event in told} == {1}


async def test_tls_is_told_as_what_is_in_it(certificates: Files) -> None:
    """Over TLS the tap sees the plaintext, and how the session ended."""
    told = Told()
    async with serving(app, tapped(Connection, told), lifespan="off", **certificates.options) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await client.response()
            client.leave("close_notify, FIN")
        await eventually(lambda: told.count_of("lost"))
    assert [brief(event) for event in told if event.lane == "wire" and event.what != "lost"] == [
        "wire 0 open",
        "wire 1 in GET / HTTP/1.1",
        "wire 1 out HTTP/1.1 200 OK",
        "wire 1 FIN the client ended the TLS session (close_notify)",
        "wire 1 close",
    ]


async def test_a_client_that_takes_and_gives_slowly_is_told() -> None:
    """Reading that pauses and goes on, and a client that takes less than is written: each is told when it changes."""

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await eventually(lambda: told.count_of("pause"))
        while message["more_body"]:
            message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8000000")]})
        await send({"type": "http.response.body", "body": bytes(8_000_000)})

    told = Told()
    async with serving(slow, tapped(Connection, told), lifespan="off") as served, await served.connect() as client:
        await client.send(POST.replace(b"10", b"2000000") + bytes(2_000_000 - 5))
        await eventually(lambda: told.count_of("congested"))
        await client.response(b"POST")
        await eventually(lambda: told.count_of("drained"))
    changes = [event.what for event in told if event.what in ("pause", "resume")]
    assert changes == ["pause", "resume"] * (len(changes) // 2)
    assert next(event for event in told if event.what == "congested").facts["unsent"] > 0


async def test_what_an_app_does_wrong_is_told() -> None:
    """An error out of `send()`, and one out of the app."""

    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.body"})

    told = Told()
    async with serving(wrong, tapped(Connection, told), lifespan="off") as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).status == 500
    said = "AppError: 'http.response.body' can't be sent now: the response is WAITING"
    assert [(event.what, event.facts["error"]) for event in told if "error" in event.facts] == [("send raised", said), ("end", said)]


async def test_the_source_is_the_line_that_did_it() -> None:
    """Each event says where in the code it happened, outside of the tap."""
    told = Told()
    async with serving(app, tapped(Connection, told), lifespan="off") as served, await served.connect() as client:
        await client.send(GET)
        await client.response()
    sent = next(event for event in told if event.what == "send")
    assert sent.source is not None
    code, instruction = sent.source
    assert code is app.__code__
    assert '"http.response.start"' in place_of(code, instruction).line
    assert not [event for event in told if event.source and "taps" in Path(event.source[0].co_filename).parts]


async def test_nothing_secret_and_nothing_of_bodies_is_told() -> None:
    """Where it is told to, a tap leaves out secrets, queries and bodies, in whichever lane they would show."""

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        headers = [(b"Set-Cookie", b"QZ"), (b"x-mine", b"QZ"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"QZ"})

    told = Told()
    secret = b"POST /?QZ HTTP/1.1\r\nHost: test\r\nCookie: QZ\r\nX-Mine: QZ\r\nContent-Length: 2\r\n\r\nQZ"
    strictly = Redaction(["x-mine"], hide_query=True, bodies=False)
    async with serving(echo, tapped(Connection, told, strictly), lifespan="off") as served, await served.connect() as client:

        async def sent(data: bytes) -> None:
            count = told.count_of("in")
            await client.send(data)
            await eventually(lambda: not data or told.count_of("in") > count)

        for at in range(0, len(secret), 7):  # some of them with another behind it
            await sent(secret[:at])
            await sent(secret[at:] + secret * (at % 3 == 0))
            for _ in range(1 + (at % 3 == 0)):
                assert (await client.response(b"POST")).body == b"QZ"
    text = "".join([json.dumps(event.facts) for event in told])
    raw = b"".join([bytes.fromhex(event.facts["data"]["bytes"]) for event in told if "data" in event.facts])
    assert b"HTTP/1.1 200 OK" in raw
    assert b"POST /?** HTTP/1.1" in raw
    assert b"Q" not in raw
    assert "QZ" not in text


async def test_a_tap_holds_on_to_nothing() -> None:
    """Who keeps all events keeps plain data, and no connection, request, call, message or error alive."""
    told = Told()

    alive: list[weakref.ref[Any]] = []

    async def holding(scope: Any, receive: Any, send: Any) -> None:
        thing = Gone(b"mine")
        call = receive.__self__
        alive.extend(map(weakref.ref, (thing, call, call.exchange, call._connection)))
        scope["state"]["error"] = thing
        if scope["path"] == "/sleep":
            gone = anyio.Event()
            scope["extensions"]["microasgi.disconnect"]["subscribe"](gone.set)
            await gone.wait()
        with suppress(OSError):
            await send({"type": "http.response.start", "status": 200, "thing": thing})
            await send({"type": "http.response.body", "body": b"", "thing": thing})

    async with serving(holding, tapped(Connection, told), lifespan="off") as served:
        async with await served.connect() as client:
            await client.send(GET)
            await client.response()
        async with await served.connect() as client:
            await client.send(GET.replace(b" / ", b" /sleep "))
            await eventually(lambda: told.count_of("subscribe"))
        await eventually(lambda: told.count_of("lost") == 2 and told.count_of("end") == 2)
        await eventually(lambda: gc.collect() >= 0 and [thing() for thing in alive] == [None] * 8)
    for event in told:
        assert plain(event.facts, 9) == event.facts
        json.dumps(event.facts)


def test_a_tap_needs_connections_of_http() -> None:
    """What can't be tapped is refused, with what would do."""

    class Other(Connection):
        protocol_class = int  # type: ignore[assignment]

    with pytest.raises(TypeError, match="subclass of http1's Protocol, not int"):
        tapped(Other, print)


# The ring.


def event(request: int, text: str = "") -> Event:
    return Event(float(request), 1, request, "wire", "in", None, {"text": text})


def test_a_ring_keeps_the_newest_requests() -> None:
    """Of too many requests the oldest go, whole; of too many events of one, its oldest. It says how many."""
    ring = Ring(requests=3, events=6)
    for request in (1, 2, 2, 3, 4, 2):
        ring(event(request))
    assert ([one.request for one in ring.events()], ring.left_out) == ([2, 2, 2, 3, 4], 1)
    for _ in range(2):
        ring(event(4))
    assert ([one.request for one in ring.events()], ring.left_out) == ([3, 4, 4, 4], 4)
    for _ in range(9):
        ring(event(4))
    assert ([one.request for one in ring.events()], ring.left_out) == ([4] * 6, 11)


def test_a_ring_is_no_larger_than_it_may_be() -> None:
    """Long texts count for what they take; one that is too long alone isn't kept either."""
    ring = Ring(size=100_000)
    for request in range(1000):
        ring(event(request, "x" * 1000))
    assert 50 < len(ring.events()) < 100
    assert len(ring.events()) + ring.left_out == 1000
    ring(event(1, "x" * 200_000))
    assert ring.events() == []
    ring(event(1))
    assert len(ring.events()) == 1


# Everything tapped.


def tapped_tests(*arguments: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tapped", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_a_tap_changes_nothing() -> None:
    """Tests pass with everything tapped that pass without."""
    tapped_tests("tests/promise/test_promise.py", "-k", "asyncio and (leaves or stops)")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("folder", ["wire", "server", "promise"])
def test_a_tap_changes_nothing_at_all(folder: str) -> None:
    """The tests of the wire, the server and the promise, whole."""
    tapped_tests(f"tests/{folder}")
