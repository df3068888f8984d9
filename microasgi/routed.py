"""What a route and a mount have in common: a path, a name, and an opinion where their Router's isn't meant. Checked when it is made."""

from microasgi.limits import check_limit
from microasgi.paths import PathTemplate
from microasgi.policy import OnDisconnect, check_policy, told_policy
from microasgi.timeouts import check_timeout


class Routed:
    """Something that has a place among a Router's routes.

    template: the path's.
    name: what `url_path_for` finds it by.
    on_disconnect, cleanup_grace, limit_body, timeout: its opinion, as `Route` takes it; None is none.

    :raises ValueError: an option is out of its range
    """

    def __init__(
        self,
        template: PathTemplate,
        name: str,
        on_disconnect: OnDisconnect | None,
        cleanup_grace: float | None,
        limit_body: int | None,
        timeout: float | None,
    ) -> None:
        check_policy(on_disconnect, cleanup_grace)
        check_limit(limit_body)
        check_timeout(timeout)
        self.template = template
        self.name = name
        self.on_disconnect = on_disconnect
        self.cleanup_grace = cleanup_grace
        self.limit_body = limit_body
        self.timeout = timeout

    @property
    def path(self) -> str:
        return self.template.path

    @property
    def _policy(self) -> str:
        return told_policy(self.on_disconnect, self.cleanup_grace)
