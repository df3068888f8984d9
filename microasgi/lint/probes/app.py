"""The app that is served while a server is probed. A request's header fields say what to do, and under which name to note it."""

import os
from typing import Any

import anyio

from microasgi.asgi import Receive, Scope, Send
from microasgi.lint.middleware import Lint
from microasgi.lint.probes.behaviours import WHILE
from microasgi.lint.probes.notes import LIFESPAN, VARIABLE, Notes
from microasgi.lint.probes.talking import BEHAVIOURS
from microasgi.lint.rule import Finding, Level, Side

NOTES = Notes(os.environ.get(VARIABLE, os.devnull))


async def probed(scope: Scope, receive: Receive, send: Send) -> None:
    """The app."""
    if scope["type"] == "lifespan":
        await _live(scope, receive, send)
        return
    wanted = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    token = wanted.get("x-token", "")

    def note(what: str, **facts: Any) -> None:
        NOTES.add(token, what, **facts)

    await BEHAVIOURS[wanted.get("x-behaviour", "answer")](scope, receive, send, note)


async def _live(scope: Scope, receive: Receive, send: Send) -> None:
    how = os.environ.get(LIFESPAN, "lives")
    if how == "raises":
        raise NotImplementedError("the app has no lifespan, to see what comes of it")
    await receive()
    NOTES.add("", "startup", state="state" in scope)
    if how == "fails":
        await send({"type": "lifespan.startup.failed", "message": "the probe says no"})
        return
    if "state" in scope:
        scope["state"]["probe"] = NOTES
    await anyio.sleep(WHILE)  # for a server that doesn't wait
    await send({"type": "lifespan.startup.complete"})
    await receive()
    NOTES.add("", "shutdown")
    await anyio.sleep(WHILE)
    await send({"type": "lifespan.shutdown.complete"})
    NOTES.add("", "stopped")


def _report(finding: Finding) -> None:
    if finding.side is Side.SERVER:
        NOTES.add("", "finding", id=finding.rule.id, detail=finding.detail, where=finding.where)


app = Lint(probed, _report, Level.NOTE)
