"""Attributes that are noticed when they change, and subscriptions when they are made and used."""

from collections.abc import Callable
from functools import partial
from typing import Any

from microasgi_server.presence import Presence
from microasgi_server.taps.events import Teller

Notice = Callable[[Any, Any, Any], None]
"""Is called with the instance, the value before (None, if there was none) and the value after."""


class Noticed:
    """An attribute of the class below, a slot or in the instance's dictionary, whose changes are noticed, just before they happen."""

    def __init__(self, notice: Notice) -> None:
        self._notice = notice

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._slot = next((vars(base)[name] for base in owner.__mro__[1:] if hasattr(vars(base).get(name), "__set__")), None)

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        if self._slot is not None:
            return self._slot.__get__(instance, owner)
        try:
            return instance.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, instance: Any, new: Any) -> None:
        self._notice(instance, getattr(instance, self._name, None), new)
        if self._slot is not None:
            self._slot.__set__(instance, new)
        else:
            instance.__dict__[self._name] = new


def told(what: str, more: Callable[[Any, Any, Any], dict[str, Any]] = lambda *_: {}) -> Noticed:
    """A state, an Enum's, that the instance's `tell` is told of, in the lane core, when it becomes another.

    :param more: facts beside the two names
    """

    def notice(instance: Any, old: Any, new: Any) -> None:
        if old is not None and old is not new:
            instance.tell("core", what, {"old": old.name, "new": new.name, **more(instance, old, new)})

    return Noticed(notice)


def name_of(callback: object) -> str:
    """What a callback is called, for who reads it."""
    while isinstance(callback, partial):
        callback = callback.func
    return str(getattr(callback, "__qualname__", None) or type(callback).__qualname__)


class ToldPresence(Presence):
    """What HTTP's exchanges and WebSockets have in common: who subscribes to the client's departure, and who hears of it.

    tell: of this request. There as soon as the exchange is its protocol's.
    """

    tell: Teller

    def subscribe(self, callback: Any, *more: Any, **named: Any) -> Any:
        self.tell("asgi", "subscribe", {"who": name_of(callback)})
        return super().subscribe(callback, *more, **named)

    def _tell(self, callback: Any) -> None:
        self.tell("asgi", "told", {"who": name_of(callback)})
        super()._tell(callback)
