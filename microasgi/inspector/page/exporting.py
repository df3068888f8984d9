"""A request as a file: what the page has of it, and so never more than was told."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from time import perf_counter

from microasgi.exceptions import HTTPException
from microasgi.inspector.exports import as_json, as_perfetto
from microasgi.inspector.har import as_har
from microasgi.inspector.ladder import Style, ladder, sentences
from microasgi.inspector.page.sheet import Sheet
from microasgi.inspector.summary import summary
from microasgi.inspector.timeline import timeline
from microasgi.responses import Response

TEXT = Style(width=120)


def exported(kind: str, sheet: Sheet) -> Response:
    """The file.

    :raises HTTPException: 404, there is no such kind
    """
    if kind not in KINDS:
        raise HTTPException(404, f"a request is exported as {', '.join(KINDS)}, not as {kind!r}")
    media_type, write = KINDS[kind]
    return Response(write(sheet), media_type=media_type)


def _text(sheet: Sheet) -> str:
    return f"{sheet.title()} on {sheet.server}\n\n{ladder(timeline(sheet.events), TEXT)}\n\n{sentences(summary(sheet.events), TEXT)}\n"


def _json(sheet: Sheet) -> str:
    return as_json(sheet.events)


def _perfetto(sheet: Sheet) -> str:
    return as_perfetto(sheet.events, f"{sheet.title()} on {sheet.server}")


def _har(sheet: Sheet) -> str:
    ago = timedelta(seconds=perf_counter() - sheet.began / 1000)
    began = datetime.now(UTC) - ago
    return as_har(sheet.events, sheet.request(), sheet.received(), began, ("microasgi", version("microasgi")))


KINDS: Mapping[str, tuple[str, Callable[[Sheet], str]]] = {
    "text": ("text/plain", _text),
    "json": ("application/json", _json),
    "perfetto": ("application/json", _perfetto),
    "har": ("application/json", _har),
}
"""By the name that stands in the address: the media type, and who writes it."""
