"""`Lint`: an ASGI app around another one, which looks at both sides and changes neither."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
from anyio.lowlevel import current_token

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.lint.reports import LintError
from microasgi.lint.rule import MALFORMED, Finding, Level, Moment, Rule, Side, type_of
from microasgi.lint.rules import asked
from microasgi.lint.talks import Heard, Said, Talk

LOOK = 0.1
"""Seconds in which a server tells, if asked, that the client of an app that has returned without an answer has left."""

_SENDERS = {Moment.RECEIVED: Side.SERVER, Moment.SENDING: Side.APP}


class Lint:
    """Checks what a server and an app say to each other by the rules of ASGI: HTTP, WebSocket, lifespan.

        app = Lint(app)
        ...
        app.check()  # raises if there was something

    It belongs outside of all other middleware: whatever is around it counts as the server, whatever is in it as the app. What it finds
    changes nothing: every message passes as it is, and every exception.

    findings: what was found, in order, if there is no other `report`.

    :param app: an ASGI 3 application
    :param report: called with every `Finding`, in the app's own task; it must not block
    :param level: what weighs less isn't reported
    """

    def __init__(self, app: ASGIApp, report: Callable[[Finding], object] | None = None, level: Level = Level.WARN) -> None:
        self.app = app
        self.findings: list[Finding] = []
        self._report = report or self.findings.append
        self._level = level
        self._lifespan: Talk | None = None
        self._talks: set[Talk] = set()

    def check(self) -> None:
        """Say that nothing was found.

        :raises LintError: something was
        """
        if self.findings:
            raise LintError(self.findings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if type_of(scope) is MALFORMED:
            self._ask(None, Moment.CALLED, scope)
            await self.app(scope, receive, send)
            return
        talk = Talk(scope, current_token(), self._lifespan, self._talks)
        self._ask(talk, Moment.CALLED, scope)
        if talk.kind == "lifespan":
            self._lifespan = talk
        else:
            self._talks.add(talk)
        try:
            await self.app(scope, self._receive_of(talk, receive), self._send_of(talk, send))
            if talk.owes:
                await _look(talk, receive)
            self._ask(talk, Moment.RETURNED, scope)
        finally:
            self._talks.discard(talk)
            if talk is self._lifespan and talk.said is Said.NOTHING:
                self._lifespan = None  # the app has none

    def _receive_of(self, talk: Talk, receive: Receive) -> Receive:
        async def linted() -> Message:
            settled = talk.settled
            message = await receive()
            talk.asked = settled
            self._ask(talk, Moment.RECEIVED, message)
            if type_of(message) is not MALFORMED:
                talk.receives(message)
            return message

        return linted

    def _send_of(self, talk: Talk, send: Send) -> Send:
        async def linted(message: Message) -> None:
            message = _kept(message)
            self._ask(talk, Moment.SENDING, message)
            heard, said = talk.heard, talk.said
            if type_of(message) is not MALFORMED:
                talk.sends(message)
            try:
                await send(message)
            except Exception as error:
                talk.told = heard
                self._ask(talk, Moment.REFUSED, error)
                talk.said = said
                if isinstance(error, OSError) or talk.heard is Heard.GONE:
                    talk.refusals += 1
                raise
            talk.told, talk.settled = heard, talk.said
            self._ask(talk, Moment.SENT, message)

        return linted

    def _ask(self, talk: Talk | None, moment: Moment, about: Any) -> None:
        kind = talk.kind if talk is not None and moment is Moment.REFUSED else type_of(about)
        for rule in asked(moment, kind):
            if rule.level >= self._level:
                for detail in rule.check(talk, about):
                    self._report(Finding(rule, _blamed(rule, moment), detail, talk.where if talk is not None else "a scope"))


def _blamed(rule: Rule, moment: Moment) -> Side:
    return _SENDERS[moment] if rule.side is Side.SENDER else rule.side


def _kept(message: Message) -> Message:
    """The message, with a list for what can be walked only once: we walk it, too."""
    if not isinstance(message, dict):
        return message
    once = {key: list(value) for key, value in message.items() if key in ("headers", "links") and hasattr(value, "__next__")}
    return {**message, **once} if once else message


async def _look(talk: Talk, receive: Receive) -> None:
    """See whether the client has left, which an app that was told otherwise (by an extension, by a cancellation) doesn't receive."""
    with anyio.move_on_after(LOOK), suppress(Exception):  # who doesn't answer doesn't say that anybody has left
        while not talk.is_over:
            message = await receive()
            if type_of(message) is MALFORMED:
                return
            talk.receives(message)
