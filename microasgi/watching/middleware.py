"""`watch`: an ASGI middleware that tells what becomes of a request's handler."""

from collections.abc import Coroutine
from typing import Any

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.watching.following import Followed
from microasgi.watching.members import Members, follow_children, present
from microasgi.watching.policies import Policy
from microasgi.watching.stages import watch_stages
from microasgi.watching.telling import EXTENSION, Tell


def watch(app: ASGIApp) -> ASGIApp:
    """The same app, each of whose calls is followed: where it waits and what wakes it, in all its tasks.

    Who hears of it is the request's tap, in order with all that it hears else: the server's own (`microasgi_server.taps.tapped`), or on
    another server one around this (`tapped_app`). Where there is none, nobody is followed.

    On asyncio this puts a function of its own in front of the running loop's `create_task`, once; on trio an instrument.

    :param app: the app, with all its middleware: what is around this isn't followed
    """
    watch_stages()

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        offered = (scope.get("extensions") or {}).get(EXTENSION)
        if scope["type"] not in ("http", "websocket") or offered is None:
            await app(scope, receive, send)
        else:
            await _follow(app, offered["tell"], scope, receive, send)

    return watched


async def _follow(app: ASGIApp, tell: Tell, scope: Scope, receive: Receive, send: Send) -> None:
    """Call the app, and tell what becomes of it."""
    follow_children()
    token = present.set(None)
    call: Any = app(scope, receive, send)
    try:
        await Followed(call if isinstance(call, Coroutine) else _awaiting(call), Members(tell).own(Policy(scope)))
    finally:
        present.reset(token)


async def _awaiting(call: Any) -> None:
    await call
