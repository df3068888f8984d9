"""All rules as a text: `python -m microasgi.lint --rules` prints what is in `ASGI.md` beside this package."""

from collections.abc import Iterator

from microasgi.lint import apps
from microasgi.lint.probes import probing
from microasgi.lint.rule import RULES, Moment, Rule, Side, Spec

WITH = (apps, probing)
"""The modules that have rules of their own beside those for conversations."""

_LETTERS = "AEHWL"

_BLAMED = {Side.APP: "app", Side.SERVER: "server", Side.SENDER: "who sends it"}

_LOOKED = {
    Moment.CALLED: "the scope",
    Moment.RECEIVED: "received",
    Moment.SENDING: "sent",
    Moment.SENT: "after `send()`",
    Moment.REFUSED: "after `send()`",
    Moment.RETURNED: "at the end",
    Moment.EXAMINED: "app alone",
    Moment.PROBED: "server alone",
}

_HEAD = """\
# ASGI, rule by rule

What `microasgi.lint` checks. Each rule is said in our words; the section that it comes from is named, and its words are what counts.

* **Level.** `ERROR`: the spec says *must*, or leaves no other form. `WARN`: it says *should*, or asks for something without a word on what
  else may be. `NOTE`: it is legal, but worth a look; shown only on demand.
* **By whom** a rule is broken: by the app, by the server, or by whichever of both has sent a message.
* **Looked at** in a conversation: the scope, what is received and sent, what `send()` does, and where the app returns. `server alone` is
  asked by a client of ours (`python -m microasgi.lint --server …`), `app alone` by a server of ours (`python -m microasgi.lint app:app`).

What a spec has as optional may be missing, and which version a server promises decides what is asked of it.

*Made by `python -m microasgi.lint --rules`; the code is in [lint](lint).*
"""


def ordered() -> list[Rule]:
    """The rules in the order of the documents."""
    return sorted(RULES.values(), key=lambda rule: (_LETTERS.index(rule.id[0]), int(rule.id.partition("-")[2])))


def document() -> str:
    """The whole text."""
    return "\n".join([_HEAD, *(line for spec in Spec for line in _chapter(spec))])


def _chapter(spec: Spec) -> Iterator[str]:
    yield f"## {spec.value}"
    yield ""
    yield f"[{spec.url}]({spec.url})"
    yield ""
    yield "| | section | rule | level | by whom | looked at |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for rule in ordered():
        if rule.spec is spec:
            looked = ", ".join(dict.fromkeys(_LOOKED[moment] for moment in rule.moments))
            yield f"| {rule.id} | {rule.section} | {rule.says} | {rule.level.name} | {_BLAMED[rule.side]} | {looked} |"
    yield ""
