"""What can be asked of the inspector: the page, a stream of what changes, and a few questions and orders."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from microasgi.exceptions import HTTPException
from microasgi.inspector.page import files
from microasgi.inspector.page.exporting import exported
from microasgi.inspector.page.guard import Guard
from microasgi.inspector.page.session import Session
from microasgi.inspector.page.visits import Asked, asked
from microasgi.requests import Request
from microasgi.responses import Response
from microasgi.routing import Router
from microasgi.streaming import StreamingResponse

LONGEST_ORDER = 1024 * 1024
"""Bytes of what a page may send."""

Compare = Callable[[Asked], Awaitable[dict[str, Any]]]
"""Makes the same request to the same app on another server; gives the timeline as the page shows it."""


def page(session: Session, token: str, compare: Compare) -> Guard:
    """The inspector as an ASGI app."""
    router = Router(limit_body=LONGEST_ORDER)
    _show_files(router)
    _answer(router, session)
    _obey(router, session, compare)
    return Guard(router, token, files.is_open)


def _show_files(router: Router) -> None:
    """What the page itself is made of."""

    @router.get("/")
    async def index(request: Request) -> Response:
        return files.page()

    @router.get("/assets/{name}")
    async def asset(request: Request) -> Response:
        return files.file(request.path_params["name"])


def _answer(router: Router, session: Session) -> None:
    """What a page asks."""

    @router.get("/stream")
    async def stream(request: Request) -> StreamingResponse:
        session.hello()  # or the app isn't there yet
        return StreamingResponse(_news(session), media_type="application/x-ndjson")

    @router.get("/timeline/{id:int}")
    async def timeline(request: Request) -> dict[str, Any]:
        sheet = session.sheet(request.path_params["id"])
        return sheet.whole(session.seen(sheet))

    @router.get("/export/{id:int}/{kind}")
    async def export(request: Request) -> Response:
        return exported(request.path_params["kind"], session.sheet(request.path_params["id"]))


def _obey(router: Router, session: Session, compare: Compare) -> None:
    """What a page wants done."""

    @router.post("/open")
    async def open(request: Request) -> dict[str, int]:
        return {"visit": session.open(asked(await request.json())).number}

    @router.post("/leave")
    async def leave(request: Request) -> dict[str, bool]:
        session.visits.leave(_number(await request.json(), "visit"))
        return {"left": True}

    @router.post("/compare")
    async def other(request: Request) -> dict[str, Any]:
        sheet = session.sheet(_number(await request.json(), "id"))
        again, wanted = sheet.asked(), session.asked(sheet.id)
        return await compare(again if wanted is None else replace(wanted, after=wanted.after if wanted.after is not None else again.after))


async def _news(session: Session) -> AsyncIterator[str]:
    """What is there, and then what changes, for as long as somebody reads it."""
    with session.pages.one_more() as page:
        yield json.dumps(session.hello()) + "\n"
        session.introduce(page)
        async for line in page.lines():
            yield line


def _number(values: Any, name: str) -> int:
    """One of the numbers that a page has sent."""
    found = values.get(name) if isinstance(values, dict) else None
    if not isinstance(found, int) or isinstance(found, bool):
        raise HTTPException(422, f"{name} is a number")
    return found
