"""The rules of ASGI itself: scopes, messages, and what both sides may do with them."""

from collections.abc import Iterator, Mapping
from typing import Any

from microasgi.lint.rule import BOTH_WAYS, MALFORMED, Level, Moment, Side, Spec, rule, shown
from microasgi.lint.shapes import EXTENSIONS, MESSAGES, RECEIVED, foreign
from microasgi.lint.talks import Talk

PROTOCOLS = ("http", "websocket", "lifespan")

CORE = tuple(kind for kind in MESSAGES if kind not in EXTENSIONS)


@rule("A-1", Spec.MAIN, "Applications", Level.ERROR, Side.SERVER, Moment.CALLED, MALFORMED)
def scope_is_a_dict(_: Talk, scope: Any) -> Iterator[str]:
    """The scope is a dict, and says in `type`, a str, which protocol it is about."""
    if isinstance(scope, dict):
        yield f"the scope's type is {shown(scope.get('type'))}, not a str"
    else:
        yield f"the scope is {shown(scope)}, not a dict"


@rule("A-2", Spec.MAIN, "Applications", Level.ERROR, Side.SERVER, Moment.CALLED)
def versions_are_told(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """There is a dict `asgi`. Its `version` and `spec_version` may be missing; if there, they are str, and the second one like "2.4"."""
    asgi = scope.get("asgi")
    if not isinstance(asgi, dict):
        yield f"asgi is {shown(asgi)}, not a dict"
        return
    if not isinstance(asgi.get("version", ""), str):
        yield f"asgi['version'] is {shown(asgi['version'])}, not a str"
    spec = asgi.get("spec_version", "2.0")
    if not (isinstance(spec, str) and all(part.isdecimal() for part in spec.split("."))):
        yield f"asgi['spec_version'] is {shown(spec)}, not a version"


@rule("A-3", Spec.MAIN, "Events", Level.ERROR, Side.SENDER, BOTH_WAYS, MALFORMED)
def message_has_a_type(_: Talk, message: Any) -> Iterator[str]:
    """What goes through `receive()` and `send()` is a dict with a `type`, a str."""
    if isinstance(message, dict):
        yield f"the message's type is {shown(message.get('type'))}, not a str"
    else:
        yield f"the message is {shown(message)}, not a dict"


@rule("A-4", Spec.MAIN, "Events", Level.ERROR, Side.SENDER, BOTH_WAYS, *CORE)
def message_could_travel(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """A message has only what could go over a network: bytes, str, int of 64 bits, finite float, bool, None, lists and dicts of these."""
    known = {key.name for key in MESSAGES[message["type"]]}  # the rules for these say more
    yield from foreign({key: value for key, value in message.items() if key not in known})


@rule("A-5", Spec.MAIN, "Protocol Specifications", Level.WARN, Side.SENDER, BOTH_WAYS)
def message_is_of_the_protocol(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """The type of a message begins with the scope's: an HTTP request has no `websocket.send`."""
    kind = message["type"]
    if talk.kind in PROTOCOLS and not kind.startswith(f"{talk.kind}.") and not _is_extended(talk, kind):
        yield f"a message {shown(kind)} in a scope of type {shown(talk.kind)}"


@rule("A-6", Spec.MAIN, "Error Handling", Level.ERROR, Side.SENDER, BOTH_WAYS)
def message_is_known(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """Each side sends only what the protocol has for it, and what an extension brings that the server offers."""
    kind = message["type"]
    ours = talk.kind in PROTOCOLS and kind.startswith(f"{talk.kind}.")
    if ours and kind not in MESSAGES and not _is_extended(talk, kind):
        yield f"nobody knows a message {shown(kind)}"


@rule("A-7", Spec.MAIN, "Events", Level.ERROR, Side.SERVER, Moment.RECEIVED)
def what_is_received_is_the_servers(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """What comes out of `receive()` is a server's message, not an app's."""
    if message["type"] in MESSAGES and message["type"] not in RECEIVED:
        yield f"{shown(message['type'])} is for an app to send"


@rule("A-8", Spec.MAIN, "Events", Level.ERROR, Side.APP, Moment.SENDING)
def what_is_sent_is_the_apps(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """What is given to `send()` is an app's message, not a server's."""
    if message["type"] in RECEIVED:
        yield f"{shown(message['type'])} is for a server to send"


@rule("A-9", Spec.MAIN, "Middleware", Level.NOTE, Side.APP, Moment.RETURNED)
def scope_is_left_as_it_was(talk: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """A middleware that changes the scope changes a copy of it: whoever is around it sees what it does. An app may do as it likes."""
    names = [name for name in {**talk.kept, **scope} if talk.kept.get(name, talk) is not scope.get(name, talk)]
    if names:
        yield f"the server's scope has other entries than before: {', '.join(map(str, names))}"


def _is_extended(talk: Talk, kind: str) -> bool:
    """Whether an extension that is offered may have brought this message. What ours and other people's bring, nobody has a list of."""
    names = [name for name in talk.extensions if name not in EXTENSIONS.values()]
    return any(kind in (name, f"{talk.kind}.{name}") or kind.startswith(f"{name}.") for name in names)
