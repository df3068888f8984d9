"""A route: a path, its methods and its handler. It is checked when it is made, so that a mistake shows at import."""

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, TypeAlias

from microasgi.calling import call_any, is_async
from microasgi.checks import check_endpoint, check_methods
from microasgi.paths import PathTemplate
from microasgi.policy import OnDisconnect
from microasgi.requests import Request
from microasgi.returns import Result
from microasgi.routed import Routed

Handler: TypeAlias = Callable[[Request], Result | Awaitable[Result]]


class Route(Routed):
    """One path, its methods and its handler.

    call: the endpoint, to be awaited, whichever kind it is.

    :param path: a template such as `/items/{id:int}`; converters are str, int, float, path and uuid
    :param endpoint: `async def` or `def` (which runs in a worker thread); takes the request; returns a response, str, bytes, dict,
        list or None
    :param methods: GET if not given; GET brings HEAD along
    :param on_disconnect: `cancel` stops the handler when its client leaves, `finish` lets it end; None: as the Router says
    :param cleanup_grace: seconds that a cancelled handler's cleanup may take; None: as the Router says
    :param timeout: seconds until the handler is stopped, and answered for with 503; 0: as many as it takes; None: as the Router says
    :param limit_body: bytes of a request's body, more are answered with 413; 0: as many as come; None: as the Router or the server says
    :raises ValueError: the path, a method or an option is malformed
    :raises TypeError: the endpoint can't be called with a request
    """

    def __init__(
        self,
        path: str,
        endpoint: Handler,
        *,
        methods: Collection[str] | None = None,
        name: str | None = None,
        on_disconnect: OnDisconnect | None = None,
        cleanup_grace: float | None = None,
        limit_body: int | None = None,
        timeout: float | None = None,
    ) -> None:
        template = PathTemplate(path)
        check_endpoint(endpoint, template.parameters)
        name = name or str(getattr(endpoint, "__name__", type(endpoint).__name__))
        super().__init__(template, name, on_disconnect, cleanup_grace, limit_body, timeout)
        self.endpoint = endpoint
        function: Callable[[Request], Any] = endpoint
        self.call: Callable[[Request], Awaitable[Any]] = function if is_async(endpoint) else partial(call_any, endpoint)
        self.methods = check_methods(methods)

    def __repr__(self) -> str:
        return f"<Route {','.join(sorted(self.methods))} {self.path} to {self.name}{self._policy}>"
