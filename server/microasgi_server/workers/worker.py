"""The worker's side: a new interpreter that is told what to do, and serves."""

import faulthandler
import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import NoReturn

import anyio

from microasgi_server import identity
from microasgi_server.accepting import LATER
from microasgi_server.asgi import ASGIApp
from microasgi_server.command.levels import explained
from microasgi_server.config import Config
from microasgi_server.counting import stats
from microasgi_server.errors import ShutdownError, StartupError
from microasgi_server.log_stream import let_out
from microasgi_server.signals import Shared, run_until_signal
from microasgi_server.workers.channel import TERMINAL, Assignment, Surroundings, Word, be_told, say
from microasgi_server.workers.orphans import die_with
from microasgi_server.workers.wear import Wear

BEAT = 1.0
"""Seconds between two signs of life, or less, if the supervisor is impatient."""

REMINDER = 60.0
"""Seconds after which a worker that is worn says so once more: its successor may not have come up."""


def main(descriptor: int) -> NoReturn:
    """Be a worker, and exit.

    :param descriptor: the channel's
    """
    for number in TERMINAL:
        signal.signal(number, lambda *_: None)  # rather than ignored, which the app's own subprocesses would inherit
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL)
    os.set_inheritable(descriptor, False)
    channel = socket.socket(fileno=descriptor)
    with _saying_what_is_short(channel):
        try:
            surroundings, _ = be_told(channel)
            _settle(surroundings)
            assignment, sockets = be_told(channel)
        except EOFError:
            raise SystemExit(0) from None
        die_with(surroundings.parent, channel)
        try:
            _serve(assignment, sockets, channel)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):
                    let_out(stream)
    raise SystemExit(0)


@contextmanager
def _saying_what_is_short(channel: socket.socket) -> Iterator[None]:
    """What the system has too little of, for the moment, is nobody's fault here: one line tells it, and another worker is tried."""
    try:
        yield
    except OSError as error:
        if error.errno not in LATER:
            raise
        say(channel, Word.FAILED, f"the system has no room for it: {error.strerror}")
        raise SystemExit(1) from None


def _settle(surroundings: Surroundings) -> None:
    sys.path[:], sys.argv[:] = surroundings.path, surroundings.argv
    for name in surroundings.modules:
        importlib.import_module(name)


def _serve(assignment: Assignment, sockets: list[socket.socket], channel: socket.socket) -> None:
    identity.worker = assignment.number
    faulthandler.enable(channel, all_threads=False)
    job = assignment.job
    try:
        config = job.set_up(job.config)
        # Who takes one connection at a time leaves the next to others that are awake.
        config = replace(config, limit_max_requests=None, limits=replace(config.limits, accept=1))
        app = job.load()
        listeners, numbers = sockets[: assignment.listeners], sockets[assignment.listeners :]
        shared = Shared(listeners, numbers, partial(_live, channel, app, job.config))
        run_until_signal(app, config, started=lambda _: _started(channel, listeners), shared=shared)
    except (StartupError, ShutdownError) as error:
        say(channel, Word.FAILED, explained(error))
        raise SystemExit(1) from None


def _started(channel: socket.socket, listeners: list[socket.socket]) -> None:
    for sock in listeners:  # the server has handles of its own; what is left open would listen as long as the process lives
        sock.close()
    say(channel, Word.STARTED)


async def _live(channel: socket.socket, app: ASGIApp, config: Config) -> None:
    """Show that the loop turns, and look now and then whether this worker is worn."""
    # Not by `limit_max_requests` as one process counts it: a worker's successor serves before it goes.
    wear = Wear(config, lambda: _served(app))
    reminded = -REMINDER
    while True:
        say(channel, Word.BEAT)
        if time.monotonic() >= reminded + REMINDER and (reason := wear.reason()):
            reminded = time.monotonic()
            say(channel, Word.WORN, reason)
        await anyio.sleep(min(BEAT, config.timeout_worker / 4 or BEAT))


def _served(app: ASGIApp) -> int:
    numbers = stats(app)
    return sum(numbers.responses.values()) + sum(numbers.departures.values()) + numbers.interrupted
