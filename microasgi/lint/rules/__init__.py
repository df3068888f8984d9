"""What is asked of every conversation, document by document; what only a client can ask is in `microasgi.lint.probes`."""

from collections.abc import Iterator

from microasgi.lint.rule import MALFORMED, RULES, Moment, Rule
from microasgi.lint.rules import extensions, http, lifespan, main, responses, websocket

MODULES = (main, extensions, http, responses, websocket, lifespan)
"""In the order of the documents."""


def asked(moment: Moment, kind: str) -> Iterator[Rule]:
    """The rules for such a moment, about a scope or message of this type."""
    for each in RULES.values():
        if moment in each.moments and (kind in each.types or (not each.types and kind is not MALFORMED)):
            yield each
