"""WebSockets without a loop: bytes in, messages out, and the states in between (RFC 6455)."""

import gc
import struct
import weakref
from typing import Any

import pytest
from microasgi_server import AppError, Limits
from microasgi_server.errors import Refusal
from microasgi_server.exchange import Next
from microasgi_server.http1.fields import Field
from microasgi_server.websocket.frames import Frames
from microasgi_server.websocket.protocol import UpgradingProtocol
from microasgi_server.websocket.session import Session
from microasgi_server.websocket.states import ARRIVALS, TRANSITIONS, Phase, Step

from tests.websocket_client import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    KEY,
    PING,
    PONG,
    TEXT,
    frame,
    frames,
    goodbye,
    with_fields,
)

ACCEPTED: dict[str, Any] = {"type": "websocket.accept"}
CLOSED: dict[str, Any] = {"type": "websocket.close"}


def identity() -> list[Field]:
    return []


class Talk:
    """A protocol that has read a handshake, and whoever has subscribed to its session."""

    def __init__(self, handshake: bytes = HANDSHAKE, **limits: Any) -> None:
        self.protocol = UpgradingProtocol(identity, Limits(**limits))
        assert self.protocol.receive_bytes(handshake)
        self.session: Session = self.protocol.exchange
        self.told: list[str] = []

    def subscribe(self, *, goodbyes: bool = True) -> None:
        def goodbye(busy: bool) -> None:
            self.told.append("goodbye, busy" if busy else "goodbye")

        self.session.subscribe(lambda: self.told.append("gone"), goodbye if goodbyes else None)

    def accept(self, **message: Any) -> bytes:
        assert self.session.take() == {"type": "websocket.connect"}
        return self.session.send({**ACCEPTED, **message})

    def arrived(self, data: bytes) -> None:
        assert not self.protocol.receive_bytes(data)

    def answers(self) -> list[tuple[int, bytes]]:
        return frames(self.session.replies())


def opened(handshake: bytes = HANDSHAKE, **limits: Any) -> Talk:
    talk = Talk(handshake, **limits)
    talk.accept()
    talk.subscribe()
    return talk


# The handshake, §4.2.


def test_a_handshake_is_answered() -> None:
    """The 101 has the key's answer, the chosen subprotocol and the app's fields; the scope has what was asked for."""
    talk = Talk(with_fields(b"Sec-WebSocket-Protocol: chat, superchat", b"Sec-WebSocket-Extensions: permessage-deflate"))
    scope = talk.session.scope(None, None, "/api", {"a": 1})
    assert {key: scope[key] for key in ("type", "scheme", "path", "query_string", "subprotocols", "state")} == {
        "type": "websocket",
        "scheme": "ws",
        "path": "/api/chat",
        "query_string": b"room=1",
        "subprotocols": ["chat", "superchat"],
        "state": {"a": 1},
    }
    assert "method" not in scope
    assert set(scope["extensions"]) == {"websocket.http.response", "microasgi.disconnect", "microasgi.shutdown"}
    head = talk.accept(subprotocol="superchat", headers=[(b"x-own", b"1")])
    assert head.splitlines() == [
        b"HTTP/1.1 101 Switching Protocols",
        b"upgrade: websocket",
        b"connection: Upgrade",
        b"sec-websocket-accept: " + ACCEPT,
        b"sec-websocket-protocol: superchat",
        b"x-own: 1",
        b"",
    ]


ORDINARY = {
    "another protocol": HANDSHAKE.replace(b"websocket\r\n", b"h2c\r\n"),
    "no Connection: upgrade": HANDSHAKE.replace(b"keep-alive, Upgrade", b"keep-alive"),
    "HTTP/1.0": HANDSHAKE.replace(b"1.1", b"1.0"),
    "POST": HANDSHAKE.replace(b"GET", b"POST"),
    "a body": with_fields(b"Content-Length: 3") + b"abc",
}


