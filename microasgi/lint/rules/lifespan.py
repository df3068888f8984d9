"""The rules of the lifespan, and of what it shares with requests: an order, a state, an event loop."""

from collections.abc import Iterator, Mapping
from typing import Any

from microasgi.lint.rule import Level, Moment, Side, Spec, rule, shown
from microasgi.lint.shapes import DICT, MESSAGES, Key, faults
from microasgi.lint.talks import Heard, Said, Talk

STATE, STARTUP, SHUTDOWN = "Lifespan State", "Startup", "Shutdown"


@rule("L-1", Spec.LIFESPAN, "Scope", Level.ERROR, Side.SERVER, Moment.CALLED, "lifespan")
def scope_has_its_keys(_: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """`state` is a dict, or missing."""
    yield from faults((Key("state", DICT),), scope)


@rule("L-2", Spec.LIFESPAN, "Startup Complete", Level.ERROR, Side.SERVER, Moment.CALLED, "http", "websocket")
def nothing_before_the_startup(talk: Talk, _: object) -> Iterator[str]:
    """No request comes before the app has answered the startup."""
    if talk.lifespan is not None and talk.lifespan.heard is Heard.OPEN and talk.lifespan.said is Said.NOTHING:
        yield "a request, but the app has not answered 'lifespan.startup'"


@rule("L-3", Spec.LIFESPAN, STARTUP, Level.ERROR, Side.SERVER, Moment.RECEIVED, "lifespan.startup")
def one_startup(talk: Talk, _: object) -> Iterator[str]:
    """There is one startup, before anything else."""
    if talk.heard is not Heard.NOTHING:
        yield "another 'lifespan.startup', or one behind the shutdown"


@rule("L-4", Spec.LIFESPAN, SHUTDOWN, Level.ERROR, Side.SERVER, Moment.RECEIVED, "lifespan.shutdown")
def a_shutdown_behind_a_startup(talk: Talk, _: object) -> Iterator[str]:
    """The shutdown comes behind a startup that was completed."""
    if talk.said is not Said.ACCEPTED or talk.heard is not Heard.OPEN:
        yield f"'lifespan.shutdown', but the app has said {talk.said.value}"


@rule(
    "L-5", Spec.LIFESPAN, "Startup Complete", Level.ERROR, Side.APP, Moment.SENDING, "lifespan.startup.complete", "lifespan.startup.failed"
)
def one_answer_to_a_startup(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """A startup is answered once: it is complete, or it has failed."""
    if talk.said is not Said.NOTHING:
        yield f"{shown(message['type'])}, but the startup has its answer"


@rule(
    "L-6", Spec.LIFESPAN, "Startup Complete", Level.WARN, Side.APP, Moment.SENDING, "lifespan.startup.complete", "lifespan.startup.failed"
)
def a_startup_is_waited_for(talk: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """An app answers the startup when it has received it."""
    if talk.heard is Heard.NOTHING:
        yield f"{shown(message['type'])}, before the app has called receive()"


@rule("L-7", Spec.LIFESPAN, "Shutdown Complete", Level.WARN, Side.APP, Moment.SENDING, "lifespan.shutdown.complete")
def a_shutdown_is_waited_for(talk: Talk, _: object) -> Iterator[str]:
    """An app answers the shutdown when it has received it. (One that fails earlier has no other way to say so.)"""
    if talk.heard is not Heard.GONE:
        yield "'lifespan.shutdown.complete', before the shutdown"


@rule(
    "L-8",
    Spec.LIFESPAN,
    "Startup Failed, and Shutdown Failed",
    Level.ERROR,
    Side.APP,
    Moment.SENDING,
    *(k for k in MESSAGES if ".failed" in k),
)
def a_reason_is_text(_: Talk, message: Mapping[str, Any]) -> Iterator[str]:
    """The `message` of what has failed is a str, or missing."""
    yield from faults(MESSAGES[message["type"]], message)


@rule("L-9", Spec.LIFESPAN, "Scope", Level.WARN, Side.APP, Moment.RETURNED, "lifespan")
def who_has_none_raises(talk: Talk, _: object) -> Iterator[str]:
    """An app without a lifespan raises an exception: one that returns without a word leaves open whether it has started."""
    if talk.said is Said.NOTHING and talk.refusals == 0:
        yield "the app has returned from its lifespan, and has said nothing"


@rule("L-10", Spec.LIFESPAN, STATE, Level.ERROR, Side.SERVER, Moment.CALLED, "http", "websocket")
def the_state_is_passed_on(talk: Talk, scope: Mapping[str, Any]) -> Iterator[str]:
    """Every request has the lifespan's state, as a shallow copy of its own: what the app has put in is in there, the same objects."""
    if talk.lifespan is None or talk.lifespan.said is not Said.ACCEPTED or not isinstance(talk.lifespan.scope.get("state"), dict):
        return
    state, own = talk.lifespan.scope["state"], scope.get("state")
    if not isinstance(own, dict):
        yield f"the lifespan has a state, and the request's is {shown(own)}"
    elif own is state:
        yield "the request's state is the lifespan's, and no copy"
    elif lost := [name for name, value in talk.lifespan.started.items() if state.get(name) is value and own.get(name) is not value]:
        yield f"the request's state has not the lifespan's {shown(lost)}"


@rule("L-11", Spec.LIFESPAN, "beginning", Level.ERROR, Side.SERVER, Moment.CALLED, "http", "websocket")
def one_event_loop(talk: Talk, _: object) -> Iterator[str]:
    """Requests run in the event loop that their lifespan runs in."""
    if talk.lifespan is not None and talk.lifespan.loop != talk.loop:
        yield "a request, in another event loop than the lifespan"


@rule("L-12", Spec.LIFESPAN, SHUTDOWN, Level.WARN, Side.SERVER, Moment.RECEIVED, "lifespan.shutdown")
def nothing_is_open_at_the_end(talk: Talk, _: object) -> Iterator[str]:
    """The shutdown comes when no connection is open any more: every response is complete, or its app knows that its client is gone."""
    running = [other.where for other in talk.others if not other.is_over]
    if running:
        yield f"'lifespan.shutdown', while there runs {', '.join(running[:3])}"
