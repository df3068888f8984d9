"""Who has said that a request's handler finishes without its client: its route, a mount or a Router, and in which line."""

import inspect
import linecache
import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from microasgi.levels import LEVELS
from microasgi.promise.visit import VISIT

_SAYS = re.compile(r"\bon_disconnect\s*=\s*[\"']finish[\"']")

_DEFINES = re.compile(r"\s*(async\s+)?def\s")


class Policy:
    """Of one request, as far as its route is known.

    :param scope: as the app got it; its Router notes there what it finds
    """

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self._scope = scope
        self._route = ""

    def news(self) -> dict[str, Any] | None:
        """Facts of what makes it finish; None: nothing does, or nothing else than before."""
        visit = self._scope.get(VISIT)
        if visit is None or visit.route == self._route:
            return None
        self._route = visit.route
        if not visit.finishes:
            return None
        levels = self._scope.get(LEVELS) or ()
        opinions = list(_opinions(levels[-1].router, visit.route)) if levels else []
        speaking = [(who, what) for who, what in opinions if what.on_disconnect is not None]
        who = speaking[-1][0] if speaking else ""
        file, line = _line(opinions[-1][1], speaking[-1][1]) if speaking else ("", 0)
        written = f"{Path(file).name}:{line}" if file else ""
        return {"on_disconnect": "finish", "by": who, "written": written, "file": file}


def _opinions(router: Any, path: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All who may have one on this path, in words, from the outside in: the last of them that has one is heard."""
    yield f"the Router mounted at {prefix}" if prefix else "the Router", router
    for route in (*getattr(router, "routes", ()), *getattr(router, "websocket_routes", ())):
        if hasattr(route, "app") and path.startswith(route.path):
            yield f"the mount {prefix}{route.path}", route
            if hasattr(route.app, "routes") and hasattr(route.app, "on_disconnect"):
                yield from _opinions(route.app, path.removeprefix(route.path), prefix + route.path)
            return
        if not hasattr(route, "app") and route.path == path:
            yield f"the route {prefix}{path}", route
            return


def _line(route: Any, speaker: Any) -> tuple[str, int]:
    """Where that is written: a file and a line, if the handler's file has one line that it can be."""
    code = getattr(inspect.unwrap(route.endpoint), "__code__", None) if hasattr(route, "endpoint") else None
    if code is None:
        return "", 0
    lines = linecache.getlines(code.co_filename)
    decorated = takewhile(lambda each: not _DEFINES.match(each[1]), list(enumerate(lines, 1))[code.co_firstlineno - 1 :])
    own = [number for number, line in decorated if _SAYS.search(line)]
    others = [number for number, line in enumerate(lines, 1) if _SAYS.search(line) and "Router(" in line]
    found = own if speaker is route and own else others
    return (code.co_filename, found[0]) if len(found) == 1 else ("", 0)
