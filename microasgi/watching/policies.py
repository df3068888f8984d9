"""Who has said that a request's handler finishes without its client: its route, a mount or a Router, and in which line."""

import inspect
import linecache
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from microasgi.levels import LEVELS
from microasgi.promise.visit import VISIT

_SAYS = re.compile(r"\bon_disconnect\s*=\s*[\"']finish[\"']")


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
        who, line = (speaking[-1][0], _line(opinions[-1][1], speaking[-1][1])) if speaking else ("", "")
        return {"on_disconnect": "finish", "by": who, "written": line}


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


def _line(route: Any, speaker: Any) -> str:
    """Where that is written, as `shop.py:30`, if the handler's file has one line that it can be; else where the route's handler begins."""
    code = getattr(inspect.unwrap(route.endpoint), "__code__", None) if hasattr(route, "endpoint") else None
    if code is None:
        return ""
    lines = linecache.getlines(code.co_filename)
    first, end = code.co_firstlineno, code.co_firstlineno + 5
    own = [number for number in range(first, min(end, len(lines)) + 1) if _SAYS.search(lines[number - 1])]
    others = [number for number, line in enumerate(lines, 1) if _SAYS.search(line) and "Router(" in line]
    found = own if speaker is route and own else others
    return f"{Path(code.co_filename).name}:{found[0]}" if len(found) == 1 else ""
