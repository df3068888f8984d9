"""`python -m microasgi.lint`: look at a server, at an app, or at the rules."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import anyio

from microasgi.lint.apps import PATIENCE, AppError, examine, usual
from microasgi.lint.document import document
from microasgi.lint.printing import printing, remark, say
from microasgi.lint.probes.probing import probe
from microasgi.lint.probes.server import KNOWN, ProbeError
from microasgi.lint.rule import CLIENT, Finding, Level
from microasgi.routing import Router

LEVELS = {level.name.lower(): level for level in Level}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. Ends with SystemExit: 0, 1 if an ERROR was found, 2 for a wrong command or what can't be looked at, or said."""
    with printing():
        _look(argv)


def _look(argv: Sequence[str] | None) -> None:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if (arguments.app is not None) + (arguments.server is not None) + arguments.rules != 1:
        parser.error("say what to look at: an app, as in main:app, or --server, or --rules")
    if arguments.rules:
        say(document(), end="")
        return
    level = LEVELS[arguments.level]
    try:
        found = _server(arguments.server, level) if arguments.server is not None else _app(arguments, level)
    except (ProbeError, TargetError, AppError) as error:
        remark(f"error: {error}")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(any(finding.rule.level is Level.ERROR for finding in found))


class TargetError(Exception):
    """There is no such app."""


def _server(command: str, level: Level) -> list[Finding]:
    report = probe(command)
    found = _shown(report.findings, level)
    for rule, what in report.not_offered:
        say(f"not asked: {rule.id}, for want of {what}")
    return found


def _app(arguments: argparse.Namespace, level: Level) -> list[Finding]:
    app = _load(arguments.app)
    requests = list(usual(app, arguments.path))
    remark(f"asks {arguments.app} for {len(requests)} responses; each may take {PATIENCE:g} s")
    examined = anyio.run(examine, app, requests, Level.NOTE, backend=arguments.backend)
    for asked, answer in examined.answers.items():
        if isinstance(answer, Exception):
            say(f"{asked}: the app has raised {type(answer).__name__}: {answer}")
    say(f"{len(examined.answers)} conversations")
    return _shown(examined.findings, level)


def _shown(findings: Iterable[Finding], level: Level) -> list[Finding]:
    """Print them, the heaviest first; what conversations show, once, and how often it was."""
    found = sorted((each for each in findings if each.rule.level >= level), key=lambda each: -each.rule.level)
    times = Counter((each.rule.id, each.side) for each in found)
    for each in found:
        again = times.pop((each.rule.id, each.side), 0) if each.where != CLIENT else 1
        if again:
            say(f"{each}, {again} times" if again > 1 else str(each))
    if not found:
        say("nothing found")
    return found


def _load(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise TargetError(f"an app is named module:attribute, as in main:app, not {name!r}")
    sys.path.insert(0, ".")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        what = error if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise TargetError(f"{name!r} can't be loaded: {what}") from None
    if isinstance(found, list | tuple):
        found = Router(found)
    if not callable(found):
        raise TargetError(f"{name!r} is no ASGI app, but {type(found).__name__}")
    return found


class _Parser(argparse.ArgumentParser):
    """One that says when its help can't be written, which argparse's own keeps to itself."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            say(message, end="")
        else:
            super()._print_message(message, file)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m microasgi.lint", description="Who breaks ASGI here, the app or the server?")
    parser.add_argument("app", nargs="?", help="module:attribute, as in main:app: call this app in process, as a server would")
    parser.add_argument("--path", action="append", default=[], help="ask the app for this path; may be repeated (default: its routes)")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio", help="the event loop for the app (default: asyncio)")
    known = ", ".join(KNOWN)
    parser.add_argument("--server", metavar="COMMAND", help=f'start this server and be its client: "… {{app}} … {{port}}", or {known}')
    parser.add_argument("--rules", action="store_true", help="print all rules, in Markdown")
    parser.add_argument("--level", choices=LEVELS, default="warn", help="the least to show (default: warn)")
    return parser


if __name__ == "__main__":
    main()
