"""Who keeps to ASGI? Servers, each with a probing app and a client of ours, and apps of frameworks, called in process by `microasgi.lint`.

`python -m benchmarks.lint` asks all that are installed, in a minute, and writes benchmarks/results/lint.json and its place in
benchmarks/README.md; with `--redraw` only that place, from the results that are there. No quiet machine is needed.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import date
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any

import anyio

from benchmarks.errors import BenchmarkError
from benchmarks.report import RESULTS, grid, with_place
from benchmarks.running import ROOT
from benchmarks.stacks import FRAMEWORKS, SERVERS, Stack, missing_packages
from microasgi.lint import RULES, Finding, Level
from microasgi.lint.apps import examine, usual
from microasgi.lint.probes.probing import probe

STACKS = (
    *(Stack("bare", "microasgi", loop) for loop in ("asyncio", "uvloop", "trio")),
    Stack("bare", "uvicorn-h11", "asyncio"),
    Stack("bare", "uvicorn-httptools", "uvloop"),
    Stack("bare", "hypercorn", "asyncio"),
    Stack("bare", "hypercorn", "trio"),
    Stack("bare", "granian", "uvloop"),
    Stack("bare", "daphne", "asyncio"),
    Stack("bare", "gunicorn", "uvloop"),
)

APPS = ("microasgi", "starlette", "fastapi", "litestar", "quart", "django")

PATHS = ("/once", "/json", "/users/ann/items/3", "/read", "/receive", "/stream/1", "/wait?token=lint&seconds=0.1")
"""Of the routes that all of `benchmarks/apps` have: what ends by itself, and what waits for its client to leave."""

FILE = RESULTS / "lint.json"

PAGE = ROOT / "benchmarks" / "README.md"

BEGIN = "<!-- lint -->"

Result = dict[str, Any]
"""date, and of every server and every app: name, version, and what was found: rule, level, detail; of servers also what isn't offered."""


def main() -> None:
    """Ask everybody, and write down what they did."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lint", description="Who keeps to ASGI, of servers and frameworks?")
    parser.add_argument("--redraw", action="store_true", help="ask nobody: write the place in benchmarks/README.md again")
    parser.add_argument("--app", choices=APPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.app:
        print(json.dumps(_asked_app(arguments.app)))
        return
    if not arguments.redraw:
        FILE.write_text(json.dumps(_asked(), indent=1) + "\n")
    PAGE.write_text(with_result(PAGE.read_text(), json.loads(FILE.read_text())))


def _asked() -> Result:
    servers, apps = [], []
    for stack in STACKS:
        if not stack.missing:
            print(stack.name, file=sys.stderr, flush=True)
            servers.append(_asked_server(stack))
    for name in APPS:
        if not missing_packages([FRAMEWORKS[name].package]):
            print(name, file=sys.stderr, flush=True)
            # In a process of its own: Django's settings are global, and so is what others set up.
            command = [sys.executable, "-m", "benchmarks.lint", "--app", name]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
            apps.append(json.loads(done.stdout.splitlines()[-1]))
    return {"date": date.today().isoformat(), "servers": servers, "apps": apps}


def _asked_server(stack: Stack) -> Result:
    server = SERVERS[stack.server]
    command = server.command.replace(" --workers 0", "")  # which, on trio, leaves signals to nobody
    report = probe("python -m " + command.format(app="{app}", port="{port}", loop=stack.loop))
    lacks = [f"{rule.id} ({what})" for rule, what in report.not_offered]
    return {
        "name": f"{server.name}, {stack.loop}",
        "version": version(command.split()[0]),
        "found": _plain(report.findings),
        "lacks": lacks,
    }


def _asked_app(name: str) -> Result:
    framework = FRAMEWORKS[name]
    module, _, attribute = framework.app.partition(":")
    app = getattr(import_module(f"benchmarks.apps.{module}"), attribute)
    examined = anyio.run(partial(examine, app, usual(app, PATHS), Level.NOTE))
    return {"name": framework.name, "version": version(framework.package), "found": _plain(examined.findings)}


def _plain(findings: Iterable[Finding]) -> list[Result]:
    """The first finding of each rule, the heaviest first."""
    first = {finding.rule.id: finding for finding in reversed([*findings])}
    ordered = sorted(first.values(), key=lambda each: (-each.rule.level, each.rule.id))
    told = {each.rule.id: re.sub(r"\b\d{5}\b", "…", each.detail) for each in ordered}  # a port, different each time
    return [{"rule": each.rule.id, "level": each.rule.level.name, "detail": told[each.rule.id]} for each in ordered]


def with_result(text: str, result: Result) -> str:
    """The page, with what stands between the marks made anew."""
    return with_place(PAGE, text, BEGIN, section(result))


def section(result: Result) -> str:
    """Who has broken how many rules, and which, in Markdown."""
    servers, apps = result["servers"], result["apps"]
    columns = (*(level.name for level in reversed(Level)), "rules")
    lines = [
        *grid(("server", *columns, "has not"), (_row(each, ", ".join(each["lacks"])) for each in servers)),
        "",
        *grid(("app", *columns), map(_row, apps)),
        "",
        f"How many rules were broken, of {len(RULES)}, by the server or by the app. What they say is in [ASGI.md](../microasgi/ASGI.md).",
        "",
        "What was seen, once for each rule, of ERROR and WARN:",
        "",
        *_details(servers + apps),
        "",
        f"*Made by `python -m benchmarks.lint` on {result['date']}.*",
    ]
    return "\n".join(lines)


def _row(each: Result, *more: str) -> tuple[str, ...]:
    counts = [sum(found["level"] == level.name for found in each["found"]) for level in reversed(Level)]
    rules = ", ".join(found["rule"] for found in each["found"]) or "none"
    return (f"{each['name']} {each['version']}", *map(str, counts), rules, *more)


def _details(everybody: list[Result]) -> Iterator[str]:
    """A line for each rule: who, and what."""
    broken: dict[str, dict[str, list[str]]] = {}
    for each in everybody:
        for found in each["found"]:
            if found["level"] != Level.NOTE.name:
                broken.setdefault(found["rule"], {}).setdefault(found["detail"], []).append(each["name"])
    for rule in sorted(broken, key=lambda id: (id[0], int(id[2:]))):
        told = "; ".join(f"{', '.join(names)}: {detail}".replace("|", "\\|") for detail, names in broken[rule].items())
        yield f"* **{rule}** {RULES[rule].says} {told}."


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        pass
