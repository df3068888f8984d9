"""Two parsers that know nothing of each other say the same: wsproto's client talks to our sessions, in any pieces."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from microasgi_server import Limits
from microasgi_server.websocket.protocol import UpgradingProtocol
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message, Ping, Pong, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

MESSAGES = st.lists(st.one_of(st.text(max_size=300), st.binary(max_size=300)), max_size=6)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, again and again."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        size = sizes[len(found) % len(sizes)]
        found.append(data[at : at + size])
        at += size
    return found


def heard(client: WSConnection) -> list[Any]:
    """What has come whole."""
    found: list[Any] = []
    parts: Any = None
    for event in client.events():
        if isinstance(event, Message):
            parts = event.data if parts is None else parts + event.data
            if event.message_finished:
                found.append(parts if isinstance(parts, str) else bytes(parts))
                parts = None
        else:
            found.append(event)
    return found


@pytest.mark.parametrize("deflate", [0, 9, 15])
@given(messages=MESSAGES, sizes=st.lists(st.integers(1, 200), min_size=1, max_size=5), cut=st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_wsproto_and_we_understand_each_other(deflate: int, messages: list[Any], sizes: list[int], cut: int) -> None:
    """Whatever it says, in fragments, compressed or not, and in whatever reads: it arrives whole, and so do our pong and the goodbye."""
    client = WSConnection(ConnectionType.CLIENT)
    offer = [PerMessageDeflate()] if deflate else []
    protocol = UpgradingProtocol(list, Limits(deflate=deflate))
    assert protocol.receive_bytes(client.send(Request(host="test", target="/", extensions=offer)))
    session = protocol.exchange
    assert session.take() == {"type": "websocket.connect"}
    client.receive_data(session.send({"type": "websocket.accept"}))
    (accepted,) = heard(client)
    assert isinstance(accepted, AcceptConnection)
    assert bool(accepted.extensions) is bool(deflate)
    data = client.send(Ping(b"?"))
    for content in messages:
        kind: Any = TextMessage if isinstance(content, str) else BytesMessage
        data += client.send(kind(content[:cut], message_finished=False)) + client.send(kind(content[cut:]))
    for piece in pieces(data + client.send(CloseConnection(3000, "enough")), sizes):
        assert not protocol.receive_bytes(piece)
    taken = [session.take() for _ in range(len(messages) + 1)]
    assert [message.get("text", message.get("bytes")) for message in taken[:-1]] == messages
    assert taken[-1] == {"type": "websocket.disconnect", "code": 3000, "reason": "enough"}
    client.receive_data(session.replies())
    assert heard(client) == [Pong(payload=b"?"), CloseConnection(code=3000, reason="enough")]


@given(answers=MESSAGES, sizes=st.lists(st.integers(1, 200), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_wsproto_understands_what_we_say(answers: list[Any], sizes: list[int]) -> None:
    """Text and bytes of any length, and our goodbye."""
    client = WSConnection(ConnectionType.CLIENT)
    protocol = UpgradingProtocol(list, Limits())
    assert protocol.receive_bytes(client.send(Request(host="test", target="/")))
    session = protocol.exchange
    data = session.send({"type": "websocket.accept"})
    for content in answers:
        data += session.send({"type": "websocket.send", "text" if isinstance(content, str) else "bytes": content})
    data += session.send({"type": "websocket.close", "code": 3001})
    found: list[Any] = []
    for piece in pieces(data, sizes):
        client.receive_data(piece)
        found += list(client.events())
    joined: list[Any] = []
    whole = True
    for event in found[1:-1]:
        joined = [*joined, event.data] if whole else [*joined[:-1], joined[-1] + event.data]
        whole = event.message_finished
    assert [content if isinstance(content, str) else bytes(content) for content in joined] == answers
    assert found[-1] == CloseConnection(code=3001, reason="")
