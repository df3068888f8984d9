"""Path templates: `/items/{id:int}` to a pattern and back-converted parameters.

str    one segment (the default)          int    digits              float  digits with an optional fraction
path   the rest, slashes and all          uuid   a UUID with hyphens
"""

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from microasgi.checks import check_path, check_template

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

    parameters: the names of its parameters, in order, each with its converter's.

    :param path: the template, which starts with a slash
    :param is_prefix: match a path that begins so, up to a slash or its end, instead of a whole one
    :raises ValueError: the template is malformed
    """

    def __init__(self, path: str, *, is_prefix: bool = False) -> None:
        check_path(path)
        self.path = path
        check_template(path, self.parts(), CONVERTERS, is_prefix=is_prefix)
        self.parameters: dict[str, str] = {}
        pattern = ""
        for literal, name, kind in self.parts():
            pattern += re.escape(literal)
            if name is not None:
                self.parameters[name] = kind
                pattern += f"(?P<{name}>{CONVERTERS[kind][0]})"
        self._converters = {name: CONVERTERS[kind][1] for name, kind in self.parameters.items()}
        self._match = re.compile(pattern + "(?=/|$)", re.DOTALL).match if is_prefix else re.compile(pattern, re.DOTALL).fullmatch

    def parts(self) -> Iterator[tuple[str, str | None, str]]:
        """Each piece of plain text, with the name and the converter of the parameter that follows; the last has none."""
        pieces: list[Any] = [*_PARAMETER.split(self.path), None, None]
        for literal, name, kind in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
            yield literal, name, kind or "str"

    @property
    def is_literal(self) -> bool:
        """Whether it has no parameters, and so matches only itself."""
        return not self.parameters

    def match(self, path: str) -> tuple[dict[str, Any], int] | None:
        """The converted parameters and the length of what matched, or None."""
        found = self._match(path)
        if found is None:
            return None
        try:
            return {name: self._converters[name](text) for name, text in found.groupdict().items()}, found.end()
        except ValueError:  # digits by the thousand, which Python won't turn into an int
            return None
