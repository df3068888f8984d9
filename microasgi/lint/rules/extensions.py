"""The rules of extensions: what a server may offer beside, and an app use of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from microasgi.lint.rule import Level, Moment, Side, Spec, rule, shown
from microasgi.lint.shapes import EXTENSIONS, MESSAGES, faults, field_faults
from microasgi.lint.talks import Said, Talk


@rule("E-1", Spec.MAIN, "Extensions", Level.ERROR, Side.SERVER, Moment.CALLED)
def extensions_are_a_dict(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """`extensions`, if it is there, is a dict, whose keys are str."""
    offered = scope.get("extensions", {})
    if not isinstance(offered, dict):
        yield f"extensions is {shown(offered)}, not a dict"
    else:
        yield from (f"an extension is called {shown(name)}, not by a str" for name in offered if not isinstance(name, str))


@rule("E-2", Spec.MAIN, "Extensions", Level.WARN, Side.SERVER, Moment.CALLED)
def an_extension_is_a_dict(talk: Talk, _: object) -> Iterator[str]:
    """What is offered under an extension's name is a dict, which may be empty."""
    for name, value in talk.extensions.items():
        if not isinstance(value, dict):
            yield f"the extension {shown(name)} is {shown(value)}, not a dict"


@rule("E-3", Spec.MAIN, "Extensions", Level.ERROR, Side.APP, Moment.SENDING, *EXTENSIONS)
def only_what_is_offered_is_used(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """An extension's message is sent only to a server that offers this extension."""
    name = EXTENSIONS[message["type"]]
    if name not in talk.extensions:
        yield f"{shown(message['type'])}, but the server doesn't offer {shown(name)}"


@rule("E-4", Spec.EXTENSIONS, "each extension's Keys", Level.ERROR, Side.APP, Moment.SENDING, *EXTENSIONS)
def its_message_has_its_keys(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """An extension's message has the entries that it needs, of the right types."""
    yield from faults(MESSAGES[message["type"]], message)
    yield from field_faults(message)


@rule("E-5", Spec.EXTENSIONS, "HTTP Trailers", Level.ERROR, Side.APP, Moment.SENDING, "http.response.trailers")
def trailers_are_announced(talk: Talk, _: object) -> Iterator[str]:
    """Trailers are announced by `trailers: True` in the response's start, and come behind its last body message."""
    if "http.response.trailers" in talk.extensions and talk.said not in (Said.TRAILERS, Said.DONE):
        yield f"trailers, but the app has said {talk.said.value}"


@rule("E-6", Spec.EXTENSIONS, "HTTP Trailers", Level.WARN, Side.APP, Moment.SENDING, "http.response.start")
def trailers_are_possible(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """Trailers are announced only to a server that offers them: another one may wait for them, or not."""
    if message.get("trailers", False) is True and "http.response.trailers" not in talk.extensions:
        yield "trailers are announced, but the server doesn't offer 'http.response.trailers'"


@rule("E-7", Spec.EXTENSIONS, "Path Send", Level.ERROR, Side.APP, Moment.SENDING, "http.response.pathsend")
def a_path_is_the_whole_body(talk: Talk, _: object) -> Iterator[str]:
    """A file that is sent by its path is the whole body of a response: nothing of it came before."""
    if talk.said is Said.BODY:
        yield "a path, behind a part of the body"


@rule("E-8", Spec.EXTENSIONS, "Debug", Level.ERROR, Side.APP, Moment.SENDING, "http.response.debug")
def debugging_comes_first(talk: Talk, _: object) -> Iterator[str]:
    """What is for debugging comes before the response's start."""
    if talk.said is not Said.NOTHING:
        yield f"'http.response.debug', but the app has said {talk.said.value}"


@rule("E-9", Spec.EXTENSIONS, "Websocket Denial Response", Level.ERROR, Side.APP, Moment.SENDING, "websocket.http.response.start")
def a_denial_is_an_answer(talk: Talk, _: object) -> Iterator[str]:
    """A response instead of a WebSocket begins before anything else is answered."""
    if talk.said is not Said.NOTHING:
        yield f"a response, but the app has said {talk.said.value}"


@rule("E-10", Spec.EXTENSIONS, "Websocket Denial Response", Level.ERROR, Side.APP, Moment.SENDING, "websocket.http.response.body")
def a_denials_body_has_a_start(talk: Talk, _: object) -> Iterator[str]:
    """The body of a response instead of a WebSocket comes behind its start."""
    if talk.said in (Said.NOTHING, Said.ACCEPTED):
        yield f"a response's body, but the app has said {talk.said.value}"


@rule("E-11", Spec.EXTENSIONS, "Websocket Denial Response", Level.ERROR, Side.APP, Moment.SENDING, "websocket.accept", "websocket.send")
def a_denial_is_the_end(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """Behind the beginning of a response instead of a WebSocket there is no WebSocket any more."""
    if talk.said in (Said.HEAD, Said.BODY):
        yield f"{shown(message['type'])}, but the app has said {talk.said.value}"