@pytest.mark.parametrize("data", ORDINARY.values(), ids=ORDINARY)
def test_what_is_no_handshake_is_an_ordinary_request(data: bytes) -> None:
    """An upgrade that can't be made is ignored (RFC 9110 §7.8)."""
    protocol = UpgradingProtocol(identity, Limits())
    assert protocol.receive_bytes(data)
    assert protocol.exchange.scope(None, None, "", {})["type"] == "http"


@pytest.mark.parametrize(
    "spelt", [HANDSHAKE.replace(b"websocket\r\n", b"WebSocket\r\n"), HANDSHAKE.replace(b"keep-alive, Upgrade", b"upgrade")]
)
def test_the_case_of_an_upgrade_does_not_matter(spelt: bytes) -> None:
    """`WebSocket` and `upgrade` are as good as any other spelling (RFC 6455 §4.2.1)."""
    assert Talk(spelt).session.line == "GET /chat?room=1 HTTP/1.1"


REFUSED = {
    "version 12": (HANDSHAKE.replace(b"Version: 13", b"Version: 12"), 426),
    "no version": (HANDSHAKE.replace(b"Sec-WebSocket-Version: 13\r\n", b""), 426),
    "two versions": (with_fields(b"Sec-WebSocket-Version: 8"), 426),
    "no key": (HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X-Key"), 400),
    "two keys": (with_fields(b"Sec-WebSocket-Key: " + KEY), 400),
    "a short key": (HANDSHAKE.replace(KEY, b"c2hvcnQ="), 400),
    "a key that is no Base64": (HANDSHAKE.replace(KEY, KEY[:-2] + b"\x80\x80"), 400),
    "an empty subprotocol": (with_fields(b"Sec-WebSocket-Protocol: chat,,"), 400),
    "a subprotocol twice": (with_fields(b"Sec-WebSocket-Protocol: chat, chat"), 400),
    "frames that don't wait": (HANDSHAKE + frame(TEXT, b"early"), 400),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED)
def test_a_malformed_handshake_is_refused(data: bytes, status: int) -> None:
    """RFC 6455 §4.2.2, §4.4: 426 names the version that would do, 400 is for the rest."""
    protocol = UpgradingProtocol(identity, Limits())
    with pytest.raises(Refusal) as raised:
        protocol.receive_bytes(data)
    assert raised.value.status == status
    answer = protocol.refuse(status, raised.value.reason)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (b"sec-websocket-version: 13\r\n" in answer) is (status == 426)
    assert answer.endswith(raised.value.reason.encode() + b"\n")


def test_who_does_not_wait_for_the_answer_is_refused() -> None:
    """RFC 6455 §4.1, also for frames that come a little later, before the app has decided."""
    talk = Talk()
    with pytest.raises(Refusal):
        talk.protocol.receive_bytes(frame(TEXT, b"early"))
    assert talk.protocol.refuse(400, "wait").startswith(b"HTTP/1.1 400 ")


def test_deflate_is_off_unless_it_is_wanted() -> None:
    """permessage-deflate costs memory for every connection: without `Limits.deflate` it is declined; what can't be understood is, too."""
    offer = with_fields(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    assert b"deflate" not in Talk(offer).accept()
    head = Talk(offer, deflate=12).accept()
    assert b"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12" in head
    assert b"deflate" not in Talk(with_fields(b"Sec-WebSocket-Extensions: permessage-deflate; foo=1, ,;"), deflate=12).accept()


@pytest.mark.parametrize("window", [8, 16, -1])
def test_a_window_that_there_is_not_is_refused_at_once(window: int) -> None:
    """Not when the first client offers compression."""
    with pytest.raises(ValueError, match="9 to 15"):
        Limits(deflate=window)


# Messages, §5 and §8.

MESSAGES = {
    "text": (frame(TEXT, "héllo".encode()), "héllo"),
    "bytes": (frame(BINARY, b"\xff\x00"), b"\xff\x00"),
    "empty": (frame(TEXT), ""),
    "fragments, and a ping between": (
        frame(TEXT, "h\u00e9".encode()[:2], fin=False) + frame(PING, b"?") + frame(CONTINUATION, "\u00e9".encode()[1:]),
        "h\u00e9",
    ),
    "bytes in fragments": (frame(BINARY, b"a", fin=False) + frame(CONTINUATION, b"b", fin=False) + frame(CONTINUATION, b"c"), b"abc"),
    "a long one": (frame(BINARY, bytes(70_000)), bytes(70_000)),
}


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize(("data", "message"), MESSAGES.values(), ids=MESSAGES)
def test_a_message_comes_whole(data: bytes, message: str | bytes, step: int) -> None:
    """However its bytes and its frames arrive, a message is one, and of its kind; pings are answered at once."""
    talk = opened()
    if len(data) > 70_000 and step < 100:
        step *= 1000
    for start in range(0, len(data), step):
        assert talk.session.take() is None
        talk.arrived(data[start : start + step])
    assert talk.session.take() == {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}
    assert talk.session.take() is None
    assert talk.answers() == ([(PONG, b"?")] if b"?" in data else [])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"text": "é"}, (TEXT, "é".encode())),
        ({"bytes": b"\xff", "text": None}, (BINARY, b"\xff")),
        ({"bytes": bytearray(300)}, (BINARY, bytes(300))),
        ({"text": "x" * 70_000}, (TEXT, b"x" * 70_000)),
        ({"text": ""}, (TEXT, b"")),
    ],
)
def test_a_message_goes_out_in_one_frame(message: Any, expected: tuple[int, bytes]) -> None:
    """Text or bytes of any length, unmasked."""
    assert frames(opened().session.send({"type": "websocket.send", **message})) == [expected]


