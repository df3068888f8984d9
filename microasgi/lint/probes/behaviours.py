"""What the probing app does with requests, by name. Some of it is wrong, on purpose, to see what the server makes of it."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio

from microasgi.asgi import Message, Receive, Scope, Send

SOON = 1.0
"""Seconds within which a server that has an answer gives it."""

WHILE = 0.2
"""Seconds for which something is looked at that should not happen."""

Behaviour: TypeAlias = Callable[[Scope, Receive, Send, "Noting"], Awaitable[None]]
Noting: TypeAlias = Callable[..., None]

BEHAVIOURS: dict[str, Behaviour] = {}

INVALID: dict[str, Message] = {
    "an unknown type": {"type": "http.response.unheard-of"},
    "a body of str": {"type": "http.response.body", "body": "text"},
    "a start without status": {"type": "http.response.start"},
    "header fields of str": {"type": "http.response.start", "status": 200, "headers": [("a", "b")]},
    "a second start": {"type": "http.response.start", "status": 200},
}
"""Messages that no server should take, behind a start where they are bodies or second."""


def behaviour(function: Behaviour) -> Behaviour:
    """What a request can ask for by the function's name."""
    BEHAVIOURS[function.__name__] = function
    return function


async def text(send: Send, status: int = 200, body: bytes = b"well") -> None:
    """A whole response."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def heard(receive: Receive) -> str:
    """The type of the next message, if there is one soon."""
    with anyio.move_on_after(SOON):
        return str((await receive())["type"])
    return "nothing"


async def tried(send: Send, message: Message) -> str:
    """What comes of sending it."""
    try:
        await send(message)
    except OSError:
        return "OSError"
    except Exception as error:
        return type(error).__name__
    return "nothing"


@behaviour
async def answer(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Read the request, say what it was, and answer."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    raw = scope.get("raw_path")
    facts = {name: scope.get(name) for name in ("method", "path", "http_version", "scheme")}
    extensions = [str(name) for name in scope.get("extensions") or ()]
    versions = {"query": scope["query_string"].decode("latin-1"), "raw_path": raw.decode("latin-1") if raw is not None else None}
    has_state = "probe" in scope.get("state", {})
    note("request", **facts, **versions, fields=fields, body=body.decode("latin-1"), extensions=extensions, state=has_state)
    await text(send)


@behaviour
async def ask_on(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Call `receive()` behind the request's end, and behind the response's."""
    while (await receive()).get("more_body", False):
        pass
    with anyio.move_on_after(WHILE):
        note("early", got=(await receive())["type"])
    await text(send)
    note("behind", got=[await heard(receive), await heard(receive)])


@behaviour
async def wait(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Wait for the client to leave, and go on as if it were there."""
    note("began")
    while (await receive())["type"] != "http.disconnect":
        pass
    note("left", again=await heard(receive))
    came = []
    try:
        came.append(await tried(send, {"type": "http.response.start", "status": 200, "headers": []}))
        came.append(await tried(send, {"type": "http.response.body", "body": b"late", "more_body": True}))
    except anyio.get_cancelled_exc_class():
        came.append("a cancellation")
        raise
    finally:
        note("sent", came=came, version=scope["asgi"].get("spec_version", "2.0"))


@behaviour
async def let_it_out(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Wait for the client to leave, and let what `send()` raises pass."""
    note("began")
    while (await receive())["type"] != "http.disconnect":
        pass
    note("left")
    await text(send)
    note("silent")


@behaviour
async def fail_first(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Raise before anything is sent."""
    raise ValueError("on purpose, before the response")


@behaviour
async def fail_between(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Raise in the middle of a body."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ValueError("on purpose, in the middle of the response")


@behaviour
async def send_invalid(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Send what is no message."""
    what = next(value.decode() for name, value in scope["headers"] if name.lower() == b"x-argument")
    if what in ("a body of str", "a second start"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
    note("came", of=await tried(send, INVALID[what]))


@behaviour
async def send_extra(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Send messages that have more in them than today's."""
    start = await tried(send, {"type": "http.response.start", "status": 200, "headers": [], "colour": "blue"})
    note("came", of=[start, await tried(send, {"type": "http.response.body", "body": b"well", "colour": "blue"})])


@behaviour
async def send_behind(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Send something behind the end."""
    await text(send)
    note("came", of=await tried(send, {"type": "http.response.body", "body": b"more"}))


@behaviour
async def frame(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Say how the body is framed, which is not for an app to say."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"transfer-encoding", b"chunked")]})
    await send({"type": "http.response.body", "body": b"well"})


@behaviour
async def keep_order(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Send header fields whose order and number matter."""
    fields = [(b"set-cookie", b"a=1"), (b"x-one", b"1"), (b"set-cookie", b"b=2"), (b"x-one", b"2"), (b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"well"})


@behaviour
async def stream(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Send a piece, and wait until the client has left."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"piece", "more_body": True})
    with anyio.move_on_after(2 * SOON):
        while (await receive())["type"] != "http.disconnect":
            pass


@behaviour
async def trail(scope: Scope, receive: Receive, send: Send, note: Noting) -> None:
    """Send trailers, if they are offered."""
    note("offered", is_so="http.response.trailers" in (scope.get("extensions") or {}))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"trailer", b"x-end")], "trailers": True})
    await send({"type": "http.response.body", "body": b"well"})
    if "http.response.trailers" in (scope.get("extensions") or {}):
        await send({"type": "http.response.trailers", "headers": [(b"x-end", b"here")]})
