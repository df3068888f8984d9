"""`watch`: an ASGI middleware that tells what becomes of a request's handler."""

from collections.abc import Coroutine
from functools import partial
from itertools import count
from typing import Any

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.watching.events import Redaction, Tap, Tell, told, voice
from microasgi.watching.following import Followed
from microasgi.watching.members import Members, follow_children, present
from microasgi.watching.stages import watch_stages

EXTENSION = "microasgi.tap"
"""Where a server that is tapped has the request's voice."""


def watch(app: ASGIApp, tap: Tap | None = None, redaction: Redaction | None = None) -> ASGIApp:
    """The same app, each of whose calls is followed: where it waits and what wakes it, in all its tasks.

    Its own server tells the rest (`microasgi_server.taps`): its tap gets these events, too, in order. On another server `tap` gets them,
    and the messages between the server and the app. Where there is neither, nobody is followed.

    On asyncio this puts a function of its own in front of the running loop's `create_task`, once; on trio an instrument.

    :param app: the app, with all its middleware: what is around this isn't followed
    :param tap: is called with every event, on a server that has no tap
    :param redaction: what is left out of these; secrets by default
    """
    watch_stages()
    requests = count(1)
    hides = redaction or Redaction()

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        offered = (scope.get("extensions") or {}).get(EXTENSION)
        if scope["type"] not in ("http", "websocket") or (offered is None and tap is None):
            await app(scope, receive, send)
        elif offered is not None:
            await _follow(app, offered["tell"], scope, receive, send)
        else:
            assert tap is not None
            tell = voice(tap, next(requests))
            await told(partial(_follow, app, tell), scope, receive, send, tell, hides)

    return watched


async def _follow(app: ASGIApp, tell: Tell, scope: Scope, receive: Receive, send: Send) -> None:
    """Call the app, and tell what becomes of it."""
    follow_children()
    token = present.set(None)
    call: Any = app(scope, receive, send)
    try:
        await Followed(call if isinstance(call, Coroutine) else _awaiting(call), Members(tell).own())
    finally:
        present.reset(token)


async def _awaiting(call: Any) -> None:
    await call
