"""The lifespan: the app's startup and shutdown around everything else (ASGI lifespan spec 2.0)."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Any

import anyio

from microasgi_server.asgi import ASGIApp, Message, Scope
from microasgi_server.config import Config
from microasgi_server.errors import AppError, ShutdownError, StartupError
from microasgi_server.options import LifespanMode
from microasgi_server.running import Signal

logger = logging.getLogger("microasgi_server")


class Stage(Enum):
    """How far an app's lifespan has come."""

    STARTING = auto()
    """It has yet to say whether it starts."""
    REFUSED = auto()
    """It has said why it doesn't start, and may clean up. What it raises then is no news."""
    SERVING = auto()
    """It has started."""
    STOPPING = auto()
    """It was asked to shut down."""
    STOPPED = auto()
    """It has done so."""
    FAILED = auto()
    """It has said what went wrong. What it raises then is no news."""
    ENDED = auto()
    """It has returned, or raised."""


STARTING, REFUSED, SERVING, STOPPING, STOPPED, FAILED, ENDED = Stage

TRANSITIONS: dict[Stage, dict[str, Stage]] = {
    STARTING: {
        "lifespan.startup.complete": SERVING,
        "lifespan.startup.failed": REFUSED,
        "lifespan.shutdown.failed": REFUSED,
    },
    SERVING: {
        "lifespan.shutdown.complete": STOPPED,
        "lifespan.startup.failed": FAILED,
        "lifespan.shutdown.failed": FAILED,  # as it can't say otherwise that a part of it has failed
    },
    STOPPING: {
        "lifespan.shutdown.complete": STOPPED,
        "lifespan.startup.failed": FAILED,
        "lifespan.shutdown.failed": FAILED,
    },
    STOPPED: {
        "lifespan.startup.failed": FAILED,
        "lifespan.shutdown.failed": FAILED,
    },
}
"""Where an app's messages lead. Those that aren't here, of those that there are, change nothing.

Beside them `shutdown` leads from SERVING to STOPPING, and the end of the call to ENDED.
"""

_MESSAGES = {kind for row in TRANSITIONS.values() for kind in row}

_FAILS = {STARTING: "startup failed", SERVING: "lifespan failed while serving", STOPPING: "shutdown failed", STOPPED: "shutdown failed"}


