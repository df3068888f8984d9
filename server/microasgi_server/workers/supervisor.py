"""The supervisor: does what the roster says, and tells it what happens.

It is one thread in one loop over a selector, and imports nothing of the app's: what could break it breaks a worker.
"""

import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from microasgi_server import metrics, notify
from microasgi_server.certificates import certificates_of
from microasgi_server.config import Config
from microasgi_server.errors import OptionError, ShutdownError, StartupError
from microasgi_server.listening import bound_sockets, describe
from microasgi_server.sealing import seal
from microasgi_server.shutdown import longest
from microasgi_server.workers import reloading
from microasgi_server.workers.channel import Word
from microasgi_server.workers.child import Child
from microasgi_server.workers.job import Job
from microasgi_server.workers.reports import ENDINGS, Ending, ending_of, named, report
from microasgi_server.workers.roster import Loss, Order, Roster, Worker
from microasgi_server.workers.spare import Spare
from microasgi_server.workers.wakeups import Wakeups, waking

logger = logging.getLogger("microasgi_server")

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGTTIN", "SIGTTOU", "SIGCHLD")
    if hasattr(signal, name)  # `supervise` says what to do on a system without
]

LATE = 1.0
"""Seconds by which this loop may be late; if it is more, this process was stopped, and nobody could be heard."""

EXTRA = 2.0
"""Seconds that a worker has beyond those after which it should have ended by itself."""


def supervise(job: Job, config: Config, started: Callable[[list[str]], object] | None = None) -> None:
    """Serve with workers until SIGINT or SIGTERM. A second one cancels requests, a third one kills.

    SIGHUP replaces all workers, one after the other, without losing a request; SIGTTIN starts one more, SIGTTOU ends one.

    :param config: as the log wants it
    :param started: called with the bound addresses, once all workers accept
    :raises StartupError: the address can't be bound, something isn't installed, or a worker can't start
    :raises ShutdownError: the app's lifespan failed in a worker, at the end
    :raises KeyboardInterrupt: Ctrl+C came before they could serve
    """
    _demand(config)
    with ExitStack() as stack:
        listeners = stack.enter_context(bound_sockets(config))
        numbers = Numbers(config, stack)
        wakeups = stack.enter_context(waking(SIGNALS))
        selector = stack.enter_context(selectors.DefaultSelector())
        supervisor = Supervisor(job, config, listeners, numbers, selector, started)
        selector.register(wakeups.sock, selectors.EVENT_READ, partial(supervisor.signalled, wakeups))
        if config.reload:
            watched = reloading.Watched([job.app_dir, *config.reload_dir], config.reload_include)
            saved = stack.enter_context(reloading.changes(watched))
            selector.register(saved.sock, selectors.EVENT_READ, partial(supervisor.saved, saved))
        stack.callback(supervisor.abandon)
        supervisor.run()


def _demand(config: Config) -> None:
    if os.name != "posix":
        raise StartupError("workers and reload need a POSIX system; start several processes, each with a port of its own")
    if threading.current_thread() is not threading.main_thread():
        raise StartupError("only the main thread hears Ctrl+C, so that workers and reload can be used only there")
    if config.metrics_port is not None:
        metrics.demand()
    if config.reload:
        reloading.demand()


class Numbers:
    """The metrics' sockets: a port for each worker's place, from the first one's on."""

    def __init__(self, config: Config, stack: ExitStack) -> None:
        self._config = config
        self._stack = stack
        self._sockets: dict[int, list[socket.socket]] = {}

    def add(self, number: int) -> None:
        """Have those for one more place.

        :raises StartupError: the port can't be had
        """
        first = self._config.metrics_port
        if first is None or number in self._sockets:
            return
        port = first and first + number - 1
        if port > 65535:
            raise OptionError(f"there is no port {port} for the metrics of worker {number}; choose a lower metrics_port")
        config = Config(host=self._config.host, port=port)
        self._sockets[number] = self._stack.enter_context(bound_sockets(config))

    def of(self, number: int) -> list[socket.socket]:
        """Those of a place."""
        return self._sockets.get(number, [])


