"""Handlers that don't stop when their client leaves, each for a reason of its own: what the inspector has to explain.

microasgi inspect tests.inspector.stubborn:routes
"""

import os
import time

import anyio

from microasgi import Request, Router

SECONDS = float(os.environ.get("STUBBORN_SECONDS", "3"))
"""How long each goes on, after the client has left, too."""

routes = Router()


class Orders:
    """A shop's, with a transaction that takes a moment to end."""

    async def __aenter__(self) -> "Orders":
        return self

    async def query(self) -> int:
        await anyio.sleep(10)
        return 42

    async def __aexit__(self, *error: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.012)  # COMMIT or ROLLBACK: a round trip to the database


@routes.get("/report/{year:int}")
async def report(request: Request) -> dict[str, int]:
    """The one that stops."""
    async with Orders() as orders:
        return {"sum": await orders.query()}


@routes.get("/blocking")
async def blocking(request: Request) -> str:
    """It computes, or calls what doesn't await: nobody gets a turn."""
    time.sleep(SECONDS)  # noqa: ASYNC251
    return "done\n"


@routes.get("/swallowing")
async def swallowing(request: Request) -> str:
    """It takes the cancellation for one of its own errors, and tries again."""
    for _ in range(3):
        try:
            await anyio.sleep(SECONDS / 3)
        except BaseException:
            continue
    return "done\n"


@routes.get("/shielded")
async def shielded(request: Request) -> str:
    """All of it is in a shield."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep(SECONDS)
    return "done\n"


@routes.post("/finishing", on_disconnect="finish")
async def finishing(request: Request) -> str:
    """Its route says so."""
    await anyio.sleep(SECONDS)
    return "paid\n"


@routes.get("/threaded")
def threaded(request: Request) -> str:
    """It runs in a thread, and doesn't ask."""
    time.sleep(SECONDS)
    return "done\n"
