"""The rules of WebSockets, beside those that their scopes share with HTTP."""

from collections.abc import Iterator, Mapping
from typing import Any

from microasgi.lint.rule import BOTH_WAYS, Level, Moment, Side, Spec, rule, shown
from microasgi.lint.shapes import MESSAGES, faults, field_names, fields
from microasgi.lint.talks import Heard, Said, Talk

ACCEPT, CLOSE = "Accept", "Close"

NEVER_SENT = (1004, 1005, 1006, 1015)
"""Codes that stand for what happened, and that no close frame has (RFC 6455 §7.4.1)."""


@rule("W-1", Spec.WWW, "Connect", Level.ERROR, Side.SERVER, Moment.RECEIVED, "websocket.receive", "websocket.disconnect")
def connect_comes_first(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """The first message is `websocket.connect`."""
    if talk.heard is Heard.NOTHING:
        yield f"{shown(message['type'])} is the first message"


@rule("W-2", Spec.WWW, "Connect", Level.ERROR, Side.SERVER, Moment.RECEIVED, "websocket.connect")
def connect_comes_once(talk: Talk, _: object) -> Iterator[str]:
    """There is one `websocket.connect`."""
    if talk.heard is not Heard.NOTHING:
        yield "another 'websocket.connect'"


@rule("W-3", Spec.WWW, "Connect", Level.ERROR, Side.SERVER, Moment.RECEIVED, "websocket.receive")
def nothing_before_an_answer(talk: Talk, _: object) -> Iterator[str]:
    """What the client says comes when the app has accepted, not before."""
    if talk.said is Said.NOTHING and talk.heard is Heard.OPEN:
        yield "'websocket.receive', but the app has not accepted yet"


@rule("W-4", Spec.WWW, "Disconnect", Level.ERROR, Side.SERVER, Moment.RECEIVED, "websocket.receive")
def nothing_behind_a_disconnect(talk: Talk, _: object) -> Iterator[str]:
    """Nothing that the client says comes behind `websocket.disconnect`."""
    if talk.heard is Heard.GONE:
        yield "'websocket.receive', behind 'websocket.disconnect'"


@rule("W-5", Spec.WWW, "Receive, and Send", Level.ERROR, Side.SENDER, BOTH_WAYS, "websocket.receive", "websocket.send")
def either_text_or_bytes(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """A message has `text`, a str, or `bytes`; the other one is None or missing."""
    yield from faults(MESSAGES[message["type"]], message)
    told = [key for key in ("text", "bytes") if message.get(key) is not None]
    if len(told) != 1:
        yield "it has both text and bytes" if told else "it has neither text nor bytes"


@rule("W-6", Spec.WWW, "Disconnect", Level.ERROR, Side.SERVER, Moment.RECEIVED, "websocket.disconnect")
def disconnect_has_its_keys(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """`websocket.disconnect` has a `code`, an int; `reason`, a str, may be None or missing."""
    yield from faults(MESSAGES["websocket.disconnect"], message)


@rule("W-7", Spec.WWW, ACCEPT, Level.ERROR, Side.APP, Moment.SENDING, "websocket.accept")
def accept_has_its_keys(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """`subprotocol` is a str or None, and `headers` are pairs; each may be missing."""
    yield from faults(MESSAGES["websocket.accept"], message)


@rule("W-8", Spec.WWW, ACCEPT, Level.ERROR, Side.APP, Moment.SENDING, "websocket.accept")
def subprotocol_is_no_header(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """The subprotocol stands in `subprotocol`, and not in a header field `sec-websocket-protocol`."""
    if b"sec-websocket-protocol" in map(bytes.lower, field_names(message)):
        yield "headers has sec-websocket-protocol"


@rule("W-9", Spec.WWW, ACCEPT, Level.WARN, Side.APP, Moment.SENDING, "websocket.accept")
def subprotocol_was_offered(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """The subprotocol is one that the client has offered: with another one it would have to fail (RFC 6455 §4.1)."""
    chosen, offered = message.get("subprotocol"), talk.scope.get("subprotocols", ())
    if isinstance(chosen, str) and isinstance(offered, list | tuple) and chosen not in offered:
        yield f"subprotocol is {shown(chosen)}, and the client has offered {shown(list(offered))}"


@rule("W-10", Spec.WWW, "Spec Versions", Level.WARN, Side.APP, Moment.SENDING, "websocket.accept")
def headers_are_understood(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """Header fields go with an accept only from version 2.1 on."""
    if talk.version < (2, 1) and any(fields(message)):
        yield "headers, but the server says spec_version 2.0"


@rule("W-11", Spec.WWW, ACCEPT, Level.ERROR, Side.APP, Moment.SENDING, "websocket.accept")
def accepted_once(talk: Talk, _: object) -> Iterator[str]:
    """A WebSocket is accepted once."""
    if talk.said is Said.ACCEPTED:
        yield "another 'websocket.accept'"


@rule("W-12", Spec.WWW, "Connect", Level.ERROR, Side.APP, Moment.SENDING, "websocket.send")
def nothing_is_sent_before_an_accept(talk: Talk, _: object) -> Iterator[str]:
    """The first thing that the app sends is an accept, a close, or an offered response instead."""
    if talk.said is Said.NOTHING and talk.heard is not Heard.GONE:
        yield "'websocket.send', but the app has not accepted"


@rule("W-13", Spec.WWW, CLOSE, Level.NOTE, Side.APP, Moment.SENDING, "websocket.accept", "websocket.send", "websocket.close")
def nothing_is_sent_behind_a_close(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """What is sent behind a close reaches nobody."""
    if talk.said is Said.DONE:
        yield f"{shown(message['type'])}, behind the end"


@rule("W-14", Spec.WWW, CLOSE, Level.ERROR, Side.APP, Moment.SENDING, "websocket.close")
def close_has_its_keys(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """`code` is an int, and `reason` a str or None; each may be missing."""
    yield from faults(MESSAGES["websocket.close"], message)


@rule("W-15", Spec.WWW, CLOSE, Level.WARN, Side.APP, Moment.SENDING, "websocket.close")
def close_code_can_be_sent(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """The code of a close is one that a close frame may have: 1000 to 1014 less 1004 to 1006, or 3000 to 4999 (RFC 6455 §7.4)."""
    code = message.get("code", 1000)
    if talk.said is Said.ACCEPTED and isinstance(code, int) and (code in NEVER_SENT or not (1000 <= code <= 1014 or 3000 <= code <= 4999)):
        yield f"code is {shown(code)}"


@rule("W-16", Spec.WWW, "Connect", Level.ERROR, Side.APP, Moment.RETURNED, "websocket")
def a_connect_is_answered(talk: Talk, _: object) -> Iterator[str]:
    """An app that returns has accepted the WebSocket, closed it, or answered with a whole response, unless its client has left."""
    if talk.owes:
        yield f"the app has returned, and has said {talk.said.value}"
