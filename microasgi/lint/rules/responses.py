"""The rules of HTTP on the app's side: a response, and what `send()` does when nobody is there any more."""

from collections.abc import Iterator, Mapping
from typing import Any

from microasgi.lint.rule import Level, Moment, Side, Spec, rule, shown
from microasgi.lint.shapes import MESSAGES, capitals, faults, field_faults, field_names, pseudo_fields
from microasgi.lint.talks import BODIES, Heard, Said, Talk

START, BODY = "Response Start", "Response Body"

HEADS = ("http.response.start", "http.response.trailers", "http.response.push", "websocket.accept", "websocket.http.response.start")
"""The messages that have header fields."""


@rule("H-15", Spec.WWW, START, Level.ERROR, Side.APP, Moment.SENDING, "http.response.start")
def start_has_its_keys(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """The start of a response has a `status`, an int; `headers` and `trailers`, a bool, may be missing."""
    yield from faults(MESSAGES["http.response.start"], message)


@rule("H-16", Spec.WWW, BODY, Level.ERROR, Side.APP, Moment.SENDING, "http.response.body")
def body_has_its_keys(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """`body` is bytes, and neither a bytearray nor a memoryview, and `more_body` a bool; each may be missing."""
    yield from faults(MESSAGES["http.response.body"], message)


@rule("H-17", Spec.WWW, START, Level.WARN, Side.APP, Moment.SENDING, "http.response.start", "websocket.http.response.start")
def status_has_three_digits(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """The status is one that HTTP can send: of three digits, from 100 on (RFC 9110 §15)."""
    status = message.get("status")
    if isinstance(status, int) and not 100 <= status <= 999:
        yield f"status is {shown(status)}"


@rule("H-18", Spec.WWW, START, Level.ERROR, Side.APP, Moment.SENDING, "http.response.start", "websocket.accept")
def fields_are_pairs_of_bytes(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """Each header field is a pair of bytes: a name and a value."""
    yield from field_faults(message)


@rule("H-19", Spec.WWW, START, Level.ERROR, Side.APP, Moment.SENDING, *HEADS)
def field_names_are_in_small_letters(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """The names of header fields are in small letters."""
    yield from capitals(message)


@rule("H-20", Spec.WWW, START, Level.ERROR, Side.APP, Moment.SENDING, *HEADS)
def no_pseudo_fields(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """There are no pseudo headers of HTTP/2 and HTTP/3, whose names begin with a colon."""
    yield from pseudo_fields(message)


@rule("H-21", Spec.WWW, START, Level.NOTE, Side.APP, Moment.SENDING, "http.response.start")
def framing_is_the_servers(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """`Transfer-Encoding` may be among the header fields, but servers pass it over: how a body is framed is for them to say."""
    if b"transfer-encoding" in map(bytes.lower, field_names(message)):
        yield "headers has transfer-encoding"


@rule("H-22", Spec.WWW, START, Level.ERROR, Side.APP, Moment.SENDING, "http.response.start")
def a_response_starts_once(talk: Talk, _: object) -> Iterator[str]:
    """A response has one start."""
    if talk.said not in (Said.NOTHING, Said.DONE) and not talk.refusals:
        yield f"another start, but the app has said {talk.said.value}"


@rule("H-23", Spec.WWW, BODY, Level.ERROR, Side.APP, Moment.SENDING, *BODIES)
def a_body_has_a_start(talk: Talk, _: object) -> Iterator[str]:
    """A response begins with its start: a body comes behind it."""
    if talk.said is Said.NOTHING and not talk.refusals:
        yield "a body, but the response has no start yet"


@rule("H-24", Spec.WWW, BODY, Level.ERROR, Side.APP, Moment.SENDING, *BODIES)
def nothing_between_body_and_trailers(talk: Talk, _: object) -> Iterator[str]:
    """Behind the last body message of a response that has announced trailers come those."""
    if talk.said is Said.TRAILERS:
        yield f"a body, but the app has said {talk.said.value}"


@rule("H-25", Spec.WWW, BODY, Level.NOTE, Side.APP, Moment.SENDING, "http.response.start", "http.response.trailers", *BODIES)
def nothing_behind_the_end(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """What is sent behind the end of a response is passed over."""
    if talk.said is Said.DONE:
        yield f"{shown(message['type'])}, behind the end"


@rule("H-26", Spec.WWW, START, Level.ERROR, Side.APP, Moment.RETURNED, "http")
def a_response_comes_to_its_end(talk: Talk, _: object) -> Iterator[str]:
    """An app that returns has sent a response up to its last message, unless its client has left."""
    if talk.owes:
        yield f"the app has returned, and has said {talk.said.value}"


@rule("H-27", Spec.WWW, "Disconnected Client", Level.NOTE, Side.SERVER, Moment.SENT, "http.response.start", *BODIES)
def sending_to_nobody_raises(talk: Talk, _: object) -> Iterator[str]:
    """From version 2.4 on, `send()` should raise an OSError when the client has left. (It may be the server that leaves.)"""
    if talk.version >= (2, 4) and talk.told is Heard.GONE and talk.said is not Said.DONE:
        yield "send() has returned, behind 'http.disconnect'"


@rule("H-28", Spec.WWW, "Disconnected Client", Level.WARN, Side.SERVER, Moment.REFUSED, "http")
def what_is_raised_is_an_oserror(talk: Talk, error: BaseException) -> Iterator[str]:
    """From version 2.4 on, what `send()` raises when the client has left is an OSError."""
    if talk.version >= (2, 4) and talk.told is Heard.GONE and not isinstance(error, OSError):
        yield f"send() has raised {shown(error)}, behind 'http.disconnect'"


@rule("H-29", Spec.WWW, "Disconnected Client", Level.NOTE, Side.APP, Moment.SENDING)
def who_was_refused_stops(talk: Talk, _: object) -> Iterator[str]:
    """An app that `send()` has told that its client left cleans up and ends: what it sends on reaches nobody."""
    if talk.refusals:
        yield f"send() has raised {talk.refusals} times, and the app goes on sending"
