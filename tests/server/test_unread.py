"""What nobody reads stays where it is: with the client that sends it, or with the app that has yet to make it."""

import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from microasgi_server import Limits

from tests.certificates import Files
from tests.harness import Client, serving, within

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux: /proc/self/statm tells what memory a process has"),
]

MEGABYTE = 1024 * 1024
WHOLE = 250 * MEGABYTE
PIECE = bytes(64 * 1024)
STILL = 0.3
"""Seconds without progress after which nothing more is expected to move."""


def memory() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class App:
    """Takes a body, or sends one, of 250 MB, when it is let.

    moved: bytes that it has read or sent.
    """

    def __init__(self) -> None:
        self.let = anyio.Event()
        self.begun = anyio.Event()
        self.ended = anyio.Event()
        self.moved = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.set()
        try:
            await self.transfer(scope, receive, send)
        finally:
            self.ended.set()

    async def transfer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            await self.let.wait()
            more = True
            while more:
                message = await receive()
                self.moved += len(message["body"])
                more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while scope["method"] == "GET" and self.moved < WHOLE:
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            self.moved += len(PIECE)
        await send({"type": "http.response.body"})


async def moves_no_more(app: App) -> None:
    """Return when the app has got rid of nothing for a while."""
    before = -1
    while before != app.moved:
        before = app.moved
        await anyio.sleep(STILL)


async def upload(app: App, client: Client) -> int:
    """Send it all to an app that doesn't read until nothing moves any more; what memory grew by until then."""
    sent = 0

    async def send() -> None:
        nonlocal sent
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % WHOLE)
        while sent < WHOLE:
            await client.send(PIECE)
            sent += len(PIECE)

    before = memory()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await within(app.begun)
        last = -1
        while last != sent:
            last = sent
            await anyio.sleep(STILL)
        assert sent < WHOLE
        grown = memory() - before
        app.let.set()
    assert (await client.response()).status == 200
    return grown


async def download(app: App, client: Client) -> int:
    """Read nothing of it until nothing moves any more; what memory grew by until then."""
    before = memory()
    await client.send(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    await within(app.begun)
    await moves_no_more(app)
    assert app.moved < WHOLE
    grown = memory() - before
    while await client.receive(1024 * 1024):
        pass
    return grown


@pytest.mark.parametrize("over", ["TCP", "TLS"])
@pytest.mark.parametrize("transfer", [upload, download])
async def test_what_is_not_read_takes_no_memory(transfer: Any, over: str, certificates: Files) -> None:
    """250 MB that the other side doesn't read grow the server by less than 2 MB, while nobody reads and when all have read."""
    app, options = App(), certificates.options if over == "TLS" else {}
    async with serving(app, lifespan="off", **options, limits=Limits(body=0)) as served:
        async with await served.connect() as client:  # so that what the first transfer brings along is there
            await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            while app.moved < 20 * MEGABYTE:
                await client.receive(1024 * 1024)
        await within(app.ended)
        app.moved, app.begun = 0, anyio.Event()
        before = memory()
        async with await served.connect() as client:
            grown = await transfer(app, client)
        assert app.moved == WHOLE
        assert grown < 2 * MEGABYTE
        assert memory() - before < 2 * MEGABYTE
