"""What is known of a conversation at one moment, and how an event changes it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class State:
    """What is known at one moment.

    phase, stage: of the exchange, and of the delivery of a cancellation.
    means: what that stage is in this case, if there is more to say than of any.
    wire: `open`, `congested` or `closed`.
    reading: whether the server reads.
    handler: `` before its call, `works`, `waits`, `cancelled` or `ended`.
    at, chain: where it waits, and through which of its functions.
    waits_for: what the server waits for.
    done: whether the last byte of the response was handed over, as far as the app has said so or the client has left with all of it.
    gone: whether the client has left.
    """

    phase: str = ""
    stage: str = ""
    means: str = ""
    wire: str = ""
    reading: bool = True
    handler: str = ""
    at: str = ""
    chain: Sequence[str] = ()
    waits_for: str = ""
    done: bool = False
    gone: bool = False


TURNS = (" in __sleep0", " in checkpoint", " in cancel_shielded_checkpoint")
"""Where a task waits for nothing, on asyncio and on trio."""


def is_turn(facts: dict[str, Any]) -> bool:
    """Whether a wait is `sleep(0)`, of whichever loop."""
    return str(facts.get("inner") or facts.get("at")).endswith(TURNS)


def following(state: State, kind: tuple[str, str], facts: dict[str, Any]) -> State:
    """What is known after an event."""
    match kind:
        case ("client", "close"):
            return replace(state, gone=True, done=state.done or facts.get("whole", False))
        case ("wire", "open" | "drained"):
            return replace(state, wire="open")
        case ("wire", "congested"):
            return replace(state, wire="congested")
        case ("wire", "close" | "abort" | "lost"):
            return replace(state, wire="closed")
        case ("wire", "pause" | "resume"):
            return replace(state, reading=kind[1] == "resume")
        case ("core", "phase"):
            return replace(state, phase=facts["new"], done=state.done or facts["new"] == "DONE")
        case ("core", "head"):
            return replace(state, phase="WAITING", done=False)
        case ("core", "waits for"):
            return replace(state, waits_for=facts["new"])
        case ("asgi", "call"):
            return replace(state, handler="works", done=False, at="", chain=())
        case ("asgi", "send"):
            message = facts["message"]
            return replace(state, done=state.done or ends_it(message))
        case ("asgi", "end"):
            return replace(state, handler="ended", at="", chain=())
        case ("handler", "stage"):
            return replace(state, stage=facts["new"], means="")
    return replace(state, **_handler(kind[1], facts)) if kind[0] == "handler" and not facts.get("task") else state


def ends_it(message: dict[str, Any]) -> bool:
    """Whether this is the app's last word to the client."""
    return message["type"] == "websocket.close" or (message["type"] == "http.response.body" and not message.get("more_body"))


def _handler(what: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What the request's own task does."""
    match what:
        case "wait":
            return {"handler": "waits", "at": facts.get("at") or "", "chain": facts.get("chain") or ()}
        case "go on":
            return {"handler": "works"}
        case "thrown":
            return {"handler": "cancelled"}
    return {}
