"""Path templates: `/items/{id:int}` to a pattern and back-converted parameters.

str    one segment (the default)          int    digits              float  digits with an optional fraction
path   the rest, slashes and all          uuid   a UUID with hyphens
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any
from uuid import UUID

CONVERTERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "str": ("[^/]+", str),
    "int": ("[0-9]+", int),
    "float": (r"[0-9]+(?:\.[0-9]+)?", float),
    "path": (".*", str),
    "uuid": ("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}", UUID),
}

_PARAMETER = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)(?::([a-zA-Z_][a-zA-Z0-9_]*))?\}")


class PathTemplate:
    """A compiled path.

    :param path: the template, which starts with a slash
    :param is_prefix: match a path that begins so, up to a slash or its end, instead of a whole one
    :raises ValueError: the template is malformed
    """

    def __init__(self, path: str, *, is_prefix: bool = False) -> None:
        if not path.startswith("/") and not (is_prefix and path == ""):
            raise ValueError(f"a path starts with a slash: {'/' + path!r}, not {path!r}")
        self.path = path
        self._converters: dict[str, Callable[[str], Any]] = {}
        pattern, end = "", 0
        for parameter in _PARAMETER.finditer(path):
            name, kind = parameter[1], parameter[2] or "str"
            if kind not in CONVERTERS:
                near = get_close_matches(kind, CONVERTERS, 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ValueError(f"no converter {kind!r} in path {path!r}; {hint}there are {', '.join(CONVERTERS)}")
            if name in self._converters:
                raise ValueError(f"parameter {name!r} stands twice in path {path!r}")
            regex, self._converters[name] = CONVERTERS[kind]
            pattern += self._literal(path[end : parameter.start()]) + f"(?P<{name}>{regex})"
            end = parameter.end()
        pattern += self._literal(path[end:])
        self._pattern = re.compile(pattern + ("(?=/|$)" if is_prefix else ""), re.DOTALL)
        self._is_prefix = is_prefix

    def _literal(self, text: str) -> str:
        if "{" in text or "}" in text:
            raise ValueError(f"path {self.path!r} has a brace that belongs to no parameter; those look like {{name}} or {{name:int}}")
        return re.escape(text)

    @property
    def is_literal(self) -> bool:
        """Whether it has no parameters, and so matches only itself."""
        return not self._converters

    def match(self, path: str) -> tuple[dict[str, Any], int] | None:
        """The converted parameters and the length of what matched, or None."""
        found = self._pattern.match(path) if self._is_prefix else self._pattern.fullmatch(path)
        if found is None:
            return None
        try:
            return {name: self._converters[name](text) for name, text in found.groupdict().items()}, found.end()
        except ValueError:  # digits by the thousand, which Python won't turn into an int
            return None
