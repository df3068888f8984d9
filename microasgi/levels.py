"""The Routers that a request has come through: for its exceptions, which one after the other may answer, and for links."""

from typing import Any, NamedTuple

LEVELS = "microasgi.levels"
"""The scope's key for the `Level`s, innermost first. Another framework's app in between begins anew."""


class Level(NamedTuple):
    """One Router on a request's way."""

    router: Any
    root_path: str
    """What is in front of this Router's paths. The outermost's begins every link."""