BROKEN = {
    "unmasked": (frame(TEXT, b"a", masked=False), 1002),
    "a reserved bit": (frame(TEXT, b"a", rsv=0x40), 1002),
    "an unknown opcode": (frame(3), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"a"), 1002),
    "a ping in fragments": (frame(PING, fin=False), 1002),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "a code that nobody may send": (goodbye(1005), 1002),
    "no UTF-8": (frame(TEXT, b"\xff"), 1007),
    "no UTF-8 in fragments": (frame(TEXT, b"\xe9", fin=False) + frame(CONTINUATION, b"a"), 1007),
    "a reason that is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "too long": (frame(BINARY, bytes(1001)), 1009),
    "too long in fragments": (frame(BINARY, bytes(600), fin=False) + frame(CONTINUATION, bytes(600)), 1009),
}


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
def test_who_breaks_a_rule_has_vanished(data: bytes, code: int) -> None:
    """The client is told which code, and counts as gone: what it said before is dropped; the app sees 1006, and why (RFC 6455 §7.1.7)."""
    talk = opened(message=1000)
    talk.arrived(frame(TEXT, b"before") + data)
    ((opcode, payload),) = talk.answers()
    assert opcode == CLOSE
    assert struct.unpack_from("!H", payload)[0] == code
    assert talk.told == ["gone"]
    assert talk.session.over
    message = talk.session.take()
    assert message is not None
    assert (message["type"], message["code"]) == ("websocket.disconnect", 1006)
    assert message["reason"].startswith(f"{code}: ")
    assert talk.session.why_gone.endswith(f" ({code})")


def test_who_is_given_up_hears_1011_and_the_app_why() -> None:
    """There is no goodbye of the client's: to the app it is 1006, whose reason has the code that was sent."""
    talk = opened()
    assert frames(talk.session.give_up("silent")) == [(CLOSE, struct.pack("!H", 1011) + b"silent")]
    assert talk.session.leave("silent")
    assert talk.session.take() == {"type": "websocket.disconnect", "code": 1006, "reason": "1011: silent"}


def test_a_bomb_is_stopped_by_its_size_when_inflated() -> None:
    """A small frame that inflates to more than a message may have is 1009, and is not inflated further."""
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    bomb = packer.compress(bytes(8 * 1024 * 1024)) + packer.flush(zlib.Z_SYNC_FLUSH)
    talk = opened(with_fields(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), deflate=12, message=1024 * 1024)
    talk.arrived(frame(BINARY, bomb[:-4], rsv=0x40))
    assert struct.unpack_from("!H", talk.answers()[0][1])[0] == 1009


