"""Options from the environment, and the environment from a file.

A command line wins over the environment, that over the file, and all of them over the defaults.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from microasgi_server.kinds import PATH
from microasgi_server.options import Option

ENV_FILE = Option("env_file", PATH, "set what this file says as NAME=VALUE in the environment, unless it is there already")

_PREFIX = ENV_FILE.variable.removesuffix(ENV_FILE.name.upper())

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)", re.ASCII)


def read(path: str) -> dict[str, str]:
    """What a file says: a NAME=VALUE a line, the value in single or double quotes or as it is; empty lines, and those that begin with #.

    There is nothing else in it: nothing is expanded, and a # within a line is part of the value.

    :raises ValueError: it can't be read, or a line is none
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8") from error
    return dict(_assignments(path, lines))


def _assignments(path: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"line {number} of {path} is not NAME=VALUE: {line[:40]!r}")
        name, value = found[1], found[2]
        if value[:1] in ("'", '"'):
            if len(value) < 2 or value[-1] != value[0]:
                raise ValueError(f"line {number} of {path} has a quote that doesn't end with the line: {line[:40]!r}")
            value = value[1:-1]
        if "\0" in value:
            raise ValueError(f"line {number} of {path} has a NUL in it")
        yield name, value


def chosen_early(option: Option, arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """An option that has to be known before the others: from the command line, or else from the environment."""
    for place, word in enumerate(arguments):
        if word == option.flag and place + 1 < len(arguments):
            return arguments[place + 1]
        if word.startswith(f"{option.flag}="):
            return word.partition("=")[2]
    return environment.get(option.variable) or None


def strangers(environment: Mapping[str, str], options: Iterable[Option]) -> Iterator[str]:
    """A sentence on each variable that is called like an option's, and is none's."""
    known = {option.variable.removeprefix(_PREFIX) for option in options}
    for name in sorted(environment):
        own = name.removeprefix(_PREFIX)
        if own != name and own not in known:
            near = get_close_matches(own, known, 1)
            yield f"the variable {name} is no option's, and ignored" + (f"; did you mean {_PREFIX}{near[0]}?" if near else "")
