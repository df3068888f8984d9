"""Down again, in order: first what runs may finish, then it is told to stop, then it is made to.

stop ──► who wants to know hears of it     microasgi.shutdown, receive() ┐
         what is on its way is answered    `farewell`, once or twice     ├ `timeout_graceful_shutdown` in all
         what runs may end                                               ┘
     ──► 503, or the response breaks off; handlers are told as of a departure; background and finishing ones get `cleanup`, too
     ──► cancelled by force                `cancelled`
     ──► left behind, by name
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from microasgi_server.config import Config
from microasgi_server.deadlines import Wait
from microasgi_server.errors import Refusal, single_error
from microasgi_server.logs import request_line
from microasgi_server.running import Connected, RunningServer

logger = logging.getLogger("microasgi_server")

WHY = "the server stopped"
REQUEST_TIMEOUT = 408


async def until_any(*events: anyio.Event | None) -> None:
    """Wait for the first of these; for ever, if there is none."""
    async with anyio.create_task_group() as tasks:

        async def wait(event: anyio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        for event in events:
            if event is not None:
                tasks.start_soon(wait, event)
        await anyio.sleep_forever()


async def finish(running: RunningServer) -> None:
    """The graceful part: begin nothing new but what is on its way, and wait for what runs."""
    running.stop()
    for connection in list(running.connections):
        connection.shut_down()
    for call in list(running.calls):
        call.shut_down()
    patience = running.config.timeout_graceful_shutdown
    if running.calls:
        logger.info("Waiting up to %g s for %d running request(s)", patience, len(running.calls))
    with anyio.move_on_after(patience):
        await _say_farewell(running)
        await running.changed.wait_until(lambda: not running.calls and all(map(_has_only_to_read, running.connections)))
    if running.calls:
        logger.warning("Cancelling %d request(s) that took longer", len(running.calls))


def _has_only_to_read(connection: Connected) -> bool:
    """Whether its client has been sent everything, and may take the time that `end` gives it."""
    return connection.wait is Wait.READING


QUIET = (Wait.HANDSHAKE, Wait.FIRST_BYTE, Wait.NEXT_REQUEST)


async def _say_farewell(running: RunningServer) -> None:
    """Close the connections without a request, but not at once: on a busy one the next is on its way, and would be lost.

    A head that has begun has as long again: it came with the way's last packet, or its client takes its time. Proxies and browsers connect
    before they have anything to say, and some say half of it: nobody should wait for them until the graceful time is over.
    """

    def those(*waits: Wait) -> list[Connected]:
        return [connection for connection in running.connections if connection.wait in waits]

    seconds = running.config.limits.farewell
    with anyio.move_on_after(seconds):
        await running.changed.wait_until(lambda: not those(*QUIET, Wait.HEAD) and not running.arriving)
    for connection in those(*QUIET):
        connection.close()
    with anyio.move_on_after(seconds):
        await running.changed.wait_until(lambda: not those(Wait.HEAD))
    for connection in those(Wait.HEAD):
        connection.refuse(Refusal(REQUEST_TIMEOUT, "the server stops, and the request's head isn't complete (RFC 9110 §15.5.9)"))


async def end(running: RunningServer) -> None:
    """The rest: tell what still runs to stop, then make it stop.

    Who has subscribed to the disconnect is told so, and gets time to clean up. Nobody else would hear: those are cancelled.
    """
    running.stop()
    limits = running.config.limits
    with anyio.move_on_after(limits.linger):
        await running.changed.wait_until(lambda: not running.arriving)
    for connection in list(running.connections):
        connection.stop(WHY)
    for call in [call for call in running.calls if not call.exchange.told]:
        call.cancel()
    with anyio.move_on_after(limits.cleanup):
        await running.changed.wait_until(lambda: not running.calls)
    for call in list(running.calls):
        call.cancel()
    with anyio.move_on_after(limits.cancelled):
        await running.changed.wait_until(lambda: not running.calls)
    with anyio.move_on_after(limits.linger):
        await running.changed.wait_until(lambda: not running.connections)
    for connection in list(running.connections):
        connection.transport.abort()


@asynccontextmanager
async def leaving_behind(running: RunningServer, abandoned: Callable[[list[str]], object]) -> AsyncIterator[TaskGroup]:
    """The tasks of the server's requests, where they need a group. At the end `abandoned` hears of those that can't be ended."""
    with single_error():
        async with anyio.create_task_group() as tasks:
            try:
                yield tasks
            finally:
                if running.calls:
                    abandoned(left_behind(running))
                tasks.cancel_scope.cancel()


def longest(config: Config, *, graceful: bool) -> float:
    """Seconds after which everything here has ended, the app's lifespan too; and one more for the loop, or something holds the process."""
    limits = config.limits
    patience = config.timeout_graceful_shutdown if graceful else 0.0
    return patience + limits.cleanup + limits.cancelled + limits.linger + config.timeout_lifespan + 1


def report(requests: list[str]) -> None:
    """Log the requests that were left behind."""
    logger.error("Left behind, because they don't end although they were cancelled: %s", ", ".join(requests))


def left_behind(running: RunningServer) -> list[str]:
    """The requests that don't end although they were cancelled, as a log shows them, each once with its number."""
    counted = Counter(request_line(call.exchange) for call in running.calls)
    return [line if count == 1 else f"{line} ({count} times)" for line, count in sorted(counted.items())]
