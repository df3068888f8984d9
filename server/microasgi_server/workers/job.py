"""What a worker is given to do."""

from collections.abc import Callable
from dataclasses import dataclass

from microasgi_server.asgi import ASGIApp
from microasgi_server.config import Config


@dataclass(frozen=True)
class Job:
    """Serving one app. It goes through a pickle: its functions are imported by their names in the worker, not copied into it.

    set_up: sets up the log, and gives the options as the log wants them.
    load: imports the app.
    config: the options.
    app_dir: the directory that the app is imported from.
    """

    set_up: Callable[[Config], Config]
    load: Callable[[], ASGIApp]
    config: Config
    app_dir: str = "."
