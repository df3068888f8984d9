"""A command's parser, made of tables of options. What is wrong is said in one line, with what to write instead."""

import argparse
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

from microasgi_server.command.foreign import FOREIGN
from microasgi_server.command.levels import LOG_LEVEL
from microasgi_server.options import DIRECTORY, FLAG, GROUPS, OPTIONS, Groups, Option

TARGET_GROUP: Groups = {
    "what it serves": (
        Option("factory", FLAG, "TARGET is a function that takes nothing and returns the app"),
        Option("app_dir", DIRECTORY, "the directory to import from"),
    )
}

SERVE_GROUPS: Groups = {**GROUPS, "what it says": (LOG_LEVEL, *GROUPS["what it says"])}
"""What there is to choose when serving."""

DEFAULTS: Mapping[str, Any] = {"factory": False, "app_dir": ".", "log_level": "info"}
"""Of the options that aren't of `Config`."""


class Parser(argparse.ArgumentParser):
    """Takes an option by its whole name only, and says what is wrong in one line, where argparse would print the usage first."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        self._flags = ["--help"]

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see: {self.prog} --help\n")

    def add_options(self, groups: Groups, defaults: Mapping[str, Any]) -> None:
        """An argument for each row, under its heading.

        :param defaults: by the options' names
        """
        for heading, options in groups.items():
            group = self.add_argument_group(heading)
            for option in options:
                self._flags.append(option.flag)
                default = defaults[option.name]
                if option.kind is FLAG:
                    meaning = f"{option.help} (default: {'on' if default else 'off'})"
                    group.add_argument(option.flag, action=argparse.BooleanOptionalAction, default=default, help=meaning)
                else:
                    meaning = option.help + ("" if default in (None, "") else f" (default: {_shown(default)})")
                    shown = option.kind.shown
                    group.add_argument(option.flag, type=self._reader(option), default=default, metavar=shown, help=meaning)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but nothing may be unknown: a subcommand's parser would hand that on to the main one, which knows less."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._advice(next((word for word in unknown if word.startswith("-")), unknown[0])))
        return found, []

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
        if name in FOREIGN:
            return f"there is no option {name} here: {FOREIGN[name]}"
        near = get_close_matches(name, self._flags, 1)
        return f"there is no option {name}" + (f"; did you mean {near[0]}?" if near else "")


def _shown(default: Any) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


def add_target(parser: Parser, meaning: str) -> None:
    """The argument that names an app, and the options that say where to find it."""
    parser.usage = "%(prog)s TARGET [OPTION ...]"
    parser.add_argument("target", metavar="TARGET", help=meaning)
    parser.add_options(TARGET_GROUP, DEFAULTS)


def config_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was chosen for `Config`, by its fields."""
    return {option.name: getattr(arguments, option.name) for option in OPTIONS}