# What the client says and does, and when.


def test_the_tables_are_whole() -> None:
    """Each phase has its row in both tables; an exchange can only be left where it isn't over."""
    assert set(TRANSITIONS) == set(ARRIVALS) == set(Phase)
    assert {phase for phase in Phase if not ARRIVALS[phase]} == {Phase.ENDING, Phase.DONE, Phase.GONE}
    assert {step for row in TRANSITIONS.values() for step in row} == set(Step)


def denial(*, more: bool) -> list[dict[str, Any]]:
    start = {"type": "websocket.http.response.start", "status": 451, "headers": [(b"content-length", b"2")]}
    return [start, {"type": "websocket.http.response.body", "body": b"n" if more else b"no", "more_body": more}]


REACHED: dict[Phase, list[Any]] = {
    Phase.CONNECTING: [],
    Phase.DENYING: denial(more=True)[:1],
    Phase.DENIED: denial(more=True),
    Phase.OPEN: [ACCEPTED],
    Phase.ENDING: [ACCEPTED, frame(TEXT, b"a") + goodbye(1000)],
    Phase.CLOSING: [ACCEPTED, CLOSED],
    Phase.DONE: [CLOSED],
    Phase.GONE: [ACCEPTED, goodbye(1000)],
}


def reached(phase: Phase) -> Talk:
    """A session that has come so far, with a subscriber that only wants to know of the end."""
    talk = Talk()
    talk.session.take()
    talk.subscribe(goodbyes=False)
    for step in REACHED[phase]:
        if isinstance(step, bytes):
            talk.arrived(step)
        else:
            talk.session.send(step)
    assert talk.session.phase is phase
    return talk


@pytest.mark.parametrize("phase", list(Phase), ids=lambda phase: phase.name)
def test_a_client_can_vanish_in_every_phase(phase: Phase) -> None:
    """It is told once in every phase that isn't over, and in none that is; `receive()` says so every time from then on."""
    talk = reached(phase)
    over = phase in (Phase.ENDING, Phase.DONE, Phase.CLOSING, Phase.GONE)
    told_before = list(talk.told)
    assert talk.session.leave("RST") is not over
    assert not talk.session.leave("again")
    assert talk.told == (told_before if over else ["gone"])
    assert talk.session.phase is {Phase.DONE: phase, Phase.CLOSING: Phase.DONE, Phase.ENDING: phase}.get(phase, Phase.GONE)
    if phase is Phase.ENDING:
        assert talk.session.take() == {"type": "websocket.receive", "text": "a"}
    for _ in range(2):
        message = talk.session.take()
        assert message is not None
        assert message["type"] == "websocket.disconnect"
    assert repr(talk.session) == f"<Session 'GET /chat?room=1 HTTP/1.1' {talk.session.phase.name}>"


@pytest.mark.parametrize("kind", ["accept", "send", "close", "http.response.start", "http.response.body", "nonsense"])
@pytest.mark.parametrize("phase", list(Phase), ids=lambda phase: phase.name)
def test_what_an_app_may_send_stands_in_the_table(phase: Phase, kind: str) -> None:
    """Every other message is the app's fault, and nothing of it is on the wire; to a client that has left nothing is sent."""
    talk = reached(phase)
    message = {"type": f"websocket.{kind}", "text": "a", "status": 403, "headers": []}
    step = {"accept": Step.ACCEPT, "send": Step.SEND, "close": Step.CLOSE, "http.response.start": Step.DENIAL}.get(kind)
    if kind == "http.response.body":
        step = Step.LAST_BODY
        message["body"] = b"no"[1 if phase is Phase.DENIED else 0 :]
    if talk.session.gone:
        assert talk.session.send(message) == b""
    elif step in TRANSITIONS[phase]:
        talk.session.send({key: value for key, value in message.items() if kind != "accept" or key == "type"})
        assert talk.session.phase is TRANSITIONS[phase][step]
    else:
        with pytest.raises(AppError):
            talk.session.send(message)
        assert talk.session.phase is phase


