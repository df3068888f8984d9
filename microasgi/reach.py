"""Whether a route will ever be reached: not if those before it answer every path that it has.

Warned of when the route is added. Only what is certain is said: of several routes that take its paths together nothing is.
"""

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

from microasgi.mounting import Mount
from microasgi.paths import PathTemplate
from microasgi.routes import Route

_PACKAGE = str(Path(__file__).parent) + os.sep

_SAMPLES = {
    "str": ("\0",),
    "int": ("7919",),
    "float": ("7919", "7919.5"),
    "path": ("", "\0", "/".join("\0" * 9)),
    "uuid": ("00000000-0000-4000-8000-000000000000",),
}
"""For each converter texts such that whatever takes all of them takes everything that the converter does. No literal has a NUL."""


class RouteWarning(UserWarning):
    """A route that no request will ever reach."""


def warn_if_unreachable(route: Route | Mount, earlier: Iterable[Route | Mount]) -> None:
    """Warn, where the route was written, if those before it leave nothing to it, or some of its methods."""
    rest = set(route.methods) if isinstance(route, Route) else {"*"}
    paths = list(_paths(route.template))
    if isinstance(route, Mount):
        paths += [path + "/\0" for path in paths]
    for other in earlier:
        if isinstance(route, Mount) and isinstance(other, Route):
            continue
        if not (paths[0] or "/").startswith(other.path.partition("{")[0]):
            continue  # sooner than the pattern says so
        taken = rest if isinstance(other, Mount) else rest & other.methods
        if taken and all(other.template.match(path or "/") for path in paths):
            told = f"{','.join(sorted(taken))} {route.path}" if isinstance(route, Route) else f"the mount {route.path or '/'}"
            message = f"{told} is never reached: {other!r} comes first and answers all of it; put it behind, or take one away"
            warnings.warn(message, RouteWarning, stacklevel=_outside())
            rest = rest - taken


def _paths(template: PathTemplate) -> Iterator[str]:
    """Paths that the template has."""
    parts = list(template.parts())
    choices = [_SAMPLES[kind] if name is not None else ("",) for _, name, kind in parts]
    for chosen in product(*choices):
        yield "".join(literal + sample for (literal, _, _), sample in zip(parts, chosen, strict=True))


def _outside() -> int:
    """The stack level, for `warn_if_unreachable`, of the first caller that isn't ours."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level
