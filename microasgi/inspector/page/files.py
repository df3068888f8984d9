"""The page's own files: HTML, CSS and JavaScript as they are written, with nothing to build and nothing to fetch from elsewhere."""

import secrets
from importlib.resources import files

from microasgi.exceptions import HTTPException
from microasgi.responses import HTMLResponse, Response

MEDIA_TYPES = {"css": "text/css", "js": "text/javascript"}

POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy: what runs and how it looks carries this visit's nonce, which nobody can guess who gets text into the page.

A module that is imported by one with the nonce has it, too (HTML, "fetch a single module script").
"""

_FOLDER = files("microasgi.inspector.page").joinpath("assets")
_FILES = {file.name: file.read_text(encoding="utf-8") for file in _FOLDER.iterdir() if file.name.rpartition(".")[2] in MEDIA_TYPES}
_PAGE = _FOLDER.joinpath("index.html").read_text(encoding="utf-8")


def page() -> HTMLResponse:
    """The page, with a nonce of its own."""
    nonce = secrets.token_urlsafe(16)
    return HTMLResponse(_PAGE.replace("NONCE", nonce), headers={"content-security-policy": POLICY.format(nonce)})


def file(name: str) -> Response:
    """One of the files beside it.

    :raises HTTPException: 404, there is none of this name
    """
    if name not in _FILES:
        raise HTTPException(404, "the page has no such file")
    return Response(_FILES[name], media_type=f"{MEDIA_TYPES[name.rpartition('.')[2]]}; charset=utf-8")


def is_open(path: str) -> bool:
    """Whether a path is one of these, which tell nothing: a browser asks for them without the token."""
    return path == "/" or path.startswith("/assets/")
