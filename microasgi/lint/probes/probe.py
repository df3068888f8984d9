"""A probe: it asks a server that runs, and yields what is wrong, as a rule does."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from microasgi.lint.probes.peer import Peer
from microasgi.lint.rule import RULES, Moment, Rule

Probe: TypeAlias = Callable[[Peer], Iterator[str]]

ALSO: list[tuple[str, Probe]] = []
"""Probes of rules that conversations are checked by, too."""


def also(id: str) -> Callable[[Probe], Probe]:
    """Ask a rule's question from outside as well."""

    def made(probe: Probe) -> Probe:
        ALSO.append((id, probe))
        return probe

    return made


def all_probes() -> list[tuple[Rule, Probe]]:
    """Each with the rule that it is about."""
    own = [(rule, rule.check) for rule in RULES.values() if Moment.PROBED in rule.moments]
    return own + [(RULES[id], probe) for id, probe in ALSO]
