"""nginx and HAProxy with the configurations of this folder, which the server's page shows, but for their addresses and their TLS."""

import os
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process

from tests.harness import PATIENCE, Client, Served
from tests.needs import path_of

HERE = Path(__file__).parent

FRONTS = ("nginx", "haproxy")

NGINX = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""
"""What Debian's own nginx.conf has around a site."""


def nginx_conf(folder: Path, site: str) -> str:
    """nginx's whole configuration for a site, with all that it writes in this folder."""
    user = "user root;" if os.geteuid() == 0 else ""  # the worker must be able to write into the test's folder
    return NGINX.format(user=user, folder=folder, site=site)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment, each another one."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def _replaced(text: str, changes: Sequence[tuple[str, str]]) -> str:
    """The text with these changes, each of which must be one."""
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    return text


def _nginx(folder: Path, listen: Sequence[int], servers: Sequence[int]) -> tuple[str, list[str]]:
    changes = [
        (r"listen 443 ssl http2;", f"listen 127.0.0.1:{listen[0]}; listen 127.0.0.1:{listen[1]} http2;"),
        (r"ssl_certificate.*", ""),
        (r"10\.0\.0\.11:8000", f"127.0.0.1:{servers[0]}"),
        (r"10\.0\.0\.12:8000", f"127.0.0.1:{servers[1]}"),
    ]
    return nginx_conf(folder, _replaced((HERE / "nginx.conf").read_text(), changes)), [
        "-e",
        str(folder / "error.log"),
        "-p",
        str(folder),
        "-c",
    ]


def _haproxy(folder: Path, listen: Sequence[int], servers: Sequence[int]) -> tuple[str, list[str]]:
    changes = [
        (r"bind :443 ssl.*", f"bind 127.0.0.1:{listen[0]}\n    bind 127.0.0.1:{listen[1]} proto h2"),
        (r"inter 1s", "inter 50ms"),
        (r"10\.0\.0\.11:8000", f"127.0.0.1:{servers[0]}"),
        (r"10\.0\.0\.12:8000", f"127.0.0.1:{servers[1]}"),
    ]
    return _replaced((HERE / "haproxy.cfg").read_text(), changes), ["-db", "-f"]


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
    text, arguments = {"nginx": _nginx, "haproxy": _haproxy}[program](folder, listen, servers)
    file = folder / f"{program}.conf"
    file.write_text(_replaced(text, changes))
    async with await anyio.open_process([path_of(program), *arguments, str(file)], stdin=None, stdout=None, stderr=None) as process:
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