@pytest.mark.parametrize(
    ("before", "busy"),
    [
        ("nothing", False),
        ("waits in receive", False),
        ("has pushed", False),
        ("a message untaken", True),
        ("a message in hand", True),
        ("answered", False),
        ("is being answered", True),
        ("is pushing", False),
        ("came back for more", False),
        ("came back and answered an older one", False),
    ],
)
def test_a_goodbye_ends_it_at_once_unless_something_is_in_hand(before: str, busy: bool) -> None:
    """In hand is what was taken, neither answered nor come back from; until then what came before a goodbye isn't lost."""
    talk = opened()
    session = talk.session
    if before == "waits in receive":
        assert session.take() is None
    if before in ("has pushed", "is pushing"):
        session.send({"type": "websocket.send", "text": "news"})
    if "message" in before or "came" in before or "answered" in before:
        talk.arrived(frame(TEXT, b"save"))
        if before != "a message untaken":
            assert session.take() is not None
    if before.startswith("came back"):
        assert session.take() is None
    if "answered" in before:
        session.send({"type": "websocket.send", "text": "saved"})
    session.sending = before.startswith("is ")
    talk.arrived(goodbye(1001, "bye"))
    assert talk.answers() == [(CLOSE, struct.pack("!H", 1001) + b"bye")]
    assert talk.told == ["goodbye, busy" if busy else "goodbye"]
    assert session.phase is (Phase.ENDING if busy else Phase.GONE)
    assert session.over
    assert session.send({"type": "websocket.send", "text": "too late"}) == b""
    if before == "a message untaken":
        assert session.take() == {"type": "websocket.receive", "text": "save"}
    for _ in range(2):
        assert session.take() == {"type": "websocket.disconnect", "code": 1001, "reason": "bye"}
    assert (session.status, session.close_code, session.why_gone) == (101, 1001, "the client closed (1001)")


def test_a_goodbye_without_a_code_is_1005() -> None:
    """As browsers say it (RFC 6455 §7.1.5). In one read with a message, that is delivered first."""
    talk = opened()
    talk.arrived(frame(TEXT, b"save") + goodbye())
    assert talk.told == ["goodbye, busy"]
    assert [talk.session.take() for _ in range(2)] == [
        {"type": "websocket.receive", "text": "save"},
        {"type": "websocket.disconnect", "code": 1005, "reason": ""},
    ]
    assert talk.answers() == [(CLOSE, b"")]


def test_who_subscribes_late_is_told_at_once() -> None:
    """After a goodbye, after a disappearance, and not after a close of the app's own."""
    for phase, expected in [(Phase.ENDING, "goodbye, busy"), (Phase.GONE, "goodbye"), (Phase.CLOSING, None), (Phase.DONE, None)]:
        talk = reached(phase)
        talk.told.clear()
        talk.subscribe()
        assert talk.told == ([expected] if expected else [])
    talk = Talk()
    talk.session.leave("RST")
    talk.subscribe()
    assert talk.told == ["gone"]


def test_a_subscription_can_be_taken_back_and_a_fault_of_one_does_not_silence_the_others() -> None:
    """The undo holds for both kinds of leaving; who raises, against the contract, is remembered."""
    talk = opened()

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    undo = talk.session.subscribe(fail, fail)
    talk.session.subscribe(fail, fail)
    undo()
    talk.subscribe()
    talk.arrived(goodbye())
    assert talk.told == ["goodbye", "goodbye"]
    assert len(talk.session.faults) == 1


# How it ends.


