"""`microasgi trace`: one request, from the byte to the await, with a client that leaves."""

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from microasgi_server import StartupError
from microasgi_server.command.output import remark, say
from microasgi_server.command.parser import Parser, add_target
from microasgi_server.kinds import FLAG, PATH, TEXT, Kind, choice
from microasgi_server.options import OPTIONS, Groups, Option

from microasgi.checks import encode_header
from microasgi.command.hosted import Task
from microasgi.command.hosting import Host, hosting
from microasgi.command.serve import FOREIGN_APPS
from microasgi.command.servers import LOOPS, SERVERS
from microasgi.inspector.client import Client, Request
from microasgi.inspector.exports import as_json, as_perfetto
from microasgi.inspector.findings import findings
from microasgi.inspector.har import as_har
from microasgi.inspector.ladder import Style, ladder, sentences
from microasgi.inspector.leaving import WAYS, Ending, Leaves, Sends, Way
from microasgi.inspector.reasons import Blocked, Seen, reasons
from microasgi.inspector.summary import story, summary
from microasgi.inspector.timeline import timeline
from microasgi.inspector.told import Recording, Shown, in_order

STILL_AT_WORK = 3
"""The exit code, if the handler still worked so long after its client had left."""

CUT_SHORT = 130
"""The same, if it was Ctrl+C that made the client leave, or ended the wait for its handler."""

LONGEST = 60.0
"""Seconds after which a client leaves that has no response yet."""

UNLESS_TOLD = 1.0
"""Seconds after which a client leaves that is to leave in some way, and not told when."""

HOUR = 3600.0

NOTHING_SEEN = Seen()

_METHOD = re.compile(r"[A-Z-]+")
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|m|)")
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}


def _duration(text: str) -> float:
    """Seconds, from a number with or without a unit."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return float(found[1]) * _UNITS[found[2]]


def _pair(text: str) -> tuple[str, str]:
    """A header field, from a line."""
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(text)
    encode_header(name, value.strip())
    return name, value.strip()


DURATION = Kind("a time such as 1s, 500ms or 1.5, an hour at most", lambda value: value <= HOUR, _duration, "TIME")
FIELDS = Kind("a header field, as NAME: VALUE", lambda value: True, lambda text: (_pair(text),), "NAME:VALUE", several=True)
SIZE = Kind("a whole number of bytes, 1 or more", lambda value: value > 0, int, "BYTES")

_LOOP = next(option for option in OPTIONS if option.name == "loop")


@dataclass(frozen=True)
class _Option(Option):
    """One that only this command has: its variable is no other command's."""

    @property
    def variable(self) -> str:
        return f"MICROASGI_TRACE_{self.name.upper()}"


GROUPS: Groups = {
    "how its client leaves": (
        _Option("leave_after", DURATION, f"when; without it, once it has its response, and after {LONGEST:g} s at the latest"),
        _Option("by", choice(*WAYS), "; ".join(f"{name}: {way.means}" for name, way in WAYS.items())),
    ),
    "what it sends": (
        _Option("body", TEXT, "the request's body; what a WebSocket's client says"),
        _Option("header", FIELDS, "one more header field"),
        _Option("size", SIZE, "of the body of a client that leaves behind one"),
    ),
    "where it runs": (
        _Option("server", choice(*SERVERS), "the server; of another than ours no wire is seen"),
        Option("loop", _LOOP.kind, "the event loop; " + _LOOP.help),
        Option("cancel_on_disconnect", FLAG, FOREIGN_APPS),
        _Option("patience", DURATION, f"for the handler to end once its client has left; then the exit code is {STILL_AT_WORK}"),
    ),
    "what is made of it": (
        _Option("ascii", FLAG, "draw with nothing but ASCII"),
        _Option("json", PATH, "write the events to this file, as JSON, one a line"),
        _Option("perfetto", PATH, "write them for Perfetto, VizTracer and chrome://tracing"),
        _Option("har", PATH, "write them as a HAR, for browsers' tools"),
    ),
}

