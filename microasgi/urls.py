"""From a route's name and parameters back to a path, for links."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote

from microasgi.matching import RouteTable
from microasgi.mounting import Mount
from microasgi.paths import CONVERTERS, PathTemplate
from microasgi.routes import Route

_SAFE = "!$&'()*+,;=:@~"  # RFC 3986 §3.3, pchar


class NoMatchFound(LookupError):
    """There is no route of that name with these parameters."""


def path_for(routes: Iterable[Route | Mount], name: str, params: Mapping[str, Any]) -> str:
    """The path, percent-encoded, of the first route with this name and exactly these parameters.

    A mount's routes are called `mount:route`, or as they are if the mount has no name. A mounted app that isn't a Router is called by the
    mount's name, with what comes behind the prefix as the parameter `path`.

    :raises NoMatchFound: there is none; the message says what there is
    :raises ValueError: a parameter's value doesn't fit into the path
    """
    routes = list(routes)
    found = _find(routes, name, params)
    if found is None:
        known = list(_names(routes))
        alike = [f"it takes {', '.join(parameters) or 'none'}" for own, parameters in known if own == name]
        near = get_close_matches(name, [own for own, _ in known], 1)
        if alike:
            raise NoMatchFound(f"route {name!r} doesn't take the parameters {', '.join(params) or 'none'}: {' or '.join(alike)}")
        raise NoMatchFound(f"there is no route {name!r}{f'; did you mean {near[0]!r}?' if near else ''}")
    return found


def _find(routes: Iterable[Route | Mount], name: str, params: Mapping[str, Any]) -> str | None:
    for route in routes:
        wanted = route.template.parameters
        if isinstance(route, Route):
            if route.name == name and wanted.keys() == params.keys():
                return _filled(route.template, params)
            continue
        inner = _below(route)
        own = {key: value for key, value in params.items() if key in wanted}
        rest = {key: value for key, value in params.items() if key not in wanted}
        if own.keys() != wanted.keys():
            continue
        if inner is None:
            if route.name == name and rest.keys() == {"path"}:
                return _filled(route.template, own) + quote("/" + str(rest["path"]).lstrip("/"), safe=_SAFE + "/")
        elif name.startswith(f"{route.name}:" if route.name else ""):
            found = _find(inner, name.removeprefix(f"{route.name}:") if route.name else name, rest)
            if found is not None:
                return _filled(route.template, own) + found
    return None


def _below(mount: Mount) -> list[Route | Mount] | None:
    """The routes of a mounted Router."""
    table = getattr(mount.app, "_table", None)
    return table.routes if isinstance(table, RouteTable) else None


def _names(routes: Iterable[Route | Mount]) -> Iterable[tuple[str, list[str]]]:
    for route in routes:
        parameters = list(route.template.parameters)
        if isinstance(route, Route):
            yield route.name, parameters
        elif (inner := _below(route)) is None:
            yield route.name, [*parameters, "path"]
        else:
            for name, others in _names(inner):
                yield f"{route.name}:{name}" if route.name else name, [*parameters, *others]


def _filled(template: PathTemplate, params: Mapping[str, Any]) -> str:
    """The template with values in the place of its parameters."""
    path = ""
    for literal, name, kind in template.parts():
        path += quote(literal, safe=_SAFE + "/")
        if name is not None:
            text = str(params[name])
            if re.fullmatch(CONVERTERS[kind][0], text, re.DOTALL) is None:
                raise ValueError(f"{name}={params[name]!r} doesn't fit into path {template.path!r}: it must be like {CONVERTERS[kind][0]}")
            path += quote(text, safe=_SAFE + ("/" if kind == "path" else ""))
    return path
