"""What a rule is, and what is found by it.

A rule is a function under `@rule`: its docstring says in our words what the spec asks for, and it yields a sentence for each thing that is
wrong. When it is asked, and about what, is its `Moment`. That the spec allows something is no rule: whoever keeps to it hears nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, NamedTuple, TypeAlias


class Level(IntEnum):
    """How much a finding weighs.

        found = [finding for finding in lint.findings if finding.rule.level >= Level.WARN]

    The worse, the greater.
    """

    NOTE = 1
    """Legal, but worth a look."""
    WARN = 2
    """The spec says *should*, or asks for it without a word on what else may be."""
    ERROR = 3
    """The spec says *must*, or leaves no other form."""


class Side(Enum):
    """Who has broken a rule.

        ours = [finding for finding in lint.findings if finding.side is Side.APP]

    A middleware is app for what is around it, and server for what is in it.
    """

    APP = "app"
    SERVER = "server"
    SENDER = "sender"
    """Of a rule, never of a finding: the one of both that the message came from."""


class Moment(Enum):
    """When a rule is asked, and what about."""

    CALLED = "the app is called"
    """About the scope."""
    RECEIVED = "receive() has returned"
    """About the message."""
    SENDING = "send() is called"
    """About the message."""
    SENT = "send() has returned"
    """About the message."""
    REFUSED = "send() has raised"
    """About the exception."""
    RETURNED = "the app has returned"
    """About the scope. An app that raises has its reasons."""
    EXAMINED = "asked by a server"
    """About an app that we call, and what it does then: see `microasgi.lint.apps`."""
    PROBED = "asked by a client"
    """About a server that runs, and the client is ours: see `microasgi.lint.probes`."""


class Spec(Enum):
    """The documents, by the name that a finding has for them."""

    MAIN = "ASGI"
    WWW = "ASGI HTTP & WebSocket"
    LIFESPAN = "ASGI Lifespan"
    EXTENSIONS = "ASGI Extensions"

    @property
    def url(self) -> str:
        page = {Spec.MAIN: "specs/main", Spec.WWW: "specs/www", Spec.LIFESPAN: "specs/lifespan", Spec.EXTENSIONS: "extensions"}[self]
        return f"https://asgi.readthedocs.io/en/latest/{page}.html"


Check: TypeAlias = Callable[..., Iterator[str]]


@dataclass(frozen=True)
class Rule:
    """What the spec asks for.

        def told(rule: Rule) -> str:
            return f"{rule.id}: {rule.says} ({rule.source})"

    id: as in `H-17`: A for the main spec, E for extensions, H for HTTP, W for WebSockets, L for the lifespan.
    says: the function's docstring.
    moments: when it is asked; a client may ask the same rule, too.
    types: of the scopes or messages that it is about; none stands for every one that has a type, `MALFORMED` for those that have none.
    """

    id: str
    spec: Spec
    section: str
    level: Level
    side: Side
    moments: tuple[Moment, ...]
    types: tuple[str, ...]
    says: str
    check: Check = field(repr=False, compare=False)

    @property
    def source(self) -> str:
        """Where it stands."""
        return f"{self.spec.value}, {self.section}"


class Finding(NamedTuple):
    """A rule that was broken; as text, it is a line for a log.

        def report(finding: Finding) -> None:
            print(finding.where, finding.detail, finding.rule.says)

    side: by whom: the app or the server.
    detail: what was wrong.
    where: in which conversation: `GET /items/1`.
    """

    rule: Rule
    side: Side
    detail: str
    where: str

    @property
    def told(self) -> str:
        """In a sentence, for a log that has its own way to show levels."""
        return f"{self.rule.id}, by the {self.side.value}: {self.detail} ({self.rule.source}; {self.where})"

    def __str__(self) -> str:
        return f"{self.rule.level.name} {self.told}"


CLIENT = Moment.PROBED.value
"""Where a probe has found something."""

RULES: dict[str, Rule] = {}
"""Every rule by its id.

    assert RULES["H-19"].level is Level.ERROR

Those for conversations; with `microasgi.lint.document`, all of them.
"""


BOTH_WAYS = (Moment.RECEIVED, Moment.SENDING)
"""The moments of a rule about messages, whoever sends them."""

MALFORMED = ""
"""In place of the type of something that has none."""


def rule(
    id: str, spec: Spec, section: str, level: Level, side: Side, moments: Moment | tuple[Moment, ...], *types: str
) -> Callable[[Check], Check]:
    """Make a rule of a function: `check(talk, subject)`; of one that is `PROBED`: `check(peer)`."""
    when = moments if isinstance(moments, tuple) else (moments,)

    def made(check: Check) -> Check:
        if id in RULES:
            raise ValueError(f"there are two rules {id}")
        says = " ".join((check.__doc__ or "").split())
        RULES[id] = Rule(id, spec, section, level, side, when, types, says, check)
        return check

    return made


def type_of(subject: Any) -> str:
    """A scope's or a message's."""
    kind = subject.get("type") if isinstance(subject, dict) else None
    return kind if isinstance(kind, str) and kind else MALFORMED


def shown(value: object) -> str:
    """A value as a finding shows it: cut, on one line, and whatever its `repr` does."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"a {type(value).__name__} whose repr raises {type(error).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
