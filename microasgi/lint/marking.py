"""What is found in a request that is watched, told where it happens: an event among the others of its tap.

    watch(marked(app))

| what | facts |
|---|---|
| lint | rule, level, side, detail, says, document, section |
"""

from collections.abc import Callable

from microasgi.asgi import ASGIApp
from microasgi.lint import middleware
from microasgi.lint.middleware import Lint
from microasgi.lint.rule import Finding
from microasgi.watching.members import present

HERE = middleware.__file__
"""What only passes on what is said: for `tapped(beyond=…)`."""


def marked(app: ASGIApp, report: Callable[[Finding], object] | None = None, *, details: bool = True) -> ASGIApp:
    """The same app, in which whoever breaks a rule of ASGI is told to the tap of the request. Where nobody watches, nobody hears of it.

    :param report: hears of it, too, also of what is found in the lifespan
    :param details: whether it is told what was wrong, in which there may be a value from a message; else only which rule was broken
    """

    def tell(finding: Finding) -> None:
        if report is not None:
            report(finding)
        if (member := present.get()) is not None:
            rule = finding.rule
            facts = {"rule": rule.id, "level": rule.level.name, "side": finding.side.value, "detail": finding.detail if details else ""}
            member.finds("lint", {**facts, "says": rule.says, "document": rule.spec.value, "section": rule.section})

    return Lint(app, tell)
