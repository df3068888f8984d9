"""What the scope's `extensions` offer beyond ASGI's own: functions that look like no data, and numbers that an app may change.

scope["extensions"]["microasgi.disconnect"]["subscribe"](callback)      `Presence.subscribe`
scope["extensions"]["microasgi.limits"]["body"] = 5_000_000             before the first `receive()`: see `Allowance`
"""

from collections.abc import Callable
from typing import Any, TypedDict


class Functions(dict[str, Any]):
    """An extension that is a function: `extension["subscribe"]`, as in any mapping, in one without items.

    Apps echo their scope, as JSON too, and a function isn't data: whoever looks through it finds it empty.
    """

    __slots__ = ("_subscribe",)

    def __init__(self, subscribe: Callable[[Callable[[], object]], Callable[[], object]]) -> None:
        self._subscribe = subscribe

    def __missing__(self, name: str) -> Any:
        if name == "subscribe":
            return self._subscribe
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name == "subscribe"

    def __bool__(self) -> bool:
        return True

    def get(self, name: str, default: Any = None) -> Any:
        return self._subscribe if name == "subscribe" else default


class Allowance(TypedDict, total=False):
    """What a request may bring, as the extension `microasgi.limits`: the app may say otherwise until it asks for the body.

    body: bytes of the body; 0 is as many as come. With more of them the server answers 413, and its client counts as gone.
    """

    body: int
