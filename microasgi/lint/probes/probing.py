"""All probes of one server."""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from microasgi.lint.probes import http, lifespan, websocket
from microasgi.lint.probes.peer import NotOfferedError, Peer
from microasgi.lint.probes.probe import Probe, all_probes
from microasgi.lint.probes.server import ProbeError, Server, started
from microasgi.lint.rule import CLIENT, RULES, Finding, Rule, Side

MODULES = (http, websocket, lifespan)

AT_ONCE = 6
"""Probes: most of them wait."""

ROUGH = ("A-11", "A-10")
"""Rules whose probes come last, one by one: a server that doesn't survive them shouldn't be blamed for anything else."""


@dataclass
class Report:
    """What came of it.

    findings: one for each thing that is wrong.
    not_offered: what the server doesn't have, and needn't, by the rule.
    """

    findings: list[Finding] = field(default_factory=list)
    not_offered: list[tuple[Rule, str]] = field(default_factory=list)


def probe(command: str, only: Collection[str] = ()) -> Report:
    """Start a server, ask it everything, and stop it.

    :param command: with `{app}` and `{port}` in it, or the name of a server that is known
    :param only: the rules to ask for, if not for all
    :raises ProbeError: there is no such server, or it doesn't answer
    """
    report = Report()
    with started(command, "lives") as server:
        if not server.wait_until_it_accepts():
            raise ProbeError(f"{command!r} doesn't serve the probing app; it said: {server.said().strip() or 'nothing'}")
        peer = Peer(server, command)
        with peer.ask("answer") as asked:  # as early as can be: the app may still be starting
            if asked.answer().status != 200:
                raise ProbeError(f"{command!r} doesn't answer as the probing app does; it said: {server.said().strip() or 'nothing'}")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            wanted = [pair for pair in all_probes() if not only or pair[0].id in only]
            gentle = [pair for pair in wanted if pair[0].id not in ROUGH]
            rough = [pair for pair in wanted if pair[0].id in ROUGH]
            for found in [*pool.map(lambda pair: _asked(peer, *pair), gentle), *(_asked(peer, *pair) for pair in rough)]:
                report.findings += [one for one in found if isinstance(one, Finding)]
                report.not_offered += [one for one in found if not isinstance(one, Finding)]
        report.findings += _noted(server, {finding.rule.id for finding in report.findings})
    return report


def _asked(peer: Peer, rule: Rule, ask: Probe) -> list[Finding | tuple[Rule, str]]:
    """What one probe has found."""
    found: list[Finding | tuple[Rule, str]] = []
    try:
        found += [Finding(rule, Side.SERVER, detail, CLIENT) for detail in ask(peer)]
    except NotOfferedError as error:
        found.append((rule, str(error)))
    except (AssertionError, OSError) as error:
        found.append(Finding(rule, Side.SERVER, str(error) or type(error).__name__, CLIENT))
    return found


def _noted(server: Server, seen: set[str]) -> Iterator[Finding]:
    """What the app's own `Lint` has found meanwhile: the first of each kind that isn't known yet."""
    for note in server.notes.all("finding"):
        if note["id"] not in seen:
            seen.add(note["id"])
            yield Finding(RULES[note["id"]], Side.SERVER, note["detail"], note["where"])
