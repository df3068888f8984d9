"""An app under a prefix: as it is written down, and as a Router calls it."""

from microasgi.asgi import ASGIApp, Receive, Scope, Send
from microasgi.checks import check_app
from microasgi.errors import answering
from microasgi.levels import LEVELS
from microasgi.opinions import Opinions
from microasgi.paths import PathTemplate
from microasgi.policy import OnDisconnect
from microasgi.promise.visit import VISIT
from microasgi.routed import Routed


class Mount(Routed):
    """An ASGI app under a prefix: a framework's app, static files, another Router.

    The app sees the prefix at the end of its `root_path`, as the ASGI spec has it; the path stays whole.

    :param path: the prefix, which may have parameters; an empty one takes everything
    :param app: any ASGI app
    :param on_disconnect, cleanup_grace, limit_body, timeout: as for `Route`
    """

    def __init__(
        self,
        path: str,
        app: ASGIApp,
        *,
        name: str | None = None,
        on_disconnect: OnDisconnect | None = None,
        cleanup_grace: float | None = None,
        limit_body: int | None = None,
        timeout: float | None = None,
    ) -> None:
        check_app(app)
        template = PathTemplate(path.rstrip("/"), is_prefix=True)
        super().__init__(template, name or "", on_disconnect, cleanup_grace, limit_body, timeout)
        self.app = app

    def __repr__(self) -> str:
        app = getattr(self.app, "__qualname__", None) or repr(self.app)
        return f"<Mount {self.path or '/'} of {app}{self._policy}>"


class Mounted:
    """A mounted app with the scope and the `receive()` it gets: another Router, or another framework's app, which knows nothing of us."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(self._app, Opinions):  # a Router answers exceptions itself, and asks those around it
            await self._app(self._scope, self._receive, send)
        else:
            await answering(self._ask)(scope, self._receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**self._scope, LEVELS: ()}, *scope[VISIT].foreign(receive, send))
