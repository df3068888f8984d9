"""What a route and a mount have in common."""

from microasgi.opinions import Opinions
from microasgi.paths import PathTemplate
from microasgi.policy import OnDisconnect


class Routed(Opinions):
    """Something that has a place among a Router's routes, and opinions where the Router's aren't meant.

    template: the path's.
    name: what `url_path_for` finds it by.
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
        super().__init__(on_disconnect, cleanup_grace, limit_body, timeout)
        self.template = template
        self.name = name

    @property
    def path(self) -> str:
        return self.template.path
