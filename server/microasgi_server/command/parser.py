"""A command's parser, made of tables of options. What is wrong is said in one line, with what to write instead."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from microasgi_server.command.environment import ENV_FILE, chosen_early, read, strangers
from microasgi_server.command.foreign import FOREIGN
from microasgi_server.command.levels import LOG_FORMAT, LOG_LEVEL
from microasgi_server.command.log_config import LOG_CONFIG
from microasgi_server.command.output import remark, say
from microasgi_server.http1.limits import Limits
from microasgi_server.kinds import DIRECTORY, FLAG
from microasgi_server.options import GROUPS, LIMITS, OPTIONS, Groups, Option

TARGET_GROUP: Groups = {
    "what it serves": (
        Option("factory", FLAG, "TARGET is a function that takes nothing and returns the app"),
        Option("app_dir", DIRECTORY, "the directory to import from"),
        ENV_FILE,
    )
}

SERVE_GROUPS: Groups = {**GROUPS, "what it says": (LOG_LEVEL, LOG_FORMAT, LOG_CONFIG, *GROUPS["what it says"])}
"""What there is to choose when serving."""

DEFAULTS: Mapping[str, Any] = {
    "check": False,
    "factory": False,
    "app_dir": ".",
    "env_file": None,
    "log_level": "info",
    "log_format": "text",
    "log_config": None,
    **{option.name: getattr(Limits, option.limit) for option in LIMITS},
}
"""Of the options that aren't of `Config`."""


class Parser(argparse.ArgumentParser):
    """Takes an option by its whole name only, and says what is wrong in one line, where argparse would print the usage first.

    takes_all: whether it has all options, so that a variable like an option's which is none of these is a slip.
    not_here: by the flags of others, why it doesn't have them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        self.takes_all = False
        self.not_here: Mapping[str, str] = {}
        self._options: list[Option] = []

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see: {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse's, which keeps it to itself if a help can't be written."""
        if file is sys.stdout:
            say(message, end="")
        else:
            super()._print_message(message, file)

    def add_options(self, groups: Groups, defaults: Mapping[str, Any]) -> None:
        """An argument for each row, under its heading.

        :param defaults: by the options' names
        """
        for heading, options in groups.items():
            group = self.add_argument_group(heading)
            for option in options:
                self._options.append(option)
                default = defaults[option.name]
                if option.kind is FLAG:
                    meaning = f"{option.help} (default: {'on' if default else 'off'})"
                    group.add_argument(option.flag, action=argparse.BooleanOptionalAction, default=default, help=meaning)
                else:
                    meaning = option.help + ("" if default in (None, "", ()) else f" (default: {_shown(default)})")
                    shown, action = option.kind.shown, _Several if option.kind.several else "store"
                    group.add_argument(option.flag, type=self._reader(option), action=action, default=default, metavar=shown, help=meaning)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but nothing may be unknown: a subcommand's parser would hand that on to the main one, which knows less."""
        arguments = sys.argv[1:] if args is None else list(args)
        self._take_environment(arguments)
        found, unknown = super().parse_known_args(arguments, namespace)
        if unknown:
            self.error(self._advice(next((word for word in unknown if word.startswith("-")), unknown[0])))
        return found, []

    def _take_environment(self, arguments: Sequence[str]) -> None:
        """Make defaults of what the environment says, and before that a file, if there is one. An empty variable says nothing."""
        file = chosen_early(ENV_FILE, arguments, os.environ) if ENV_FILE in self._options else None
        try:
            for name, value in read(file).items() if file else ():
                os.environ.setdefault(name, value)
            for option in self._options:
                if text := os.environ.get(option.variable):
                    self.set_defaults(**{option.name: option.read(text, option.variable)})
        except ValueError as error:
            self.error(str(error))
        for sentence in strangers(os.environ, self._options) if self.takes_all else ():
            remark(f"warning: {sentence}")

    def _reader(self, option: Option) -> Callable[[str], Any]:
        def read(text: str) -> Any:
            try:
                return option.read(text, option.flag)
            except ValueError as error:
                self.error(str(error))

        return read

    def _advice(self, word: str) -> str:
        """About something that this command doesn't know."""
        if not word.startswith("-"):
            return f"{word!r} is one argument too many"
        name = word.partition("=")[0]
        if name in self.not_here or name in FOREIGN:
            return f"there is no option {name} here: {self.not_here.get(name) or FOREIGN[name]}"
        near = get_close_matches(name, ["--help", *[option.flag for option in self._options]], 1)
        return f"there is no option {name}" + (f"; did you mean {near[0]}?" if near else "")


class _Several(argparse.Action):
    """An option that a command line may have more than once. What the environment has of it counts only where the command line has none."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if before is self.default else (*before, *values))


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


_FLAGS = {option.name: option.flag for option in (*OPTIONS, *LIMITS) if "_" in option.name}  # the others are words

_NAMES_AND_VALUES = re.compile(rf"'[^']*'|\"[^\"]*\"|\b(?:{'|'.join(_FLAGS)})\b")


def as_flags(text: str) -> str:
    """What names options as `Config` has them, as a command line has them. What is quoted stays: that is a value."""
    return _NAMES_AND_VALUES.sub(lambda found: _FLAGS.get(found[0], found[0]), text)


def add_target(parser: Parser, meaning: str) -> None:
    """The argument that names an app, and the options that say where to find it."""
    parser.usage = "%(prog)s TARGET [OPTION ...]"
    parser.add_argument("target", metavar="TARGET", help=meaning)
    parser.add_options(TARGET_GROUP, DEFAULTS)


def config_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was chosen for `run`, by its options."""
    return {option.name: getattr(arguments, option.name) for option in (*OPTIONS, *LIMITS)}
