"""What can be served: an ASGI app, a Router or a list of routes, or the name of one."""

from typing import Any

from microasgi_server import TargetError
from microasgi_server.command.targets import a, checked_app, described, load

from microasgi.asgi import ASGIApp
from microasgi.mounting import Mount
from microasgi.routes import Route
from microasgi.routing import Router


def load_app(target: Any, *, factory: bool, app_dir: str) -> ASGIApp:
    """The app that is `target`, or that it names.

    :raises TargetError: there is none
    """
    found = load(target, factory=factory, app_dir=app_dir)
    beginning = described(target, factory=factory)
    if isinstance(found, list | tuple):
        strangers = [a(route) for route in found if not isinstance(route, Route | Mount)]
        if strangers or not found:
            content = strangers[0] if strangers else "nothing"
            raise TargetError(f"{beginning} {a(found)} with {content} in it; a list to serve has Routes and Mounts")
        return Router(found)
    return checked_app(found, beginning, factory=factory, wanted="an ASGI app, a Router or a list of routes")