class Lifespan:
    """One call of the app with a lifespan scope, in a task of its own.

    state: what the app put into `scope["state"]`.
    broken: set when it fails while serving.
    failure: what failed since it was started; empty while nothing has.
    """

    def __init__(self, app: ASGIApp, mode: LifespanMode, state: dict[str, Any]) -> None:
        self.state = state
        self.broken = anyio.Event()
        self.failure = ""
        self._app = app
        self._mode = mode
        self._refusal = ""  # why it didn't start
        self._stage = STARTING
        self._changed = Signal()
        self._asks = iter(["lifespan.startup"])  # what it hears at once
        self._scope = anyio.CancelScope(shield=True)

    def __repr__(self) -> str:
        return f"<Lifespan {self._stage.name}>"

    async def run(self) -> None:
        """Call the app. Whatever it raises ends here. What cancels the server doesn't cancel this: the app is to shut down in order."""
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            with self._scope:
                await self._app(scope, self._receive, self._send)
            if self._mode == "on" and self._stage is STARTING:
                self._refusal = "the app's lifespan returned without an answer"
        # Nobody but `cancel` can cancel it, and that ends in its scope: any other cancellation is of a task that the app waited for.
        except (Exception, anyio.get_cancelled_exc_class()) as error:
            self._raised(error)
        finally:
            self._move(ENDED)

    def _move(self, stage: Stage) -> None:
        self._stage = stage
        self._changed.notify()

    def _raised(self, error: BaseException) -> None:
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        match self._stage:
            case Stage.STARTING if self._mode == "on":
                logger.error("The app's lifespan raised an exception before it had started", exc_info=error)
                self._refusal = f"the app's lifespan raised {told}"
            case Stage.STARTING:
                # The spec's way to say "not supported" is to raise, and a real bug looks the same: say what it was.
                logger.info("The app has no lifespan, it seems: it raised %s", told)
            case Stage.SERVING:
                logger.error("The app's lifespan failed while serving", exc_info=error)
                self.failure = f"the app's lifespan failed while serving: {told}"
                self.broken.set()
            case Stage.STOPPING | Stage.STOPPED:
                logger.error("The app's lifespan raised an exception", exc_info=error)
                self.failure = f"the app's lifespan raised {told}"

    def _failed(self, message: str) -> None:
        """The app says that it failed. Its message is often a traceback, of which the last line is the error."""
        message = message.strip() or "it gave no reason"
        what, reason = _FAILS[self._stage], message.splitlines()[-1]
        if self._stage is not STARTING or reason != message:  # else `startup` says it all
            logger.error("The app's %s: %s", what, message)
        if self._stage is STARTING:
            self._refusal = f"the app's {what}: {reason}"
        else:
            self.failure = f"the app's {what}: {reason}"
        if self._stage is SERVING:
            self.broken.set()

    async def startup(self, long: float) -> None:
        """Wait until the app has started.

        :param long: seconds after which whoever watches is told what this is waiting for
        :raises StartupError: it said that it failed, or it raised and `lifespan` is `on`
        """
        with anyio.move_on_after(long):
            await self._changed.wait_until(lambda: self._stage is not STARTING)
        if self._stage is STARTING:
            logger.info("Waiting for the app's startup")
            await self._changed.wait_until(lambda: self._stage is not STARTING)
        if self._refusal:
            raise StartupError(self._refusal)

    async def shutdown(self) -> None:
        """Let the app clean up, and wait for it; unless it was stopped in the middle of its startup."""
        if self._stage is SERVING:
            self._move(STOPPING)
        await self._changed.wait_until(lambda: self._stage not in (REFUSED, STOPPING))

    def cancel(self) -> None:
        """Stop the app's lifespan wherever it is."""
        self._scope.cancel()

    async def _receive(self) -> Message:
        if (kind := next(self._asks, None)) is None:
            await self._changed.wait_until(lambda: self._stage in (REFUSED, STOPPING))
            kind = "lifespan.shutdown"
        return {"type": kind}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind not in _MESSAGES:
            raise AppError(f"a lifespan has no message of type {kind!r}")
        stage = TRANSITIONS.get(self._stage, {}).get(kind)
        if stage is not None:
            if stage is REFUSED or stage is FAILED:
                self._failed(message.get("message", ""))
            self._move(stage)


@asynccontextmanager
async def running_lifespan(app: ASGIApp, config: Config, state: dict[str, Any]) -> AsyncIterator[anyio.Event | None]:
    """The app between its startup and its shutdown: the block is what it serves. Also when that is cancelled the shutdown has its time.

    :param state: the lifespan's state: what the app puts into it, its requests find
    :return: an event that is set if the server is to stop, because the app's lifespan has failed; None, if it isn't to
    :raises StartupError: see `Lifespan.startup`
    :raises ShutdownError: it has failed since
    """
    if config.lifespan == "off":
        yield None
        return
    lifespan, patience = Lifespan(app, config.lifespan, state), config.timeout_lifespan
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lifespan.run)
            try:
                await lifespan.startup(config.limits.startup)
                yield lifespan.broken if config.on_lifespan_failure == "stop" else None
            finally:
                with anyio.move_on_after(patience, shield=True) as limit:
                    await lifespan.shutdown()
                if limit.cancelled_caught:
                    logger.error("The app's shutdown took more than %g s and was cancelled", patience)
                    lifespan.failure = f"the app's shutdown took more than {patience:g} s"
                lifespan.cancel()
    finally:
        if lifespan.failure:
            raise ShutdownError(lifespan.failure)
