"""The command line: `microasgi serve`, `microasgi routes`, `microasgi trace` and `microasgi inspect`."""

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from typing import Any

from microasgi_server.command.main import ending
from microasgi_server.command.output import say
from microasgi_server.command.parser import Parser

from microasgi.promise.unknown import missing, way

COMMANDS = {
    "serve": ("Serve an app until Ctrl+C.", "serve_target"),
    "routes": ("Show a Router's routes and what a disconnect does to each.", "show"),
    "trace": ("Show one request of a client that leaves, from the byte to the await.", "trace"),
    "inspect": ("Serve an app, and beside it a page that shows what happens in it.", "inspect"),
}
"""What each does, in a sentence, and by which function of its module, `microasgi/command/NAME.py`."""

INSPECT = "--inspect"
"""Makes `serve` another name of `inspect`. It is no option as others are: nothing in an environment may switch that on."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. Ends with SystemExit: 0, 1 for what can't be served, 2 for a wrong command."""
    with ending():
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)


class _Commands(Parser):
    """Takes a command first, and has a word for who forgets it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else [*args]
        if words and not words[0].startswith("-") and words[0] not in self.commands:
            self.error(f"there is no command {words[0]!r}{self._instead(words[0])}")
        return super().parse_known_args(words, namespace)

    def _instead(self, word: str) -> str:
        if ":" in word:
            return f"; did you mean {self.prog} serve {word}?"
        near = get_close_matches(word, self.commands, 1)
        return f"; did you mean {near[0]}?" if near else f", only {', '.join(self.commands[:-1])} and {self.commands[-1]}"


class _Command(Parser):
    """One of the commands: it learns its options once it is called, so that nobody loads what the others need.

    name: one of `COMMANDS`.
    """

    name: str

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = [word for word in args if self.name != "serve" or word != INSPECT]
        if len(words) < len(args):
            self.name, self.prog = "inspect", f"{self.prog.removesuffix('serve')}inspect"
        what, do = COMMANDS[self.name]
        self.description = what
        module = import_module(f"microasgi.command.{self.name}")
        module.add(self)
        self.set_defaults(run=getattr(module, do))
        return super().parse_known_args(words, namespace)


class _Version(argparse.Action):
    """Says what this is, and what it can do with the anyio that is there."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        say(f"microasgi {version('microasgi')} with anyio {version('anyio')}: {way(missing())}")
        parser.exit()


def _parser() -> Parser:
    parser = _Commands(
        prog="microasgi",
        description="Serve an ASGI app whose handlers stop when their clients go away.",
        epilog="Try: microasgi serve microasgi.demo:routes",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version, how a departure is delivered, and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)
    for name, (what, _) in COMMANDS.items():
        commands.add_parser(name, help=what).name = name
        parser.commands.append(name)
    return parser
