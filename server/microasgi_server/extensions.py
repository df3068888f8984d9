"""What the scope's `extensions` offer beyond ASGI's own: functions that look like no data, and numbers that an app may change.

scope["extensions"]["microasgi.disconnect"]["subscribe"](callback)      `Presence.subscribe`
scope["extensions"]["microasgi.shutdown"]["subscribe"](callback)        `Presence.subscribe_shutdown`
scope["extensions"]["microasgi.limits"]["body"] = 5_000_000             before the first `receive()`: see `Allowance`
scope["extensions"]["microasgi.limits"]["late"] = True                  before the app returns: see `Allowance`
"""

from collections.abc import Callable
from typing import Any, TypeAlias, TypedDict

Subscribe: TypeAlias = Callable[[Callable[[], object]], Callable[[], object]]
"""Takes a callback, and returns what takes it back."""


class Functions(dict[str, Any]):
    """An extension that is a function: `extension["subscribe"]`, as in any mapping, in one without items.

    Apps echo their scope, as JSON too, and a function isn't data: whoever looks through it finds it empty.
    """

    __slots__ = ("subscribe",)

    subscribe: Subscribe
    """Set by who makes it: a constructor of its own would cost each request twice as much."""

    def __missing__(self, name: str) -> Any:
        if name == "subscribe":
            return self.subscribe
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name == "subscribe"

    def __bool__(self) -> bool:
        return True

    def get(self, name: str, default: Any = None) -> Any:
        return self.subscribe if name == "subscribe" else default


class Allowance(TypedDict, total=False):
    """The limits of a request, as the extension `microasgi.limits`: what the app says of them.

    body: bytes of the body; 0 is as many as come. With more of them the server answers 413, and its client counts as gone. The app may
        say otherwise until it asks for the body.
    late: whether the app has stopped its handler after a time of its own, and told of it. A response that then breaks off is no fault.
    """

    body: int
    late: bool
