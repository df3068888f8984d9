"""Inputs that fail, from public reports: threads that ask whether they are wanted, and code that blocks when it is closed."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread

from microasgi import Request, Router, StreamingResponse
from tests.cases import SOON, Case, Witness, left, table
from tests.harness import GET, PATIENCE, access_lines, eventually, loud_lines, serving

pytestmark = pytest.mark.anyio


# A5: a thread that asks is told.


def ask_on(witness: Witness) -> None:
    """Work in a thread that asks now and then whether it is still wanted."""
    from_thread.run_sync(witness.begun.set)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        time.sleep(0.002)
        try:
            from_thread.check_cancelled()
        except BaseException:
            witness.notes.append("told")
            raise


async def abandoned(request: Request, witness: Witness) -> None:
    await to_thread.run_sync(ask_on, witness, abandon_on_cancel=True)


async def abandoned_in_a_child(request: Request, witness: Witness) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(abandoned, request, witness)


async def abandoned_under_a_timeout(request: Request, witness: Witness) -> None:
    with anyio.move_on_after(30):
        await abandoned(request, witness)


async def waited_for(request: Request, witness: Witness) -> None:
    await to_thread.run_sync(ask_on, witness)


async def waited_for_in_a_child(request: Request, witness: Witness) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waited_for, request, witness)


@table(abandoned, abandoned_in_a_child, abandoned_under_a_timeout, waited_for, waited_for_in_a_child)
async def test_a_thread_is_told(case: Case, server: str, caplog: pytest.LogCaptureFixture) -> None:
    """A thread that the request waits for, or has abandoned, is told at its next question."""
    witness = await left(case, server, caplog)
    await eventually(lambda: witness.notes == ["told"], SOON)


# D1: what blocks is closed where it ran.


class Blocking:
    """Something that blocks when it is closed, and remembers where it did.

    go: set when it need not block any longer.
    """

    def __init__(self) -> None:
        self.closing = threading.Event()
        self.go = threading.Event()
        self.threads: list[int] = []

    def close(self) -> None:
        self.threads.append(threading.get_ident())
        self.closing.set()
        self.go.wait(SOON)
        self.threads.append(threading.get_ident())


def generator(blocking: Blocking) -> Iterator[bytes]:
    try:
        while True:
            yield b"x" * 1000
    finally:
        blocking.close()


def waiting_generator(blocking: Blocking) -> Iterator[bytes]:
    try:
        yield b"first"
        threading.Event().wait(0.2)  # the client leaves in here, and a generator that runs can't be closed
        yield b"second"
        threading.Event().wait(0.2)
    finally:
        blocking.close()


class Reader:
    """A plain iterator that is no generator, as a file is."""

    def __init__(self, blocking: Blocking) -> None:
        self.close = blocking.close

    def __iter__(self) -> "Reader":
        return self

    def __next__(self) -> bytes:
        return b"x" * 1000


@pytest.mark.parametrize("make", [generator, waiting_generator, Reader])
async def test_a_plain_iterator_is_closed_in_a_worker(make: Callable[[Blocking], Any], caplog: pytest.LogCaptureFixture) -> None:
    """While a plain iterator's cleanup blocks, because its client left, everybody else is served."""
    blocking, routes = Blocking(), Router()

    @routes.get("/")
    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(make(blocking))

    @routes.get("/other")
    async def other(request: Request) -> str:
        return "served"

    async with serving(routes) as served, await served.connect() as onlooker:
        async with await served.connect() as client:
            await client.send(GET)
            await client.receive()
        await eventually(blocking.closing.is_set, SOON)
        assert len(blocking.threads) == 1, "it blocked the loop"
        await onlooker.send(GET.replace(b"/ ", b"/other "))
        assert (await onlooker.response()).body == b"served"
        assert len(blocking.threads) == 1
        blocking.go.set()
        await eventually(lambda: len(blocking.threads) == 2)
        assert threading.get_ident() not in blocking.threads
        await eventually(lambda: len(access_lines(caplog)) == 2)
    assert loud_lines(caplog) == []


async def test_a_finished_iterator_is_closed_in_a_worker() -> None:
    """So it is behind a whole response."""
    blocking, routes = Blocking(), Router()
    blocking.go.set()

    class Once(Reader):
        done = False

        def __next__(self) -> bytes:
            if self.done:
                raise StopIteration
            self.done = True
            return b"all"

    @routes.get("/")
    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(Once(blocking))

    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        assert (await client.response()).body == b"all"
        await eventually(lambda: len(blocking.threads) == 2)
    assert threading.get_ident() not in blocking.threads