class Supervisor:
    """Carries out what a roster decides.

    job, config: what is served, and how; the second as this process's own log wants it.
    listeners, numbers: the sockets.
    selector: waits for everything; each key has what is to be called as its data.
    started: told the addresses, once.
    """

    def __init__(
        self,
        job: Job,
        config: Config,
        listeners: list[socket.socket],
        numbers: Numbers,
        selector: selectors.BaseSelector,
        started: Callable[[list[str]], object] | None,
    ) -> None:
        self._job, self._config = job, config
        self._addresses = describe(listeners, "http" if certificates_of(config) is None else "https")  # each worker reads them for itself
        self._listeners, self._numbers, self._selector, self._started = listeners, numbers, selector, started
        self._children: dict[Worker, Child] = {}
        self._spare = Spare(job)
        self._keeps_spare = config.reload or config.spare_worker
        self._ready = self._renewing = self._interrupted = False
        self._failure: StartupError | ShutdownError | None = None
        self._roster = Roster(
            wanted=config.workers or 1,
            timeout=0.0 if config.reload else config.timeout_worker,  # who develops stands at a breakpoint now and then
            patience=longest(config, graceful=True) + EXTRA,
            haste=longest(config, graceful=False) + EXTRA,
            developing=config.reload,
        )
        for number in range(1, self._roster.wanted + 1):
            numbers.add(number)

    def run(self) -> None:
        """Until all workers have ended.

        :raises StartupError: because one couldn't start
        :raises ShutdownError: and its app's lifespan failed
        :raises KeyboardInterrupt: because Ctrl+C came before all had started
        """
        roster = self._roster
        while not roster.over:
            now = time.monotonic()
            if roster.ending is not None:
                self._stop_listening()
            for order, worker in list(roster.orders(now)):
                self._carry_out(order, worker)
            if self._keeps_spare and roster.rests:
                self._spare.prepare()
            pause = min(1.0, self._config.timeout_worker / 4 or 1.0) if roster.settled else 0.1
            for key, _ in self._selector.select(pause):
                key.data()
            if time.monotonic() > now + pause + LATE:
                roster.excuse(time.monotonic())
            for worker, child in list(self._children.items()):
                if child.ended:
                    self._lose(worker, child)
            if self._renewing and roster.settled:
                self._renewing = False
                notify.ready(self._addresses)
        if self._failure is not None:
            raise self._failure
        if self._interrupted:
            raise KeyboardInterrupt

    def _stop_listening(self) -> None:
        """Leave the door to the workers: it closes when the last of them has accepted whom it can. Here nobody ever would."""
        seal(self._listeners)
        while self._listeners:
            self._listeners.pop().close()

    def abandon(self) -> None:
        """End what is left, whatever it does: no worker, unless this process fails."""
        self._spare.dismiss()
        for child in self._children.values():
            child.kill()

    # What happens.

    def signalled(self, wakeups: Wakeups) -> None:
        """Signals have come."""
        endings = {signal.SIGINT, signal.SIGTERM}
        if self._config.reload:  # a developer's terminal sends SIGHUP when it is closed; new code comes by itself
            endings.add(signal.SIGHUP)
        for received in wakeups.take():
            if received in endings:
                self._interrupted |= received is signal.SIGINT and not self._ready
                logger.info("%s: %s", received.name, ENDINGS[self._roster.end()])
                notify.stopping()
            elif received is signal.SIGHUP:
                logger.info("SIGHUP: replacing every worker")
                self._spare.dismiss()
                self._roster.renew()
                self._renewing = True
                notify.reloading()
            elif received in (signal.SIGTTIN, signal.SIGTTOU):
                self._resize(received)

    def _resize(self, received: signal.Signals) -> None:
        by = 1 if received is signal.SIGTTIN else -1
        try:
            self._numbers.add(self._roster.wanted + by)
        except StartupError as error:
            logger.error("%s: there is no place for one more worker's metrics: %s", received.name, error)
            return
        self._roster.resize(by)
        logger.info("%s: %d worker(s)", received.name, self._roster.wanted)

    def saved(self, changes: reloading.Changes) -> None:
        """A developer has saved files."""
        paths = changes.take()
        if not paths:  # they came with the ones before
            return
        reloading.forget_compiled(paths)
        if reloading.are_imported(paths):
            self._spare.dismiss()
        logger.info("%s changed: starting again", reloading.named(paths))
        self._roster.renew()

    def _hear(self, worker: Worker) -> None:
        """A worker has said something."""
        child, now = self._children[worker], time.monotonic()
        for word, text in child.words():
            if word is Word.BEAT:
                self._roster.heard(worker, now)
            elif word is Word.STARTED:
                self._roster.started(worker, now)
                if self._roster.complete and not self._ready:
                    self._ready = True
                    notify.ready(self._addresses)
                    if self._started is not None:
                        self._started(self._addresses)
            elif word is Word.WORN and self._roster.worn(worker, now):
                logger.info("%s %s: another takes over", named(worker, child), text)
            elif word is Word.FAILED:
                child.failure = text
        if child.silent and child.channel in self._selector.get_map():
            self._selector.unregister(child.channel)

    def _lose(self, worker: Worker, child: Child) -> None:
        """A worker has ended."""
        self._hear(worker)  # its last words
        if child.channel in self._selector.get_map():
            self._selector.unregister(child.channel)
        child.close()
        del self._children[worker]
        self._account(worker, ending_of(worker, child, self._config.timeout_worker))

    def _account(self, worker: Worker, ending: Ending) -> None:
        now = time.monotonic()
        loss = self._roster.gone(worker, now, asked=ending.asked)
        if loss is Loss.FATAL:
            self._failure = StartupError(ending.failure or f"{ending.name} {ending.what} before it could serve")
        elif self._failure is None and self._roster.ending is not None and not ending.in_order:
            self._failure = ShutdownError(f"worker {worker.number}: {ending.failure or ending.what}")
        elif not isinstance(self._failure, StartupError):  # the others say the same
            report(ending, loss, self._roster.pause(worker.number, now))

    # What follows.

    def _carry_out(self, order: Order, worker: Worker) -> None:
        if order is not Order.START:
            self._children[worker].obey(order)
            return
        try:
            child = self._spare.take()
        except OSError as error:
            self._account(worker, Ending(f"Worker {worker.number}", f"can't be started: {error.strerror}"))
            return
        self._children[worker] = child
        self._selector.register(child.channel, selectors.EVENT_READ, partial(self._hear, worker))
        child.begin(worker.number, self._job, self._listeners, self._numbers.of(worker.number))
        logger.info("Worker %d is process %d", worker.number, child.process.pid)