@pytest.mark.parametrize(
    ("answer", "phase"), [(goodbye(1000), Phase.DONE), (frame(TEXT, b"\xff"), Phase.DONE), (frame(TEXT, b"late"), Phase.CLOSING)]
)
def test_the_apps_goodbye_is_final(answer: bytes, phase: Phase) -> None:
    """Its close frame completes it: nobody is told, later messages are dropped, and the socket waits for the client's answer."""
    talk = opened()
    talk.arrived(frame(TEXT, b"untaken"))
    assert frames(talk.session.send({**CLOSED, "code": 3001, "reason": "enough"})) == [(CLOSE, struct.pack("!H", 3001) + b"enough")]
    assert talk.session.complete
    assert talk.protocol.after_response() is Next.DRAIN
    talk.arrived(answer)
    assert talk.session.phase is phase
    assert talk.protocol.after_response() is (Next.LINGER if phase is Phase.DONE else Next.DRAIN)
    assert talk.session.take() == {"type": "websocket.disconnect", "code": 3001, "reason": "enough"}
    assert (talk.told, talk.session.gone, talk.session.close_code) == ([], False, 3001)


def test_an_app_that_ends_says_goodbye() -> None:
    """Once it is open, to return is 1000 and to raise is 1011; before, both are a 500, and to return is an app's fault."""
    for returns, code in [(True, 1000), (False, 1011)]:
        talk = opened()
        if returns:
            assert talk.session.ends()
        (close,) = frames(talk.session.fail() or b"")
        assert struct.unpack_from("!H", close[1])[0] == code
    for phase in (Phase.CONNECTING, Phase.DENYING):
        talk = reached(phase)
        assert not talk.session.ends()
        assert (talk.session.fail() or b"").startswith(b"HTTP/1.1 500 ")
        assert talk.protocol.after_response() is Next.LINGER
    assert reached(Phase.DENIED).session.fail() is None


def test_to_close_before_accepting_is_a_403_and_a_denial_is_the_apps_own_response() -> None:
    """ASGI WebSocket spec, Close and Denial Response. The connection ends with both."""
    talk = Talk()
    answer = talk.session.send(CLOSED)
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"Connection: close\r\n" in answer
    talk = Talk()
    held, answer = (talk.session.send(message) for message in denial(more=False))
    assert held == b""
    assert answer.startswith(b"HTTP/1.1 451 ")
    assert answer.endswith(b"Connection: close\r\n\r\nno")
    assert (talk.session.status, talk.session.close_code) == (451, 0)


FAULTS = {
    "nothing": {"type": "websocket.send"},
    "both": {"type": "websocket.send", "text": "a", "bytes": b"a"},
    "text that is none": {"type": "websocket.send", "text": b"a"},
    "a lone surrogate": {"type": "websocket.send", "text": "\ud800"},
    "a code for nobody": {"type": "websocket.close", "code": 1006},
    "no code": {"type": "websocket.close", "code": "1000"},
    "a long reason": {"type": "websocket.close", "reason": "é" * 62},
}


@pytest.mark.parametrize("message", FAULTS.values(), ids=FAULTS)
def test_a_malformed_message_is_the_apps_fault(message: dict[str, Any]) -> None:
    """It is raised in the app, nothing of it is sent, and the conversation goes on."""
    talk = opened()
    with pytest.raises(AppError):
        talk.session.send(message)
    assert talk.session.phase is Phase.OPEN
    assert frames(talk.session.send({"type": "websocket.send", "text": "on"})) == [(TEXT, b"on")]


@pytest.mark.parametrize("accept", [{"subprotocol": "own"}, {"headers": [(b"Upgrade", b"h2c")]}, {"headers": [(b"x", b"a\r\nb")]}], ids=str)
def test_a_malformed_accept_is_the_apps_fault(accept: dict[str, Any]) -> None:
    """A subprotocol that wasn't offered would make the client fail; what makes the handshake is the server's to say."""
    talk = Talk()
    with pytest.raises(AppError):
        talk.session.send({**ACCEPTED, **accept})
    assert talk.session.phase is Phase.CONNECTING


