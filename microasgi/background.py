"""What a response leaves for later."""

from collections.abc import Callable
from functools import partial
from typing import Any

from microasgi.calling import call_any

Background = Callable[[], Any]


class BackgroundTask:
    """A call for later, with its arguments: `BackgroundTask(send_mail, to="a@b.example")`. Plain functions run in a thread."""

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._call = partial(func, *args, **kwargs)

    def __repr__(self) -> str:
        func = self._call.func
        return f"<BackgroundTask {getattr(func, '__qualname__', None) or repr(func)}>"

    async def __call__(self) -> None:
        await call_any(self._call)
