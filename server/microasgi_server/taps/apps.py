"""An app, told aloud: its calls, and what is said in them; by our own server, or on any other."""

from itertools import count
from typing import Any

from microasgi_server.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi_server.taps.events import Facts, Tap, Teller, Voice
from microasgi_server.taps.redaction import Redaction, error_text

EXTENSION = "microasgi.tap"
"""Where an app that has more to tell finds the request's voice: `scope["extensions"]["microasgi.tap"]["tell"]`, see `Teller.tell`."""


def told_app(app: ASGIApp, tell: Teller) -> ASGIApp:
    """The same app, whose beginning and end are told."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        tell("asgi", "call", {"scope": tell.redaction.message(scope)})
        try:
            await app(scope, receive, send)
        except BaseException as error:
            tell("asgi", "end", {"error": error_text(error)})
            raise
        tell("asgi", "end", {})

    return told


async def receive_told(receive: Receive, tell: Teller) -> Message:
    """What the app receives."""
    tell("asgi", "receive?", {})
    message = await receive()
    tell("asgi", "receive", {"message": tell.redaction.message(message)})
    return message


async def send_told(send: Send, message: Message, tell: Teller, **more: Any) -> None:
    """What the app sends.

    :param more: facts beside the message
    """
    tell("asgi", "send", {"message": tell.redaction.message(message), **more})
    try:
        await send(message)
    except BaseException as error:
        tell("asgi", "send raised", {"error": error_text(error)})
        raise


class Elsewhere(Teller):
    """The voice of a request on another server, whose code isn't ours to show."""

    __slots__ = ()

    def __call__(self, lane: str, what: str, facts: Facts) -> None:
        self.tell(lane, what, None, facts)


def tapped_app(app: ASGIApp, tap: Tap, redaction: Redaction | None = None) -> ASGIApp:
    """The same app, whose requests are told on a server that has no tap: of their lanes there are then `asgi`, and what the app tells.

    :param tap: is called with every event; each request has a connection of its own, as far as that is known here
    :param redaction: what is left out; secrets by default
    """
    hides, numbers = redaction or Redaction(), count(1)

    async def tapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        tell = Elsewhere(tap, hides, next(numbers), 1)
        scope = {**scope, "extensions": {**(scope.get("extensions") or {}), EXTENSION: Voice(tell.tell)}}
        await told_app(app, tell)(scope, lambda: receive_told(receive, tell), lambda message: send_told(send, message, tell))

    return tapped