def test_the_server_stops() -> None:
    """Clients are told so by 1012, as a goodbye of theirs; who has not been accepted gets a 503."""
    talk = opened()
    assert talk.session.shut_down() == []
    assert talk.answers() == [(CLOSE, struct.pack("!H", 1012) + b"the server stops")]
    assert talk.told == ["goodbye"]
    assert talk.session.take() == {"type": "websocket.disconnect", "code": 1012, "reason": "the server stops"}
    talk = opened()
    talk.arrived(frame(TEXT, b"save"))
    talk.session.shut_down()
    assert talk.told == ["goodbye, busy"]
    talk = reached(Phase.CONNECTING)
    talk.session.shut_down()
    assert talk.session.replies().startswith(b"HTTP/1.1 503 ")
    assert (talk.told, talk.session.status) == (["gone"], 503)


@pytest.mark.parametrize("phase", [Phase.CONNECTING, Phase.DENYING])
def test_who_is_not_accepted_yet_can_be_refused(phase: Phase) -> None:
    """Also while the head of a denial is held back: the client sees the status that the log has, and with a 503 when to come back."""
    talk = reached(phase)
    head, _, text = talk.protocol.refuse(503, "too many").partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], text) == (b"HTTP/1.1 503 Service Unavailable", b"too many\n")
    assert b"retry-after: 1" in head.lower().split(b"\r\n")
    assert talk.session.status == 503


def test_who_is_refused_in_a_conversation_is_closed_with_1012() -> None:
    """The log has the code that the client gets."""
    talk = opened()
    assert frames(talk.protocol.refuse(503, "the server stopped")) == [(CLOSE, struct.pack("!H", 1012) + b"the server stops")]
    assert talk.session.leave("the server stopped", 503)
    assert talk.session.close_code == 1012


# Backpressure.


def test_who_only_ever_sends_lets_others_run() -> None:
    """After every few messages, counted from the last time that it waited; and after each piece of a denial."""
    talk = opened()
    assert talk.session.take() is None

    def sent(times: int) -> list[bool]:
        return [bool(talk.session.send({"type": "websocket.send", "text": ""})) and talk.session.yields() for _ in range(times)]

    assert sent(10) == [False, False, False, True, False, False, False, True, False, False]
    assert talk.session.take() is None
    assert sent(4) == [False, False, False, True]
    talk = Talk()
    talk.session.take()
    talk.session.send({"type": "websocket.http.response.start", "status": 403})
    assert talk.session.yields()


def test_what_is_untaken_counts_and_what_is_incomplete_does_not() -> None:
    """Reading may pause for whole messages, by their bytes or their number, and for answers that wait; never in the middle of a message."""
    talk = opened(look_ahead=1000, messages=3)
    talk.arrived(frame(BINARY, bytes(5000))[:4000])
    assert talk.protocol.look_ahead == 0
    talk.arrived(frame(BINARY, bytes(5000))[4000:])
    assert talk.protocol.look_ahead == 5000
    talk.session.take()
    assert talk.protocol.look_ahead == 0
    for expected in (0, 0, 1000, 1000):
        talk.arrived(frame(TEXT))
        assert talk.protocol.look_ahead == expected
    talk = opened()
    assert talk.session.take() is None
    for expected in (0, 10, 20):  # somebody waits for the first
        talk.arrived(frame(TEXT, b"x" * 10))
        assert talk.protocol.look_ahead == expected
    talk.session.take()
    assert talk.protocol.look_ahead == 20
    talk = opened()
    talk.arrived(frame(PING, b"x" * 98))
    assert talk.protocol.look_ahead == 100
    assert talk.answers() == [(PONG, b"x" * 98)]
    assert talk.protocol.look_ahead == 0


def test_a_conversation_leaves_nothing_for_the_collector() -> None:
    """What it held is free when it is over, and not when somebody collects garbage, which is rare."""
    frames = Frames(100_000, "", 0)
    frames.receive(frame(BINARY, bytes(50_000), fin=False)[:40_000])
    parser = weakref.ref(frames._parser)
    gc.disable()
    try:
        del frames
        assert parser() is None
    finally:
        gc.enable()
