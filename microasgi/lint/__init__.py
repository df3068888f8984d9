"""Who breaks ASGI here, the app or the server? A middleware that checks both sides.

    from microasgi.lint import Lint

    app = Lint(app)

rule.py         what a rule is, and a finding
talks.py        how far a conversation is
shapes.py       what scopes and messages have in them
rules/          the rules, by the document that they come from
middleware.py   `Lint`
reports.py      what becomes of findings; marking.py where a request is watched
probes/         what only a client can find out about a server
apps.py         what only a server can find out about an app
document.py     all rules as a text: ASGI.md beside this package

From the command line: `microasgi serve --lint`, `python -m microasgi.lint`.
"""

from microasgi.lint.middleware import Lint
from microasgi.lint.reports import LintError
from microasgi.lint.rule import RULES, Finding, Level, Rule, Side

__all__ = ["RULES", "Finding", "Level", "Lint", "LintError", "Rule", "Side"]
