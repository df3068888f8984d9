"""Notes to keep, read, change and throw away: CRUD, as `notes.json` beside it describes it to clients (OpenAPI 3.1).

The document is written by hand, and a tool that reads it tries the app against each of its sentences: see the test.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microasgi import HTTPException, JSONResponse, Request, Response, Router

DOCUMENT: dict[str, Any] = json.loads(Path(__file__).with_name("notes.json").read_text())

LONGEST = {"title": 100, "text": 10_000}
"""Characters of each text."""

MOST = 1_000
"""Notes to keep, and the longest page of them."""

routes = Router()


@routes.get("/openapi.json")
def document(request: Request) -> dict[str, Any]:
    """What tools read."""
    return DOCUMENT


class Notes:
    """All that there are, by their numbers; those are never used again."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.kept: dict[int, dict[str, Any]] = {}

    def keep(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """One more.

        :raises HTTPException: 507, there is no room
        """
        if len(self.kept) >= MOST:
            raise HTTPException(507, f"{MOST} notes are enough")
        number = next(self._numbers)
        note = self.kept[number] = {"id": number, "done": False, **fields}
        return note

    def of(self, request: Request) -> dict[str, Any]:
        """The one that a request's path names.

        :raises HTTPException: 404, there is none
        """
        try:
            return self.kept[request.path_params["id"]]
        except KeyError:
            raise HTTPException(404, "there is no such note") from None


def notes() -> Router:
    """The app, with nothing kept yet."""
    kept, own = Notes(), Router([*routes.routes])

    @own.get("/notes")
    def several(request: Request) -> list[Any]:
        limit = number(request, "limit", 20, 1, 100)
        after = number(request, "after", 0, 0, 2**63 - 1)
        return [note for note in kept.kept.values() if note["id"] > after][:limit]

    @own.post("/notes")
    async def add(request: Request) -> JSONResponse:
        note = kept.keep(await fields(request, {"title", "text"}))
        return JSONResponse(note, 201, headers={"location": f"/notes/{note['id']}"})

    @own.get("/notes/{id:int}")
    def one(request: Request) -> dict[str, Any]:
        return kept.of(request)

    @own.patch("/notes/{id:int}")
    async def change(request: Request) -> dict[str, Any]:
        changed = await fields(request, set())
        note = kept.of(request)
        note.update(changed)
        return note

    @own.delete("/notes/{id:int}")
    def throw_away(request: Request) -> Response:
        del kept.kept[kept.of(request)["id"]]
        return Response(status_code=204)

    return own


def number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A number of the query.

    :raises HTTPException: 422, it is none
    """
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or len(text) > 19 or not least <= int(text) <= most:
        raise HTTPException(422, f"{name} is a number from {least} to {most}")
    return int(text)


async def fields(request: Request, required: set[str]) -> dict[str, Any]:
    """What a body says of a note.

    :raises HTTPException: 415 or 422, it isn't what the document asks for
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "a note is application/json")
    given = await request.json()
    if not isinstance(given, dict) or not required <= given.keys() or given.keys() - {"title", "text", "done"}:
        raise HTTPException(422, 'a note is an object with a "title", a "text", and "done", and nothing else')
    for name, longest in LONGEST.items():
        if not isinstance(given.get(name, "?"), str) or not len(given.get(name, "?")) <= longest:
            raise HTTPException(422, f'"{name}" is a text of at most {longest} characters')
    if not given.get("title", "?"):
        raise HTTPException(422, '"title" is not empty')
    if not isinstance(given.get("done", False), bool):
        raise HTTPException(422, '"done" is true or false')
    return given
