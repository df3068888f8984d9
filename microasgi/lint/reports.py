"""What becomes of findings: they are kept, or logged."""

import logging
from collections import Counter

from microasgi.lint.rule import Finding, Level, Side

logger = logging.getLogger("microasgi.lint")

_LOGGED = {Level.ERROR: logging.ERROR, Level.WARN: logging.WARNING, Level.NOTE: logging.INFO}


class LintError(AssertionError):
    """A conversation has broken rules of ASGI.

        with pytest.raises(LintError, match="H-26"):
            linted.check()

    findings: which, and who.
    """

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(["rules of ASGI were broken:", *map(str, findings)]))
        self.findings = findings


class LogOnce:
    """A report: one line in the log for each kind of finding, when it is first met; how often each was, `count` says at the end.

    found: how often each rule was broken, by whom.
    """

    def __init__(self) -> None:
        self.found: Counter[tuple[str, Side]] = Counter()

    def __call__(self, finding: Finding) -> None:
        kind = finding.rule.id, finding.side
        self.found[kind] += 1
        if self.found[kind] == 1:
            logger.log(_LOGGED[finding.rule.level], "%s", finding.told)

    def count(self) -> None:
        """Log how often each was met."""
        told = ", ".join(f"{name} by the {side.value} {times} times" for (name, side), times in sorted(self.found.items(), key=str))
        logger.info("Broken rules of ASGI: %s", told or "none")
