"""nginx and HAProxy while they run."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process

from tests.deployment.configurations import command, free_ports
from tests.harness import PATIENCE, Client, Served
from tests.needs import path_of


async def _answers(port: int, process: Process) -> None:
    with anyio.fail_after(PATIENCE):
        while True:
            assert process.returncode is None, "it ended at once"
            try:
                await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                return
            except OSError:
                await anyio.sleep(0.01)


class Front(Served):
    """A proxy.

    h2_port: where it speaks HTTP/2 only.
    """

    h2_port: int = 0

    async def connect_to_h2(self) -> Client:
        """A new connection of HTTP/2, on which nothing has been said."""
        return await Served(f"http://127.0.0.1:{self.h2_port}", self.stop, self.ended).connect()

    async def connect_from(self, address: str) -> Client:
        """A new connection from an address of this machine's, of which 127.0.0.0/8 are all (Linux)."""
        sock = socket.socket()
        sock.bind((address, 0))
        sock.connect(("127.0.0.1", self.port))
        sock.setblocking(False)
        return Client(sock)


@asynccontextmanager
async def in_front(program: str, servers: Sequence[int], folder: Path, changes: Sequence[tuple[str, str]] = ()) -> AsyncIterator[Front]:
    """One of `FRONTS` before two servers on this machine, by their ports.

    :param changes: in its configuration, each a pattern and what replaces it
    """
    listen = free_ports(2)
    arguments = command(program, folder, listen, servers, changes)
    async with await anyio.open_process([path_of(program), *arguments], stdin=None, stdout=None, stderr=None) as process:
        try:
            for port in listen:
                await _answers(port, process)
            front = Front(f"http://127.0.0.1:{listen[0]}", anyio.Event(), anyio.Event())
            front.h2_port = listen[1]
            yield front
        finally:
            process.terminate()


async def get(client: Client, path: str, *fields: str) -> Any:
    """One request on a connection that is kept, and its response."""
    await client.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: example.com", *fields, "\r\n"]).encode())
    with anyio.fail_after(PATIENCE):
        return await client.response()
