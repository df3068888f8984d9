"""Inputs that fail, from public reports: whole trees of tasks that a departure has to stop.

Each test is one kind of fault, and its table has handlers of that kind. What the reports say about threads is in
`test_case_threads.py`, about answers in `test_case_answers.py`, about middleware in `test_middleware_arrangements.py`, and about
queries in `test_tree_of_queries.py`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from microasgi import Request
from tests.cases import SOON, Case, Witness, left, table

pytestmark = pytest.mark.anyio

# A1: a child must not take the host's stop for the end of the data.

HALF = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello"


async def store(chunks: Any, witness: Witness) -> None:
    """Commit what came, when it is all there."""
    data = b""
    async with aclosing(chunks):
        async for chunk in chunks:
            data += chunk
            witness.begun.set()
    witness.notes.append(f"committed {len(data)} bytes")


async def into_a_stream(request: Request, witness: Witness) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store, receive, witness)
        async with send:
            async for chunk in request.stream():
                await send.send(chunk)


async def into_a_stream_closed_late(request: Request, witness: Witness) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store, receive, witness)
        with send:
            try:
                async for chunk in request.stream():
                    await send.send(chunk)
            finally:
                send.close()
                await anyio.sleep(0.01)


async def into_a_grandchild(request: Request, witness: Witness) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](10)

    async def child() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store, receive, witness)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child)
        async with send:
            async for chunk in request.stream():
                await send.send(chunk)


async def into_a_queue(request: Request, witness: Witness) -> None:
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def chunks() -> AsyncIterator[bytes]:
        while (chunk := await queue.get()) is not None:
            yield chunk

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store(chunks(), witness))
        try:
            async for chunk in request.stream():
                await queue.put(chunk)
        finally:
            await queue.put(None)
            await asyncio.sleep(0.01)


@table(into_a_stream, into_a_stream_closed_late, into_a_grandchild, asyncio_only=(into_a_queue,))
async def test_half_an_upload_is_not_committed(case: Case, server: str, caplog: pytest.LogCaptureFixture) -> None:
    """A child that stores what the host reads is stopped with it; it doesn't see a normal end first."""
    witness = await left(case, server, caplog, HALF)
    assert witness.notes == []


# A2: no task of a request sees another's end before it has been told itself.


async def produce(send: Any) -> None:
    async with send:
        while True:
            await send.send(b"item")


async def consumed_by_the_host(request: Request, witness: Witness) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce, send)
        async with receive:
            async for _ in receive:
                await witness.wait()


async def consumed_by_a_child(request: Request, witness: Witness) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](0)

    async def consume() -> None:
        async with receive:
            async for _ in receive:
                await witness.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await produce(send)


async def consumed_across_groups(request: Request, witness: Witness) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](0)
    async with anyio.create_task_group() as outer:
        outer.start_soon(produce, send)
        async with anyio.create_task_group() as inner, receive:
            inner.start_soon(anyio.sleep, 30)
            async for _ in receive:
                await witness.wait()


async def consumed_beside_an_asyncio_group(request: Request, witness: Witness) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(produce(send))
        async with receive:
            async for _ in receive:
                try:
                    await witness.wait()
                finally:
                    await asyncio.sleep(0.01)


@table(consumed_by_the_host, consumed_by_a_child, consumed_across_groups, asyncio_only=(consumed_beside_an_asyncio_group,))
async def test_a_pipe_within_a_request_ends_quietly(case: Case, server: str, caplog: pytest.LogCaptureFixture) -> None:
    """Producer and consumer end together: neither meets the other's broken stream, and the log is calm."""
    assert (await left(case, server, caplog)).notes == []


# A3: who answers the cancellation with an error of its own doesn't hide it from the rest.


class Unreachable(Exception):
    """What a library makes of every error, a cancellation among them."""


async def fetch(witness: Witness) -> None:
    try:
        await witness.wait()
    except anyio.get_cancelled_exc_class():
        raise Unreachable from None


async def swallowed_in_a_group(request: Request, witness: Witness) -> None:
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fetch, witness)
    except* Unreachable:
        pass
    await witness.wait()


async def swallowed_in_two_groups(request: Request, witness: Witness) -> None:
    try:
        async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
            outer.start_soon(fetch, witness)
            inner.start_soon(fetch, witness)
    except* Unreachable:
        pass
    await witness.wait()


async def swallowed_beside_the_host(request: Request, witness: Witness) -> None:
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fetch, witness)
            await fetch(witness)
    except* Unreachable:
        pass
    await witness.wait()


@table(swallowed_in_a_group, swallowed_in_two_groups, swallowed_beside_the_host)
async def test_a_swallowed_departure_is_told_again(case: Case, server: str, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that goes on behind a group whose child hid the cancellation is cancelled at its next await."""
    assert (await left(case, server, caplog)).notes == []


# A4: cleanup that is written for anyio's levels.


class Life(Witness):
    """That of a process, which holds one end of a pipe while it lives. It begins at the first line of input, so that it was waited for.

    command, stdout: what to run, and its end of the pipe.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reader, self._writer = os.pipe()
        self.stdout = self._writer
        self.command = ["sh", "-c", "read line; echo here; exec sleep 30"]

    async def wait_begun(self) -> None:
        await anyio.wait_readable(self._reader)
        assert os.read(self._reader, 100) == b"here\n"
        os.close(self._writer)
        self.begun.set()

    async def wait_over(self) -> None:
        await anyio.wait_readable(self._reader)
        assert os.read(self._reader, 100) == b""
        os.close(self._reader)


async def run(request: Request, life: Any) -> None:
    await anyio.run_process(life.command, input=b"\n", stdout=life.stdout)


async def opened(request: Request, life: Any) -> None:
    async with await anyio.open_process(life.command, stdout=life.stdout) as process:
        await process.stdin.send(b"\n")  # type: ignore[union-attr]
        await process.wait()


async def run_in_a_child(request: Request, life: Any) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, request, life)
        tasks.start_soon(anyio.sleep, 30)


async def run_in_an_asyncio_child(request: Request, life: Any) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run(request, life))


async def killed_by_hand(request: Request, life: Any) -> None:
    process = await asyncio.create_subprocess_exec(*life.command, stdin=asyncio.subprocess.PIPE, stdout=life.stdout)
    try:
        process.stdin.write(b"\n")  # type: ignore[union-attr]
        await process.wait()
    finally:
        process.kill()
        await process.wait()


async def killed_by_hand_in_a_child(request: Request, life: Any) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(killed_by_hand, request, life)


@table(run, opened, run_in_a_child, asyncio_only=(run_in_an_asyncio_child, killed_by_hand, killed_by_hand_in_a_child))
async def test_a_process_is_killed_at_once(case: Case, server: str, caplog: pytest.LogCaptureFixture) -> None:
    """A process that a request waits for doesn't outlive its departure, whether anyio kills it or the handler itself."""
    life = Life()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(life.wait_begun)
        await left(case, server, caplog, witness=life)
    with anyio.fail_after(SOON):
        await life.wait_over()
