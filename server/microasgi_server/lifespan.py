"""The lifespan: the app's startup and shutdown around everything else (ASGI lifespan spec 2.0)."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from microasgi_server.asgi import ASGIApp, Message, Scope
from microasgi_server.config import Config
from microasgi_server.errors import AppError, ShutdownError, StartupError
from microasgi_server.options import LifespanMode

logger = logging.getLogger("microasgi_server")


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
        self._failure = ""
        self._supported = True
        self._told = False  # what failed
        self._asked = False
        self._scope = anyio.CancelScope(shield=True)
        self._ended = anyio.Event()
        self._started = anyio.Event()
        self._stop = anyio.Event()
        self._stopped = anyio.Event()

    async def run(self) -> None:
        """Call the app. Whatever it raises ends here. What cancels the server doesn't cancel this: the app is to shut down in order."""
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            with self._scope:
                await self._app(scope, self._receive, self._send)
            if self._mode == "on" and not self._started.is_set():
                self._failure = "the app's lifespan returned without an answer"
        # Nobody but `cancel` can cancel it, and that ends in its scope: any other cancellation is of a task that the app waited for.
        except (Exception, anyio.get_cancelled_exc_class()) as error:
            self._raised(error)
        finally:
            self._ended.set()
            self._started.set()
            self._stopped.set()

    @property
    def _serving(self) -> bool:
        """Whether the app has started, and wasn't asked to shut down."""
        return self._started.is_set() and not self._stop.is_set()

    def _raised(self, error: BaseException) -> None:
        if self._told:
            return  # apps say what failed, and then raise it as well
        if self._serving:
            logger.error("The app's lifespan failed while serving", exc_info=error)
            self._break(_describe(error))
        elif self._started.is_set():
            logger.error("The app's lifespan raised an exception", exc_info=error)
            self.failure = f"the app's lifespan raised {_describe(error)}"
        elif self._mode == "on":
            logger.error("The app's lifespan raised an exception before it had started", exc_info=error)
            self._failure = f"the app's lifespan raised {_describe(error)}"
        else:
            # The spec's way to say "not supported" is to raise, and a real bug looks the same: say what it was.
            self._supported = False
            logger.info("The app has no lifespan, it seems: it raised %s", _describe(error))

    def _failed(self, phase: str, message: str) -> None:
        """The app says that it failed. Its message is often a traceback, of which the last line is the error.

        While it serves it can't say so otherwise than by a failed shutdown that nobody has asked for.
        """
        message = message.strip() or "it gave no reason"
        self._told = phase == "shutdown" or "\n" in message
        if self._serving:
            logger.error("The app's lifespan failed while serving: %s", message)
            self._break(message.splitlines()[-1])
        elif self._told:
            logger.error("The app's %s failed: %s", phase, message)
        if phase == "startup":
            self._failure = f"the app's startup failed: {message.splitlines()[-1]}"
        elif not self.failure:
            self.failure = f"the app's shutdown failed: {message.splitlines()[-1]}"

    def _break(self, reason: str) -> None:
        self.failure = f"the app's lifespan failed while serving: {reason}"
        self.broken.set()

    async def startup(self) -> None:
        """Wait until the app has started.

        :raises StartupError: it said that it failed, or it raised and `lifespan` is `on`
        """
        await self._started.wait()
        if self._failure:
            raise StartupError(self._failure)

    async def shutdown(self) -> None:
        """Let the app clean up, and wait for it; unless it was stopped in the middle of its startup."""
        if self._started.is_set() and self._supported and not self._ended.is_set():
            self._stop.set()
            await self._stopped.wait()

    def cancel(self) -> None:
        """Stop the app's lifespan wherever it is."""
        self._scope.cancel()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._started.set()
            case "lifespan.startup.failed":
                self._failed("startup", message.get("message", ""))
                self._started.set()
            case "lifespan.shutdown.complete":
                self._stopped.set()
            case "lifespan.shutdown.failed":
                self._failed("shutdown", message.get("message", ""))
                self._stopped.set()
            case other:
                raise AppError(f"a lifespan has no message of type {other!r}")


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
                await lifespan.startup()
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


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
