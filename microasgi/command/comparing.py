"""The same request to the same app on another server, for the page to show beside ours."""

from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from anyio import to_thread

from microasgi.command.hosted import Task
from microasgi.command.hosting import hosting
from microasgi.exceptions import HTTPException
from microasgi.inspector.client import Client
from microasgi.inspector.leaving import WAYS
from microasgi.inspector.page.reasons import Seen
from microasgi.inspector.page.routes import Compare
from microasgi.inspector.page.sheet import Sheet
from microasgi.inspector.page.visits import Asked
from microasgi.inspector.told import Recording, in_order

PATIENCE = 60.0
"""Seconds that a handler may take on the other server, after its client has left, before the comparison ends."""


def comparing(host: Callable[[str, str], Task]) -> Compare:
    """Makes a request to the same app on another server, in a process of its own, as `microasgi trace --server` does.

    :param host: what is to be served, for a method and a path
    """

    async def compare(asked: Asked) -> dict[str, Any]:
        task = host(asked.request.method, asked.request.path)
        if find_spec(task.server) is None:
            raise HTTPException(501, f"{task.server} is not installed; install it with: pip install {task.server}")
        return await to_thread.run_sync(_compared, task, asked, abandon_on_cancel=True)

    return compare


def _compared(task: Task, asked: Asked) -> dict[str, Any]:
    told = Recording()
    try:
        with hosting(task.write(), sees_the_wire=False) as host:
            client = Client(host.port(), asked.request, WAYS[asked.way], told, seconds=asked.seconds)
            client.run()
            host.settles(PATIENCE)
            events = in_order([*told.events, *host.events])
    except SystemExit:
        raise HTTPException(502, f"{task.server} doesn't serve {task.target}: the terminal says why") from None
    return Sheet(0, events, f"{task.server} {version(task.server)}").whole(Seen())
