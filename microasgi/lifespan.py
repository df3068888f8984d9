"""The lifespan from the app's side: a context manager around everything that is served (ASGI lifespan spec 2.0)."""

import traceback
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from microasgi.asgi import Receive, Scope, Send


async def run_lifespan(
    context: Callable[[], AbstractAsyncContextManager[dict[str, Any]]], scope: Scope, receive: Receive, send: Send
) -> None:
    """Enter `context` at startup and leave it at shutdown. What it yields goes into the scope's state.

    :raises RuntimeError: it yields a state, and the server has no place for one
    """
    await receive()
    phase = "startup"
    try:
        async with context() as state:
            if state:
                if "state" not in scope:
                    raise RuntimeError("the lifespan yields a state, but this server doesn't support lifespan state")
                scope["state"].update(state)
            await send({"type": "lifespan.startup.complete"})
            phase = "shutdown"
            await receive()
    except Exception:
        await send({"type": f"lifespan.{phase}.failed", "message": traceback.format_exc()})
        raise
    await send({"type": "lifespan.shutdown.complete"})
