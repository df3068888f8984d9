"""From a method and a path to a route: the first that matches, in the order they were added.

A path without parameters is looked up, not tried, and one that no pattern before it could take is looked up together with its method.
"""

from collections.abc import Iterator
from heapq import merge
from typing import Any, TypeAlias

from microasgi.exceptions import HTTPException
from microasgi.mounting import Mount
from microasgi.reach import warn_if_unreachable
from microasgi.routes import Route

Match: TypeAlias = tuple[Route | Mount, dict[str, Any], int]
"""A route, the parameters it has of the path, and how much of the path it took."""


class RouteTable:
    """Routes and mounts, in their order.

    routes: all of them.
    """

    def __init__(self) -> None:
        self.routes: list[Route | Mount] = []
        self._direct: dict[tuple[str, str], Match] = {}
        self._literals: dict[str, list[tuple[int, Route]]] = {}
        self._patterns: list[tuple[int, Route | Mount]] = []

    def add(self, route: Route | Mount) -> None:
        """Add one at the end. Warns of one that is never reached."""
        index = len(self.routes)
        patterns = [pattern for _, pattern in self._patterns]
        if isinstance(route, Route) and route.template.is_literal:
            alike = self._literals.setdefault(route.path, [])
            warn_if_unreachable(route, [*patterns, *(earlier for _, earlier in alike)])
            if not any(earlier.template.match(route.path) for earlier in patterns):
                for method in route.methods:
                    self._direct.setdefault((method, route.path), (route, {}, len(route.path)))
            alike.append((index, route))
        else:
            warn_if_unreachable(route, patterns)
            self._patterns.append((index, route))
        self.routes.append(route)

    def find(self, method: str, path: str) -> Match | None:
        """The first route for this method and path; None if there is none for the path, whatever the method.

        :raises HTTPException: 405 with `Allow`, if there are others for the path (RFC 9110 §15.5.6)
        """
        if (direct := self._direct.get((method, path))) is not None:
            return direct
        allowed: set[str] = set()
        get: Match | None = None
        for match in self._matches(path):
            route = match[0]
            if isinstance(route, Mount):
                return get or match
            if method in route.methods:
                return match
            if method == "HEAD" and get is None and "GET" in route.methods:
                get = match  # unless a route for HEAD itself follows
            allowed |= route.methods
        if get is not None:
            return get
        if not allowed:
            return None
        if "GET" in allowed:
            allowed.add("HEAD")
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})

    def has(self, path: str) -> bool:
        """Whether there is a route for the path, whatever its method."""
        return next(self._matches(path), None) is not None

    def _matches(self, path: str) -> Iterator[Match]:
        """Every route for this path, whatever its method."""
        for _, route in merge(self._literals.get(path, ()), self._patterns):
            match = route.template.match(path)
            if match is not None:
                yield route, *match
