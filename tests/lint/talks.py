"""Conversations between a server and an app, as scripts: what goes in, what comes out, and what `Lint` in between has to say."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pytest

from microasgi.lint import Finding, Level, Lint

Message: TypeAlias = Any
Step: TypeAlias = tuple[str, Message] | tuple[str, Message, BaseException]
"""("in", message): the app calls receive(), and gets it. ("out", message): it sends it. ("out", message, error): and send() raises."""

HTTP: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.5"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/caf\xe9",
    "raw_path": b"/caf%C3%A9",
    "query_string": b"a=1",
    "root_path": "",
    "headers": [(b"host", b"test")],
    "client": ("127.0.0.1", 54321),
    "server": ("127.0.0.1", 80),
    "extensions": {},
}
SOCKET: dict[str, Any] = {**{key: value for key, value in HTTP.items() if key != "method"}, "type": "websocket", "scheme": "ws"}
SOCKET |= {"subprotocols": ["chat"], "extensions": {"websocket.http.response": {}}}
LIFESPAN: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}


def into(kind: str, **more: Any) -> Step:
    return "in", {"type": kind, **more}


def out(kind: str, **more: Any) -> Step:
    return "out", {"type": kind, **more}


REQUEST = into("http.request", body=b"", more_body=False)
PIECE = into("http.request", body=b"piece", more_body=True)
LEFT = into("http.disconnect")
START = out("http.response.start", status=200, headers=[(b"content-type", b"text/plain")])
BODY = out("http.response.body", body=b"hello", more_body=False)
PART = out("http.response.body", body=b"hel", more_body=True)
PLAIN = (REQUEST, START, BODY)

CONNECT = into("websocket.connect")
ACCEPT = out("websocket.accept")
HEARD = into("websocket.receive", text="hello")
SAID = out("websocket.send", bytes=b"hello")
GOODBYE = into("websocket.disconnect", code=1005)
CLOSE = out("websocket.close")
CHAT = (CONNECT, ACCEPT, HEARD, SAID, GOODBYE)

STARTUP, STARTED = into("lifespan.startup"), out("lifespan.startup.complete")
SHUTDOWN, STOPPED = into("lifespan.shutdown"), out("lifespan.shutdown.complete")
LIFE = (STARTUP, STARTED, SHUTDOWN, STOPPED)


async def played(lint: Lint, script: "Script", scope: Any, steps: Sequence[Step]) -> None:
    """Go through one conversation. Behind its last step the server has nothing to say, and the app returns."""
    incoming = [step[1] for step in steps if step[0] == "in"]
    errors = {index: step[2] for index, step in enumerate([step for step in steps if step[0] == "out"]) if len(step) == 3}
    sent = -1

    async def receive() -> Message:
        if not incoming:
            raise EOFError
        return incoming.pop(0)

    async def send(_: Message) -> None:
        nonlocal sent
        sent += 1
        if sent in errors:
            raise errors[sent]

    script.steps = steps
    await lint(scope, receive, send)


class Script:
    """An app that goes by a script."""

    steps: Sequence[Step] = ()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for step in self.steps:
            if step[0] == "in":
                await receive()
            elif len(step) == 3:
                with pytest.raises(type(step[2])) as raised:
                    await send(step[1])
                assert raised.value is step[2]
            else:
                await send(step[1])


async def findings(scope: Any, steps: Sequence[Step], level: Level = Level.NOTE) -> list[Finding]:
    """What is found in a conversation."""
    script = Script()
    lint = Lint(script, level=level)
    await played(lint, script, scope, steps)
    return lint.findings


def without(scope: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in scope.items() if name not in names}


def bare(scope: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The scope with only what it must have, and with every optional entry alone left out."""
    needed = {"http": ("http_version", "method", "query_string"), "websocket": (), "lifespan": ()}[scope["type"]]
    optional = [name for name in scope if name not in ("type", "asgi", "path", "headers", *needed)]
    yield without(scope, *optional)
    for name in optional:
        yield without(scope, name)
