"""Down again, in order: first what runs may finish, then it is told to stop, then it is made to."""

import logging

import anyio

from microasgi_server.running import RunningServer

logger = logging.getLogger("microasgi_server")

SERVICE_UNAVAILABLE = 503
"""For the log: the request was still running when the server had to stop."""


async def finish(running: RunningServer) -> None:
    """The graceful part: begin nothing new, and wait for what runs."""
    running.stopping = True
    for connection in list(running.connections):
        connection.shut_down()
    for call in list(running.calls):
        call.shut_down()
    if running.calls:
        patience = running.config.timeout_graceful_shutdown
        logger.info("Waiting up to %g s for %d running request(s)", patience, len(running.calls))
        with anyio.move_on_after(patience) as limit:
            await running.changed.wait_until(lambda: not running.calls)
        if limit.cancelled_caught:
            logger.warning("Cancelling %d request(s) that took longer", len(running.calls))


async def end(running: RunningServer) -> None:
    """The rest: tell what still runs to stop, then make it stop.

    Who has subscribed to the disconnect is told so, and gets time to clean up. Nobody else would hear: those are cancelled.
    """
    running.stopping = True
    for connection in list(running.connections):
        connection.hang_up("the server stopped", SERVICE_UNAVAILABLE)
    for call in [call for call in running.calls if not call.told]:
        call.cancel()
    with anyio.move_on_after(running.config.limits.cleanup):
        await running.changed.wait_until(lambda: not running.calls)
    for call in list(running.calls):
        call.cancel()
    with anyio.move_on_after(running.config.limits.cleanup) as limit:
        await running.changed.wait_until(lambda: not running.calls)
    if limit.cancelled_caught:
        logger.error("%d request(s) don't end although they were cancelled", len(running.calls))
    with anyio.move_on_after(1):
        await running.changed.wait_until(lambda: not running.connections)
    for connection in list(running.connections):
        connection.abort()
