"""What a Router, and each of its routes, may say of how long things may take, and how much may come: the innermost opinion holds."""

from microasgi.asgi import Receive, Scope
from microasgi.limits import check_limit, limit_body
from microasgi.policy import OnDisconnect, check_policy, told_policy
from microasgi.promise.visit import VISIT, Visit
from microasgi.timeouts import check_timeout, limit_time


class Opinions:
    """Those of one of them, checked.

    on_disconnect, cleanup_grace, limit_body, timeout: as `Route` takes them; None is none.

    :raises ValueError: one is out of its range
    """

    def __init__(
        self, on_disconnect: OnDisconnect | None, cleanup_grace: float | None, limit_body: int | None, timeout: float | None
    ) -> None:
        check_policy(on_disconnect, cleanup_grace)
        check_limit(limit_body)
        check_timeout(timeout)
        self.on_disconnect = on_disconnect
        self.cleanup_grace = cleanup_grace
        self.limit_body = limit_body
        self.timeout = timeout

    @property
    def _policy(self) -> str:
        """What it says of the disconnect, for a `repr`."""
        return told_policy(self.on_disconnect, self.cleanup_grace)


def heed(opinions: Opinions, scope: Scope, receive: Receive) -> Receive:
    """Let them hold for the rest of a request, whose block has begun: the `receive()` to go on with."""
    visit: Visit = scope[VISIT]
    if opinions.on_disconnect is not None or opinions.cleanup_grace is not None:
        visit.set_policy(opinions.on_disconnect, opinions.cleanup_grace)
    if opinions.limit_body is not None:
        receive = limit_body(opinions.limit_body, scope, receive)
    if opinions.timeout is not None:
        limit_time(opinions.timeout, visit, scope)
    return receive
