"""The Routers that a request has come through: for its exceptions, which one after the other may answer, for links, and for paths."""

from collections.abc import Mapping
from typing import Any, NamedTuple

LEVELS = "microasgi.levels"
"""The scope's key for the `Level`s, innermost first. Another framework's app in between begins anew."""


class Level(NamedTuple):
    """One Router on a request's way."""

    router: Any
    root_path: str
    """What is in front of this Router's paths. The outermost's begins every link."""


def route_path(scope: Mapping[str, Any]) -> str:
    """The path below `root_path`: what a router has to match."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path


def below(scope: Mapping[str, Any], path: str, matched: int) -> dict[str, Any]:
    """The scope of an app that is mounted where so much of the `route_path` ends."""
    root: str = scope.get("root_path", "")
    whole = scope["path"] if path != scope["path"] else root + path  # some servers leave the root out of the path
    return {**scope, "path": whole, "root_path": root + path[:matched]}