DEFAULTS: dict[str, Any] = {
    **{option.name: None for group in GROUPS.values() for option in group},
    "body": "",
    "header": (),
    "size": 1_000_000,
    "server": "microasgi",
    "loop": "asyncio",
    "cancel_on_disconnect": False,
    "patience": 5.0,
    "ascii": False,
}


def add(parser: Parser) -> None:
    """The options of `microasgi trace`."""
    add_target(parser, "module:attribute, as in main:routes: an ASGI app, a Router or a list of routes")
    parser.usage = "%(prog)s TARGET METHOD PATH [OPTION ...]"
    parser.add_argument("method", metavar="METHOD", help="the request's, as GET; WEBSOCKET opens one")
    parser.add_argument("path", metavar="PATH", help="what it asks for, with its query")
    parser.add_options(GROUPS, DEFAULTS)
    parser.set_defaults(wrong=parser.error)


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    seconds: after which the client leaves, if its way has a time.
    """

    request: Request
    way: Way
    seconds: float
    patience: float


def trace(arguments: argparse.Namespace) -> None:
    """Print the ladder of one request.

    :raises SystemExit: 2 for a wrong command, 3 if the handler was still working, 130 if it was cut short by Ctrl+C
    """
    plan = planned(arguments)
    for option in ("json", "perfetto", "har"):
        if (file := getattr(arguments, option)) is not None and not Path(file).parent.is_dir():
            arguments.wrong(f"{Path(file).parent}: there is no such directory for --{option}")
    began = datetime.now(UTC)
    names = ("target", "factory", "app_dir", "server", "loop", "cancel_on_disconnect", "method", "path")
    task = Task(**{name: getattr(arguments, name) for name in names})
    with hosting(task.write(), sees_the_wire=arguments.server == "microasgi") as host:
        events, client, seen, code = _run(host, plan)
    if host.events.left_out:
        remark(f"{host.events.left_out:,} events in the middle are left out")
    say(shown(events, Style.of(sys.stdout, plain=arguments.ascii), seen, answers=host.answers))
    title = f"{arguments.method} {arguments.path}"
    _write(arguments.json, lambda: as_json(events))
    _write(arguments.perfetto, lambda: as_perfetto(events, title))
    by = "microasgi", version("microasgi")
    _write(arguments.har, lambda: as_har(events, plan.request, client.answer.kept, began, by))
    if code:
        raise SystemExit(code)


def _write(file: str | None, text: Callable[[], str]) -> None:
    """Write it to a file, if one was asked for.

    :raises StartupError: that can't be written
    """
    try:
        if file is not None:
            Path(file).write_text(text(), encoding="utf-8")
    except OSError as error:
        raise StartupError(f"{file} can't be written: {error.strerror}") from None


def shown(events: Sequence[Shown], style: Style, seen: Seen = NOTHING_SEEN, *, answers: bool = True) -> str:
    """The ladder, and the sentences below it: what happened, why the handler hasn't stopped, and what is against the rules.

    :param answers: whether all is told that has happened
    """
    told = [summary(events), *reasons(_to_the_end(events), story(events), seen), *findings(events)]
    if not answers:
        at = next((each.at for each in reversed(seen.blocked) if each.at), "")
        stood = f"it stands in `{at}`, and lets no other thread of Python's run" if at else "nobody knows why"
        told = [f"*The app's process doesn't answer*: {stood}. What has happened in it meanwhile isn't known."]
    return "\n".join([ladder(timeline(events), style), *(sentences(each, style) for each in told)])


def _to_the_end(events: Sequence[Shown]) -> list[Shown]:
    """The events, and the present behind them: who computes still does."""
    return [*events, {**events[-1], "lane": "core", "what": "now", "facts": {}}]


@contextmanager
def _leaving(client: Client) -> Iterator[Callable[[], bool]]:
    """At Ctrl+C the client leaves at once, as curl does. Only the first, in this block: who is in a hurry presses it again.

    Gives what tells whether it came.
    """
    came: list[int] = []

    def leave(number: int, frame: object) -> None:
        came.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        client.leave_now()

    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a job in the background ignores it
    if is_ours:
        signal.signal(signal.SIGINT, leave)
    try:
        yield lambda: bool(came)
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _run(host: Host, plan: Plan) -> tuple[list[Shown], Client, Seen, int]:
    """Ask, leave, and wait for the end. Gives what was told, by whom, what was seen from outside, and the exit code."""
    told = Recording()
    client = Client(host.port(), plan.request, plan.way, told, seconds=plan.seconds, patience=LONGEST)
    try:
        with _leaving(client) as cut_short:
            client.run()
        code = CUT_SHORT if cut_short() else 0
        is_over = host.settles(plan.patience)
    except OSError as error:
        host.demand_life()
        raise StartupError(f"the server can't be reached: {error}") from None
    except KeyboardInterrupt:  # what has been seen by now is shown all the same
        is_over, code = host.settles(0), CUT_SHORT
    host.demand_life()
    if not is_over:
        told("watches no longer")
    events = [*told.events, *host.events]
    began = min(event["at"] for event in events)
    blocked = [
        Blocked(each.began - began, each.ended - began, each.at, each.caller) for each in host.blockages.until(1000 * time.perf_counter())
    ]
    return in_order(events), client, Seen(blocked), code or (0 if is_over else STILL_AT_WORK)


def planned(arguments: argparse.Namespace) -> Plan:
    """What the arguments ask for; what is wrong with them ends the command."""
    wrong = arguments.wrong
    method, path = arguments.method, arguments.path
    if method.startswith("/"):
        wrong(f"METHOD comes before PATH: write {path} {method}")
    if not _METHOD.fullmatch(method):
        wrong(f"METHOD is a word in capitals, not {method!r}" + (f"; did you mean {method.upper()}?" if method.isalpha() else ""))
    written = quote(os.fsencode(path if path.startswith("/") else f"/{path}"), safe="".join(map(chr, range(0x21, 0x7F))))
    if written != path:
        wrong(f"PATH is what stands in a URL behind the host, as /items?page=2, not {path!r}; did you mean {written}?")
    if arguments.loop not in ("auto", *LOOPS[arguments.server]):
        wrong(f"{arguments.server} runs on {' or '.join(LOOPS[arguments.server])}, not on {arguments.loop}")
    request = Request(method, path, arguments.header, os.fsencode(arguments.body), arguments.size)
    way = _way(arguments, request, wrong)
    after = arguments.leave_after
    if after is not None and way.leaves in (Leaves.BEFORE_THE_LAST_BYTE, Leaves.NEVER):
        wrong(f"who leaves by {arguments.by} has no time to leave: take --leave-after away")
    seconds = after if after is not None else 0.0 if way.leaves is Leaves.WITH_ITS_ANSWER else UNLESS_TOLD
    return Plan(request, way, seconds, arguments.patience)


def _way(arguments: argparse.Namespace, request: Request, wrong: Any) -> Way:
    """How the client leaves."""
    if arguments.by is None:
        return WAYS["fin" if arguments.leave_after is not None or request.websocket else "after"]
    way = WAYS[arguments.by]
    if way.ending is Ending.GOODBYE and not request.websocket:
        wrong("only a WebSocket has a goodbye: write WEBSOCKET for METHOD")
    if request.websocket and (way.sends is not Sends.ALL or way.leaves in (Leaves.BEFORE_THE_LAST_BYTE, Leaves.WITH_ITS_ANSWER)):
        wrong(f"a WebSocket's client can't leave by {arguments.by}: that is a way of an HTTP request")
    return way
